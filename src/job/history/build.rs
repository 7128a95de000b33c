//! The build of an image, as its task's definition and the documents beside the image have it. What is not there is left out, and
//! what is wrong is noted.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::documents::{Definition, Metrics, Provenance};
use super::pushes::BuiltBy;
use crate::context::ContextHash;
use crate::job::metrics::Layers;
use crate::job::packages::{LARGEST_SBOM, Packages, Sbom};
use crate::job::published_document::{DocumentError, download};
use crate::net::retry::{Policy, retry};
use crate::net::transfer::Storage;
use crate::report::ErrorChain;
use crate::taskcluster::{ArtifactName, CallErrorKind, PushDate, Services, TaskRun};

/// Documents about layers, numbers and provenance have some kilobytes: more is none.
const LARGEST: u64 = 1 << 20;

/// What is known about a build.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildFacts {
    /// The revision that its task was made for.
    pub revision: Option<String>,
    /// The hash in the image's `.hash.` route.
    pub index_hash: Option<ContextHash>,
    /// The size of the image in bytes, all layers unpacked.
    pub size: Option<u64>,
    /// How many layers it has.
    pub layers: Option<usize>,
    /// How many packages it has.
    pub packages: Option<usize>,
    /// How long its run took, in seconds.
    pub seconds: Option<f64>,
    /// The documents that are not there, by their file names.
    pub missing: Vec<String>,
    /// What is wrong with others.
    pub notes: Vec<String>,
}

/// A build.
#[derive(Debug, Default)]
pub(super) struct Build {
    pub(super) facts: BuildFacts,
    pub(super) context_hash: Option<ContextHash>,
    /// The push that its task was made for.
    pub(super) made_for: Option<PushDate>,
    pub(super) packages: Option<Packages>,
}

/// Why a document is not read.
enum Unread {
    Missing,
    Wrong(String),
}

/// Reads builds.
pub(super) struct Builds<'a> {
    pub(super) services: &'a Services,
    pub(super) storage: &'a Storage,
}

impl Builds<'_> {
    /// What is known about a build.
    pub(super) async fn read(&self, by: &BuiltBy) -> Build {
        let [layers, perfherder, provenance, sbom] =
            [ArtifactName::layers(), ArtifactName::perfherder(), ArtifactName::provenance(), ArtifactName::sbom()];
        let (definition, layers, metrics, provenance, sbom) = tokio::join!(
            self.definition(by),
            self.document::<Layers>(by, layers, LARGEST),
            self.document::<Metrics>(by, perfherder, LARGEST),
            self.document::<Provenance>(by, provenance, LARGEST),
            self.document::<Sbom>(by, sbom, LARGEST_SBOM),
        );
        let mut facts = BuildFacts::default();
        let definition = facts.take("the task's definition", definition).unwrap_or_default();
        let layers = facts.take(ArtifactName::layers().file_name(), layers);
        let metrics = facts.take(ArtifactName::perfherder().file_name(), metrics);
        let provenance = facts.take(ArtifactName::provenance().file_name(), provenance);
        let packages = facts.take(ArtifactName::sbom().file_name(), sbom).map(Packages::from);
        facts.revision = definition.revision;
        facts.index_hash = definition.index_hash.or(provenance.as_ref().map(Provenance::index_hash));
        facts.size = layers.as_ref().map(|layers| layers.size);
        facts.layers = layers.map(|layers| layers.layers.len());
        facts.packages = packages.as_ref().map(Packages::len);
        let of_provenance = || provenance.as_ref().and_then(Provenance::seconds);
        facts.seconds = metrics.as_ref().and_then(Metrics::seconds).or_else(of_provenance);
        let context_hash = definition.context_hash.or(provenance.as_ref().map(Provenance::context_hash));
        Build { facts, context_hash, made_for: definition.made_for, packages }
    }

    async fn definition(&self, by: &BuiltBy) -> Result<Definition, Unread> {
        match self.services.queue.definition(&by.task_id).await {
            Ok(Some(definition)) => Ok(Definition::read(&definition)),
            Ok(None) => Err(Unread::Missing),
            Err(error) => Err(Unread::Wrong(ErrorChain(&error).to_string())),
        }
    }

    async fn document<T: DeserializeOwned>(&self, by: &BuiltBy, name: ArtifactName, limit: u64) -> Result<T, Unread> {
        let bytes = match self.bytes(by, &name, limit).await {
            Ok(bytes) => bytes,
            Err(DocumentError::Call(error)) if error.kind == CallErrorKind::Gone => return Err(Unread::Missing),
            Err(DocumentError::Transfer(error)) if error.is_gone() => return Err(Unread::Missing),
            Err(error) => return Err(Unread::Wrong(ErrorChain(&error).to_string())),
        };
        serde_json::from_slice(&bytes).map_err(|error| Unread::Wrong(format!("is not such a document: {error}")))
    }

    async fn bytes(&self, by: &BuiltBy, name: &ArtifactName, limit: u64) -> Result<Vec<u8>, DocumentError> {
        let queue = &self.services.queue;
        let url = match by.run_id {
            Some(run_id) => queue.artifact_url(&TaskRun { task_id: by.task_id.clone(), run_id }, name).await?,
            None => queue.latest_artifact_url(&by.task_id, name).await?,
        };
        let policy = self.storage.retry().policy(Policy::CALL);
        retry("the download of a document", policy, || download(self.storage, &url, name.clone(), limit)).await
    }
}

impl BuildFacts {
    /// What was read, or a note of why it was not.
    fn take<T>(&mut self, what: &str, read: Result<T, Unread>) -> Option<T> {
        match read {
            Ok(read) => return Some(read),
            Err(Unread::Missing) => self.missing.push(what.to_owned()),
            Err(Unread::Wrong(why)) => self.notes.push(format!("{what}: {why}")),
        }
        None
    }
}
