//! Images that a build needs besides its context: where steps may be taken from, and the names that such images have while
//! they are in the engine. Loading them is for `parent`, offering them to a build for `engine`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Plan;
use crate::names::TaskId;

/// Where a build may take steps from that have been built before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheFrom {
    /// From the newest image of the same name that the index has.
    Latest,
    /// From the parent image, which is loaded anyway.
    Parent,
    /// From nowhere: each step is built.
    Off,
}

impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latest => "latest",
            Self::Parent => "parent",
            Self::Off => "off",
        })
    }
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "parent" => Ok(Self::Parent),
            "off" => Ok(Self::Off),
            _ => Err(format!("{text:?} is no layer cache: expected latest, parent or off")),
        }
    }
}

impl Plan {
    /// The name of the parent's image while it is in the engine: this job's own, whoever else needs the same parent.
    #[must_use]
    pub fn parent_tag(&self, parent: &TaskId) -> String {
        format!("{}:parent-{parent}-{}", self.image, self.builder())
    }

    /// The name of the image that steps are taken from, while it is in the engine: this job's own, too.
    #[must_use]
    pub fn cache_tag(&self) -> String {
        format!("{}:cache-{}", self.image, self.builder())
    }

    /// Who builds, as a part of names in the engine.
    pub(super) fn builder(&self) -> &str {
        match (&self.dry_run, &self.task) {
            (Some(dry_run), _) => &dry_run.id,
            (None, Some(task)) => task.task_id.as_str(),
            (None, None) => "no-task",
        }
    }
}
