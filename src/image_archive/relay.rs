//! An image archive on its way into an engine: whoever made it, a plain docker-archive with one name comes out, and its
//! end comes out only if everything in it is what it says it is. Engines do not look: a layer that they have already is
//! skipped unread, and a changed configuration is another image.

use std::io::{self, Cursor, Read, Write};

use flate2::read::MultiGzDecoder;
use tar::Builder;

use super::manifest::Image;
use super::members::{Depth, Member, Seen, Trouble, append, pass_all};
use super::sums::{MAGIC, Packing};
use crate::names::Digest;
use crate::stream::Tally;

/// Why an archive is not passed on to its end.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The archive broke off, is damaged, or is no archive.
    #[error("the image archive cannot be read to its end")]
    Read(#[source] io::Error),
    /// Nobody takes what is written.
    #[error("the image archive cannot be passed on")]
    Write(#[source] io::Error),
    /// It is not the file that it should be.
    #[error("the image archive has sha256 {actual}, but {expected} was promised")]
    Digest {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// It contradicts itself, or is no image archive.
    #[error("the image archive is not a whole image: {}", list(.0))]
    Content(Vec<String>),
}

/// The first problem, which is as long as an error line has room for.
fn list(problems: &[String]) -> String {
    match problems {
        [] => String::new(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first}; and {} more", more.len()),
    }
}

impl From<Trouble> for RelayError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Read(error) => Self::Read(error),
            Trouble::Write(error) => Self::Write(error),
            Trouble::Content(why) => Self::Content(vec![why]),
        }
    }
}

/// What was found in an archive that has been passed on to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The image's id, `sha256:…` of its configuration.
    pub image_id: String,
    /// How each layer is packed, the lowest first.
    pub layers: Vec<Packing>,
    /// The names that the archive had for the image.
    pub tags: Vec<String>,
    /// Whether it had `repositories`, which older consumers read the names from.
    pub repositories: bool,
    /// How the archive itself was packed.
    pub packing: Packing,
    /// sha256 of the archive as it came.
    pub sha256: Digest,
    /// Its size as it came, in bytes.
    pub size: u64,
}

/// Reads any archive of one image, packed or not, and writes it as a plain docker-archive whose only name is `tag`.
///
/// Verified while it passes: the archive's own sha256 where one is `expected`, the configuration's name, and that each
/// layer is the one that the configuration names. What is written has no `manifest.json` before that, so that no engine
/// can load it; on an error it is worthless.
pub fn relay<R: Read, W: Write>(
    source: R,
    tag: &str,
    expected: Option<Digest>,
    out: W,
) -> Result<(Relayed, W), RelayError> {
    let mut source = Tally::new(source);
    let mut out = Builder::new(out);
    let (seen, packing) = read_all(&mut source, &mut out)?;
    let (_, sha256, size) = source.finish();
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        return Err(RelayError::Digest { expected, actual: sha256 });
    }
    let (image, image_id, layers) = verify(&seen).map_err(RelayError::Content)?;
    let document = serde_json::json!([Image { repo_tags: vec![tag.to_owned()], ..image.clone() }]);
    append(&mut out, "manifest.json", &document)?;
    let (tags, repositories) = (image.repo_tags.clone(), seen.repositories);
    let out = out.into_inner().map_err(RelayError::Write)?;
    Ok((Relayed { image_id, layers, tags, repositories, packing, sha256, size }, out))
}

/// Reads the source to its very end, unpacked: behind the tar's end are checksums, and what else counts for its sha256.
fn read_all<W: Write>(source: &mut impl Read, out: &mut Builder<W>) -> Result<(Seen, Packing), Trouble> {
    let mut beginning = Vec::new();
    source.by_ref().take(MAGIC as u64).read_to_end(&mut beginning).map_err(Trouble::Read)?;
    let packing = Packing::of(&beginning);
    let whole = Cursor::new(beginning).chain(source.by_ref());
    let mut plain: Box<dyn Read + '_> = match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Packing::Zstd => Box::new(zstd::Decoder::new(whole).map_err(Trouble::Read)?),
    };
    let seen = pass_all(&mut plain, out, Depth::All)?;
    io::copy(&mut plain, &mut io::sink()).map_err(Trouble::Read)?;
    drop(plain);
    io::copy(source, &mut io::sink()).map_err(Trouble::Read)?;
    Ok((seen, packing))
}

/// The one image, its id, and how its layers are packed, if all is as the archive itself says; or all that is not.
fn verify(seen: &Seen) -> Result<(&Image, String, Vec<Packing>), Vec<String>> {
    let image = seen.image().map_err(|why| vec![why])?;
    let config = &image.config;
    let mut problems = misnamed_blobs(seen);
    let sums = match seen.member(config) {
        Some(Member::File(Some(sums))) => sums,
        Some(_) => return Err(vec![format!("its configuration {config} is no file")]),
        None => return Err(vec![format!("its configuration {config} is missing")]),
    };
    match digest_in(config) {
        Some(named) if named == sums.raw => {}
        Some(_) => problems.push(format!("its configuration {config} has sha256 {}", sums.raw)),
        None => problems.push(format!("its configuration {config} is not named by its sha256 {}", sums.raw)),
    }
    let Some(diff_ids) = &sums.diff_ids else {
        problems.push(format!("its configuration {config} names no layers, or is too large to"));
        return Err(problems);
    };
    if diff_ids.len() != image.layers.len() {
        let (has, named) = (image.layers.len(), diff_ids.len());
        problems.push(format!("manifest.json has {has} layers, but the configuration names {named}"));
    }
    let mut packings = Vec::new();
    for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
        match seen.file(layer) {
            Some(Member::File(Some(sums))) => {
                packings.push(sums.packing);
                match sums.content {
                    Some(content) if content == *diff_id => {}
                    Some(content) => problems.push(format!("its layer {layer} has sha256 {content}, not {diff_id}")),
                    None => problems.push(format!("its layer {layer} is damaged {} data", sums.packing)),
                }
            }
            _ => problems.push(format!("its layer {layer} is missing")),
        }
    }
    if problems.is_empty() { Ok((image, format!("sha256:{}", sums.raw), packings)) } else { Err(problems) }
}

/// Files of an OCI layout, which are named by their sha256, that have another.
fn misnamed_blobs(seen: &Seen) -> Vec<String> {
    let misnamed = |(name, raw): (&str, Digest)| {
        let named: Digest = name.strip_prefix("blobs/sha256/")?.parse().ok()?;
        (named != raw).then(|| format!("its member {name} has sha256 {raw}"))
    };
    let mut problems: Vec<_> = seen.files().filter_map(|(name, sums)| misnamed((name, sums.raw))).collect();
    problems.sort();
    problems
}

/// The sha256 in a configuration's name: `HEX.json` of engines, `sha256:HEX` of kaniko, `blobs/sha256/HEX` of OCI.
fn digest_in(config: &str) -> Option<Digest> {
    let name = config.strip_prefix("blobs/sha256/").or_else(|| config.strip_prefix("sha256:")).unwrap_or(config);
    name.strip_suffix(".json").unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests;
