//! Finds unexpired images: which entries of the index count, in the central project and in the own one. Callers pass the hashes
//! and decide what to do with found and missing images.

mod newest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tracing::{debug, info, warn};

use crate::context::{ContextHash, ImageName};
use crate::net::NameError;
use crate::net::retry::{Failure as _, Policy, Retryability, retry};
use crate::net::transfer::{Storage, Stored, TransferError};
use crate::report::Hint;
use crate::taskcluster::index::Entry;
use crate::taskcluster::tasks::Status;
use crate::taskcluster::{
    ArtifactName, CallError, CallErrorKind, IndexData, IndexPrefix, Namespace, Project, Services, TaskRun,
};
pub use newest::{LatestImage, LatestQuery, newest};

/// How many images are looked up at once, each with one call at a time. 200 images take four calls each: a service that answers
/// in 50 ms answers all of them within 1.5 s; more would be a load for the service.
pub const AT_ONCE: usize = 32;

/// Why a look-up failed. An image that is not there is no error.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The index could not store this namespace.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A Taskcluster service did not answer as it should.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The storage did not answer as it should.
    #[error("cannot see whether {artifact} of {at} is there: the storage is in trouble{}", Hint("try again later"))]
    Storage {
        /// The artifact.
        artifact: ArtifactName,
        /// The run that should have it.
        at: TaskRun,
        /// The storage's error.
        #[source]
        source: TransferError,
    },
}

/// A wanted image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRequest {
    /// Its name.
    pub image: ImageName,
    /// The hash in the `.hash.` route.
    pub hash: ContextHash,
    /// The hash of its context; the same, unless the image has a parent or build arguments.
    pub context: ContextHash,
    /// Until when its artifact must be there.
    pub needed_until: Timestamp,
}

/// An image that was looked up.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// The request.
    pub wanted: LookupRequest,
    /// None where the index has no such image.
    pub found: Option<FoundEntry>,
}

/// An image that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundEntry {
    /// Its name.
    pub image: ImageName,
    /// Where the index has it.
    pub namespace: Namespace,
    /// The project that it is indexed for.
    pub project: Project,
    /// The run that has the artifact.
    pub at: TaskRun,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The data of the index entry; entries of other programs have none.
    pub data: Option<IndexData>,
    /// When its artifact is gone.
    pub expires: Timestamp,
    /// When the index forgets it.
    pub indexed_until: Timestamp,
}

impl FoundEntry {
    /// Until when it can be found and read.
    #[must_use]
    pub fn lasts_until(&self) -> Timestamp {
        self.expires.min(self.indexed_until)
    }
}

/// Where images are looked up.
#[derive(Clone)]
pub struct Lookup {
    /// The deployment's services.
    pub services: Services,
    /// What reads artifacts.
    pub storage: Storage,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The artifact that an image is.
    pub artifact: ArtifactName,
    /// The project whose images every project may use. It wins if both have an image.
    pub central: Project,
    /// The own project.
    pub project: Option<Project>,
    /// The current time: the index may still list expired entries.
    pub now: Timestamp,
}

impl Lookup {
    /// Finds the unexpired images, in the order of the requests.
    pub async fn find(&self, wanted: &[LookupRequest]) -> Result<Vec<Option<FoundEntry>>, LookupError> {
        self.find_each(stream::iter([wanted.to_vec()])).map_ok(|it| it.found).try_collect().await
    }

    /// Finds the unexpired images while requests come, in their order. One call asks the index for each batch.
    pub fn find_each(
        &self,
        wanted: impl Stream<Item = Vec<LookupRequest>>,
    ) -> impl Stream<Item = Result<LookedUp, LookupError>> {
        let asked = wanted.then(move |wanted| async move {
            let places = wanted.iter().map(|wanted| self.places(wanted)).collect::<Result<Vec<_>, _>>()?;
            let mut namespaces: Vec<_> = places.iter().flatten().map(|(_, namespace)| namespace.clone()).collect();
            namespaces.sort_unstable();
            namespaces.dedup();
            let entries = Arc::new(self.services.index.find_tasks(&namespaces).await?);
            let looks = wanted.into_iter().zip(places).map(move |(wanted, places)| {
                let entries = Arc::clone(&entries);
                Ok(async move {
                    let found = self.first(&wanted, places, &entries).await?;
                    Ok::<_, LookupError>(LookedUp { wanted, found })
                })
            });
            Ok::<_, LookupError>(stream::iter(looks))
        });
        asked.try_flatten().try_buffered(AT_ONCE)
    }

