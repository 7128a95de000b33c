//! The sums of a member, made while it passes: of its bytes, and of what is in them where they are compressed, as an
//! image's configuration names its layers by what is in them. What they must be is for those who know the configuration.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use serde::Deserialize;

use super::SMALL_MEMBER;
use crate::names::Digest;
use crate::stream::Tally;

/// How bytes are packed, told by how they begin, as engines tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Not at all.
    #[default]
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// As many bytes as tell the packing.
pub(super) const MAGIC: usize = 4;

impl Packing {
    /// The packing of bytes that begin so.
    pub(super) fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

impl std::fmt::Display for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// What has been seen of a member.
#[derive(Debug, PartialEq)]
pub(super) struct Sums {
    /// sha256 of its bytes.
    pub(super) raw: Digest,
    /// sha256 of what is in them; none where it cannot be unpacked to its end.
    pub(super) content: Option<Digest>,
    pub(super) packing: Packing,
    /// The layers that it names, if it is an image's configuration.
    pub(super) diff_ids: Option<Vec<Digest>>,
}

/// Sums in the making.
pub(super) struct Summing {
    raw: Tally<io::Sink>,
    beginning: Vec<u8>,
    unpacked: Unpacked,
    /// The whole text, of a member that can be a configuration.
    text: Option<Vec<u8>>,
}

enum Unpacked {
    /// Too little has passed to know.
    Unknown,
    Plain,
    Gzip(Box<MultiGzDecoder<Tally<io::Sink>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Tally<io::Sink>>>),
    /// It is packed, and damaged.
    Broken(Packing),
}

impl Summing {
    /// For a member of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let text = (size <= SMALL_MEMBER).then(Vec::new);
        Self { raw: Tally::new(io::sink()), beginning: Vec::new(), unpacked: Unpacked::Unknown, text }
    }

    /// Takes the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        // A sink takes everything.
        let _ = self.raw.write_all(bytes);
        if let Some(text) = &mut self.text {
            text.extend_from_slice(bytes);
            if !text.starts_with(b"{") {
                self.text = None;
            }
        }
        if matches!(self.unpacked, Unpacked::Unknown) {
            self.beginning.extend_from_slice(bytes);
            if self.beginning.len() >= MAGIC {
                self.unpacked = Unpacked::begin(Packing::of(&self.beginning));
                let beginning = std::mem::take(&mut self.beginning);
                self.unpacked.add(&beginning);
            }
        } else {
            self.unpacked.add(bytes);
        }
    }

    /// The member is over.
    pub(super) fn finish(self) -> Sums {
        let (_, raw, _) = self.raw.finish();
        let (packing, content) = self.unpacked.finish(raw);
        let diff_ids = self.text.and_then(|text| diff_ids(&text));
        Sums { raw, content, packing, diff_ids }
    }
}

impl Unpacked {
    fn begin(packing: Packing) -> Self {
        let tally = Tally::new(io::sink());
        match packing {
            Packing::Plain => Self::Plain,
            Packing::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(tally))),
            Packing::Zstd => zstd::stream::write::Decoder::new(tally)
                .map_or(Self::Broken(packing), |decoder| Self::Zstd(Box::new(decoder))),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (packing, taken) = match self {
            Self::Gzip(decoder) => (Packing::Gzip, decoder.write_all(bytes)),
            Self::Zstd(decoder) => (Packing::Zstd, decoder.write_all(bytes)),
            Self::Unknown | Self::Plain | Self::Broken(_) => return,
        };
        if taken.is_err() {
            *self = Self::Broken(packing);
        }
    }

    fn finish(self, raw: Digest) -> (Packing, Option<Digest>) {
        match self {
            // Shorter than any packed content.
            Self::Unknown | Self::Plain => (Packing::Plain, Some(raw)),
            Self::Gzip(decoder) => (Packing::Gzip, decoder.finish().ok().map(|tally| tally.finish().1)),
            Self::Zstd(mut decoder) => {
                // It does not say whether it was at an end; what is cut has another sum.
                let content = decoder.flush().ok().map(|()| decoder.into_inner().finish().1);
                (Packing::Zstd, content)
            }
            Self::Broken(packing) => (packing, None),
        }
    }
}

/// The layers that an image's configuration names; none, if it is something else.
fn diff_ids(text: &[u8]) -> Option<Vec<Digest>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        // An image on an empty base without a layer has null here.
        diff_ids: Option<Vec<String>>,
    }
    let config: Config = serde_json::from_slice(text).ok()?;
    let ids = config.rootfs.diff_ids.unwrap_or_default();
    ids.iter().map(|id| id.strip_prefix("sha256:")?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of bytes that come in pieces of `step`.
    fn sums(bytes: &[u8], step: usize) -> Sums {
        let mut summing = Summing::new(bytes.len() as u64);
        bytes.chunks(step).for_each(|piece| summing.add(piece));
        summing.finish()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_summed_unpacked_however_it_comes() {
        let layer = [b"layer ".to_vec(), vec![7; 300_000]].concat();
        let packed = [(Packing::Plain, layer.clone()), (Packing::Gzip, gzip(&layer))];
        for (packing, bytes) in packed.into_iter().chain([(Packing::Zstd, zstd::encode_all(&*layer, 3).unwrap())]) {
            for step in [1, 3, 100_000] {
                let sums = sums(&bytes, step);
                assert_eq!((sums.packing, sums.content), (packing, Some(Digest::of(&layer))), "{packing}, {step}");
                assert_eq!(sums.raw, Digest::of(&bytes));
            }
            if packing != Packing::Plain {
                let cut = sums(&bytes[..bytes.len() / 2], 100);
                assert_ne!((cut.packing, cut.content), (packing, Some(Digest::of(&layer))), "{packing}");
                let mut wrong = bytes.clone();
                wrong[bytes.len() / 2] ^= 1;
                assert_ne!(sums(&wrong, 100).content, Some(Digest::of(&layer)), "{packing}");
            }
        }
        assert_eq!(sums(b"abc", 1).content, Some(Digest::of(b"abc")));
        assert_eq!(sums(b"", 1).content, Some(Digest::of(b"")));
    }

    #[test]
    fn a_configuration_is_known_by_its_layers() {
        let of = |text: &str| sums(text.as_bytes(), 5).diff_ids;
        let digest = Digest::of(b"layer");
        assert_eq!(
            of(&format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#)),
            Some(vec![digest])
        );
        assert_eq!(of(r#"{"rootfs":{"type":"layers","diff_ids":null}}"#), Some(Vec::new()));
        assert_eq!(of(r#"{"rootfs":{"diff_ids":["md5:1"]}}"#), None);
        assert_eq!(of(r#"{"id":"of the old format"}"#), None);
        assert_eq!(of("[]"), None);
    }
}
