//! `context NAME|PATH -o FILE`: writes the context of an image as the deterministic `.tar.gz` that a decision task uploads and
//! `run` accepts, or lists its files.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::ImageArgument;
use super::{Answer, CommandContext};
use crate::config::settings::{self, LIMITS, LIST, OUT, PLACE, SCHEME, SettingGroup};
use crate::config::{context_file, outside};
use crate::job::context_archive::write;
use crate::job::named_image::FoundImage;
use crate::job::{CommandError, named_image};

pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, LIMITS, &[&SCHEME, &LIST, &OUT]];

/// Write the context of an image as a .tar.gz and print its hash, or list its files
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    #[command(flatten)]
    image: ImageArgument,
}

/// One file of a context.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct ListedFile {
    /// Its path in the context.
    name: String,
    /// Its mode there, in octal.
    mode: String,
    /// Its size in bytes.
    size: u64,
    /// Where its content is, from the root of the repository.
    source: PathBuf,
}

impl fmt::Display for ListedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}\t{}", self.mode, self.size, self.name, self.source.display())
    }
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let image = self.image.named(context)?;
        let out = context_file(context.settings)?;
        let found = named_image::find(&image, None)?;
        let Some(out) = out else {
            let files = list(&found)?;
            let lines: Vec<_> = files.iter().map(ToString::to_string).collect();
            return context.answer(&serde_json::json!({ "files": files }), &lines.join("\n"));
        };
        outside(&out, &settings::OUT, &found.context_trees())?;
        let collected = found.context()?;
        collected.warn_of_untracked();
        let hash = write(&collected, &out)?;
        context.answer(&serde_json::json!({ "hash": hash, "file": out }), &hash.to_string())
    }
}

/// The files of a context, in their order.
fn list(found: &FoundImage) -> Result<Vec<ListedFile>, CommandError> {
    let collected = found.context()?;
    collected.warn_of_untracked();
    let root = found.checkout.root.as_deref().unwrap_or(&found.directory);
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let listed = collected.files().map(|file| ListedFile {
        name: file.name.to_string_lossy().into_owned(),
        mode: format!("{:04o}", file.mode),
        size: file.size,
        source: file.source.strip_prefix(&root).map_or(file.source.clone(), Path::to_owned),
    });
    Ok(listed.collect())
}
