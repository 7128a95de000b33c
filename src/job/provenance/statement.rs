//! The fields of in-toto's Statement v1 and of SLSA's provenance v1 that this program uses, with all that these specifications
//! require. `mod` and `materials` fill them in.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{EngineInfo, TargetArch};

/// <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// <https://slsa.dev/spec/v1.0/provenance>
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// A statement about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_TYPE`]
    #[serde(rename = "_type")]
    pub kind: &'static str,
    /// Its subjects: the archive, and the image in it.
    pub subject: Vec<Resource>,
    /// [`PREDICATE_TYPE`]
    pub predicate_type: &'static str,
    /// The predicate.
    pub predicate: Predicate,
}

/// How the subject was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    /// The inputs and the process, without times, so that two builds of the same can be compared.
    pub build_definition: BuildDefinition,
    /// The builder and the time.
    pub run_details: RunDetails,
}

/// The inputs and the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// What the parameters mean (docs/provenance.md).
    pub build_type: &'static str,
    /// The task's own data, which only the task vouches for.
    pub external_parameters: ExternalParameters,
    /// The worker's data.
    pub internal_parameters: InternalParameters,
    /// What went in.
    pub resolved_dependencies: Vec<Resource>,
}

/// The task's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalParameters {
    /// The image's name.
    pub image: String,
    /// The project that it is indexed for.
    pub project: String,
    /// The context.
    pub context: Context,
    /// The hash in the `.hash.` route and in the tag.
    pub index_hash: String,
    /// The task whose image this one was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The names of the build arguments. Their values can be secrets.
    pub build_args: Vec<String>,
    /// The ids of the secrets that the `Dockerfile` could ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub build_secrets: Vec<String>,
    /// The network of `RUN` steps, if it is not the engine's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The requested builder: `auto`, `classic` or `buildkit`.
    pub builder: String,
    /// The requested architecture, if the task has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_arch: Option<TargetArch>,
    /// `SOURCE_DATE_EPOCH` of a reproducible image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproducible: Option<u64>,
    /// The archive's artifact.
    pub artifact: String,
    /// The level that the archive is compressed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zstd_level: Option<i32>,
    /// `squash`, where the image is another one of the same files; the other ways out of the engine change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
}

/// The context, as the task names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Its hash, which was verified.
    pub hash: String,
    /// How that is computed.
    pub scheme: String,
    /// Where it came from.
    pub source: Source,
}

/// Where a context came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Source {
    /// An artifact.
    Artifact {
        /// The task.
        task_id: String,
        /// The artifact.
        name: String,
    },
    /// A URL, without what could be a secret in it.
    Url(String),
    /// A file on the machine that built, by its name.
    File(String),
    /// A directory on the machine that built, in its repository.
    Directory(String),
}

/// The image of another task, as this task names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The task.
    pub task_id: String,
    /// The artifact that was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The hash in its own `.hash.` route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_hash: Option<String>,
}

/// The worker's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalParameters {
    /// The engine.
    pub engine: EngineInfo,
    /// The part of the engine that read the `Dockerfile`.
    pub builder: String,
    /// This program's version.
    pub image_worker: &'static str,
}

/// The builder and the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunDetails {
    /// The platform.
    pub builder: Builder,
    /// The run.
    pub metadata: Metadata,
    /// What else was made of the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Resource>,
}

/// The platform to be trusted, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Builder {
    /// Its name, a URL.
    pub id: String,
    /// The versions of its parts.
    pub version: BTreeMap<&'static str, &'static str>,
}

/// The run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name, a URL; a build on a user's machine has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// When it began.
    pub started_on: String,
    /// When the image was complete.
    pub finished_on: String,
}

/// An object with enough data to find and compare it: in-toto's `ResourceDescriptor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Its name here.
    pub name: String,
    /// Where it is, or its name everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digests, by algorithm.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<&'static str, String>,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<&'static str>,
    /// What else is known of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'static str, serde_json::Value>,
}
