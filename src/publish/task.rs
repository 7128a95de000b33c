//! Publishing to a task: the artifact is created, uploaded, finished and read back, and so is what belongs to it, before the
//! first index insert, so that no route ever points at an image that is not there. The `.hash.` route comes last.

mod upload;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::{AlreadyThere, Finished, PublishError, Published, Stored};
use crate::build_log;
use crate::lookup::{self, Claim, LookupError};
use crate::names::{ArtifactName, Namespace, Project};
use crate::plan::{ArtifactPayload, CreateArtifact, Identity, ImageFile, InsertTask, Plan, Publication, TaskRun};
use crate::report::Report;
use crate::taskcluster::queue::{Created, Grant};
use crate::taskcluster::{CallFault, Services};
use crate::transfer::Storage;
use upload::Upload;

/// How often an entry is inserted that then is not there. Losing a race once is rare; more often, something else is wrong.
const LOST_RACES: u32 = 3;

/// The most that one PUT may carry to S3, of which both storage types make use: 5 GiB.
const LARGEST_PUT: u64 = 5 << 30;

/// The publisher of a run in a task.
pub struct Task {
    services: Services,
    storage: Storage,
    run: TaskRun,
    report: Report,
}

/// Refuses what S3 would refuse after minutes of upload.
fn fits_one_put(name: &ArtifactName, size: u64) -> Result<(), PublishError> {
    if size > LARGEST_PUT { Err(PublishError::TooLarge { name: name.clone(), size }) } else { Ok(()) }
}

impl Task {
    pub(super) fn new(services: Services, storage: Storage, run: TaskRun, report: Report) -> Self {
        Self { services, storage, run, report }
    }

    pub(super) async fn already_there(
        &self,
        plan: &Plan,
        identity: &Identity,
        central: &Project,
    ) -> Result<Option<AlreadyThere>, PublishError> {
        let mut places = vec![identity.namespaces.hash.clone()];
        if *central != plan.project {
            let hash = plan.index_hash.unwrap_or(identity.context_hash);
            places.push(Namespace::of_hash(&plan.index, central, &plan.image, hash).map_err(LookupError::from)?);
        }
        let indexed = try_join_all(places.iter().map(|place| self.indexed(plan, identity, place)));
        let own = self.length(&self.run, &plan.artifact.name);
        // Nearly always the answer to all is no: asked side by side they cost one round trip before the build.
        let (found, own) = tokio::try_join!(indexed, own)?;
        match (found.into_iter().flatten().next(), own) {
            (None, Some(size)) => self.unfinished(plan, identity, size).await,
            (found, _) => Ok(found),
        }
    }

    async fn indexed(
        &self,
        plan: &Plan,
        identity: &Identity,
        namespace: &Namespace,
    ) -> Result<Option<AlreadyThere>, PublishError> {
        let Some(entry) = self.services.index.find_task(namespace).await? else { return Ok(None) };
        let data = match lookup::claim(&entry, identity.context_hash, &plan.artifact.name) {
            Claim::This(data) => data,
            Claim::Another => {
                warn!("{namespace} points at task {}, whose image is not this one: building", entry.task_id);
                return Ok(None);
            }
            // It cannot be verified, and a task that ends without building has to know what it leads to.
            Claim::Silent => {
                warn!("{namespace} points at task {}, which another program indexed: building", entry.task_id);
                return Ok(None);
            }
        };
        let at = TaskRun { task_id: entry.task_id, run_id: data.run_id };
        // Under the hash of its context alone, an image of another parent looks like this one.
        if plan.parent.is_some() && plan.index_hash.is_none() && at.task_id != self.run.task_id {
            warn!(
                "{namespace} points at task {}, which may have another parent: building; INDEX_HASH tells",
                at.task_id
            );
            return Ok(None);
        }
        if self.length(&at, &data.artifact).await? == Some(data.size) {
            let namespace = namespace.clone();
            return Ok(Some(AlreadyThere {
                at,
                artifact: data.artifact,
                size: data.size,
                namespace,
                unfinished: None,
            }));
        }
        warn!(
            "{namespace} points at task {}, whose artifact {} is not there whole: building",
            at.task_id, data.artifact
        );
        Ok(None)
    }

    /// The image of an earlier start of this very run, which was stopped after its first insert. Another build is another
    /// image, and to upload it would change the bytes behind a route that is there.
    async fn unfinished(
        &self,
        plan: &Plan,
        identity: &Identity,
        size: u64,
    ) -> Result<Option<AlreadyThere>, PublishError> {
        let artifact = &plan.artifact.name;
        for namespace in [&identity.namespaces.latest, &identity.namespaces.pushdate] {
            let Some(entry) = self.services.index.find_task(namespace).await? else { continue };
            let Some(data) = entry.image() else { continue };
            let is_ours = (&entry.task_id, data.run_id) == (&self.run.task_id, self.run.run_id);
            if is_ours && (&data.artifact, data.size, data.context_hash) == (artifact, size, identity.context_hash) {
                let image = ImageFile { sha256: data.sha256, size, image_id: data.image_id };
                return Ok(Some(AlreadyThere {
                    at: self.run.clone(),
                    artifact: artifact.clone(),
                    size,
                    namespace: namespace.clone(),
                    unfinished: Some(image),
                }));
            }
        }
        Ok(None)
    }

    /// How many bytes of an artifact can be read; none when it cannot be read, for whatever reason: a storage in trouble
    /// may be well again after the build.
    async fn length(&self, at: &TaskRun, artifact: &ArtifactName) -> Result<Option<u64>, PublishError> {
        match lookup::length(&self.services, &self.storage, at, artifact).await {
            Err(LookupError::Storage { source, .. }) => {
                debug!("{artifact} of {at}: {source}");
                Ok(None)
            }
            length => Ok(length?),
        }
    }