    /// Those of the found images that will not be found any more at `time`: not even another project's, which lasts longer.
    pub async fn expiring<'f>(
        &self,
        found: impl IntoIterator<Item = (&'f LookupRequest, &'f FoundEntry)>,
        time: Timestamp,
    ) -> Result<BTreeSet<ImageName>, LookupError> {
        let soon = found.into_iter().filter(|(_, found)| found.lasts_until() <= time);
        let wanted: Vec<_> = soon
            .map(|(wanted, _)| LookupRequest { needed_until: wanted.needed_until.max(time), ..wanted.clone() })
            .collect();
        let then = Self { now: time, ..self.clone() };
        let lasting = then.find(&wanted).await?;
        Ok(wanted.into_iter().zip(lasting).filter(|(_, it)| it.is_none()).map(|(wanted, _)| wanted.image).collect())
    }

    /// The namespaces that an image can have, in order of preference.
    fn places(&self, wanted: &LookupRequest) -> Result<Vec<(&Project, Namespace)>, NameError> {
        let own = self.project.iter().filter(|project| **project != self.central);
        std::iter::once(&self.central)
            .chain(own)
            .map(|project| Ok((project, Namespace::of_hash(&self.index, project, &wanted.image, wanted.hash)?)))
            .collect()
    }

    /// The first of the namespaces that has the image.
    async fn first(
        &self,
        wanted: &LookupRequest,
        places: Vec<(&Project, Namespace)>,
        entries: &BTreeMap<Namespace, Entry>,
    ) -> Result<Option<FoundEntry>, LookupError> {
        for (project, namespace) in places {
            if let Some(entry) = entries.get(&namespace).filter(|entry| entry.expires > self.now)
                && let Some(found) = self.resolve(wanted, project, &namespace, entry).await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The image of an entry, if the entry counts: it is the right image, other tasks can depend on its task, and its artifact
    /// exists and stays for long enough. All look-ups in the index use this one rule.
    pub async fn resolve(
        &self,
        wanted: &LookupRequest,
        project: &Project,
        namespace: &Namespace,
        entry: &Entry,
    ) -> Result<Option<FoundEntry>, LookupError> {
        let (artifact, task) = (&self.artifact, &entry.task_id);
        let data = match claim(entry, wanted.context, artifact) {
            EntryMatch::Match(data) => Some(data),
            // Tasks can be indexed by their routes, without data about what they made.
            EntryMatch::Unknown => None,
            EntryMatch::Mismatch => {
                info!("{namespace} points at task {task}, whose image is not this one: going on");
                return Ok(None);
            }
        };
        let status = self.services.queue.known_status(task).await?;
        let last = status.as_ref().and_then(|status| status.runs.last());
        let (Some(Status { state, .. }), Some(last)) = (&status, last) else {
            info!("{namespace} points at task {task}, which never ran or is gone: going on");
            return Ok(None);
        };
        if state.is_failure() {
            info!(
                "{namespace} points at task {task}, which is {}: what depends on it would never begin",
                last.outcome()
            );
            return Ok(None);
        }
        let run_id = data.as_ref().map_or(last.run_id, |data| data.run_id);
        let at = TaskRun { task_id: task.clone(), run_id };
        let Some(expires) = self.services.queue.artifact_expires(&at, artifact).await? else {
            info!("{namespace} points at task {task}, which has no {artifact}: going on");
            return Ok(None);
        };
        if expires < wanted.needed_until {
            info!("{namespace} points at task {task}, whose artifact {artifact} is gone from {expires} on");
            return Ok(None);
        }
        let recorded = data.as_ref().map(|data| data.size);
        let stored = stored(&self.services, &self.storage, &at, artifact).await?;
        // A storage that compresses its responses, or sends them in chunks, reports no length.
        let is_there = stored.is_some_and(|stored| recorded.is_none_or(|recorded| stored.can_have(recorded)));
        if !is_there {
            warn!("{namespace} points at task {task}, whose artifact {artifact} is not there whole: going on");
            return Ok(None);
        }
        let (image, namespace, project, artifact) =
            (wanted.image.clone(), namespace.clone(), project.clone(), artifact.clone());
        let indexed_until = entry.expires;
        Ok(Some(FoundEntry { image, namespace, project, at, artifact, data, expires, indexed_until }))
    }
}

/// The match of an entry with an image.
#[derive(Debug, PartialEq)]
pub enum EntryMatch {
    /// That it is the one that was made from this context, as this artifact.
    Match(IndexData),
    /// That it is another one, or another artifact.
    Mismatch,
    /// Unknown: another program made the entry.
    Unknown,
}

/// Compares an entry's data with the request.
#[must_use]
pub fn claim(entry: &Entry, context: ContextHash, artifact: &ArtifactName) -> EntryMatch {
    match entry.image() {
        Some(data) if data.context_hash == context && data.artifact == *artifact => EntryMatch::Match(data),
        Some(_) => EntryMatch::Mismatch,
        None => EntryMatch::Unknown,
    }
}

/// The storage's data about an artifact; none if it does not exist, or cannot be read after all attempts.
pub async fn stored(
    services: &Services,
    storage: &Storage,
    at: &TaskRun,
    artifact: &ArtifactName,
) -> Result<Option<Stored>, LookupError> {
    let url = match services.queue.artifact_url(at, artifact).await {
        Err(error) if error.kind == CallErrorKind::Gone => return Ok(None),
        url => url?,
    };
    match retry("looking at the artifact", storage.retry().policy(Policy::CALL), || storage.look(&url)).await {
        Ok(stored) => Ok(Some(stored)),
        // Buckets that do not allow listing answer 403 for missing objects.
        Err(error) if error.retryability() == Retryability::Permanent => {
            debug!("{artifact} of {at}: {error}");
            Ok(None)
        }
        Err(source) => Err(LookupError::Storage { artifact: artifact.clone(), at: at.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use crate::net::retry::RetryConfig;
    use serde_json::json;

    use super::*;
    use crate::taskcluster::{Access, Deployment};

    fn hash(byte: &str) -> ContextHash {
        byte.repeat(32).parse().unwrap()
    }

    fn entry(data: &serde_json::Value) -> Entry {
        let task = "fN1SbArXTPSVFNUvaOlinQ";
        let entry = json!({ "taskId": task, "rank": 1, "data": data, "expires": "2030-01-01T00:00:00.000Z" });
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn an_entry_is_believed_by_what_it_says() {
        let artifact: ArtifactName = "public/image.tar".parse().unwrap();
        let data = json!({
            "artifact": "public/image.tar",
            "sha256": hash("ab"),
            "size": 7,
            "imageId": "sha256:0",
            "contextHash": hash("cd"),
            "runId": 3,
        });
        let EntryMatch::Match(known) = claim(&entry(&data), hash("cd"), &artifact) else { panic!("it is this image") };
        assert_eq!((known.run_id, known.size), (3, 7));
        assert_eq!(claim(&entry(&data), hash("ef"), &artifact), EntryMatch::Mismatch);
        let compressed = "public/image.tar.zst".parse().unwrap();
        assert_eq!(claim(&entry(&data), hash("cd"), &compressed), EntryMatch::Mismatch);
        assert_eq!(claim(&entry(&json!({})), hash("cd"), &artifact), EntryMatch::Unknown);
    }

    #[test]
    fn the_central_project_is_looked_at_first_and_no_project_twice() {
        let root_url = "http://127.0.0.1:1".parse().unwrap();
        let deployment = Deployment { root_url, access: Access::Anonymous, retry: RetryConfig::default() };
        let mut lookup = Lookup {
            services: Services::new(&deployment).unwrap(),
            storage: Storage::new(RetryConfig::default()).unwrap(),
            index: "index".parse().unwrap(),
            artifact: "public/image.tar".parse().unwrap(),
            central: "mozilla-central".parse().unwrap(),
            project: None,
            now: Timestamp::UNIX_EPOCH,
        };
        let image: ImageName = "builder".parse().unwrap();
        let wanted = LookupRequest { image, hash: hash("ab"), context: hash("cd"), needed_until: lookup.now };
        let mut places = |project: Option<&str>| {
            lookup.project = project.map(|project| project.parse().unwrap());
            let places = lookup.places(&wanted).unwrap();
            places.into_iter().map(|(_, namespace)| namespace.to_string()).collect::<Vec<_>>()
        };
        let namespace = |project: &str| format!("docker.images.v1.{project}.builder.hash.{}", hash("ab"));
        assert_eq!(places(None), [namespace("mozilla-central")]);
        assert_eq!(places(Some("mozilla-central")), [namespace("mozilla-central")]);
        assert_eq!(places(Some("try")), [namespace("mozilla-central"), namespace("try")]);
    }
}
