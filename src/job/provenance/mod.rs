//! Provenance: what an image was made from, how, by whom and when, as an in-toto statement with SLSA's predicate, in a separate
//! artifact. Other modules collect the facts; `publish` publishes it.
//!
//! - `statement`: the fields of the two specifications. `materials`: the inputs.

mod materials;
pub mod statement;

use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::config::plan::{BuildDocument, ContextSource, ExportChoice, Identity, ImageFile, Plan};
use crate::context::ContextScheme;
use crate::engine::{Bases, EngineInfo};
use crate::job::cache::CachedImage;
use crate::job::parent::TaskImage;
use crate::net::HttpUrl;
use crate::taskcluster::{ArtifactName, to_milliseconds};
use statement::{
    BuildDefinition, Builder, Context, ExternalParameters, InternalParameters, Metadata, PREDICATE_TYPE, Parent,
    Predicate, Resource, RunDetails, STATEMENT_TYPE, Source, Statement,
};

/// What the parameters mean: docs/provenance.md, and a change of their meaning takes another number.
pub const BUILD_TYPE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/provenance.md#build-type-1");

/// The builder outside of worker pools: a user's machine, without any guarantee.
pub const NO_POOL: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/provenance.md#no-worker-pool");

/// in-toto's media type of statements.
const CONTENT_TYPE: &str = "application/vnd.in-toto+json";

/// All that is known when an image is complete.
pub struct ProvenanceInput<'a> {
    /// What was to be done.
    pub plan: &'a Plan,
    /// The names that followed.
    pub identity: &'a Identity,
    /// By which the context was verified.
    pub scheme: ContextScheme,
    /// The deployment, where there is one.
    pub root_url: Option<&'a HttpUrl>,
    /// The pool of the worker, if the queue has it.
    pub worker_pool: Option<&'a str>,
    /// The archive.
    pub image: &'a ImageFile,
    /// What else was made of the image.
    pub besides: &'a [BuildDocument],
    /// The images that its `Dockerfile` names.
    pub bases: &'a Bases,
    /// The image of another task that it was built from.
    pub parent: Option<&'a TaskImage>,
    /// The image that steps were taken from, as the index has it.
    pub cache: Option<&'a CachedImage>,
    /// The engine.
    pub engine: &'a EngineInfo,
    /// The part of the engine that read the `Dockerfile`.
    pub builder: &'a str,
    /// When the run began.
    pub started: Timestamp,
    /// When the archive was complete.
    pub finished: Timestamp,
}

/// Writes the statement into `directory`.
pub fn write(made: &ProvenanceInput, directory: &Path) -> io::Result<BuildDocument> {
    BuildDocument::write(directory, "the provenance", ArtifactName::provenance(), CONTENT_TYPE, &statement(made))
}

/// The statement about an image.
#[must_use]
pub fn statement(made: &ProvenanceInput) -> Statement {
    let ProvenanceInput { plan, identity, image, .. } = made;
    let archive = Resource {
        name: plan.artifact.name.to_string(),
        digest: [("sha256", image.sha256.to_string())].into(),
        media_type: Some(plan.artifact.content_type()),
        ..Resource::default()
    };
    let image = Resource {
        name: identity.tag.clone(),
        digest: [("sha256", image.image_id.hex().to_string())].into(),
        media_type: Some("application/vnd.docker.container.image.v1+json"),
        ..Resource::default()
    };
    Statement {
        kind: STATEMENT_TYPE,
        subject: vec![archive, image],
        predicate_type: PREDICATE_TYPE,
        predicate: Predicate {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE,
                external_parameters: external(made),
                internal_parameters: InternalParameters {
                    engine: made.engine.clone(),
                    builder: made.builder.to_owned(),
                    image_worker: env!("CARGO_PKG_VERSION"),
                },
                resolved_dependencies: materials::materials(made),
            },
            run_details: run(made),
        },
    }
}

fn external(made: &ProvenanceInput) -> ExternalParameters {
    let ProvenanceInput { plan, identity, .. } = made;
    let source = match &plan.context.source {
        ContextSource::Artifact { task_id, name } => {
            Source::Artifact { task_id: task_id.to_string(), name: name.to_string() }
        }
        ContextSource::Url(url) => Source::Url(url.to_string()),
        // A path on a user's machine is private.
        ContextSource::File(path) => Source::File(path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ContextSource::Directory { checkout, directory, .. } => {
            let within = checkout.root.as_ref().and_then(|root| directory.strip_prefix(root).ok());
            let within = within.unwrap_or_else(|| directory.file_name().map_or(directory, Path::new));
            Source::Directory(within.display().to_string())
        }
    };
    let parent = plan.parent.as_ref().map(|task| Parent {
        task_id: task.to_string(),
        artifact: made.parent.map(|image| image.artifact.to_string()),
        index_hash: made.parent.and_then(|image| image.hash).map(|hash| hash.to_string()),
    });
    ExternalParameters {
        image: plan.image.to_string(),
        project: plan.project.to_string(),
        context: Context { hash: identity.context_hash.to_string(), scheme: made.scheme.to_string(), source },
        index_hash: plan.index_hash.unwrap_or(identity.context_hash).to_string(),
        parent,
        build_args: plan.build.args.keys().cloned().collect(),
        build_secrets: plan.build.secrets.0.keys().cloned().collect(),
        network: plan.build.network.clone(),
        builder: plan.build.builder.to_string(),
        target_arch: plan.build.target_arch,
        reproducible: plan.reproducible,
        artifact: plan.artifact.name.to_string(),
        zstd_level: plan.artifact.zstd_level,
        export: (plan.artifact.export == ExportChoice::Squash).then(|| plan.artifact.export.to_string()),
    }
}

fn run(made: &ProvenanceInput) -> RunDetails {
    let pool = made.root_url.zip(made.worker_pool).and_then(|(root, pool)| {
        let (provisioner, worker_type) = pool.split_once('/')?;
        Some(format!("{root}/provisioners/{provisioner}/worker-types/{worker_type}"))
    });
    let task = made.plan.task.as_ref();
    let invocation =
        made.root_url.zip(task).map(|(root, task)| format!("{root}/tasks/{}/runs/{}", task.task_id, task.run_id));
    RunDetails {
        builder: Builder {
            id: pool.unwrap_or_else(|| NO_POOL.to_owned()),
            version: [("image-worker", env!("CARGO_PKG_VERSION"))].into(),
        },
        metadata: Metadata {
            invocation_id: invocation,
            started_on: to_milliseconds(made.started),
            finished_on: to_milliseconds(made.finished),
        },
        byproducts: made.besides.iter().map(byproduct).collect(),
    }
}

fn byproduct(made: &BuildDocument) -> Resource {
    Resource {
        name: made.name.to_string(),
        digest: [("sha256", made.sha256.to_string())].into(),
        media_type: Some(made.content_type),
        ..Resource::default()
    }
}

#[cfg(test)]
mod tests;
