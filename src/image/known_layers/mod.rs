//! Writes the canonical archive in one pass, if the image is known before its layers arrive: each byte is written once, at its
//! final place, and the digests of the layers and of the file are computed at the same time. The caller supplies the layers.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;

use super::member_digests::ContentWriter;
use super::parts::{Part, parts};
use super::rootfs::diff_ids;
use super::{Layer, LayerSummary, UnpackedImage};
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};

/// The size of writes to disk, so that the cost of system calls is negligible.
const WRITE_BUFFER: usize = 256 * 1024;

/// Why an archive was not written.
#[derive(Debug, thiserror::Error)]
pub enum KnownLayersError {
    /// A layer cannot be read.
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
    /// The configuration belongs to an image with other layers.
    #[error("the image's configuration names other layers")]
    Config,
    /// The file cannot be written.
    #[error("the image archive cannot be written")]
    Write(#[source] io::Error),
}

/// An image whose layers are known but not yet available.
#[derive(Debug)]
pub struct KnownLayers<'a> {
    /// Its configuration.
    pub config: Vec<u8>,
    /// The layers, the lowest first.
    pub layers: Vec<LayerSummary>,
    /// The archive's one name.
    pub tag: &'a str,
}

impl UnpackedImage {
    /// Writes the canonical archive into an empty file that can be read and written; `write` writes the layer with the given
    /// number, and is called once for each distinct layer. A layer with another digest or size is an error. Memory is constant.
    pub fn write_known_layers(
        image: KnownLayers<'_>,
        mut write: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
        file: File,
    ) -> Result<Self, KnownLayersError> {
        let KnownLayers { config, layers, tag } = image;
        if diff_ids(&config).is_none_or(|ids| !ids.iter().eq(layers.iter().map(|layer| &layer.diff_id))) {
            return Err(KnownLayersError::Config);
        }
        let mut out = ContentWriter::new(DigestReader::new(&file));
        let mut places: Vec<(Digest, Range<u64>)> = Vec::new();
        for part in parts(&config, &layers, tag).map_err(KnownLayersError::Write)? {
            match part {
                Part::Small(bytes) => out.write_all(&bytes).or(out.failure()).map_err(KnownLayersError::Write)?,
                Part::Layer(number) => {
                    let layer = layers[number];
                    let from = out.written();
                    write_layer(layer, &mut out, |out| write(number, out))?;
                    places.push((layer.diff_id, from..out.written()));
                }
            }
        }
        let (_, written) = out.into_inner().finish();
        let at = |id: &Digest| places.iter().filter(|(of, _)| of == id).map(|(_, place)| place.clone()).collect();
        let layers = layers.iter().map(|LayerSummary { diff_id, size }| Layer {
            diff_id: *diff_id,
            size: *size,
            pieces: at(diff_id),
        });
        Ok(Self::of_archive(file, config, layers.collect(), tag, written))
    }
}

fn write_layer<W: Write>(
    layer: LayerSummary,
    out: &mut ContentWriter<W>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), KnownLayersError> {
    // Combine many small writes into large ones before hashing.
    let mut buffered = BufWriter::with_capacity(WRITE_BUFFER, DigestReader::new(&mut *out));
    let result = write(&mut buffered).and_then(|()| buffered.flush());
    let (digest_reader, _) = buffered.into_parts();
    let (_, SizedDigest { sha256: found, size }) = digest_reader.finish();
    out.failure().map_err(KnownLayersError::Write)?;
    result.map_err(|source| KnownLayersError::Read { layer: layer.diff_id, source })?;
    if (found, size) == (layer.diff_id, layer.size) {
        Ok(())
    } else {
        Err(KnownLayersError::Other { wanted: layer.diff_id, found, size })
    }
}

#[cfg(test)]
mod tests;
