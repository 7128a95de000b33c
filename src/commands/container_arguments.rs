//! The arguments of `load` and `shell`: which image, and how its container differs from a plain one.

use std::path::{Component, Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;

use super::arguments::{key_value, namespace};
use super::{Answer, CommandContext};
use crate::config::settings::{ACCESS, INDEXED, LIMITS, MACHINE, PLACE, REPLACE, RETRIES, SCHEME, SettingGroup, TAG};
use crate::config::{ConfigError, ContainerConfig, ContainerSource, ImageSource};
use crate::job::CommandError;
use crate::job::container::{ContainerChanges, ContainerCommand, PreparedContainer};
use crate::job::foreground;
use crate::job::load_image::unique;
use crate::job::named_image::unknown_first;
use crate::job::shutdown::Shutdown;
use crate::taskcluster::{Namespace, TaskRef};

/// The settings of both. Here --index is a route; the route prefix has only its variable and its key.
pub(super) const SETTINGS: &[SettingGroup] =
    &[PLACE, LIMITS, &[&SCHEME], INDEXED, &[&TAG, &REPLACE], ACCESS, RETRIES, MACHINE];

const HEADING: &str = "Which image, one of";
pub(super) const CONTAINER: &str = "The container";

/// Which image is loaded.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[group(id = "source", required = false, multiple = false)]
pub(super) struct LoadArgs {
    /// The image of this checkout, found by its hash
    ///
    /// Its name, or the path of its directory.
    #[arg(value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    name: Option<String>,
    /// The image that this task has made
    ///
    /// The task's id or its URL; where the URL names a run, the image of that run.
    #[arg(id = "of-task", long = "task-id", value_name = "ID|URL", help_heading = HEADING)]
    task: Option<TaskRef>,
    /// The image that the index has under this route
    ///
    /// For example index.docker.images.v1.PROJECT.NAME.latest.
    #[arg(id = "route", long = "index", value_name = "ROUTE", value_parser = namespace, help_heading = HEADING)]
    route: Option<Namespace>,
    /// An image archive: .tar, .tar.gz or .tar.zst
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    file: Option<PathBuf>,
    /// An image of the engine on this machine, by its name or its id
    #[arg(id = "local", long = "local", value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new(), help_heading = HEADING)]
    local: Option<String>,
}

/// What differs from a plain container.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub(super) struct ContainerArgs {
    /// As this task: its environment, its command, its image
    ///
    /// The task's id or its URL. An image, or a command, that is given takes the place of the task's.
    #[arg(id = "as-task", long = "task", value_name = "ID|URL", help_heading = CONTAINER)]
    task: Option<TaskRef>,
    /// A directory or a volume in it; can be repeated
    ///
    /// FROM is a directory of this machine, or the name of a volume of the engine; `:ro` is for reading only.
    #[arg(long = "volume", value_name = "FROM:PATH[:ro]", value_parser = volume, help_heading = CONTAINER)]
    volumes: Vec<String>,
    /// A variable in its environment; can be repeated
    #[arg(long = "env", hide_short_help = true, value_name = "K=V", value_parser = key_value, help_heading = CONTAINER)]
    env: Vec<(String, String)>,
    /// The user in it [default: the image's]
    #[arg(long, hide_short_help = true, value_name = "USER", value_parser = NonEmptyStringValueParser::new(), help_heading = CONTAINER)]
    user: Option<String>,
}

impl LoadArgs {
    fn source(&self) -> Option<ContainerSource> {
        if let Some(local) = &self.local {
            return Some(ContainerSource::Local(local.clone()));
        }
        let name = self.name.clone().map(ImageSource::Named);
        let task = self.task.clone().map(ImageSource::Task);
        let route = self.route.clone().map(ImageSource::Route);
        name.or(task).or(route).or(self.file.clone().map(ImageSource::File)).map(ContainerSource::Load)
    }

    /// What is needed to bring the image into the engine.
    pub(super) fn config(
        &self,
        container: &ContainerArgs,
        context: &CommandContext,
    ) -> Result<ContainerConfig, CommandError> {
        let source = self.source();
        if source.is_none() && container.task.is_none() {
            let why = "no image is named: give NAME, --task-id, --index, --file or --local, or a task whose image it is, --task";
            return Err(ConfigError::Combination(why.to_owned()).into());
        }
        let settings = context.settings;
        let config = ContainerConfig::read(settings, &context.environment, source.as_ref(), container.task.as_ref());
        let typed = self.name.as_slice();
        unknown_first(config, typed, settings, &context.environment.directory)
    }
}

impl ContainerArgs {
    /// Whether anything is given that only a container has.
    pub(super) fn is_given(&self) -> bool {
        !self.volumes.is_empty() || !self.env.is_empty() || self.user.is_some()
    }

    /// Runs the container. The answer is its exit code: its output is all that is printed.
    pub(super) async fn run(
        self,
        mut container: PreparedContainer,
        command: ContainerCommand,
        context: &CommandContext<'_>,
        stop: &Shutdown,
    ) -> Result<Answer, CommandError> {
        let directory = &context.environment.directory;
        let volumes = self.volumes.iter().map(|volume| absolute(volume, directory)).collect();
        let changes = ContainerChanges { volumes, env: self.env.into_iter().collect(), user: self.user };
        let console = (context.console)();
        let spec = container.spec(command, changes, console.is_terminal).await?;
        let name = format!("image-worker-run-{}", unique(context.environment.now));
        let exit_code = foreground::run(&container.engine, &name, &spec, console, stop).await?;
        Ok(Answer { exit_code, ..Answer::of(String::new()) })
    }
}

/// `FROM:PATH` or `FROM:PATH:OPTIONS`
fn volume(text: &str) -> Result<String, String> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next()) {
        (Some(from), Some(path)) if !from.is_empty() && path.starts_with('/') => Ok(text.to_owned()),
        _ => Err(format!("{text:?}: expected FROM:PATH, with an absolute PATH in the container")),
    }
}

/// The volume with an absolute path on this machine, as engines need it; a plain name is a volume of the engine.
fn absolute(volume: &str, directory: &Path) -> String {
    let (from, rest) = volume.split_once(':').unwrap_or((volume, ""));
    if !(from.contains('/') || from.starts_with('.')) {
        return volume.to_owned();
    }
    let path = directory.join(from);
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    format!("{}:{rest}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_become_absolute_and_names_of_volumes_stay() {
        let of = |text| absolute(&volume(text).unwrap(), Path::new("/here"));
        assert_eq!(of("./a:/b:ro"), "/here/a:/b:ro");
        assert_eq!(of(".:/b"), "/here:/b");
        assert_eq!(of("a/b:/c"), "/here/a/b:/c");
        assert_eq!(of("/a:/b"), "/a:/b");
        assert_eq!(of("cache:/b"), "cache:/b");
        for wrong in ["a", ":/b", "a:b", ""] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }
}
