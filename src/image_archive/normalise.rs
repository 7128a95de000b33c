//! One pass over an engine's export: layers and configuration go through untouched, `manifest.json` and
//! `repositories` are written anew with exactly one tag, and what the manifest promises is checked to be there.

use std::io::{self, Read, Write};

use tar::Builder;

use super::manifest::{Image, repositories};
use super::members::{Depth, Member, Seen, Trouble, append, pass_all};

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
}

impl From<Trouble> for ArchiveError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Read(error) => Self::Read(error),
            Trouble::Write(error) => Self::Write(error),
            Trouble::Content(why) => Self::Content(why),
        }
    }
}

/// Reads an export and writes the archive with `tag` as its only name. Gives the writer back, after the tar's end.
pub(super) fn normalise<R: Read, W: Write>(
    export: R,
    image_id: &str,
    tag: &str,
    out: W,
) -> Result<(Normalised, W), ArchiveError> {
    let mut out = Builder::new(out);
    let seen = pass_all(export, &mut out, Depth::Small)?;
    let image = check(&seen, image_id).map_err(ArchiveError::Content)?;
    let top = image.layers.last().map(String::as_str);
    append(
        &mut out,
        "manifest.json",
        &serde_json::json!([Image { repo_tags: vec![tag.to_owned()], ..image.clone() }]),
    )?;
    append(&mut out, "repositories", &repositories(tag, top))?;
    let content = Normalised { image_id: image_id.to_owned(), layers: image.layers.len() };
    Ok((content, out.into_inner().map_err(ArchiveError::Write)?))
}

/// The one image of the export, if it is the one that was built and all its parts are there.
fn check<'a>(seen: &'a Seen, image_id: &str) -> Result<&'a Image, String> {
    let image = seen.image()?;
    match seen.member(&image.config) {
        Some(Member::File(Some(sums))) if image_id == format!("sha256:{}", sums.raw) => {}
        Some(Member::File(Some(sums))) => return Err(format!("it has sha256:{}, not {image_id}", sums.raw)),
        Some(Member::File(None)) => return Err(format!("its configuration {} is too large", image.config)),
        Some(_) => return Err(format!("its configuration {} is no file", image.config)),
        None => return Err(format!("its configuration {} is missing", image.config)),
    }
    match image.layers.iter().find(|layer| seen.file(layer).is_none()) {
        Some(layer) => Err(format!("its layer {layer} is missing")),
        None => Ok(image),
    }
}

#[cfg(test)]
mod tests;
