//! The destination of a run's image: the task, by API calls; a directory that the worker uploads from; or, in a dry run, a
//! directory only. Also which settings each of these can do without; `publish` sends and writes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::settings;
use super::{ConfigError, SettingLayers};
use crate::net::NameError;
use crate::report::keywords;
use crate::taskcluster::{ArtifactName, TaskId, TaskRun};

/// Where taskgraph's image tasks declare their artifact, since version 16.
const PAYLOAD_DIRECTORY: &str = "/workspace/out";

/// The artifact that taskgraph's image tasks declare.
const PAYLOAD_ARTIFACT: &str = "public/image.tar.zst";

/// The destination of a run's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the task's artifact and to the index, by API calls.
    Task,
    /// To a directory. The task's payload declares the artifact and its routes index it: the worker and the queue publish it.
    Payload(Output),
    /// To a directory, with the API calls that a task would have made.
    DryRun(Output),
}

/// An output directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The directory.
    pub directory: PathBuf,
    /// The owner of written files; if absent, the user who runs the program.
    pub owner: Option<Owner>,
    /// The archive's file name there; if absent, the last part of its artifact's name.
    pub file: Option<String>,
}

/// The task whose payload declares the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredBy {
    /// The task.
    pub task: TaskId,
    /// The artifact, if it is given.
    pub artifact: Option<ArtifactName>,
}

/// The owner of files, in numbers: the names of a container's users mean nothing outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        // chown interprets the largest number as "do not change".
        let id = |part: &str| number(part).filter(|id| *id < u32::MAX);
        text.split_once(':')
            .and_then(|(uid, gid)| Some(Self { uid: id(uid)?, gid: id(gid)? }))
            .ok_or_else(|| format!("{text:?} is no owner: expected UID:GID, two numbers like 1000:1000"))
    }
}

keywords! {
    /// What creates the artifact and the index entries.
    pub(super) enum PublishBy, "a way to publish" {
        Api = "api",
        Payload = "payload",
    }
}

impl Destination {
    pub(super) fn read(settings: &SettingLayers, dry: bool) -> Result<Self, ConfigError> {
        let by = settings.parse_or_default(&settings::PUBLISH)?;
        let directory = match settings.parse::<PathBuf>(&settings::OUTPUT)? {
            None if by == PublishBy::Payload && !dry => PathBuf::from(PAYLOAD_DIRECTORY),
            None => settings.parse_or_default(&settings::OUTPUT)?,
            Some(directory) => directory,
        };
        let output = Output { directory, owner: settings.parse(&settings::CHOWN_OUTPUT)?, file: None };
        Ok(match by {
            // A dry run of such a task writes what the task writes: there are no calls to report.
            PublishBy::Payload => Self::Payload(output),
            PublishBy::Api if dry => Self::DryRun(output),
            PublishBy::Api => Self::Task,
        })
    }

    /// The task whose definition says where the image goes; by default the own task.
    pub(super) fn declared_by(&self, settings: &SettingLayers, dry: bool) -> Result<Option<DeclaredBy>, ConfigError> {
        if !matches!(self, Self::Payload(_)) || dry || settings.get(&settings::OUTPUT)?.is_some() {
            return Ok(None);
        }
        let Some(task) = settings.parse(&settings::TASK_ID)? else { return Ok(None) };
        Ok(Some(DeclaredBy { task, artifact: settings.parse(&settings::ARTIFACT_NAME)? }))
    }

