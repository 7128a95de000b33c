//! One artifact's way to the queue: created, uploaded by whichever storage type the deployment has, finished, read back.
//! Which artifacts there are, and in which order, is for `task`.

use std::collections::BTreeMap;
use std::io;

use tracing::info;

use super::super::{PublishError, Stored};
use super::Task;
use crate::names::{ArtifactName, Digest, HttpUrl};
use crate::plan::{CreateArtifact, Storage as StorageType};
use crate::report::Bytes;
use crate::retry::{Policy, retry};
use crate::stream;
use crate::taskcluster::CallFault;
use crate::taskcluster::object::ObjectUpload;
use crate::taskcluster::queue::Created;
use crate::transfer::{self, TransferError};

/// A file on its way to an artifact.
pub(super) struct Upload<'a> {
    /// What it is, for people.
    pub(super) what: &'static str,
    /// Where it is.
    pub(super) stored: &'a Stored,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its sha256.
    pub(super) sha256: Digest,
}

impl Task {
    /// Creates an artifact.
    pub(super) async fn create(&self, create: &CreateArtifact, storage: StorageType) -> Result<Created, PublishError> {
        match self.services.queue.create_artifact(&self.run, create).await {
            // Taskcluster tells nobody which storage a deployment has; one without buckets answers 400 or 500, and
            // behind taskcluster-proxy, which goes on trying a 500, nothing in time.
            Err(error)
                if matches!(error.fault, CallFault::Invalid | CallFault::Server | CallFault::Network)
                    && storage == StorageType::Auto =>
            {
                info!("the deployment does not take s3 artifacts ({error}): trying the object service");
                let create = CreateArtifact { name: create.name.clone(), payload: create.payload.as_object() };
                Ok(self.services.queue.create_artifact(&self.run, &create).await.map_err(|_| error)?)
            }
            Err(error) if error.fault == CallFault::Server && create.payload.storage_type == StorageType::Object => {
                Err(PublishError::ObjectNotCreated(error))
            }
            created => Ok(created?),
        }
    }

    /// Uploads an artifact that was created and, where that is to be done, declares it complete.
    pub(super) async fn send(
        &self,
        upload: &Upload<'_>,
        create: &CreateArtifact,
        created: Created,
    ) -> Result<(), PublishError> {
        match created {
            Created::S3 { put_url } => self.upload_s3(upload, create, put_url).await,
            Created::Object(object) => self.upload_object(upload, create, &object).await,
            Created::Reference {} => Err(PublishError::StorageChanged),
        }
    }

    async fn upload_s3(
        &self,
        upload: &Upload<'_>,
        create: &CreateArtifact,
        put_url: HttpUrl,
    ) -> Result<(), PublishError> {
        let headers = BTreeMap::from([("Content-Type".to_owned(), create.payload.content_type.to_owned())]);
        let first = std::sync::Mutex::new(Some(put_url));
        retry("the upload", Policy::TRANSFER, || async {
            let fresh = first.lock().ok().and_then(|mut url| url.take());
            let url = match fresh {
                Some(url) => url,
                // The URL lives 45 minutes: a later try asks for a new one, which for s3 is allowed.
                None => match self.services.queue.create_artifact(&self.run, create).await {
                    Ok(Created::S3 { put_url }) => put_url,
                    Ok(_) => return Err(PublishError::StorageChanged),
                    Err(error) => return Err(error.into()),
                },
            };
            Ok(self.put(upload, &url, &headers).await?)
        })
        .await
    }

    async fn upload_object(
        &self,
        upload: &Upload<'_>,
        create: &CreateArtifact,
        object: &ObjectUpload,
    ) -> Result<(), PublishError> {
        let service = self.services.queue.object_service(object)?;
        let content_type = create.payload.content_type;
        retry("the upload", Policy::TRANSFER, || async {
            let put = service.create_upload(object, content_type, upload.size).await?;
            Ok::<_, PublishError>(self.put(upload, &put.url, &put.headers).await?)
        })
        .await?;
        service.finish_upload(object, upload.sha256).await?;
        self.services.queue.finish_artifact(&self.run, &create.name, &object.upload_id).await?;
        Ok(())
    }

    async fn put(
        &self,
        upload: &Upload<'_>,
        url: &HttpUrl,
        headers: &BTreeMap<String, String>,
    ) -> Result<(), TransferError> {
        let Upload { what, stored, size, .. } = upload;
        let meter = self.report.meter(&format!("uploading {what}"), Some(*size));
        match stored {
            Stored::File(path) => {
                self.storage.put(url, headers, transfer::file(path).await?, *size, meter.clone()).await?;
            }
            Stored::Spool(archive) => {
                let archive = archive.clone();
                let body = stream::from_writer(move |mut out| archive.copy_to(&mut out).map_err(io::Error::other));
                self.storage.put(url, headers, body, *size, meter.clone()).await?;
            }
        }
        meter.finish(&format!("uploaded {what}"));
        Ok(())
    }

    /// The queue never learns whether a PUT happened: only reading back proves that the artifact is there.
    pub(super) async fn read_back(&self, name: &ArtifactName, sent: u64) -> Result<(), PublishError> {
        let found = match self.services.queue.artifact_url(&self.run, name).await {
            // Created a moment ago, and nobody's fault: as lost as an upload that did not arrive.
            Err(error) if error.fault == CallFault::Gone => 0,
            url => {
                let url = url?;
                match retry("reading back", Policy::CALL, || self.storage.length(&url)).await {
                    // Buckets that nobody may list answer 403 for what is not there.
                    Err(error) if error.is_gone() || error.is_refused() => 0,
                    length => length?,
                }
            }
        };
        if found == sent {
            info!("read back {name}: {}", Bytes(found));
            return Ok(());
        }
        Err(PublishError::ReadBack {
            name: name.clone(),
            task: self.run.task_id.clone(),
            run: self.run.run_id,
            sent,
            found,
        })
    }
}
