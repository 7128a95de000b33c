//! Leftovers of killed runs: unfinished files and managed engines beside this run's directory, and what is recorded in the
//! engine. `work_dir` recognises abandoned directories, and `engine` decides what may be removed.

use std::path::Path;

use super::CommandError;
use super::work_dir;
use crate::engine::{Engine, EngineConfig, Waiting};

/// Removes what killed runs left in `parent` and in the engine; returns what the engine may still be working on, for the end of
/// this run. What cannot be removed is left to a later run and does not fail this one.
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
