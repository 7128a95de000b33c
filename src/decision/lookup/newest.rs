//! The newest indexed image of a name, which this program's last run for it published. Callers load it or compare with it; they
//! can do without it.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, warn};

use crate::context::ImageName;
use crate::net::NameError;
use crate::report::ErrorChain;
use crate::taskcluster::index::Entry;
use crate::taskcluster::{IndexData, IndexPrefix, Namespace, Project, Services, TaskRun};

/// The time limit for the index. It answers in well under a second, and its data only saves time.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The newest image of a name.
#[derive(Clone, Debug, PartialEq)]
pub struct LatestImage {
    /// The project that it is indexed for.
    pub project: Project,
    /// Where the index has it.
    pub namespace: Namespace,
    /// The run that has the artifact.
    pub at: TaskRun,
    /// The push that it was made for, by its rank.
    pub pushed: Option<Timestamp>,
    /// The data of its index entry.
    pub data: IndexData,
}

/// The image to look for.
pub struct LatestQuery<'a> {
    /// Prefix of the routes.
    pub index: &'a IndexPrefix,
    /// The own project, which comes first.
    pub project: &'a Project,
    /// The project whose images every project may use.
    pub central: &'a Project,
    /// The image's name.
    pub image: &'a ImageName,
    /// The current time: the index may still list expired entries.
    pub now: Timestamp,
}

/// The newest image in the index of the own project, or else of the central one, by one call. None, with a log line, if the index
/// cannot be queried.
pub async fn newest(services: &Services, query: &LatestQuery<'_>) -> Option<LatestImage> {
    let places = match places(query) {
        Ok(places) => places,
        Err(error) => {
            debug!("the newest image of this name is not looked for: {error}");
            return None;
        }
    };
    let namespaces: Vec<_> = places.iter().map(|(_, namespace)| namespace.clone()).collect();
    let entries = match tokio::time::timeout(LOOKUP_TIMEOUT, services.index.find_tasks(&namespaces)).await {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => {
            warn!("the newest image of this name is not known: {}", ErrorChain(&error));
            return None;
        }
        Err(_) => {
            let seconds = LOOKUP_TIMEOUT.as_secs();
            warn!("the newest image of this name is not known: the index has not answered within {seconds} s");
            return None;
        }
    };
    let unexpired = |namespace: &Namespace| entries.get(namespace).filter(|entry| entry.expires > query.now);
    places.into_iter().find_map(|(project, namespace)| {
        let entry = unexpired(&namespace)?;
        known(project, namespace, entry)
    })
}

/// The namespaces to query, in order of preference.
fn places<'a>(query: &LatestQuery<'a>) -> Result<Vec<(&'a Project, Namespace)>, NameError> {
    let central = (query.central != query.project).then_some(query.central);
    let projects = std::iter::once(query.project).chain(central);
    projects.map(|project| Ok((project, Namespace::of_latest(query.index, project, query.image)?))).collect()
}

/// The image of an entry, if this program made it.
fn known(project: &Project, namespace: Namespace, entry: &Entry) -> Option<LatestImage> {
    let Some(data) = entry.image() else {
        debug!("{namespace} points at task {}, which another program indexed: going on", entry.task_id);
        return None;
    };
    let at = TaskRun { task_id: entry.task_id.clone(), run_id: data.run_id };
    Some(LatestImage { project: project.clone(), namespace, at, pushed: pushed(entry.rank), data })
}

/// The time of a push: other programs may write any number.
fn pushed(rank: f64) -> Option<Timestamp> {
    // Ranks of ours are whole seconds of 32 bit.
    #[expect(clippy::cast_possible_truncation, reason = "in the range of the check")]
    let seconds = (0.0..=f64::from(u32::MAX)).contains(&rank).then_some(rank as i64)?;
    Timestamp::from_second(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_own_project_comes_first_and_no_project_twice() {
        let (index, image): (IndexPrefix, ImageName) = ("index".parse().unwrap(), "builder".parse().unwrap());
        let central: Project = "mozilla-central".parse().unwrap();
        let of = |project: &str| {
            let project = project.parse().unwrap();
            let query = LatestQuery {
                index: &index,
                project: &project,
                central: &central,
                image: &image,
                now: Timestamp::UNIX_EPOCH,
            };
            let places = places(&query).unwrap();
            places.into_iter().map(|(_, namespace)| namespace.to_string()).collect::<Vec<_>>()
        };
        let latest = |project: &str| format!("docker.images.v1.{project}.builder.latest");
        assert_eq!(of("try"), [latest("try"), latest("mozilla-central")]);
        assert_eq!(of("mozilla-central"), [latest("mozilla-central")]);
    }

    #[test]
    fn only_entries_of_ours_say_what_the_image_is() {
        let sum = "ab".repeat(32);
        let data = json!({
            "artifact": "public/image.tar", "sha256": sum, "size": 7, "imageId": "sha256:0", "contextHash": sum, "runId": 3
        });
        let of = |data: &Value| {
            let task = "fN1SbArXTPSVFNUvaOlinQ";
            let entry = json!({ "taskId": task, "rank": 7, "data": data, "expires": "2030-01-01T00:00:00.000Z" });
            let entry = serde_json::from_value(entry).unwrap();
            known(&"try".parse().unwrap(), "docker.images.v1.try.builder.latest".parse().unwrap(), &entry)
        };
        let newest = of(&data).unwrap();
        assert_eq!((newest.at.run_id, newest.pushed), (3, Timestamp::from_second(7).ok()));
        assert_eq!(of(&json!({})), None);
    }

    #[test]
    fn ranks_of_strangers_are_no_moments() {
        assert_eq!(pushed(1_449_664_496.0), Timestamp::from_second(1_449_664_496).ok());
        for rank in [-1.0, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(pushed(rank), None, "{rank}");
        }
    }
}
