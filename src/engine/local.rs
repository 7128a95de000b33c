//! Builds for the people who ask for them: the image stays under its tag, what the engine has kept of earlier builds is
//! used, and labels say what the image was made of. A task's builds are `build`'s.

use std::collections::BTreeMap;
use std::path::Path;

use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::build::{CHUNK, builder};
use super::{Engine, EngineError};
use crate::build_log::BuildLog;
use crate::config::EngineConfig;
use crate::plan::BuildPlan;
use crate::secrets::Secrets;

/// What a local build is told besides its context.
#[derive(Debug)]
pub struct LocalBuild {
    /// The tag that the image gets, and takes from another.
    pub tag: String,
    /// Arguments and network.
    pub plan: BuildPlan,
    /// What the image says of itself.
    pub labels: BTreeMap<String, String>,
    /// Build every step anew.
    pub no_cache: bool,
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its id, `sha256:…`.
    pub id: String,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// The names that it has in registries, `REGISTRY/NAME@sha256:…`.
    pub digests: Vec<String>,
}

impl Engine {
    /// Builds a context, a plain tar. Gives the image's id; the image is there to stay.
    pub async fn build_local(
        &self,
        context: impl AsyncRead + Send + 'static,
        build: &LocalBuild,
        log: &mut BuildLog,
    ) -> Result<String, EngineError> {
        let body = bollard::body_try_stream(ReaderStream::with_capacity(context, CHUNK));
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(build.tag.clone()),
            // Containers of steps are of no use to anybody; images of steps are the cache.
            rm: true,
            forcerm: true,
            nocache: build.no_cache,
            buildargs: Some(build.plan.args.clone().into_iter().collect()),
            labels: Some(build.labels.clone().into_iter().collect()),
            networkmode: build.plan.network.clone(),
            version: builder(),
            ..BuildImageOptions::default()
        };
        let secrets = Secrets::among(&build.plan.args);
        self.follow(self.client.build_image(options, None, Some(body)), secrets, log).await
    }

    /// The image that has a name, if there is one.
    pub async fn present(&self, name: &str) -> Result<Option<Present>, EngineError> {
        let image = match self.client.inspect_image(name).await {
            Ok(image) => image,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(source) => {
                return Err(EngineError::Trouble { doing: format!("looking for {name}"), source: source.into() });
            }
        };
        let doing = || format!("looking for {name}: it told no id");
        let id = image.id.ok_or_else(|| EngineError::Unfinished { doing: doing() })?;
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        let digests = image.repo_digests.unwrap_or_default();
        Ok(Some(Present { id, labels: labels.into_iter().collect(), digests }))
    }

    /// The command that opens a shell in an image, for a person to type.
    #[must_use]
    pub fn shell_command(&self, tag: &str, env_files: &[impl AsRef<Path>]) -> String {
        let mut words: Vec<_> = client(&self.place, self.is_podman);
        words.extend(["run", "-it", "--rm", "--entrypoint", "sh"].map(str::to_owned));
        for file in env_files {
            words.extend(["--env-file".to_owned(), file.as_ref().display().to_string()]);
        }
        words.push(tag.to_owned());
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// The engine's client on the command line, with the engine's place where the client would not find it by itself.
fn client(place: &str, is_podman: bool) -> Vec<String> {
    let words = if is_podman {
        vec!["podman", "--url", place]
    } else if super::connect::places(&EngineConfig::default()).first().is_some_and(|usual| usual == place) {
        vec!["docker"]
    } else {
        vec!["docker", "--host", place]
    };
    // What HTTP is to us is TCP to the clients.
    words.into_iter().map(|word| word.replacen("http://", "tcp://", 1)).collect()
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_told_where_the_engine_is_unless_it_knows() {
        assert_eq!(client("unix:///var/run/docker.sock", false), ["docker"]);
        assert_eq!(client("http://127.0.0.1:2375", false), ["docker", "--host", "tcp://127.0.0.1:2375"]);
        let podman = client("unix:///run/podman/podman.sock", true);
        assert_eq!(podman, ["podman", "--url", "unix:///run/podman/podman.sock"]);
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_break_them() {
        assert_eq!(quoted("testing/docker/a/.env"), "testing/docker/a/.env");
        assert_eq!(quoted("my images/it's.env"), r"'my images/it'\''s.env'");
        assert_eq!(quoted(""), "''");
    }
}
