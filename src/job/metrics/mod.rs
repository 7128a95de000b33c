//! Measures images and their builds: layers and the steps that made them, seconds, and what has become larger. Numbers in,
//! documents and lines out; the modules above fetch an earlier image's and publish this one's.

mod growth;
mod layers;
mod perfherder;
mod stages;
mod step;
mod summary;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use growth::{Change, Growth, GrowthSince};
pub use layers::{Layer, Layers};
pub use perfherder::PerfherderData;
pub use stages::{Stage, Stages};
pub use step::step;
pub use summary::lines;

use crate::config::plan::BuildDocument;
use crate::context::ImageName;
use crate::taskcluster::ArtifactName;

/// The numbers of a build.
#[derive(Debug)]
pub struct Measured {
    /// The image.
    pub image: ImageName,
    /// The part of the engine that read the `Dockerfile`.
    pub builder: &'static str,
    /// The image's layers.
    pub layers: Layers,
    /// The artifact that has the image.
    pub artifact: ArtifactName,
    /// Its size in bytes.
    pub archive: u64,
    /// Size of the context in bytes, unpacked.
    pub context: u64,
    /// Of so many steps (the second number) so many came from a cache (the first), where that is known.
    pub cached: Option<(u64, u64)>,
    /// The stages so far.
    pub stages: Vec<Stage>,
    /// How long it took so far.
    pub took: Duration,
}

impl Measured {
    /// The stages that are over, and how long all has taken.
    pub fn so_far(&mut self, stages: Vec<Stage>, took: Duration) {
        (self.stages, self.took) = (stages, took);
    }

    /// Writes the documents that are published with the image into `directory`.
    pub fn write(&self, directory: &Path) -> io::Result<[BuildDocument; 2]> {
        let json = "application/json";
        Ok([
            BuildDocument::write(directory, "the list of layers", ArtifactName::layers(), json, &self.layers)?,
            BuildDocument::write(
                directory,
                "the metrics",
                ArtifactName::perfherder(),
                json,
                &PerfherderData::of(self),
            )?,
        ])
    }
}
