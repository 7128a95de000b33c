//! Keeps the image of a failed build's last successful step for debugging. The image gets a tag, the cleanup does not remove
//! it, and this module builds the commands that open a shell in it and remove it. `cli` runs the commands.

use bollard::query_parameters::{RemoveImageOptions, TagImageOptions};

use crate::engine::cleanup::state::JournalEvent;
use crate::engine::{Engine, EngineError};

/// The shell of RUN steps if a `Dockerfile` has no SHELL.
pub(in crate::engine) const USUAL_SHELL: &str = "/bin/sh";

/// A kept image, and the commands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugImage {
    /// Its name.
    pub tag: String,
    /// The command that opens a shell in it.
    pub open: Vec<String>,
    /// The command that removes it.
    pub remove: Vec<String>,
}

impl Engine {
    /// Tags the image of the last successful step with this name. `None` if no step succeeded.
    pub async fn tag_failed_step(&self, tag: &str, network: Option<&str>) -> Result<Option<DebugImage>, EngineError> {
        if self.managed.is_some() {
            return Err(EngineError::KeepsNothing("a shell"));
        }
        let Some(id) = self.tracker.last() else { return Ok(None) };
        let request_error = |source: bollard::errors::Error| EngineError::Request {
            doing: "keeping the last good step's image".to_owned(),
            source: source.into(),
        };
        // Remove the image that an earlier replay of the task kept. Errors do not matter: the image does not exist, or somebody
        // is using it.
        let _ = self.client.remove_image(tag, None::<RemoveImageOptions>, None).await;
        let (repo, version) = tag.split_once(':').unwrap_or((tag, "latest"));
        let name = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(version.to_owned()) };
        self.client.tag_image(&id, Some(name)).await.map_err(request_error)?;
        // From now on the user removes it by its name. Until it has the name, the cleanup is responsible for it.
        self.tracker.add(JournalEvent::Stays(id)).await;
        let shell = shell(self.shell_of(tag).await.map_err(request_error)?);
        let client = self.driver.client_command(&self.place);
        let network = network.map(|network| ["--network", network].map(str::to_owned));
        let open = open(&client, tag, network.as_ref().map_or(&[], |words| words), &shell);
        let remove = client.into_iter().chain(["rmi", tag]).map(str::to_owned).collect();
        Ok(Some(DebugImage { tag: tag.to_owned(), open, remove }))
    }
}

/// The command that opens a shell in an image.
pub(in crate::engine) fn open(client: &[&str], tag: &str, options: &[String], shell: &[String]) -> Vec<String> {
    let (program, arguments) = shell.split_first().map_or((USUAL_SHELL, &[][..]), |(first, rest)| (first, rest));
    // The image may have an entry point.
    let words = ["run", "-it", "--rm"].into_iter().chain(options.iter().map(String::as_str));
    let words = words.chain(["--entrypoint", program, tag]).map(str::to_owned);
    client.iter().map(|&word| word.to_owned()).chain(words).chain(arguments.iter().cloned()).collect()
}

/// The shell of an image's RUN steps, without the flag that makes it run a command.
pub(in crate::engine) fn shell(image_shell: Option<Vec<String>>) -> Vec<String> {
    let mut shell = image_shell.unwrap_or_default();
    if shell.last().is_some_and(|word| word == "-c") {
        shell.pop();
    }
    if shell.is_empty() { vec![USUAL_SHELL.to_owned()] } else { shell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_shell_is_the_one_that_the_step_had() {
        let of = |shell: Option<&str>, options: &[String]| {
            open(&["docker"], "image:tag", options, &super::shell(shell.map(words))).join(" ")
        };
        assert_eq!(of(None, &[]), "docker run -it --rm --entrypoint /bin/sh image:tag");
        let bash = of(Some("/bin/bash -o pipefail -c"), &words("--network host"));
        assert_eq!(bash, "docker run -it --rm --network host --entrypoint /bin/bash image:tag -o pipefail");
    }
}
