//! Compares the layers of an archive with their digests while the archive is copied, where nobody has done that before.

use std::io::{self, Write as _};

use super::PlacedLayer;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};

/// A layer in the engine's storage is not the layer that the configuration names.
#[derive(Debug, thiserror::Error)]
pub enum LayerDamage {
    /// It cannot be read.
    #[error("the layer {layer} cannot be read")]
    Read {
        /// Its diff id.
        layer: Digest,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The data of a layer is not that layer.
    #[error("the layer {wanted} came as {found}, with {size} bytes")]
    Other {
        /// The layer's diff id.
        wanted: Digest,
        /// The digest of the data.
        found: Digest,
        /// The size of the data.
        size: u64,
    },
}

/// Looks at the bytes of an archive as they pass.
pub(super) struct LayerVerifier<'a> {
    /// The layers that have not passed yet, in the order of the archive.
    layers: std::slice::Iter<'a, PlacedLayer>,
    position: u64,
    passing: Option<Passing<'a>>,
}

/// The layer whose bytes come next.
struct Passing<'a> {
    layer: &'a PlacedLayer,
    digest: DigestReader<io::Sink>,
}

impl<'a> LayerVerifier<'a> {
    /// Of an archive with these layers.
    pub(super) fn new(layers: &'a [PlacedLayer]) -> Self {
        let mut verifier = Self { layers: layers.iter(), position: 0, passing: None };
        verifier.next();
        verifier
    }

    fn next(&mut self) {
        self.passing = self.layers.next().map(|layer| Passing { layer, digest: DigestReader::new(io::sink()) });
    }

    /// The next bytes of the archive.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Result<(), LayerDamage> {
        while let Some(Passing { layer, digest }) = &mut self.passing {
            let ahead = |until: u64| usize::try_from(until.saturating_sub(self.position)).unwrap_or(usize::MAX);
            let before = ahead(layer.range.start).min(bytes.len());
            let own = (ahead(layer.range.end) - before).min(bytes.len() - before);
            // A sink takes everything.
            let _ = digest.write_all(&bytes[before..before + own]);
            bytes = &bytes[before + own..];
            self.position += (before + own) as u64;
            if self.position < layer.range.end {
                return Ok(());
            }
            let Some(Passing { layer, digest }) = self.passing.take() else { return Ok(()) };
            let (_, SizedDigest { sha256: found, size }) = digest.finish();
            if found != layer.diff_id {
                return Err(LayerDamage::Other { wanted: layer.diff_id, found, size });
            }
            self.next();
        }
        Ok(())
    }

    /// Says which layer cannot be read; the error itself, if the bytes are no layer's.
    pub(super) fn unreadable(&self, source: io::Error) -> Result<LayerDamage, io::Error> {
        match &self.passing {
            Some(Passing { layer, .. }) if self.position >= layer.range.start => {
                Ok(LayerDamage::Read { layer: layer.diff_id, source })
            }
            _ => Err(source),
        }
    }
}
