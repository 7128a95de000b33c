//! The digests of a member, computed while it passes: of its bytes, and of its decompressed content, because an image's
//! configuration names layers by their decompressed content. The decompressed content goes to a writer. Comparing the digests
//! with the configuration is the task of `verify`.

use std::io::{self, Write};
use std::ops::Range;

use flate2::write::MultiGzDecoder;
use serde::Deserialize;

use super::SMALL_MEMBER;
use super::rootfs::diff_ids;
use crate::context::tar_format::verify_checksum;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, SizedDigest};

/// The compression of bytes, detected from their first bytes, as engines do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not compressed.
    #[default]
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// xz. Only a whole archive is decompressed: no engine accepts such layers.
    Xz,
    /// bzip2, handled like xz.
    Bzip2,
}

/// How many bytes are needed to detect the compression.
pub(super) const MAGIC: usize = 6;

/// The size of a tar header, which contains a checksum of itself.
const TAR_HEADER: usize = size_of::<tar::Header>();

impl Compression {
    /// The compression of bytes that begin like this.
    pub(super) fn of(beginning: &[u8]) -> Self {
        match beginning {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // pzstd writes a skippable frame first.
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

/// The digests and properties of a member.
#[derive(Debug, PartialEq)]
pub(super) struct MemberDigests {
    /// sha256 of its bytes.
    pub(super) raw: Digest,
    /// sha256 of its decompressed content; `None` if it cannot be decompressed to its end.
    pub(super) content: Option<Digest>,
    pub(super) compression: Compression,
    /// Whether the content begins like a tar.
    pub(super) is_tar: bool,
    /// The range in the output that holds the content.
    pub(super) at: Range<u64>,
    /// The layers that it names, if it is an image configuration.
    pub(super) diff_ids: Option<Vec<Digest>>,
    /// The whole text, if it is an image configuration or a document of an OCI layout.
    pub(super) text: Option<Vec<u8>>,
}

/// Writes the decompressed content of an archive's members, one after the other.
#[derive(Debug)]
pub(super) struct ContentWriter<W> {
    out: W,
    written: u64,
    /// The first bytes of the current member.
    beginning: Vec<u8>,
    /// Kept separately, because decoders do not distinguish a write error from damaged data.
    error: Option<io::Error>,
}

impl<W> ContentWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, written: 0, beginning: Vec::new(), error: None }
    }

    /// Whether the current member begins like a tar: with a header, or with the zeros of an empty tar.
    fn is_tar(&self) -> bool {
        let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let Some(header) = self.beginning.get(..TAR_HEADER) else { return self.beginning.is_empty() };
        let mut block = [0; TAR_HEADER];
        block.copy_from_slice(header);
        zeros(header) || verify_checksum(tar::Header::from_byte_slice(&block)).is_ok()
    }

    /// The error of the last write, if it failed.
    pub(super) fn failure(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
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
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Computes the digests of one member while it passes.
pub(super) struct DigestingWriter<'a, W: Write> {
    raw: DigestReader<io::Sink>,
    beginning: Vec<u8>,
    from: u64,
    unpacked: MaybeDecoder<'a, W>,
    /// The whole text, if the member can be a configuration.
    text: Option<Vec<u8>>,
}

enum MaybeDecoder<'a, W: Write> {
    /// Too few bytes have passed to detect the compression.
    Unknown(&'a mut ContentWriter<W>),
    Plain(&'a mut ContentWriter<W>),
    Gzip(Box<MultiGzDecoder<DigestReader<&'a mut ContentWriter<W>>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, DigestReader<&'a mut ContentWriter<W>>>>),
    /// The compressed data is damaged, or the writer failed.
    Broken(Compression),
}

/// The content of a member.
struct Decoded {
    compression: Compression,
    /// None if it was not decompressed to its end.
    content: Option<SizedDigest>,
    /// Whether it begins like a tar.
    is_tar: bool,
}

impl<'a, W: Write> DigestingWriter<'a, W> {
    /// For a member of `size` bytes; its content goes to `plain`.
    pub(super) fn new(size: u64, plain: &'a mut ContentWriter<W>) -> Self {
        plain.beginning.clear();
        let text = (size <= SMALL_MEMBER).then(Vec::new);
        let (raw, from) = (DigestReader::new(io::sink()), plain.written);
        Self { raw, beginning: Vec::new(), from, unpacked: MaybeDecoder::Unknown(plain), text }
    }

    /// Adds the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        // Writing to a sink cannot fail.
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
            let compression = Compression::of(&beginning);
            self.unpacked = match std::mem::replace(&mut self.unpacked, MaybeDecoder::Broken(compression)) {
                MaybeDecoder::Unknown(plain) => MaybeDecoder::begin(compression, plain),
                known => known,
            };
            self.unpacked.add(&beginning);
        }
    }

