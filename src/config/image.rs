//! The image that somebody names for `hash`, `context` or a dry run. Which image it is, the tree knows; finding it is for
//! `commands`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ConfigError, ImagesPlace, Sources, Surroundings, checkout_at, dockerfile_args, settings};
use crate::context::checkout::Checkout;
use crate::names::HashScheme;
use crate::plan::ContextLimits;

/// An image as somebody names it.
#[derive(Clone, Debug)]
pub struct NamedImage {
    /// Its name, or the path of its directory, as typed.
    pub typed: String,
    /// The current directory, which a path starts from.
    pub directory: PathBuf,
    /// The repository that it is in; absent, it is a directory outside of any.
    pub place: Option<ImagesPlace>,
    /// The same repository, and the taskgraph of those that are in none.
    pub checkout: Checkout,
    /// Arguments that win over its own.
    pub args: BTreeMap<String, String>,
    /// How its context is hashed.
    pub scheme: HashScheme,
    /// How large its context may be.
    pub limits: ContextLimits,
}

impl NamedImage {
    /// Reads what belongs to an image that is named on the command line, with its `--arg K=V`.
    pub fn read(
        sources: &Sources,
        around: &Surroundings,
        typed: &str,
        args: &[(String, String)],
        scheme: HashScheme,
    ) -> Result<Self, ConfigError> {
        let path = around.directory.join(typed);
        let is_path = typed.contains('/') || matches!(typed, "." | "..");
        let here = if is_path { None } else { ImagesPlace::find(sources, &around.directory)? };
        let place = match here {
            None if path.is_dir() => ImagesPlace::find(sources, &path)?,
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
                return Err(missing(
                    "images have names in a checkout, and the current directory is in none; change to one, or name the image by its path",
                ));
            }
            _ => {}
        }
        let checkout = match &place {
            Some(place) => place.checkout.clone(),
            None => checkout_at(sources, None)?,
        };
        let mut all_args = dockerfile_args(sources)?;
        all_args.extend(args.iter().cloned());
        Ok(Self {
            typed: typed.to_owned(),
            directory: around.directory.clone(),
            place,
            checkout,
            args: all_args,
            scheme,
            limits: limits(sources)?,
        })
    }
}

/// How large a context may be.
pub(super) fn limits(sources: &Sources) -> Result<ContextLimits, ConfigError> {
    Ok(ContextLimits {
        max_bytes: sources.parse_or_default(&settings::CONTEXT_MAX_BYTES)?,
        max_entries: sources.parse_or_default(&settings::CONTEXT_MAX_ENTRIES)?,
    })
}

/// Refuses to write into an image directory: its next hash would be another one.
pub fn outside(written: &Path, of: &'static settings::Setting, context: &Path) -> Result<(), ConfigError> {
    let (real, context_real) = (real(written), real(context));
    if !real.starts_with(&context_real) {
        return Ok(());
    }
    Err(ConfigError::Combination(format!(
        "--{} {} is inside the image directory {}, so that what is written would become a part of the context; name another place",
        of.name,
        written.display(),
        context.display()
    )))
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, real)) => real.join(absolute.strip_prefix(above).unwrap_or(Path::new(""))),
        None => absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_out_of_the_context() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        std::fs::create_dir_all(at("docker/i")).unwrap();
        std::os::unix::fs::symlink("docker", at("link")).unwrap();
        for (written, inside) in [
            ("docker/i", true),
            ("docker/i/out/new", true),
            ("link/i/out", true),
            ("docker/i-out", false),
            ("docker/out", false),
            ("out", false),
        ] {
            let refused = outside(&at(written), &settings::OUTPUT, &at("docker/i"));
            assert_eq!(refused.is_err(), inside, "{written}");
            if let Err(error) = refused {
                let (error, written) = (error.to_string(), at(written).display().to_string());
                assert!(error.contains(&written) && error.contains("docker/i, "), "{error}");
            }
        }
    }
}
