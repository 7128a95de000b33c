//! `hash NAME|PATH`: the context hash of an image, as the decision task computes it.

use super::arguments::ImageArgument;
use super::{Answer, CommandContext};
use crate::config::settings::{self, LIMITS, OUT, PLACE, SCHEME, SettingGroup};
use crate::config::{self, outside};
use crate::job::{CommandError, named_image};

pub(super) const SETTINGS: &[SettingGroup] = &[PLACE, LIMITS, &[&SCHEME, &OUT]];

/// Print the context hash of an image
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    #[command(flatten)]
    image: ImageArgument,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let image = self.image.named(context)?;
        let out = config::out(context.settings)?;
        let found = named_image::find(&image, None)?;
        if let Some(out) = &out {
            outside(out, &settings::OUT, &found.context_trees())?;
        }
        let collected = found.context()?;
        collected.warn_of_untracked();
        let hash = collected.hash()?;
        if let Some(path) = out {
            std::fs::write(&path, format!("{hash}\n")).map_err(|source| CommandError::Write { path, source })?;
        }
        context.answer(&serde_json::json!({ "hash": hash, "scheme": image.scheme }), &hash.to_string())
    }
}
