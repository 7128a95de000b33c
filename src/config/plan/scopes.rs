//! The scopes that a task needs to publish its plan, one for each call that is refused without it. `job::scopes` finds out which
//! of them the task has; worker-config/scopes.yml documents what grants them.

use super::{ContextSource, Identity, Plan};
use crate::engine::SecretSource;
use crate::net::NameError;
use crate::taskcluster::{ArtifactName, Namespace, Project};

/// A scope that a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededScope {
    /// The scope, in full.
    pub scope: String,
    /// The call that is refused without it.
    pub call: &'static str,
    /// Which jobs make that call.
    pub need: Need,
}

impl std::fmt::Display for NeededScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.scope, self.call)
    }
}

/// Which jobs need a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Each.
    Always,
    /// Needed if the image does not exist yet.
    Building,
    /// Needed for some images only: known when the image is built.
    Perhaps,
}

impl Plan {
    /// The scopes that a task needs for this plan. It leaves out calls that the program does without if they are refused (the
    /// layer cache, the comparison with an earlier image), and those that depend on a parent's definition, which is fetched
    /// before the build.
    ///
    /// # Errors
    /// When the index could not store the name of the image in the central project.
    pub fn needed_scopes(
        &self,
        identity: &Identity,
        central: &Project,
        force: bool,
    ) -> Result<Vec<NeededScope>, NameError> {
        let Some(run) = &self.task else { return Ok(Vec::new()) };
        let (task, run_id, names) = (&run.task_id, run.run_id, &identity.namespaces);
        let mut needed = Vec::new();
        let mut need = |need, call, scope| needed.push(NeededScope { scope, call, need });

        need(Need::Always, "queue.task", format!("queue:get-task:{task}"));
        need(Need::Always, "queue.listArtifacts", format!("queue:list-artifacts:{task}:{run_id}"));
        need(Need::Always, "queue.status", format!("queue:status:{task}"));
        need(Need::Always, "queue.createArtifact", format!("queue:create-artifact:{task}/{run_id}"));
        let looked_at = if force { Need::Building } else { Need::Always };
        need(looked_at, "index.findTask", find_task(&names.hash));
        if !force && *central != self.project {
            let hash = self.index_hash.unwrap_or(identity.context_hash);
            let namespace = Namespace::of_hash(&self.index, central, &self.image, hash)?;
            need(Need::Always, "index.findTask", find_task(&namespace));
        }
        for namespace in [&names.latest, &names.pushdate] {
            need(Need::Always, "index.insertTask", insert_task(namespace));
            need(Need::Always, "index.findTask", find_task(namespace));
        }
        need(Need::Building, "index.insertTask", insert_task(&names.hash));
        if let ContextSource::Artifact { name, .. } = &self.context.source {
            need(Need::Building, "queue.getLatestArtifact", get_artifact(name));
        }
        if let Some(parent) = &self.parent {
            need(Need::Building, "queue.task", format!("queue:get-task:{parent}"));
        }
        for source in self.build.secrets.0.values() {
            if let SecretSource::Taskcluster { taskcluster, .. } = source {
                need(Need::Building, "secrets.get", format!("secrets:get:{taskcluster}"));
            }
        }
        // Reading back.
        let documents =
            [ArtifactName::layers(), ArtifactName::perfherder(), ArtifactName::provenance(), ArtifactName::report()];
        for name in std::iter::once(&self.artifact.name).chain(&documents) {
            need(Need::Building, "queue.getArtifact", get_artifact(name));
        }
        for name in [ArtifactName::sbom(), ArtifactName::layer_cache()] {
            need(Need::Perhaps, "queue.getArtifact", get_artifact(&name));
        }
        Ok(needed)
    }
}

fn find_task(namespace: &Namespace) -> String {
    format!("index:find-task:{namespace}")
}

fn insert_task(namespace: &Namespace) -> String {
    format!("index:insert-task:{namespace}")
}

fn get_artifact(name: &ArtifactName) -> String {
    format!("queue:get-artifact:{name}")
}
