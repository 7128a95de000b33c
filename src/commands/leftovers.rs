//! What killed runs have left: unfinished files and engines of their own beside this one's place, and what is recorded in the
//! engine. How a folder is known to be abandoned is `scratch`'s word, and what may be removed is `engine`'s.

use std::path::Path;

use super::Failed;
use crate::engine::{Engine, EngineConfig, Waiting};
use crate::job::work_dir;

/// Removes what killed runs have left in `parent` and in the engine; gives what the engine can still be at, for the end of this
/// run. What cannot be removed at all is for a later run: it is no failure of this one.
pub(super) async fn remove(parent: &Path, engine: &EngineConfig) -> Result<Option<Waiting>, Failed> {
    for abandoned in work_dir::remove_stale(parent) {
        if Engine::remove_managed(engine, &abandoned.engine()).await {
            abandoned.remove();
        }
    }
    Ok(Engine::remove_what_killed_runs_left(engine, None).await)
}

/// Removes at the end of a run what its start had to wait with.
pub(super) async fn remove_at_last(waiting: Option<Waiting>, engine: &EngineConfig) -> Result<(), Failed> {
    if waiting.is_some() {
        Engine::remove_what_killed_runs_left(engine, waiting).await;
    }
    Ok(())
}
