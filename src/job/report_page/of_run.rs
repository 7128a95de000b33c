//! The page of a run's image: its origin, its time, what has changed. The page is published with the image, and no run fails for the
//! lack of it.

use std::path::Path;

use tracing::warn;

use super::{Fact, PageChange, ReportPage, Times};
use crate::config::plan::{BuildDocument, ContextSource};
use crate::image::inventory::Survey;
use crate::job::metrics::{GrowthSince, Measured};
use crate::job::provenance::ProvenanceInput;
use crate::report::{Bytes, ErrorChain};
use crate::taskcluster::to_milliseconds;

/// Writes the page into `directory`.
pub(in crate::job) fn of_run(
    made: &ProvenanceInput,
    survey: Survey,
    measured: &Measured,
    growth: Option<&GrowthSince>,
    directory: &Path,
) -> Option<BuildDocument> {
    let mut page = ReportPage::of(format!("{} for {}", made.plan.image, made.plan.project), survey);
    page.time = Some(Times::of(&measured.stages, measured.took));
    page.change = growth.map(PageChange::of);
    page.provenance = origin(made);
    let unknown = made.bases.unknown.iter();
    page.warnings.extend(unknown.map(|base| format!("the engine does not say what the base image {base} was")));
    let written = page.document(directory);
    written.inspect_err(|error| warn!("there is no report of the image: {}", ErrorChain(error))).ok()
}

/// Where the image comes from.
fn origin(made: &ProvenanceInput) -> Vec<Fact> {
    let ProvenanceInput { plan, identity, image, engine, .. } = made;
    let task = plan.task.as_ref().map(|run| {
        let link = made.root_url.map(|root| format!("{root}/tasks/{}/runs/{}", run.task_id, run.run_id));
        Fact { link, ..Fact::new("Task", &format!("{}, run {}", run.task_id, run.run_id)) }
    });
    let pool = made.worker_pool.map(|pool| Fact::new("Worker pool", pool));
    let hash = plan.index_hash.filter(|hash| *hash != identity.context_hash);
    let parent = plan.parent.as_ref().map(|task| Fact::new("Parent task", task));
    let version = engine.version.as_deref().unwrap_or("of unknown version");
    let inputs = [
        Fact::new("Push of", &plan.pushdate),
        Fact::new("Context hash", &format!("{} ({})", identity.context_hash, made.scheme)),
    ];
    let context = match &plan.context.source {
        source @ (ContextSource::Artifact { .. } | ContextSource::Url(_)) => Some(Fact::new("Context", source)),
        // A path on a user's machine is private.
        ContextSource::File(_) | ContextSource::Directory { .. } => None,
    };
    // The parent is in the engine under a name of this job's own, which has no meaning elsewhere.
    let parent_tag = plan.parent.as_ref().map(|task| plan.parent_tag(task));
    let bases = made.bases.found.iter().filter(|base| Some(&base.reference) != parent_tag.as_ref()).map(|base| {
        let digest = base.digests.first().cloned().or_else(|| base.id.map(|id| id.to_string()));
        Fact::new(
            "Base image",
            &digest.map_or_else(|| base.reference.clone(), |it| format!("{}, {it}", base.reference)),
        )
    });
    let results = [
        Fact::new("Image", &format!("{}, {}", identity.tag, image.image_id)),
        Fact::new("Archive", &format!("{}, {}, sha256 {}", plan.artifact.name, Bytes(image.size), image.sha256)),
        Fact::new("Engine", &format!("{} {version}, builder {}", engine.name, made.builder)),
        Fact::new("Started", &to_milliseconds(made.started)),
        Fact::new("Finished", &to_milliseconds(made.finished)),
    ];
    let hash = hash.map(|hash| Fact::new("Hash in the index", &hash));
    let inputs = inputs.into_iter().chain(hash).chain(context).chain(parent).chain(bases);
    task.into_iter().chain(pool).chain(inputs).chain(results).collect()
}
