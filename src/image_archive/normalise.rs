//! One pass over an engine's export: layers and configuration go through untouched, `manifest.json` and
//! `repositories` are written anew with exactly one tag, and what the manifest promises is checked to be there.

use std::io::{self, Read, Write};

use tar::Builder;

use super::manifest::{Image, repositories};
use super::members::{Out, Seen, append, end_with_it, pass_all};
use super::problem::{IDENTITY, Problem};
use super::sums::{Packing, Plain};
use super::verify::{Verified, verify};

/// What is wrong with an export, or with writing the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The export broke off, or is no tar.
    #[error("the engine's export cannot be read to its end")]
    Read(#[source] io::Error),
    /// The archive cannot be written.
    #[error("the image archive cannot be written")]
    Write(#[source] io::Error),
    /// The export is not an archive of the image that was built.
    #[error("the engine's export is not the image that was built: {0}")]
    Content(String),
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The image's id, `sha256:…` of its configuration.
    pub image_id: String,
    /// How many layers it has.
    pub layers: usize,
    /// How many of them are packed, as some engines export them: not every consumer unpacks them.
    pub packed: usize,
}

/// Reads an export and writes the archive with `tag` as its only name. Gives the writer back, after the tar's end.
pub(super) fn normalise<R: Read, W: Write>(
    export: R,
    image_id: &str,
    tag: &str,
    out: W,
) -> Result<(Normalised, W), ArchiveError> {
    let mut out = Out { raw: out, plain: Plain::new(io::sink()) };
    let mut seen = Seen::default();
    pass_all(export, &mut out, &mut seen, &mut end_with_it)?;
    let mut out = Builder::new(out.raw);
    let (image, packed) = check(&seen, image_id).map_err(|problem| ArchiveError::Content(problem.problem))?;
    let top = image.layers.last().map(String::as_str);
    append(
        &mut out,
        "manifest.json",
        &serde_json::json!([Image { repo_tags: vec![tag.to_owned()], ..image.clone() }]),
    )?;
    append(&mut out, "repositories", &repositories(tag, top))?;
    let content = Normalised { image_id: image_id.to_owned(), layers: image.layers.len(), packed };
    Ok((content, out.into_inner().map_err(ArchiveError::Write)?))
}

/// The one image of the export, if it is the one that was built and all its parts are what they should be; and how many
/// of its layers are packed.
fn check<'a>(seen: &'a Seen, image_id: &str) -> Result<(&'a Image, usize), Problem> {
    let image = seen.image()?;
    let Verified { image_id: actual, layers, problems } = verify(seen, image);
    if let Some(actual) = actual.filter(|actual| actual != image_id) {
        return Err(Problem::new(&image.config, IDENTITY, format!("it has {actual}, not {image_id}")));
    }
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok((image, layers.iter().filter(|packing| **packing != Packing::Plain).count())),
    }
}

#[cfg(test)]
mod tests;