    /// Ends the member.
    pub(super) fn finish(mut self) -> MemberDigests {
        if let MaybeDecoder::Unknown(_) = self.unpacked {
            // Shorter than any compressed content.
            self.unpacked.add(&self.beginning);
        }
        let (_, raw) = self.raw.finish();
        let Decoded { compression, content, is_tar } = self.unpacked.finish(raw);
        let diff_ids = self.text.as_deref().and_then(diff_ids);
        MemberDigests {
            raw: raw.sha256,
            content: content.map(|content| content.sha256),
            compression,
            is_tar,
            at: self.from..self.from + content.map_or(0, |content| content.size),
            text: self.text.filter(|text| diff_ids.is_some() || is_oci(text)),
            diff_ids,
        }
    }
}

impl<'a, W: Write> MaybeDecoder<'a, W> {
    fn begin(compression: Compression, plain: &'a mut ContentWriter<W>) -> Self {
        match compression {
            // The last two are not decompressed: their digests are those of the raw bytes, which no image names.
            Compression::Plain | Compression::Xz | Compression::Bzip2 => Self::Plain(plain),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(DigestReader::new(plain)))),
            Compression::Zstd => zstd::stream::write::Decoder::new(DigestReader::new(plain))
                .map_or(Self::Broken(compression), |decoder| Self::Zstd(Box::new(decoder))),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (compression, result) = match self {
            Self::Unknown(plain) | Self::Plain(plain) => (Compression::Plain, plain.write_all(bytes)),
            Self::Gzip(decoder) => (Compression::Gzip, decoder.write_all(bytes)),
            Self::Zstd(decoder) => (Compression::Zstd, decoder.write_all(bytes)),
            Self::Broken(_) => return,
        };
        if result.is_err() {
            *self = Self::Broken(compression);
        }
    }

    /// The content. If it is not compressed, its digest is that of the raw bytes.
    fn finish(self, raw: SizedDigest) -> Decoded {
        let end = |compression, hasher: Option<DigestReader<&mut ContentWriter<W>>>| match hasher {
            Some(hasher) => {
                let (plain, content) = hasher.finish();
                Decoded { compression, content: Some(content), is_tar: plain.is_tar() }
            }
            None => Decoded { compression, content: None, is_tar: false },
        };
        match self {
            Self::Unknown(plain) | Self::Plain(plain) => {
                Decoded { compression: Compression::Plain, content: Some(raw), is_tar: plain.is_tar() }
            }
            Self::Gzip(decoder) => end(Compression::Gzip, decoder.finish().ok()),
            Self::Zstd(mut decoder) => {
                // The decoder does not report whether it reached the end; truncated data has another digest.
                let flushed = decoder.flush();
                end(Compression::Zstd, flushed.ok().map(|()| decoder.into_inner()))
            }
            Self::Broken(compression) => end(compression, None),
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

    /// The digests of bytes that come in chunks of `step`.
    fn digests_of(bytes: &[u8], step: usize) -> MemberDigests {
        let mut plain = ContentWriter::new(Vec::new());
        let mut digesting = DigestingWriter::new(bytes.len() as u64, &mut plain);
        bytes.chunks(step).for_each(|piece| digesting.add(piece));
        let found = digesting.finish();
        if let Some(content) = found.content {
            let written = &plain.out[usize::try_from(found.at.start).unwrap()..usize::try_from(found.at.end).unwrap()];
            assert_eq!(content, Digest::of(written), "what is summed is what was passed on");
        }
        found
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_summed_unpacked_however_it_comes() {
        let layer = [b"layer ".to_vec(), vec![7; 300_000]].concat();
        let cases = [(Compression::Plain, layer.clone()), (Compression::Gzip, gzip(&layer))];
        for (format, bytes) in cases.into_iter().chain([(Compression::Zstd, zstd::encode_all(&*layer, 3).unwrap())]) {
            for step in [1, 3, 100_000] {
                let found = digests_of(&bytes, step);
                assert_eq!((found.compression, found.content), (format, Some(Digest::of(&layer))), "{format}, {step}");
                assert_eq!(found.raw, Digest::of(&bytes));
            }
            if format != Compression::Plain {
                let cut = digests_of(&bytes[..bytes.len() / 2], 100);
                assert_ne!((cut.compression, cut.content), (format, Some(Digest::of(&layer))), "{format}");
                let mut wrong = bytes.clone();
                wrong[bytes.len() / 2] ^= 1;
                assert_ne!(digests_of(&wrong, 100).content, Some(Digest::of(&layer)), "{format}");
            }
        }
        assert_eq!(digests_of(b"abc", 1).content, Some(Digest::of(b"abc")));
        assert_eq!(digests_of(b"", 1).content, Some(Digest::of(b"")));
    }

    #[test]
    fn a_configuration_is_known_by_its_layers() {
        let of = |text: &str| digests_of(text.as_bytes(), 5).diff_ids;
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
