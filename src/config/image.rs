//! The image argument of `hash`, `context` or a dry run. The tree knows which image it is; `commands` finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ConfigError, ImagesDir, ProcessEnvironment, SettingLayers, checkout_at, dockerfile_args, settings};
use crate::context::checkout::Checkout;
use crate::context::trees::ContextTrees;
use crate::context::{ContextLimits, HashScheme};

/// An image argument.
#[derive(Clone, Debug)]
pub struct NamedImage {
    /// Its name, or the path of its directory, as typed.
    pub typed: String,
    /// The current directory, which a path starts from.
    pub directory: PathBuf,
    /// The repository that it is in; absent, it is a directory outside of any.
    pub place: Option<ImagesDir>,
    /// The same repository, and the taskgraph of those that are in none.
    pub checkout: Checkout,
    /// Arguments that override its own.
    pub args: BTreeMap<String, String>,
    /// How its context is hashed.
    pub scheme: HashScheme,
    /// How large its context may be.
    pub limits: ContextLimits,
}

impl NamedImage {
    /// Reads what belongs to an image that is named on the command line, with its `--arg K=V`.
    pub fn read(
        settings: &SettingLayers,
        environment: &ProcessEnvironment,
        typed: &str,
        args: &[(String, String)],
        scheme: HashScheme,
    ) -> Result<Self, ConfigError> {
        let path = environment.directory.join(typed);
        let is_path = is_path(typed);
        let here = if is_path { None } else { ImagesDir::find(settings, &environment.directory)? };
        let place = match here {
            None if path.is_dir() => ImagesDir::find(settings, &path)?,
            here => here,
        };
        let missing = |why| ConfigError::Missing { setting: &settings::ROOT, why };
        match &place {
            None if scheme == HashScheme::Contents => {
                return Err(missing(
                    "the scheme contents hashes paths from the repository's root, and the image directory is in no checkout",
                ));
            }
            None if !is_path && !path.is_dir() => {
                return Err(ConfigError::Argument {
                    what: format!("{typed:?} names an image of a checkout, and the current directory is in none"),
                    hint: "change to one, give --root DIR (IMAGE_WORKER_ROOT), or name the image by its path",
                });
            }
            _ => {}
        }
        let checkout = match &place {
            Some(place) => place.checkout.clone(),
            None => checkout_at(settings, None)?,
        };
        let mut all_args = dockerfile_args(settings)?;
        all_args.extend(args.iter().cloned());
        Ok(Self {
            typed: typed.to_owned(),
            directory: environment.directory.clone(),
            place,
            checkout,
            args: all_args,
            scheme,
            limits: limits(settings)?,
        })
    }
}

/// How large a context may be.
pub(super) fn limits(settings: &SettingLayers) -> Result<ContextLimits, ConfigError> {
    Ok(ContextLimits {
        max_bytes: settings.parse_or_default(&settings::CONTEXT_MAX_BYTES)?,
        max_entries: settings.parse_or_default(&settings::CONTEXT_MAX_ENTRIES)?,
    })
}

/// Refuses to write into the directories of a context: this would change its next hash.
pub fn outside(written: &Path, of: &'static settings::Setting, contexts: &[ContextTrees]) -> Result<(), ConfigError> {
    match contexts.iter().find_map(|trees| trees.around(written)) {
        None => Ok(()),
        Some(place) => Err(ConfigError::Combination(format!(
            "--{} {} is {place}, so that what is written would become a part of the context; name another place",
            of.name,
            written.display()
        ))),
    }
}

/// Whether the argument is a path and not a name.
#[must_use]
pub fn is_path(typed: &str) -> bool {
    typed.contains('/') || matches!(typed, "." | "..")
}

/// The file to write in addition to the answer. `-` is stdout, which has the answer anyway.
pub fn out(settings: &SettingLayers) -> Result<Option<PathBuf>, ConfigError> {
    Ok(settings.parse(&settings::OUT)?.filter(|out: &PathBuf| out.as_os_str() != "-"))
}

/// The file that a context is written to; none where its files are listed.
pub fn context_file(settings: &SettingLayers) -> Result<Option<PathBuf>, ConfigError> {
    let given = settings.get(&settings::OUT)?;
    match (settings.switch(&settings::LIST)?, given) {
        (true, None) => Ok(None),
        (true, Some(given)) => Err(given.wrong("--list prints what goes in and writes no file: leave one of them out")),
        (false, None) => {
            let why = "-o FILE says where to write the context; --list only shows what goes in";
            Err(ConfigError::Missing { setting: &settings::OUT, why })
        }
        (false, Some(given)) if given.text == "-" => {
            Err(given.wrong("stdout has the hash: name a file, or /dev/stdout to have both there"))
        }
        (false, Some(given)) => given.parse().map(Some),
    }
}
