//! What killed runs have left: unfinished files and engines of their own beside this one's place, and what is recorded in the
//! engine. How a folder is known to be abandoned is `work_dir`'s word, and what may be removed is `engine`'s.

use std::path::Path;

use super::CommandError;
use super::work_dir;
use crate::engine::{Engine, EngineConfig, Waiting};

/// Removes what killed runs have left in `parent` and in the engine; gives what the engine can still be at, for the end of this
/// run. What cannot be removed at all is for a later run: it is no failure of this one.
pub(super) async fn remove(parent: &Path, engine: &EngineConfig) -> Result<Option<Waiting>, CommandError> {
    for abandoned in work_dir::remove_stale(parent) {
        if Engine::remove_managed(engine, &abandoned.engine()).await {
            abandoned.remove();
        }
    }
    Ok(Engine::remove_what_killed_runs_left(engine, None).await)
}

/// Removes at the end of a run what its start had to wait with.
pub(super) async fn remove_at_last(waiting: Option<Waiting>, engine: &EngineConfig) -> Result<(), CommandError> {
    if waiting.is_some() {
        Engine::remove_what_killed_runs_left(engine, waiting).await;
    }
    Ok(())
}
