//! Publishes one artifact to the queue: created, uploaded to the storage type of the deployment, finished, read back. `task` has
//! the artifacts and their order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};

use futures_util::Stream;
use tokio::sync::oneshot;
use tokio_util::bytes::Bytes;
use tracing::{info, warn};

use super::super::{PublishError, ReadBack, Stored};
use super::Task;
use crate::image::{ArchiveError, ArchiveLayout};
use crate::net::blocking::blocking;
use crate::net::digest_reader::DigestReader;
use crate::net::retry::{Policy, retry};
use crate::net::transfer::{self, ContentMd5, TransferError, UploadBody};
use crate::net::{Digest, HttpUrl, SizedDigest, stream};
use crate::report::Bytes as Size;
use crate::taskcluster::object::ObjectUpload;
use crate::taskcluster::queue::Created;
use crate::taskcluster::{ArtifactName, CallErrorKind, CreateArtifact, Storage as StorageType};

/// How much of a file is read at a time, so that system calls do not count.
const READ_AT_ONCE: usize = 256 * 1024;

/// Up to this size, in bytes, the MD5 is computed before the upload, so that the storage compares it: in some 15 ms. Of larger files it
/// is computed while they are sent, and compared afterwards.
const SUMMED_BEFORE: u64 = 8 << 20;

/// A file on its way to an artifact.
pub(super) struct Upload<'a> {
    /// A description for people.
    pub(super) what: &'static str,
    /// Where it is.
    pub(super) stored: &'a Stored,
    /// Its MD5, if it is known, which the storage compares.
    md5: Option<ContentMd5>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    md5: ContentMd5,
    sha256: Digest,
}

impl<'a> Upload<'a> {
    /// A file.
    pub(super) async fn of(what: &'static str, stored: &'a Stored) -> Result<Self, PublishError> {
        if stored.size() > SUMMED_BEFORE {
            return Ok(Self { what, stored, md5: None });
        }
        let source = stored.clone();
        let summing = blocking(move || match source {
            Stored::File { path, .. } => ContentMd5::of_written(|out| {
                let copied = File::open(&path)
                    .and_then(|mut file| io::copy(&mut file, &mut BufWriter::with_capacity(READ_AT_ONCE, out)));
                copied.map(drop).map_err(|source| PublishError::Transfer(TransferError::File { path, source }))
            }),
            Stored::Layout(archive) => ContentMd5::of_written(|mut out| Ok(archive.copy_to(&mut out)?)),
        });
        let md5 = Some(summing.await?);
        Ok(Self { what, stored, md5 })
    }
}

/// An archive on its way: what an attempt to send it reads.
struct ArchiveBody<S> {
    bytes: S,
    /// The archive's digest, when all of it was read.
    copied: oneshot::Receiver<Result<SizedDigest, ArchiveError>>,
}

impl ArchiveBody<()> {
    fn of(archive: &ArchiveLayout) -> ArchiveBody<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        let (archive, (sender, copied)) = (archive.clone(), oneshot::channel());
        let bytes = stream::from_writer(move |out| {
            let mut out = DigestReader::new(out);
            let result = archive.copy_to(&mut out);
            let failed = result.as_ref().err().map(|error| io::Error::other(error.to_string()));
            // Nobody waits for the outcome of an attempt that was stopped.
            let _ = sender.send(result.map(|()| out.finish().1));
            failed.map_or(Ok(()), Err)
        });
        ArchiveBody { bytes, copied }
    }
}

impl Task {
    /// Creates an artifact.
    pub(super) async fn create(&self, create: &CreateArtifact, storage: StorageType) -> Result<Created, PublishError> {
        match self.services.queue.create_artifact(&self.run, create).await {
            // Taskcluster has no query for the storage of a deployment. One without buckets answers 400 or 500, and
            // taskcluster-proxy, which retries a 500, does not answer in time.
            Err(error)
                if matches!(error.kind, CallErrorKind::Invalid | CallErrorKind::Server | CallErrorKind::Network)
                    && storage == StorageType::Auto =>
            {
                info!("the deployment does not take s3 artifacts ({error}): trying the object service");
                let create = CreateArtifact { name: create.name.clone(), payload: create.payload.as_object() };
                Ok(self.services.queue.create_artifact(&self.run, &create).await.map_err(|_| error)?)
            }
            Err(error) if error.kind == CallErrorKind::Server && create.payload.storage_type == StorageType::Object => {
                Err(PublishError::ObjectNotCreated(error))
            }
            created => Ok(created?),
        }
    }

    /// Uploads an artifact and reads it back. Gives its sha256.
    pub(super) async fn upload_and_verify(
        &self,
        mut upload: Upload<'_>,
        create: &CreateArtifact,
        created: Created,
    ) -> Result<Digest, PublishError> {
        let (name, is_s3) = (&create.name, matches!(created, Created::S3 { .. }));
        let sent = self.send(&upload, create, created).await?;
        match self.read_back(name, &upload, sent).await {
            // The storage had nothing to compare the bytes with when they arrived. Now it has.
            Err(error @ PublishError::ReadBack { what: ReadBack::Content { .. }, .. })
                if is_s3 && upload.md5.is_none() =>
            {
                warn!("{error}: sending it again");
                upload.md5 = Some(sent.md5);
                let created = self.create(create, create.payload.storage_type).await?;
                let sent = self.send(&upload, create, created).await?;
                self.read_back(name, &upload, sent).await?;
                Ok(sent.sha256)
            }
            read => read.map(|()| sent.sha256),
        }
    }