    /// The directory that the image is written to, if there is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Task => None,
            Self::Payload(output) | Self::DryRun(output) => Some(&output.directory),
        }
    }

    /// The default name of the artifact.
    pub(super) fn artifact_name(&self, settings: &SettingLayers) -> Result<ArtifactName, ConfigError> {
        match self {
            Self::Payload(_) => {
                PAYLOAD_ARTIFACT.parse().map_err(|error: NameError| ConfigError::Combination(error.to_string()))
            }
            Self::Task | Self::DryRun(_) => settings.parse_or_default(&settings::ARTIFACT_NAME),
        }
    }

    /// The run that publishes.
    pub(super) fn task(
        &self,
        settings: &SettingLayers,
        assumed: &mut Vec<String>,
    ) -> Result<Option<TaskRun>, ConfigError> {
        let run_id = settings.parse(&settings::RUN_ID)?;
        match (self, settings.parse(&settings::TASK_ID)?, run_id) {
            (_, Some(task_id), Some(run_id)) => Ok(Some(TaskRun { task_id, run_id })),
            (Self::Payload(_) | Self::DryRun(_), Some(task_id), None) => Ok(Some(TaskRun { task_id, run_id: 0 })),
            (Self::Payload(_), None, _) => Ok(None),
            (Self::DryRun(_), None, _) => {
                assumed.push("TASK_ID is not set: publish.json leaves it null".to_owned());
                Ok(None)
            }
            (Self::Task, None, _) => {
                Err(ConfigError::Missing { setting: &settings::TASK_ID, why: "the artifact belongs to a task" })
            }
            (Self::Task, Some(_), None) => {
                Err(ConfigError::Missing { setting: &settings::RUN_ID, why: "the artifact belongs to a run" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::*;

    const TASK: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn read(variables: &[(&str, &str)], dry: bool) -> Result<Destination, String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let environment = |name: &str| variables.get(name).map(OsString::from);
        let settings = SettingLayers::new(BTreeMap::new(), &environment).unwrap();
        Destination::read(&settings, dry).map_err(|error| error.to_string())
    }

    fn to(directory: &str) -> Output {
        Output { directory: directory.into(), owner: None, file: None }
    }

    #[test]
    fn each_destination_has_its_directory() {
        let payload = ("IMAGE_WORKER_PUBLISH", "payload");
        let output = ("IMAGE_WORKER_OUTPUT", "out");
        assert_eq!(read(&[], false).unwrap(), Destination::Task);
        assert_eq!(read(&[output], false).unwrap(), Destination::Task);
        assert_eq!(read(&[], true).unwrap(), Destination::DryRun(to("./image-worker-out")));
        assert_eq!(read(&[payload], false).unwrap(), Destination::Payload(to("/workspace/out")));
        assert_eq!(read(&[payload, output], false).unwrap(), Destination::Payload(to("out")));
        // A developer's machine has no /workspace.
        assert_eq!(read(&[payload], true).unwrap(), Destination::Payload(to("./image-worker-out")));
        let error = read(&[("IMAGE_WORKER_PUBLISH", "Payload")], false).unwrap_err();
        assert_eq!(error, "IMAGE_WORKER_PUBLISH: \"Payload\" is not a way to publish: expected api or payload");
    }

    #[test]
    fn a_task_is_asked_where_nobody_says_where_its_image_goes() {
        let declared_by = |more: &[(&str, &str)], dry: bool| {
            let variables = [("IMAGE_WORKER_PUBLISH", "payload"), ("TASK_ID", TASK)];
            let variables: BTreeMap<_, _> = variables.into_iter().chain(more.iter().copied()).collect();
            // An empty variable counts as not set.
            let environment = |name: &str| variables.get(name).map(OsString::from);
            let settings = SettingLayers::new(BTreeMap::new(), &environment).unwrap();
            Destination::read(&settings, dry).unwrap().declared_by(&settings, dry).unwrap()
        };
        let task = || TASK.parse().unwrap();
        assert_eq!(declared_by(&[], false), Some(DeclaredBy { task: task(), artifact: None }));
        let artifact = Some("public/x.tar".parse().unwrap());
        assert_eq!(
            declared_by(&[("ARTIFACT_NAME", "public/x.tar")], false),
            Some(DeclaredBy { task: task(), artifact })
        );
        assert_eq!(declared_by(&[], true), None);
        for other in [("IMAGE_WORKER_OUTPUT", "out"), ("TASK_ID", ""), ("IMAGE_WORKER_PUBLISH", "api")] {
            assert_eq!(declared_by(&[other], false), None, "{other:?}");
        }
    }

    #[test]
    fn an_owner_is_two_numbers() {
        let owner = |text: &str| text.parse::<Owner>();
        assert_eq!(owner("1000:100").unwrap(), Owner { uid: 1000, gid: 100 });
        assert_eq!(owner("0:0").unwrap().to_string(), "0:0");
        for wrong in ["", ":", "1000", "1000:", ":1000", "+1:1", "-1:1", "worker:worker", "1:2:3", "4294967295:0"] {
            assert!(owner(wrong).unwrap_err().contains("UID:GID"), "{wrong}");
        }
        let error = read(&[("CHOWN_OUTPUT", "me")], false).unwrap_err();
        assert!(error.starts_with("CHOWN_OUTPUT: \"me\" is no owner"), "{error}");
    }
}
