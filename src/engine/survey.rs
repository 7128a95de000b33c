//! What an engine is like, for people who look for what is wrong with it: its builder, and where it keeps images. Nothing in the
//! engine changes.

use std::path::PathBuf;

use super::{BuilderChoice, Engine, EngineError, StorageError};
use crate::context::BuiltBy;

/// An engine as this machine sees it.
#[derive(Debug)]
pub struct EngineSurvey {
    /// The engine's name, versions and address.
    pub name: String,
    /// The builder of a `Dockerfile` without special needs.
    pub builder: Result<&'static str, EngineError>,
    /// The directory that it keeps images in, if that is on this machine.
    pub directory: Option<PathBuf>,
    /// Whether images can be read from there, without an export.
    pub storage: Result<(), StorageError>,
}

impl Engine {
    /// Looks at the engine. `choice` is the wanted builder.
    pub async fn survey(&self, choice: BuilderChoice) -> Result<EngineSurvey, EngineError> {
        let doing = "describing itself".to_owned();
        let info = self.client.info().await.map_err(|error| EngineError::Request { doing, source: error.into() })?;
        let is_here = self.place.is_on_this_kernel();
        let storage = match self.storage().await {
            // Its names are enough: each image is verified when it is read.
            Ok((_, path)) => {
                std::fs::read_dir(&path).map(drop).map_err(|source| StorageError::Unreadable { path, source })
            }
            Err(error) => Err(error),
        };
        Ok(EngineSurvey {
            name: format!("{} at {}{}", self.about, self.place, self.place.named_by()),
            builder: self.usual_builder(choice).await.map(BuiltBy::name),
            directory: info.docker_root_dir.filter(|_| is_here).map(PathBuf::from),
            storage,
        })
    }
}
