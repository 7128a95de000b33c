//! `--reproducible`: makes an unpacked image depend only on its inputs, not on the time and place of the build.
//! docs/archives.md describes what is changed, and what cannot be changed.

mod clamp;
mod config;
mod engine_artifacts;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;

use jiff::Timestamp;

use super::extents::ExtentReader;
use super::layer::{self, LayerError};
use super::{Layer, UnpackedImage};
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};
use engine_artifacts::LowerLayers;

/// The size of reads for hashing, so that the cost of system calls is negligible.
const HASH_BUFFER: usize = 256 * 1024;

/// An image that cannot be made reproducible.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// A layer's tar, or its file, is damaged.
    #[error("layer {number} of the image cannot be made reproducible")]
    Layer {
        /// The layer's number, counted from 1.
        number: usize,
        /// The cause.
        source: LayerError,
    },
    /// The configuration is not as engines write it.
    #[error("the image's configuration cannot be made reproducible: {0}")]
    Config(String),
    /// The epoch is outside the range of timestamps.
    #[error("SOURCE_DATE_EPOCH={0} is no moment that a configuration can name")]
    Epoch(u64),
}

/// Rewrites an image, which is staged, except for its first `base_layers`, which it shares with its base image. After an error,
/// the staging file is useless.
pub fn rewrite(unpacked: &mut UnpackedImage, epoch: u64, base_layers: usize) -> Result<(), RewriteError> {
    let Rewritten { config, layers } =
        rewritten(&unpacked.file, unpacked.layers(), unpacked.config(), epoch, base_layers)?;
    unpacked.replace(config, layers);
    Ok(())
}

/// A reproducible image.
#[derive(Debug)]
struct Rewritten {
    config: Vec<u8>,
    layers: Vec<Layer>,
}

fn rewritten(
    file: &File,
    layers: &[Layer],
    configuration: &[u8],
    epoch: u64,
    base: usize,
) -> Result<Rewritten, RewriteError> {
    let moment = i64::try_from(epoch).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let moment = moment.ok_or(RewriteError::Epoch(epoch))?;
    let runs = config::run_steps(configuration, layers.len());
    let (bases, _) = layers.split_at(base.min(layers.len()));
    let mut clamped: HashMap<Digest, Vec<Range<u64>>> = HashMap::new();
    let mut hashed: HashMap<Vec<Range<u64>>, SizedDigest> = HashMap::new();
    let mut below = LowerLayers::new(config::is_by_podman(configuration));
    let mut rewritten = Vec::with_capacity(layers.len());
    for (index, own) in layers.iter().enumerate() {
        let broken = |source| RewriteError::Layer { number: index + 1, source };
        // Also a later layer that is the same as one of the base image: they share their bytes.
        if bases.iter().any(|base| base.diff_id == own.diff_id) {
            below.add(&layer::entries(file, &own.pieces), &HashSet::new()).map_err(broken)?;
            rewritten.push(own.clone());
            continue;
        }
        let pieces = if let Some(pieces) = clamped.get(&own.diff_id) {
            pieces.clone()
        } else {
            let pieces = clamp::clamp(file, &own.pieces, epoch).map_err(broken)?;
            clamped.insert(own.diff_id, pieces.clone());
            pieces
        };
        let layer = layer::entries(file, &pieces);
        let run = runs.as_ref().and_then(|runs| runs.get(index)).copied().unwrap_or(false);
        let engine_artifacts = below.engine_artifacts(&layer, run).map_err(broken)?;
        below.add(&layer, &engine_artifacts).map_err(broken)?;
        let pieces = order::arrange(&layer, &engine_artifacts).map_err(broken)?;
        let SizedDigest { sha256: diff_id, size } = if let Some(known) = hashed.get(&pieces) {
            *known
        } else {
            let result = hash(file, &pieces).map_err(|source| broken(LayerError::Read { position: 0, source }))?;
            hashed.insert(pieces.clone(), result);
            result
        };
        // Layers that differed only in times are the same now.
        let same = rewritten.iter().find(|layer: &&Layer| layer.diff_id == diff_id).cloned();
        rewritten.push(same.unwrap_or(Layer { diff_id, size, pieces }));
    }
    let ids: Vec<_> = rewritten.iter().map(|layer| layer.diff_id).collect();
    let config = config::rewrite(configuration, moment, &ids).map_err(RewriteError::Config)?;
    Ok(Rewritten { config, layers: rewritten })
}

fn hash(file: &File, pieces: &[Range<u64>]) -> io::Result<SizedDigest> {
    let mut digest_reader = DigestReader::new(io::sink());
    io::copy(&mut BufReader::with_capacity(HASH_BUFFER, ExtentReader::new(file, pieces)), &mut digest_reader)?;
    Ok(digest_reader.finish().1)
}
