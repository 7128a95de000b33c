//! Whether a service can build: a start says little about it, as storage is first mounted when a step runs. The smallest
//! build that mounts, on an empty base.

use bollard::models::BuildInfo;
use futures_util::TryStreamExt as _;

use super::super::address::Address;
use super::super::connect::in_words;
use super::super::messages::{Question, messages, of_an_archive};

/// One step that makes a layer.
const DOCKERFILE: &[u8] = b"FROM scratch\nCOPY Dockerfile /\n";

/// Builds an image that nobody names, and leaves it where it is: the storage is ours, and goes with us.
pub(super) async fn build(place: &Address) -> Result<(), String> {
    let context = context().map_err(|error| error.to_string())?;
    let question = Question {
        path: super::BUILD.to_owned(),
        query: [("dockerfile", "Dockerfile")],
        headers: of_an_archive(),
        body: bollard::body_full(context.into()),
    };
    let answer = messages::<BuildInfo, _, _>(place, question);
    answer.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(|error| in_words(&error))
}

fn context() -> std::io::Result<Vec<u8>> {
    let mut context = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(DOCKERFILE.len() as u64);
    header.set_mode(0o644);
    context.append_data(&mut header, "Dockerfile", DOCKERFILE)?;
    context.into_inner()
}
