//! Keeping the image of a failed build's last good step, for people who want to look into it: under a name, out of the
//! cleaning's reach, with the commands that open a shell in it and remove it. Running them is for the door.

use bollard::query_parameters::{RemoveImageOptions, TagImageOptions};

use super::{Engine, EngineError};
use crate::config::EngineConfig;

/// What RUN steps are given to when a `Dockerfile` has no SHELL.
const USUAL_SHELL: &str = "/bin/sh";

/// An image that was kept, and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub tag: String,
    /// The command that opens a shell in it.
    pub open: Vec<String>,
    /// The command that removes it.
    pub remove: Vec<String>,
}

impl Engine {
    /// Keeps the image of the last step that succeeded under this name; none where no step did.
    pub async fn keep_last(&self, tag: &str, network: Option<&str>) -> Result<Option<Kept>, EngineError> {
        let Some(id) = self.traces.let_stay() else { return Ok(None) };
        let trouble = |source: bollard::errors::Error| EngineError::Trouble {
            doing: "keeping the last good step's image".to_owned(),
            source: source.into(),
        };
        // What an earlier replay of the task has kept. It is not there, or is looked at right now: both are no trouble.
        let _ = self.client.remove_image(tag, None::<RemoveImageOptions>, None).await;
        let (repo, version) = tag.split_once(':').unwrap_or((tag, "latest"));
        let name = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(version.to_owned()) };
        self.client.tag_image(&id, Some(name)).await.map_err(trouble)?;
        let image = self.client.inspect_image(tag).await.map_err(trouble)?;
        let shell = shell(image.config.and_then(|config| config.shell));
        Ok(Some(Kept {
            open: self.open(tag, network, &shell),
            remove: [self.client_program(), vec!["rmi".to_owned(), tag.to_owned()]].concat(),
            tag: tag.to_owned(),
        }))
    }

    fn open(&self, tag: &str, network: Option<&str>, shell: &[String]) -> Vec<String> {
        let mut command = self.client_program();
        command.extend(["run", "-it", "--rm"].map(str::to_owned));
        if let Some(network) = network {
            command.extend(["--network".to_owned(), network.to_owned()]);
        }
        let (program, arguments) = shell.split_first().map_or((USUAL_SHELL, &[][..]), |(first, rest)| (first, rest));
        // The image may have an entry point of its own.
        command.extend(["--entrypoint", program, tag].map(str::to_owned));
        command.extend_from_slice(arguments);
        command
    }

    /// The engine's client on the command line, with the engine's place where the client would not find it by itself.
    fn client_program(&self) -> Vec<String> {
        let (program, place_flag) = if self.is_podman { ("podman", "--url") } else { ("docker", "--host") };
        let own = EngineConfig::default();
        let found = !self.is_podman && super::connect::places(&own).first() == Some(&self.place);
        let place = (!found).then(|| [place_flag.to_owned(), self.place.clone()]);
        std::iter::once(program.to_owned()).chain(place.into_iter().flatten()).collect()
    }
}

/// The shell that an image's RUN steps are given to, without the flag that makes it read a command.
fn shell(of_the_image: Option<Vec<String>>) -> Vec<String> {
    let mut shell = of_the_image.unwrap_or_default();
    if shell.last().is_some_and(|word| word == "-c") {
        shell.pop();
    }
    if shell.is_empty() { vec![USUAL_SHELL.to_owned()] } else { shell }
}
