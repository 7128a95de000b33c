//! Passes an image archive on to an engine: any archive becomes a plain docker-archive with one name, which gets its end only
//! if all digests are right. Engines do not check this: they skip a layer that they already have without reading it, and a
//! changed configuration is another image. Or unpacks it, verified in the same way.

mod partial;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};

use super::manifest::Image;
use super::member_digests::{Compression, ContentWriter};
use super::members::{ArchiveIndex, Out, ReadError, fail_fast, read_all};
use super::oci::single_image;
use super::parts::document;
use super::problem::Problem;
use super::read_problem;
use super::steps::{StepImage, steps_of};
use super::unpacked::UnpackedImage;
use super::verify::{Verified, misnamed_blobs, verify};
use crate::context::tar_format::END;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, ImageId, SizedDigest};
pub use partial::{LayerPlace, PartialImage, PresentLayer};

/// Why an archive was not passed on to its end.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The archive is truncated, damaged, or no archive.
    #[error("the image archive {}", read_problem(.0))]
    Read(#[source] io::Error),
    /// The writer failed.
    #[error("the image archive cannot be passed on")]
    Write(#[source] io::Error),
    /// The file has another digest than expected.
    #[error("the image archive has sha256 {actual}, but {expected} was promised")]
    Digest {
        /// The expected digest.
        expected: Digest,
        /// The actual digest.
        actual: Digest,
    },
    /// Its digests do not match, or it is no image archive.
    #[error("the image archive is not a whole image: {}", list(.0))]
    Content(Vec<String>),
}

/// The first problem and the number of the others: an error line has no room for more.
fn list(problems: &[String]) -> String {
    match problems {
        [] => String::new(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first}; and {} more", more.len()),
    }
}

impl From<ReadError> for ForwardError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Read(error) => Self::Read(error),
            ReadError::Write(error) => Self::Write(error),
            ReadError::Content(problem) => Self::Content(vec![problem.problem]),
        }
    }
}

/// What is known of an archive that was passed on to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSummary {
    /// The image's id, the digest of its configuration.
    pub image_id: ImageId,
    /// The configuration.
    pub config: Vec<u8>,
    /// The compression of each layer, the lowest first.
    pub layers: Vec<Compression>,
    /// The names that the archive had for the image.
    pub tags: Vec<String>,
    /// Whether it contained `repositories`, from which older consumers read the names.
    pub repositories: bool,
    /// The compression of the archive itself.
    pub packing: Compression,
    /// sha256 of the archive as it was read; what was promised, where its beginning was not read.
    pub sha256: Digest,
    /// Its size, in bytes.
    pub size: u64,
    /// How many bytes at its beginning were not read, because the engine has the layers in them.
    pub skipped: u64,
}

impl AsRef<Self> for ForwardSummary {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Reads any archive of one image, compressed or not, and writes it as a plain docker-archive with `tag` as its only name.
///
/// It verifies while it copies: the archive's own sha256 if one is `expected`, the digest in the configuration's name, and that
/// each layer is the one that the configuration names. It writes `manifest.json` only after that, so that no engine can load
/// an archive that is wrong; after an error the output is useless.
pub fn verify_and_forward<R: Read, W: Write>(
    source: R,
    tag: &str,
    expected: Option<Digest>,
    out: W,
) -> Result<(ForwardSummary, W), ForwardError> {
    verify_and_forward_with(source, tag, expected, &[], out)
}

/// The same, with the images of the image's steps whose configurations are in `configs`. They have no names.
pub fn verify_and_forward_with<R: Read, W: Write>(
    source: R,
    tag: &str,
    expected: Option<Digest>,
    configs: &[String],
    out: W,
) -> Result<(ForwardSummary, W), ForwardError> {
    let mut source = DigestReader::new(source);
    let mut out = Out { raw: out, plain: ContentWriter::new(io::sink()) };
    let mut index = ArchiveIndex::default();
    read_all(&mut source, &mut out, &mut index, &mut fail_fast)?;
    let mut out = out.raw;
    let (image, summary) = summary(&index, source, expected)?;
    let mut images = vec![Image { repo_tags: vec![tag.to_owned()], ..(*image).clone() }];
    for StepImage { config, id, layers } in steps_of(&summary.config, configs) {
        let name = format!("{id}.json");
        // Two steps that change nothing have the same image.
        if images.iter().all(|known| known.config != name) {
            let mut member = Vec::new();
            document(&mut member, &name, config.as_bytes());
            out.write_all(&member).map_err(ForwardError::Write)?;
            images.push(Image { config: name, repo_tags: Vec::new(), layers: image.layers[..layers].to_vec() });
        }
    }
    let mut last = Vec::new();
    let manifest = serde_json::to_vec(&images).map_err(|error| ForwardError::Write(error.into()))?;
    document(&mut last, "manifest.json", &manifest);
    last.extend_from_slice(&END);
    out.write_all(&last).map_err(ForwardError::Write)?;
    Ok((summary, out))
}

/// Reads any archive of one image, compressed or not, into an empty file that can be read and written. It is verified as it is for
/// an engine.
pub fn verify_and_unpack<R: Read>(
    source: R,
    expected: Option<Digest>,
    file: File,
) -> Result<(ForwardSummary, UnpackedImage), ForwardError> {
    let mut source = DigestReader::new(source);
    let index = UnpackedImage::read(&mut source, &file)?;
    let (_, summary) = summary(&index, source, expected)?;
    let image = UnpackedImage::of(&index, file).map_err(|problem| ForwardError::Content(vec![problem.problem]))?;
    Ok((summary, image))
}

/// The image of an archive that was read to its end, if everything is as it should be.
fn summary<R>(
    index: &ArchiveIndex,
    source: DigestReader<R>,
    expected: Option<Digest>,
) -> Result<(Cow<'_, Image>, ForwardSummary), ForwardError> {
    let (_, SizedDigest { sha256, size }) = source.finish();
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        return Err(ForwardError::Digest { expected, actual: sha256 });
    }
    let messages = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.problem).collect();
    let Whole { image, image_id, layers } = whole(index).map_err(|problems| match index.unended {
        Some(cut) => ForwardError::Read(cut.into_io()),
        None => ForwardError::Content(messages(problems)),
    })?;
    let config = index.file(&image.config).and_then(|digests| digests.text.clone()).unwrap_or_default();
    let (tags, repositories, packing) = (image.repo_tags.clone(), index.repositories.is_some(), index.compression);
    let summary = ForwardSummary { image_id, config, layers, tags, repositories, packing, sha256, size, skipped: 0 };
    Ok((image, summary))
}

/// The single image of an archive.
struct Whole<'a> {
    image: Cow<'a, Image>,
    image_id: ImageId,
    /// The compression of its layers.
    layers: Vec<Compression>,
}

/// The single image, or all problems, if something does not match.
fn whole(index: &ArchiveIndex) -> Result<Whole<'_>, Vec<Problem>> {
    let image = single_image(index).map_err(|why| vec![why])?;
    let Verified { image_id, layers, mut problems } = verify(index, &image);
    problems.extend(misnamed_blobs(index));
    match image_id {
        Some(image_id) if problems.is_empty() => Ok(Whole { image, image_id, layers }),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
