//! What killed runs have left beside this one's place: their unfinished files, and what their journals name in the
//! engine. How a folder is known to be abandoned is `scratch`'s word, and what may be removed is `engine`'s.

use std::path::Path;

use tracing::warn;

use super::Failed;
use crate::config::EngineConfig;
use crate::engine::{After, Engine};
use crate::scratch::{self, Abandoned};

/// Removes what killed runs have left in `parent`; gives what the engine can still be at, for the end of this run. What
/// cannot be removed at all is for a later run: it is no failure of this one.
pub(super) async fn remove(parent: &Path, engine: &EngineConfig) -> Result<Vec<Abandoned>, Failed> {
    remove_all(scratch::sweep(parent), engine, true).await
}

/// Removes at the end of a run what its start had to wait with.
pub(super) async fn remove_at_last(left: Vec<Abandoned>, engine: &EngineConfig) -> Result<(), Failed> {
    remove_all(left, engine, false).await.map(drop)
}

/// Removes the engines that killed runs had of their own; gives the folders that have a journal.
async fn without_managed(left: Vec<Abandoned>, engine: &EngineConfig) -> Vec<Abandoned> {
    let mut others = Vec::new();
    for abandoned in left {
        let gone = match abandoned.engine() {
            Some(place) => Engine::remove_managed(engine, &place).await,
            None => true,
        };
        if abandoned.has_journal() {
            others.push(abandoned);
        } else if gone {
            abandoned.remove();
        }
    }
    others
}

async fn remove_all(left: Vec<Abandoned>, engine: &EngineConfig, later: bool) -> Result<Vec<Abandoned>, Failed> {
    let mut waiting = Vec::new();
    let left = without_managed(left, engine).await;
    if left.is_empty() {
        return Ok(waiting);
    }
    let engine = match Engine::connect(engine).await {
        Ok(engine) => engine,
        Err(error) => {
            warn!("what a killed run has left in the engine stays there: {error}");
            return Ok(waiting);
        }
    };
    for abandoned in left {
        match engine.clean_after(&abandoned.journal(), later).await {
            After::Gone => abandoned.remove(),
            After::AskLater => waiting.push(abandoned),
            After::Stays => {}
        }
    }
    Ok(waiting)
}
