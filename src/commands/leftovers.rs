//! What killed runs have left beside this one's place: their unfinished files, and what their journals name in the
//! engine. How a folder is known to be abandoned is `scratch`'s word, and what may be removed is `engine`'s.

use std::path::Path;

use tracing::warn;

use super::Failed;
use crate::config::EngineConfig;
use crate::engine::Engine;
use crate::scratch;

/// Removes what killed runs have left in `parent`. What cannot be removed now is for a later run: it is no failure of this
/// one.
pub(super) async fn remove(parent: &Path, engine: &EngineConfig) -> Result<(), Failed> {
    let left = scratch::sweep(parent);
    if left.is_empty() {
        return Ok(());
    }
    let engine = match Engine::connect(engine).await {
        Ok(engine) => engine,
        Err(error) => {
            warn!("what a killed run has left in the engine stays there: {error}");
            return Ok(());
        }
    };
    for abandoned in left {
        if engine.clean_after(&abandoned.journal()).await {
            abandoned.remove();
        }
    }
    Ok(())
}