    /// Tasks that depend on this one read the artifact from it, not through the index: send them on.
    pub(super) async fn point_to(
        &self,
        plan: &Plan,
        identity: &Identity,
        found: &AlreadyThere,
        expires: Timestamp,
    ) -> Result<Published, PublishError> {
        let AlreadyThere { at, artifact, size, unfinished, .. } = found;
        if let Some(image) = unfinished {
            // What belongs to the image was published before the first insert.
            for insert in plan.publication(identity, image, &[], expires).insert_task {
                self.index(&insert).await?;
            }
            let story = format!("nothing was built: {artifact} of an earlier start of this run has all its routes now");
            return Ok(Published { story });
        }
        if *at == self.run {
            return Ok(Published { story: format!("nothing was built: this run has published {artifact} before") });
        }
        let like = plan.artifact.payload(plan.artifact.storage, 0, expires);
        let url = self.services.queue.artifact_address(at, artifact);
        match self.services.queue.create_reference(&self.run, artifact, &like, &url).await {
            Ok(()) => {}
            // An earlier start of this very run uploaded the artifact before it was stopped.
            Err(error)
                if error.fault == CallFault::Conflict && self.length(&self.run, artifact).await? == Some(*size) =>
            {
                debug!("this run has {artifact} from an earlier start");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Published { story: format!("nothing was built: {artifact} of this task leads to {at}") })
    }

    pub(super) async fn grant(&self, plan: &Plan) -> Result<Grant, PublishError> {
        let grant = self.services.queue.grant(&self.run.task_id).await?;
        match (plan.artifact.expires, grant.expires) {
            (Some(asked), task) if asked > task => Err(PublishError::ExpiresAfterTask { asked, task }),
            (Some(asked), _) => Ok(Grant { expires: asked, ..grant }),
            (None, _) => Ok(grant),
        }
    }

    pub(super) async fn publish(
        &self,
        plan: &Plan,
        finished: &Finished,
        publication: &Publication,
    ) -> Result<Published, PublishError> {
        let Finished { image, stored, companions, .. } = finished;
        fits_one_put(&plan.artifact.name, image.size)?;
        let upload = Upload { what: "the image", stored, size: image.size, sha256: image.sha256 };
        let storage = plan.artifact.storage;
        let created = self.create(&publication.create_artifact, storage).await?;
        let image = self.bring(&upload, &publication.create_artifact, created);
        let companions = companions.iter().zip(&publication.create_companions).map(async |(it, create)| {
            let stored = &Stored::File(it.path.clone());
            let upload = Upload { what: it.what, stored, size: it.size, sha256: it.sha256 };
            self.bring(&upload, create, self.create(create, storage).await?).await
        });
        // Side by side: what is small costs no time beside the image. All of it is there before the first route leads to it.
        tokio::try_join!(image, try_join_all(companions))?;
        for insert in &publication.insert_task {
            self.index(insert).await?;
        }
        Ok(Published { story: format!("published {} of {}", plan.artifact.name, self.run) })
    }

    async fn bring(&self, upload: &Upload<'_>, create: &CreateArtifact, created: Created) -> Result<(), PublishError> {
        self.send(upload, create, created).await?;
        self.read_back(&create.name, upload.size).await
    }

    /// Inserts one entry, and looks whether it is there. The index does not compare and write in one step: of two
    /// inserts at the same moment the one with the lower rank can win.
    async fn index(&self, insert: &InsertTask) -> Result<(), PublishError> {
        let (namespace, ours) = (&insert.namespace, insert.payload.rank);
        for _ in 0..LOST_RACES {
            let after = self.services.index.insert_task(insert).await?;
            match self.services.index.find_task(namespace).await? {
                Some(entry) if entry.task_id == self.run.task_id => {
                    info!("indexed {namespace}");
                    return Ok(());
                }
                Some(entry) if entry.is_at_least(ours) => {
                    info!("{namespace} stays with task {}, of this push or a newer one", entry.task_id);
                    return Ok(());
                }
                None if after.task_id != self.run.task_id => {
                    // The index keeps expired entries for a while, and they keep out lower ranks.
                    warn!("{namespace} is kept by an expired entry of a newer push, task {}", after.task_id);
                    return Ok(());
                }
                Some(entry) => warn!("{namespace} went to task {}, of an older push: inserting again", entry.task_id),
                None => warn!("{namespace} is not there after it was inserted: inserting again"),
            }
        }
        Err(PublishError::NotIndexed { namespace: namespace.clone() })
    }

    /// Uploads the build's log.
    pub(super) async fn publish_log(
        &self,
        plan: &Plan,
        log: &build_log::Finished,
        expires: Timestamp,
    ) -> Result<(), PublishError> {
        let stored = &Stored::File(log.path.clone());
        let upload = Upload { what: "the build's log", stored, size: log.size, sha256: log.sha256 };
        let storage = plan.artifact.storage;
        let payload = ArtifactPayload {
            content_type: "text/plain; charset=utf-8",
            ..plan.artifact.payload(storage, log.size, expires)
        };
        let create = CreateArtifact { name: ArtifactName::build_log(), payload };
        let created = self.create(&create, storage).await?;
        self.send(&upload, &create, created).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_put_can_carry_is_refused_with_the_way_out() {
        let name: ArtifactName = "public/image.tar".parse().unwrap();
        fits_one_put(&name, 5_368_709_120).unwrap();
        let error = fits_one_put(&name, 5_368_709_121).unwrap_err().to_string();
        assert!(error.starts_with("public/image.tar has 5.00 GiB, "), "{error}");
        assert!(error.contains(".tar.zst"), "{error}");
    }
}