    /// Uploads a created artifact and, if necessary, declares it complete.
    pub(super) async fn send(
        &self,
        upload: &Upload<'_>,
        create: &CreateArtifact,
        created: Created,
    ) -> Result<Sent, PublishError> {
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
    ) -> Result<Sent, PublishError> {
        // The signature binds no header. Those that the object service names are all that may be sent there.
        let mut headers = BTreeMap::from([("Content-Type".to_owned(), create.payload.content_type.to_owned())]);
        headers.extend(upload.md5.map(|md5| ("Content-MD5".to_owned(), md5.header())));
        let first = std::sync::Mutex::new(Some(put_url));
        retry("the upload", self.storage.retry().policy(Policy::TRANSFER), || async {
            let fresh = first.lock().ok().and_then(|mut url| url.take());
            let url = match fresh {
                Some(url) => url,
                // The URL lives 45 minutes: a later attempt requests a new one, which for s3 is allowed.
                None => match self.services.queue.create_artifact(&self.run, create).await {
                    Ok(Created::S3 { put_url }) => put_url,
                    Ok(_) => return Err(PublishError::StorageChanged),
                    Err(error) => return Err(error.into()),
                },
            };
            self.put(upload, &create.name, &url, &headers).await
        })
        .await
    }

    async fn upload_object(
        &self,
        upload: &Upload<'_>,
        create: &CreateArtifact,
        object: &ObjectUpload,
    ) -> Result<Sent, PublishError> {
        let service = self.services.queue.object_service(object)?;
        let content_type = create.payload.content_type;
        let sent = retry("the upload", self.storage.retry().policy(Policy::TRANSFER), || async {
            let put = service.create_upload(object, content_type, upload.stored.size()).await?;
            self.put(upload, &create.name, &put.url, &put.headers).await
        })
        .await?;
        service.finish_upload(object, sent.sha256).await?;
        self.services.queue.finish_artifact(&self.run, &create.name, &object.upload_id).await?;
        Ok(sent)
    }

    async fn put(
        &self,
        upload: &Upload<'_>,
        name: &ArtifactName,
        url: &HttpUrl,
        headers: &BTreeMap<String, String>,
    ) -> Result<Sent, PublishError> {
        let Upload { what, stored, .. } = upload;
        let size = stored.size();
        let meter = self.report.meter(&format!("uploading {what}"), Some(size));
        let sent = match stored {
            Stored::File { path, sha256, .. } => {
                let upload = UploadBody { bytes: transfer::file(path).await?, size, meter: meter.clone() };
                Sent { md5: self.storage.put(url, headers, upload).await?, sha256: *sha256 }
            }
            Stored::Layout(archive) => {
                let body = ArchiveBody::of(archive);
                let upload = UploadBody { bytes: body.bytes, size, meter: meter.clone() };
                let md5 = self.storage.put(url, headers, upload).await;
                match (md5, body.copied.await) {
                    (Ok(md5), Ok(Ok(SizedDigest { sha256, .. }))) => Sent { md5, sha256 },
                    // The network has nothing to do with it.
                    (Err(_), Ok(Err(error @ (ArchiveError::Layer(_) | ArchiveError::ReadBack(_))))) => {
                        return Err(error.into());
                    }
                    (Err(error), _) => return Err(error.into()),
                    (Ok(_), _) => {
                        let (name, run) = (name.clone(), self.run.clone());
                        return Err(PublishError::ReadBack { name, run, what: ReadBack::TakenEarly });
                    }
                }
            }
        };
        meter.finish(&format!("uploaded {what}"));
        Ok(sent)
    }

    /// The queue never learns whether a PUT happened: only reading back proves that the artifact exists and has the right
    /// content. Some storages show an object late.
    async fn read_back(&self, name: &ArtifactName, upload: &Upload<'_>, sent: Sent) -> Result<(), PublishError> {
        let wrong = |what| PublishError::ReadBack { name: name.clone(), run: self.run.clone(), what };
        let url = match self.services.queue.artifact_url(&self.run, name).await {
            // Created a moment ago: it counts as lost, like an upload that did not arrive.
            Err(error) if error.kind == CallErrorKind::Gone => return Err(wrong(ReadBack::Missing)),
            url => url?,
        };
        let looking = || async {
            match self.storage.look(&url).await {
                // Buckets that do not allow listing answer 403 for missing objects.
                Err(error) if error.is_gone() || error.is_refused() => Err(wrong(ReadBack::Missing)),
                Ok(transfer::Stored { length: Some(found), .. }) if found != upload.stored.size() => {
                    Err(wrong(ReadBack::Length { found, sent: upload.stored.size() }))
                }
                stored => Ok(stored?),
            }
        };
        let stored = retry("reading back", self.storage.retry().policy(Policy::CALL), looking).await?;
        if stored.etag.is_some_and(|etag| sent.md5.is_etag(&etag)) {
            info!("read back {name}: {}, the MD5 that was sent", Size(upload.stored.size()));
            return Ok(());
        }
        // What storages encrypt has another ETag, and some have none.
        let SizedDigest { sha256, size } =
            retry("reading back", self.storage.retry().policy(Policy::TRANSFER), || self.storage.sum(&url)).await?;
        if (sha256, size) != (sent.sha256, upload.stored.size()) {
            return Err(wrong(ReadBack::Content { found: sha256, sent: sent.sha256 }));
        }
        info!("read back {name}: {}, all of it", Size(size));
        Ok(())
    }
}
