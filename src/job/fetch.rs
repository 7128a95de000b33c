//! Fetches the context: from an artifact, a URL, a file or an image directory, through the intake's checks, into a file that
//! either holds verified bytes or does not exist.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tracing::{info, warn};

use super::{CommandError, secret_values};
use crate::config::plan::{ContextPlan, ContextSource};
use crate::context::checkout::Checkout;
use crate::context::collect::{CollectError, Context};
use crate::context::for_engine::{ForEngine, ForEngineError, LeftOut};
use crate::context::intake::{Expectation, IntakeError, IntakeFault, Limits, Received, receive};
use crate::context::{ContextHash, ContextScheme, HashScheme, ImageName, RepoPath, owners};
use crate::dockerfile::PARENT_ARG;
use crate::dockerfile::base_images::DockerfileImages;
use crate::engine::BuildPlan;
use crate::image::disk::{InsufficientSpace, ensure_space};
use crate::net::blocking::blocking;
use crate::net::retry::{Failure, Policy, Retryability, retry};
use crate::net::transfer::{Storage, TransferError};
use crate::net::{HttpUrl, stream};
use crate::report::{Bytes, Hint, Report, counted};
use crate::taskcluster::{CallError, Services};

/// Written to disk at this size, so that system calls do not count.
const WRITE_BUFFER: usize = 256 * 1024;

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The queue does not have the artifact, or not any more.
    #[error("the context is not there: {origin}{}", Hint("a new decision task uploads it again"))]
    Gone {
        /// Where it should be.
        origin: String,
        /// The services' messages.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service refused the request.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The download failed.
    #[error(transparent)]
    Transfer(TransferError),
    /// It is not the context that was promised.
    #[error("{error} (context from {origin})")]
    Intake {
        /// The problem.
        #[source]
        error: IntakeError,
        /// Where it came from.
        origin: String,
    },
    /// The image directory has no context.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The context is what was promised, but cannot be built from.
    #[error(transparent)]
    ForEngine(#[from] ForEngineError),
    /// A file on this machine cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// Read or write.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It does not fit.
    #[error(transparent)]
    InsufficientSpace(#[from] InsufficientSpace),
    /// Only a deployment has artifacts.
    #[error("there is no deployment to get {} from{}", .0, Hint("set TASKCLUSTER_ROOT_URL"))]
    NoDeployment(String),
}

impl Failure for FetchError {
    fn retryability(&self) -> Retryability {
        match self {
            Self::Transfer(error) => error.retryability(),
            Self::Intake { error, .. } if error.kind() == IntakeFault::Source => Retryability::Transient,
            Self::Gone { .. } | Self::Call(_) | Self::Intake { .. } | Self::Collect(_) => Retryability::Permanent,
            Self::ForEngine(_) | Self::File { .. } | Self::InsufficientSpace(_) | Self::NoDeployment(_) => {
                Retryability::Permanent
            }
        }
    }
}

/// A verified context.
#[derive(Debug)]
pub struct Fetched {
    /// The context, a plain tar; gone when this value is.
    pub file: NamedTempFile,
    /// Its hash.
    pub hash: ContextHash,
    /// How the hash was computed.
    pub scheme: ContextScheme,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Fetched {
    /// The context in the form for the engine. The secrets that its `Dockerfile` requires must be given.
    pub async fn for_engine(&self, plan: &BuildPlan) -> Result<ForEngine, CommandError> {
        let context = self.read(&plan.args).await?;
        secret_values::compare(context.secret_mounts(), &plan.secrets)?;
        if plan.args.contains_key(PARENT_ARG) && !context.mentions_parent() {
            warn!("there is a parent, but the Dockerfile does not look at ${PARENT_ARG}");
        }
        if let Some(LeftOut { by, files }) = context.left_out()
            && files > 0
        {
            let files = counted(files, "file");
            info!("{by} leaves {files} of the context out of the build; the hash has them");
        }
        Ok(context)
    }

    /// Warns if only the `Dockerfile` itself specifies the parent.
    pub async fn warn_of_own_parent(&self, args: &BTreeMap<String, String>) -> Result<(), FetchError> {
        let recipe = DockerfileImages::read(&self.read(args).await?.dockerfile(), args);
        let put_in = recipe.references.iter().find(|it| it.variables.iter().any(|name| name == PARENT_ARG));
        if let Some(reference) = put_in {
            let is = match reference.image.as_deref().filter(|image| !image.is_empty()) {
                Some(image) => format!("is its own default, {image}"),
                None => "is nothing".to_owned(),
            };
            warn!(
                "`{}` of the Dockerfile {is}: {PARENT_ARG} is not given, which in CI is the parent's image; name its task with PARENT_TASK_ID, or an image as {PARENT_ARG} in DOCKER_BUILD_ARGS",
                reference.shown()
            );
        }
        Ok(())
    }

    async fn read(&self, args: &BTreeMap<String, String>) -> Result<ForEngine, FetchError> {
        let (path, args) = (self.file.path().to_owned(), args.clone());
        Ok(blocking(move || ForEngine::read(&path, &args)).await?)
    }
}

/// The sources of downloads, and their destination.
pub struct Fetcher<'a> {
    /// The deployment's services, where there is a deployment.
    pub services: Option<&'a Services>,
    /// Plain HTTP.
    pub storage: &'a Storage,
    /// Progress.
    pub report: &'a Report,
    /// The directory for temporary files.
    pub work_dir: &'a Path,
    /// The image whose contexts these are.
    pub image: &'a ImageName,
}

impl Fetcher<'_> {
    /// Fetches a planned context and verifies it while it arrives.
    pub async fn context(&self, plan: &ContextPlan) -> Result<Fetched, FetchError> {
        let ContextPlan { source, hash, .. } = plan;
        let fetched = match source {
            ContextSource::Artifact { task_id, name } => {
                let services = self.services.ok_or_else(|| FetchError::NoDeployment(source.to_string()))?;
                retry("the download of the context", self.storage.retry().policy(Policy::TRANSFER), || async {
                    let url =
                        services.queue.latest_artifact_url(task_id, name).await.map_err(|error| gone(source, error))?;
                    self.download(plan, &url).await
                })
                .await?
            }
            ContextSource::Url(url) => {
                retry("the download of the context", self.storage.retry().policy(Policy::TRANSFER), || {
                    self.download(plan, url)
                })
                .await?
            }
            ContextSource::File(path) => {
                let file = File::open(path).map_err(|source| unreadable(path, source))?;
                self.unpack_and_validate(plan, file, false, None).await?
            }
            ContextSource::Directory { checkout, directory, args } => {
                self.pack(plan, checkout, directory, args).await?
            }
        };
        let verified = match hash {
            Some(_) if fetched.scheme != plan.scheme => {
                "verified: it is the hash of the packed file, by which taskgraph before version 12 names contexts"
            }
            Some(_) => "verified",
            None => "no HASH to compare with",
        };
        info!(
            "context: {} unpacked, hash {} (scheme {}), {verified}",
            Bytes(fetched.bytes),
            fetched.hash,
            fetched.scheme
        );
        Ok(fetched)
    }

    async fn download(&self, plan: &ContextPlan, url: &HttpUrl) -> Result<Fetched, FetchError> {
        let download = self.storage.get(url).await.map_err(|error| {
            if error.is_gone() { gone_from(&plan.source, error) } else { FetchError::Transfer(error) }
        })?;
        // The minimum: decompressed it is larger, and the intake's limit applies.
        ensure_space("the context", self.work_dir, download.length.unwrap_or_default())?;
        let meter = self.report.meter("downloading the context", download.length);
        let (encoded, ends_with_connection) = (download.gzip_encoded, download.ends_with_connection);
        let bytes = stream::reader(download.bytes(meter.clone()));
        let fetched = self.unpack_and_validate(plan, bytes, encoded, None).await.map_err(|error| match error {
            FetchError::Intake { error: IntakeError::Truncated { .. }, .. } if ends_with_connection => {
                FetchError::Transfer(TransferError::Cut { url: url.clone() })
            }
            error => error,
        })?;
        meter.finish("downloaded the context");
        Ok(fetched)
    }

    /// Makes the context of an image directory, and takes it in through the same checks as a downloaded one.
    async fn pack(
        &self,
        plan: &ContextPlan,
        checkout: &Checkout,
        directory: &Path,
        args: &BTreeMap<String, String>,
    ) -> Result<Fetched, FetchError> {
        // The configuration refuses a directory with another scheme; by that one it would not be verified either.
        let scheme = plan.scheme.of_directory().unwrap_or_default();
        let context = Context::collect(checkout, directory, args, scheme)?;
        context.warn_of_untracked();
        let within = match (scheme, &checkout.root) {
            (HashScheme::Contents, Some(root)) => Some(path_in(root, directory)?),
            _ => None,
        };
        let (reader, writer) = io::pipe().map_err(|source| unreadable(directory, source))?;
        let packing = blocking(move || context.write_tar(BufWriter::with_capacity(WRITE_BUFFER, writer)));
        let taken = self.unpack_and_validate(plan, reader, false, within).await;
        match packing.await {
            // When the intake ends early the writer's pipe breaks: then the intake's error is reported.
            Err(error) if !matches!(error, CollectError::Write(_)) => Err(error.into()),
            _ => taken,
        }
    }

    /// Reads a context to its end, on a thread of its own, into a temporary file. `encoded`: whether the transfer is compressed,
    /// as workers store some artifacts of any type.
    async fn unpack_and_validate(
        &self,
        plan: &ContextPlan,
        source: impl Read + Send + 'static,
        encoded: bool,
        within: Option<RepoPath>,
    ) -> Result<Fetched, FetchError> {
        let expect = Expectation {
            scheme: plan.scheme,
            hash: plan.hash,
            directory: within.or_else(|| plan.directory.clone()),
            image: self.image.clone(),
            encoded,
        };
        let limits = Limits { max_bytes: plan.max_bytes, max_entries: plan.max_entries, ..Limits::default() };
        // A fresh file for every try: what an earlier one wrote is worthless.
        let unwritable = |source| FetchError::File { doing: "write to", path: self.work_dir.to_owned(), source };
        let file = NamedTempFile::new_in(self.work_dir).map_err(unwritable)?;
        let out = BufWriter::with_capacity(WRITE_BUFFER, file.reopen().map_err(unwritable)?);
        let received = blocking(move || receive(source, &expect, &limits, out)).await;
        let Received { hash, scheme, bytes, others, .. } =
            received.map_err(|error| classify(error, plan.source.to_string(), file.path()))?;
        // Only now: the hash is of the bytes as they came.
        if others {
            let verified = file.reopen().map_err(unwritable)?;
            blocking(move || owners::reset_owners(&verified)).await.map_err(unwritable)?;
        }
        Ok(Fetched { file, hash, scheme, bytes })
    }
}

/// The source's own errors are reported as such: a broken download, or a disk error with its file.
fn classify(error: IntakeError, origin: String, path: &Path) -> FetchError {
    match error {
        IntakeError::Output { source } => {
            FetchError::File { doing: "write the context to", path: path.to_owned(), source }
        }
        IntakeError::Source { bytes, source } => match stream::cause::<TransferError>(source) {
            Ok(transfer) => FetchError::Transfer(transfer),
            Err(source) => FetchError::Intake { error: IntakeError::Source { bytes, source }, origin },
        },
        error => FetchError::Intake { error, origin },
    }
}

fn gone(source: &ContextSource, error: CallError) -> FetchError {
    if error.kind == crate::taskcluster::CallErrorKind::Gone { gone_from(source, error) } else { error.into() }
}

fn gone_from(source: &ContextSource, error: impl std::error::Error + Send + Sync + 'static) -> FetchError {
    FetchError::Gone { origin: source.to_string(), source: error.into() }
}

fn unreadable(path: &Path, source: io::Error) -> FetchError {
    FetchError::File { doing: "read", path: path.to_owned(), source }
}

/// The image directory's path in its repository.
fn path_in(root: &Path, directory: &Path) -> Result<RepoPath, FetchError> {
    let absolute = |path: &Path| path.canonicalize().map_err(|source| unreadable(path, source));
    let (root, place) = (absolute(root)?, absolute(directory)?);
    let outside = || CollectError::OutsideRepository { directory: place.clone(), root: root.clone() };
    let within = place.strip_prefix(&root).map_err(|_| outside())?;
    within.to_str().and_then(|path| path.parse().ok()).ok_or_else(|| outside().into())
}
