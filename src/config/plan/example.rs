//! A plan for tests: the smallest one, which they change where it matters to them.

use super::{ArtifactPlan, ContextPlan, ContextSource, Plan};
use crate::context::ContextScheme;
use crate::engine::BuildPlan;

impl Plan {
    /// The image `builder` of `try`, whose context is `source`.
    pub(crate) fn example(source: ContextSource) -> Self {
        Self {
            image: "builder".parse().unwrap(),
            project: "try".parse().unwrap(),
            task: None,
            pushdate: "20151209123456".parse().unwrap(),
            context: ContextPlan {
                source,
                scheme: ContextScheme::Tar,
                hash: None,
                directory: None,
                max_bytes: 1,
                max_entries: 1,
            },
            build: BuildPlan::default(),
            parent: None,
            artifact: ArtifactPlan::example(),
            index: "index".parse().unwrap(),
            index_hash: None,
            dry_run: None,
            reproducible: None,
        }
    }
}
