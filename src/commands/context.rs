//! `context NAME|PATH -o FILE`: writes the context of an image as the deterministic `.tar.gz` that a decision task
//! uploads, and that `run` accepts; or lists what goes in.

use std::fmt;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Failed, named_image};
use crate::config::{NamedImage, outside, settings};
use crate::context::ContextHash;
use crate::context::collect::Context;
use crate::job::work_dir::AtomicFile;

/// A file of a context.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name in the context.
    pub name: String,
    /// Its permission bits, as `chmod` has them.
    pub mode: String,
    /// Its size in bytes.
    pub size: u64,
    /// The file that it is made from, from the repository's root.
    pub source: PathBuf,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}\t{}", self.mode, self.size, self.name, self.source.display())
    }
}

/// Writes the context of an image to `out`. Gives its hash.
pub fn context(image: &NamedImage, out: &Path) -> Result<ContextHash, Failed> {
    let found = named_image::find(image, None)?;
    outside(out, &settings::OUT, &found.context_trees())?;
    let context = found.context()?;
    context.warn_of_untracked();
    write(&context, out)
}

/// Writes a context to `out`, which appears when it is complete. Gives its hash.
pub(super) fn write(context: &Context, out: &Path) -> Result<ContextHash, Failed> {
    let unwritable = |source| Failed::Write { path: out.to_owned(), source };
    let draft = AtomicFile::of(out).map_err(unwritable)?;
    let hash = context.write_tar_gz(BufWriter::new(draft.file()))?;
    draft.finish().map_err(unwritable)?;
    Ok(hash)
}

/// What goes into the context of an image, in the order of the tar.
pub fn list(image: &NamedImage) -> Result<Vec<Listed>, Failed> {
    let found = named_image::find(image, None)?;
    let context = found.context()?;
    context.warn_of_untracked();
    let root = found.checkout.root.as_deref().unwrap_or(&found.directory);
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let listed = context.files().map(|file| Listed {
        name: file.name.to_string_lossy().into_owned(),
        mode: format!("{:04o}", file.mode),
        size: file.size,
        source: file.source.strip_prefix(&root).map_or(file.source.clone(), Path::to_owned),
    });
    Ok(listed.collect())
}
