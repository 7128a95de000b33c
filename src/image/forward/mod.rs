//! An image archive on its way into an engine: whoever made it, a plain docker-archive with one name comes out, and its
//! end comes out only if everything in it is what it says it is. Engines do not look: a layer that they have already is
//! skipped unread, and a changed configuration is another image.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use super::manifest::Image;
use super::member_digests::{Compression, ContentWriter};
use super::members::{ArchiveIndex, Out, ReadError, fail_fast, read_all};
use super::oci::the_image;
use super::parts::document;
use super::problem::Problem;
use super::steps::{StepImage, steps_of};
use super::verify::{Verified, misnamed_blobs, verify};
use crate::context::tar_format::END;
use crate::net::digest_reader::DigestReader;
use crate::net::{Digest, ImageId};

/// Why an archive is not passed on to its end.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
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

impl From<ReadError> for ForwardError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Read(error) => Self::Read(error),
            ReadError::Write(error) => Self::Write(error),
            ReadError::Content(problem) => Self::Content(vec![problem.problem]),
        }
    }
}

/// What was found in an archive that has been passed on to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSummary {
    /// The image's id, the digest of its configuration.
    pub image_id: ImageId,
    /// The configuration.
    pub config: Vec<u8>,
    /// How each layer is packed, the lowest first.
    pub layers: Vec<Compression>,
    /// The names that the archive had for the image.
    pub tags: Vec<String>,
    /// Whether it had `repositories`, which older consumers read the names from.
    pub repositories: bool,
    /// How the archive itself was packed.
    pub packing: Compression,
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
pub fn verify_and_forward<R: Read, W: Write>(
    source: R,
    tag: &str,
    expected: Option<Digest>,
    out: W,
) -> Result<(ForwardSummary, W), ForwardError> {
    verify_and_forward_with(source, tag, expected, &[], out)
}

/// The same, with the images of the image's steps as far as `configs` has their configurations. They have no names.
pub fn verify_and_forward_with<R: Read, W: Write>(
    source: R,
    tag: &str,
    expected: Option<Digest>,
    configs: &[String],
    out: W,
) -> Result<(ForwardSummary, W), ForwardError> {
    let mut source = DigestReader::new(source);
    let mut out = Out { raw: out, plain: ContentWriter::new(io::sink()) };
    let mut seen = ArchiveIndex::default();
    read_all(&mut source, &mut out, &mut seen, &mut fail_fast)?;
    let mut out = out.raw;
    let (_, sha256, size) = source.finish();
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        return Err(ForwardError::Digest { expected, actual: sha256 });
    }
    let told = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.problem).collect();
    let (image, image_id, layers) = whole(&seen).map_err(|problems| ForwardError::Content(told(problems)))?;
    let mut images = vec![Image { repo_tags: vec![tag.to_owned()], ..(*image).clone() }];
    let config = seen.file(&image.config).and_then(|sums| sums.text.as_deref()).unwrap_or_default();
    for StepImage { config, id, layers } in steps_of(config, configs) {
        let name = format!("{id}.json");
        // Two steps that change nothing have one image.
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
    let config = config.into();
    let (tags, repositories, packing) = (image.repo_tags.clone(), seen.repositories.is_some(), seen.packing);
    Ok((ForwardSummary { image_id, config, layers, tags, repositories, packing, sha256, size }, out))
}

/// The one image, its id, and how its layers are packed, if all is as the archive itself says; or all that is not.
fn whole(seen: &ArchiveIndex) -> Result<(Cow<'_, Image>, ImageId, Vec<Compression>), Vec<Problem>> {
    let image = the_image(seen).map_err(|why| vec![why])?;
    let Verified { image_id, layers, mut problems } = verify(seen, &image);
    problems.extend(misnamed_blobs(seen));
    match image_id {
        Some(id) if problems.is_empty() => Ok((image, id, layers)),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
