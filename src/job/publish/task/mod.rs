//! Publishes to a task: the artifact and its documents are created, uploaded, finished and read back before the first index
//! insert, so that no route ever points at a missing image. The `.hash.` route comes last.

mod existing;
mod upload;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tracing::{info, warn};

use super::{Finished, PublishError, PublishRequest, Published, Stored};
use crate::config::plan::{BuildDocument, Plan};
use crate::engine::build_log;
use crate::net::Digest;
use crate::net::transfer::Storage;
use crate::report::Report;
use crate::taskcluster::{ArtifactName, ArtifactPayload, CreateArtifact, InsertTask, Services, TaskRun};
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

    /// Uploads the image and its files so far. Gives the archive's sha256.
    pub(super) async fn upload(
        &self,
        request: PublishRequest<'_>,
        finished: &Finished,
    ) -> Result<Digest, PublishError> {
        let PublishRequest { plan, expires, .. } = request;
        let Finished { stored, documents, .. } = finished;
        fits_one_put(&plan.artifact.name, stored.size())?;
        let create = plan.artifact.create(stored.size(), expires);
        let (upload, created) =
            tokio::try_join!(Upload::of("the image", stored), self.create(&create, plan.artifact.storage))?;
        // In parallel: small files cost no extra time beside the image.
        let image = self.upload_and_verify(upload, &create, created);
        let (sha256, ()) = tokio::try_join!(image, self.upload_documents(request, documents))?;
        Ok(sha256)
    }

    async fn upload_documents(
        &self,
        request: PublishRequest<'_>,
        documents: &[BuildDocument],
    ) -> Result<(), PublishError> {
        let uploads = documents.iter().map(async |it| {
            let create = it.create(&request.plan.artifact, request.expires);
            let stored = &Stored::File { path: it.path.clone(), sha256: it.sha256, size: it.size };
            let upload = Upload::of(it.what, stored).await?;
            let created = self.create(&create, request.plan.artifact.storage).await?;
            self.upload_and_verify(upload, &create, created).await
        });
        try_join_all(uploads).await.map(drop)
    }

    /// Uploads the files that were made after the upload, and inserts the entries when all are there.
    pub(super) async fn publish(
        &self,
        request: PublishRequest<'_>,
        later: &[BuildDocument],
        inserts: &[InsertTask],
    ) -> Result<Published, PublishError> {
        self.upload_documents(request, later).await?;
        self.index_all(inserts).await?;
        Ok(Published { story: format!("published {} of {}", request.plan.artifact.name, self.run) })
    }

    /// Inserts the entries, unless the run has ended meanwhile: a worker learns only minutes later that its task was cancelled.
    async fn index_all(&self, inserts: &[InsertTask]) -> Result<(), PublishError> {
        let status = self.services.queue.status(&self.run.task_id).await?;
        let own = status.runs.iter().find(|run| run.run_id == self.run.run_id);
        if let Some(own) = own.filter(|own| own.state.is_failure()) {
            return Err(PublishError::Over { run: self.run.clone(), outcome: own.outcome() });
        }
        let mut kept = None;
        for insert in inserts {
            match self.index(insert).await {
                // The other routes are still useful: a later run that finds the image needs no build.
                Err(error @ PublishError::KeptByExpired { .. }) => kept = Some(error),
                done => done?,
            }
        }
        kept.map_or(Ok(()), Err)
    }

    /// Inserts one entry, and checks that it is there. The index does not compare and write atomically: of two parallel inserts
    /// the one with the lower rank can win.
    async fn index(&self, insert: &InsertTask) -> Result<(), PublishError> {
        let InsertTask { namespace, payload } = insert;
        for _ in 0..LOST_RACES {
            let after = self.services.index.insert_task(insert).await?;
            match self.services.index.find_task(namespace).await? {
                Some(entry) if entry.is_at_least(payload.rank) => {
                    if Some(&entry.task_id) == payload.task_id.as_ref() {
                        info!("indexed {namespace}");
                    } else {
                        info!("{namespace} stays with task {}, of this push or a newer one", entry.task_id);
                    }
                    return Ok(());
                }
                // The index keeps expired entries for a while, and they keep out lower ranks.
                None if after.is_above(payload.rank) => {
                    return Err(PublishError::KeptByExpired { namespace: namespace.clone(), task: after.task_id });
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
        let stored = &Stored::File { path: log.path.clone(), sha256: log.sha256, size: log.size };
        let upload = Upload::of("the build's log", stored).await?;
        let storage = plan.artifact.storage;
        let payload = ArtifactPayload {
            content_type: "text/plain; charset=utf-8",
            ..plan.artifact.payload(storage, log.size, expires)
        };
        let create = CreateArtifact { name: ArtifactName::build_log(), payload };
        let created = self.create(&create, storage).await?;
        self.send(&upload, &create, created).await.map(drop)
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
