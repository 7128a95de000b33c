//! The sums of a member, made while it passes: of its bytes, and of what is in them where they are compressed, as an
//! image's configuration names its layers by what is in them; what is in them goes on to whoever keeps it. What the sums
//! must be is for those who know the configuration.

use std::io::{self, Write};
use std::ops::Range;

use flate2::write::MultiGzDecoder;
use serde::Deserialize;

use super::SMALL_MEMBER;
use super::rootfs::diff_ids;
use crate::context::tar_format::verify_checksum;
use crate::net::Digest;
use crate::net::digest_reader::DigestReader;

/// How bytes are packed, told by how they begin, as engines tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// xz. Only a whole archive is unpacked, as no engine takes such layers.
    Xz,
    /// bzip2, as xz.
    Bzip2,
}

/// As many bytes as tell the compression.
pub(super) const MAGIC: usize = 6;

/// A tar's headers have this size, and say so in a checksum.
const TAR_HEADER: usize = size_of::<tar::Header>();

impl Compression {
    /// The compression of bytes that begin so.
    pub(super) fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // What pzstd writes begins with a frame to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::Plain,
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// What has been seen of a member.
#[derive(Debug, PartialEq)]
pub(super) struct MemberDigests {
    /// sha256 of its bytes.
    pub(super) raw: Digest,
    /// sha256 of what is in them; none where it cannot be unpacked to its end.
    pub(super) content: Option<Digest>,
    pub(super) packing: Compression,
    /// Whether what is in them begins as a tar does.
    pub(super) is_tar: bool,
    /// Where what is in them was written to.
    pub(super) at: Range<u64>,
    /// The layers that it names, if it is an image's configuration.
    pub(super) diff_ids: Option<Vec<Digest>>,
    /// The whole text, if it is an image's configuration or a document of an OCI layout.
    pub(super) text: Option<Vec<u8>>,
}

/// Takes what is in the members of an archive, unpacked, one behind the other, and passes it on to those who keep it.
#[derive(Debug)]
pub(super) struct ContentWriter<W> {
    out: W,
    written: u64,
    /// How what was written last begins.
    beginning: Vec<u8>,
    /// Kept apart, because decoders do not tell it from damaged data.
    failed: Option<io::Error>,
}

impl<W> ContentWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, written: 0, beginning: Vec::new(), failed: None }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// Whether what was written last begins as a tar does: with a header, or with the zeros of an empty one.
    fn is_tar(&self) -> bool {
        let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let Some(header) = self.beginning.get(..TAR_HEADER) else { return self.beginning.is_empty() };
        let mut block = [0; TAR_HEADER];
        block.copy_from_slice(header);
        zeros(header) || verify_checksum(tar::Header::from_byte_slice(&block)).is_ok()
    }

    /// Why what was written last is not there, if it is not.
    pub(super) fn failure(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl<W: Write> Write for ContentWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.out.write(buf) {
            Ok(written) => {
                self.written += written as u64;
                let missing = TAR_HEADER.saturating_sub(self.beginning.len());
                self.beginning.extend_from_slice(&buf[..written.min(missing)]);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A member on its way: its digests in the making.
pub(super) struct DigestingWriter<'a, W: Write> {
    raw: DigestReader<io::Sink>,
    beginning: Vec<u8>,
    from: u64,
    unpacked: MaybeDecoder<'a, W>,
    /// The whole text, of a member that can be a configuration.
    text: Option<Vec<u8>>,
}

enum MaybeDecoder<'a, W: Write> {
    /// Too little has passed to know.
    Unknown(&'a mut ContentWriter<W>),
    Plain(&'a mut ContentWriter<W>),
    Gzip(Box<MultiGzDecoder<DigestReader<&'a mut ContentWriter<W>>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, DigestReader<&'a mut ContentWriter<W>>>>),
    /// It is packed, and damaged; or nobody takes what is in it.
    Broken(Compression),
}

impl<'a, W: Write> DigestingWriter<'a, W> {
    /// For a member of `size` bytes, whose content goes to `plain`.
    pub(super) fn new(size: u64, plain: &'a mut ContentWriter<W>) -> Self {
        plain.beginning.clear();
        let text = (size <= SMALL_MEMBER).then(Vec::new);
        let (raw, from) = (DigestReader::new(io::sink()), plain.written);
        Self { raw, beginning: Vec::new(), from, unpacked: MaybeDecoder::Unknown(plain), text }
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
        if !matches!(self.unpacked, MaybeDecoder::Unknown(_)) {
            return self.unpacked.add(bytes);
        }
        self.beginning.extend_from_slice(bytes);
        if self.beginning.len() >= MAGIC {
            let beginning = std::mem::take(&mut self.beginning);
            let packing = Compression::of(&beginning);
            self.unpacked = match std::mem::replace(&mut self.unpacked, MaybeDecoder::Broken(packing)) {
                MaybeDecoder::Unknown(plain) => MaybeDecoder::begin(packing, plain),
                known => known,
            };
            self.unpacked.add(&beginning);
        }
    }

    /// The member is over.
    pub(super) fn finish(mut self) -> MemberDigests {
        if let MaybeDecoder::Unknown(_) = self.unpacked {
            // Shorter than any packed content.
            self.unpacked.add(&self.beginning);
        }
        let (_, raw, size) = self.raw.finish();
        let (packing, content, is_tar) = self.unpacked.finish(raw, size);
        let (content, size) = content.map_or((None, 0), |(content, size)| (Some(content), size));
        let diff_ids = self.text.as_deref().and_then(diff_ids);
        let text = self.text.filter(|text| diff_ids.is_some() || is_oci(text));
        MemberDigests { raw, content, packing, is_tar, at: self.from..self.from + size, diff_ids, text }
    }
}

impl<'a, W: Write> MaybeDecoder<'a, W> {
    fn begin(packing: Compression, plain: &'a mut ContentWriter<W>) -> Self {
        match packing {
            // Of the last two nobody takes what is in them: their sums are those of the bytes, which no image names.
            Compression::Plain | Compression::Xz | Compression::Bzip2 => Self::Plain(plain),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(DigestReader::new(plain)))),
            Compression::Zstd => zstd::stream::write::Decoder::new(DigestReader::new(plain))
                .map_or(Self::Broken(packing), |decoder| Self::Zstd(Box::new(decoder))),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (packing, taken) = match self {
            Self::Unknown(plain) | Self::Plain(plain) => (Compression::Plain, plain.write_all(bytes)),
            Self::Gzip(decoder) => (Compression::Gzip, decoder.write_all(bytes)),
            Self::Zstd(decoder) => (Compression::Zstd, decoder.write_all(bytes)),
            Self::Broken(_) => return,
        };
        if taken.is_err() {
            *self = Self::Broken(packing);
        }
    }

    /// The compression; sha256 and size of the content, where it has come to its end; and whether it is a tar. Of what is not
    /// packed they are known.
    fn finish(self, raw: Digest, size: u64) -> (Compression, Option<(Digest, u64)>, bool) {
        let end = |packing, tally: Option<DigestReader<&mut ContentWriter<W>>>| match tally.map(DigestReader::finish) {
            Some((plain, digest, size)) => (packing, Some((digest, size)), plain.is_tar()),
            None => (packing, None, false),
        };
        match self {
            Self::Unknown(plain) | Self::Plain(plain) => (Compression::Plain, Some((raw, size)), plain.is_tar()),
            Self::Gzip(decoder) => end(Compression::Gzip, decoder.finish().ok()),
            Self::Zstd(mut decoder) => {
                // It does not say whether it was at an end; what is cut has another sum.
                let flushed = decoder.flush();
                end(Compression::Zstd, flushed.ok().map(|()| decoder.into_inner()))
            }
            Self::Broken(packing) => (packing, None, false),
        }
    }
}

/// Whether it is a manifest or an index of an OCI layout.
fn is_oci(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        schema_version: u8,
    }
    serde_json::from_slice(text).is_ok_and(|document: Versioned| document.schema_version == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of bytes that come in pieces of `step`.
    fn sums(bytes: &[u8], step: usize) -> MemberDigests {
        let mut plain = ContentWriter::new(Vec::new());
        let mut digesting = DigestingWriter::new(bytes.len() as u64, &mut plain);
        bytes.chunks(step).for_each(|piece| digesting.add(piece));
        let sums = digesting.finish();
        if let Some(content) = sums.content {
            let written = &plain.out[usize::try_from(sums.at.start).unwrap()..usize::try_from(sums.at.end).unwrap()];
            assert_eq!(content, Digest::of(written), "what is summed is what was passed on");
        }
        sums
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_summed_unpacked_however_it_comes() {
        let layer = [b"layer ".to_vec(), vec![7; 300_000]].concat();
        let packed = [(Compression::Plain, layer.clone()), (Compression::Gzip, gzip(&layer))];
        for (packing, bytes) in packed.into_iter().chain([(Compression::Zstd, zstd::encode_all(&*layer, 3).unwrap())]) {
            for step in [1, 3, 100_000] {
                let sums = sums(&bytes, step);
                assert_eq!((sums.packing, sums.content), (packing, Some(Digest::of(&layer))), "{packing}, {step}");
                assert_eq!(sums.raw, Digest::of(&bytes));
            }
            if packing != Compression::Plain {
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
