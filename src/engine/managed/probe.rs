//! Whether a service can build: a start says little about it, as storage is first mounted when a step runs. The smallest
//! build that mounts, on an empty base.

use bollard::Docker;
use bollard::query_parameters::BuildImageOptions;
use futures_util::StreamExt as _;

/// One step that makes a layer.
const DOCKERFILE: &[u8] = b"FROM scratch\nCOPY Dockerfile /\n";

/// Builds an image that nobody names, and leaves it where it is: the storage is ours, and goes with us.
pub(super) async fn build(client: &Docker) -> Result<(), String> {
    let context = context().map_err(|error| error.to_string())?;
    let options = BuildImageOptions { dockerfile: "Dockerfile".to_owned(), ..BuildImageOptions::default() };
    let answer = client.build_image(options, None, Some(bollard::body_full(context.into())));
    let mut answer = std::pin::pin!(answer);
    while let Some(line) = answer.next().await {
        line.map_err(|error| super::connect::in_words(&error))?;
    }
    Ok(())
}

fn context() -> std::io::Result<Vec<u8>> {
    let mut context = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(DOCKERFILE.len() as u64);
    header.set_mode(0o644);
    context.append_data(&mut header, "Dockerfile", DOCKERFILE)?;
    context.into_inner()
}
