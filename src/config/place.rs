//! Where the images of a repository are, for the subcommands that work on all of them.

use std::path::{Path, PathBuf};

use super::{ConfigError, SettingLayers, checkout_at, image, repository_root, required_root, settings};
use crate::context::ContextLimits;
use crate::context::checkout::Checkout;

/// The value of `--kind` that means: read no `kind.yml`, also where there is one.
const NO_KIND: &str = "none";

/// A repository and its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesDir {
    /// The repository.
    pub checkout: Checkout,
    /// The images roots, in order, if they are not at their usual places.
    pub images_dirs: Vec<PathBuf>,
    /// taskgraph's lists of images; if absent, those at the usual places.
    pub kinds: Option<Vec<PathBuf>>,
    /// How large a context may be.
    pub limits: ContextLimits,
}

impl ImagesDir {
    /// Reads it; without a root it is the checkout that `directory` is in.
    pub fn read(settings: &SettingLayers, directory: &Path) -> Result<Self, ConfigError> {
        Self::at(settings, required_root(settings, directory)?)
    }

    /// The same; none where `directory` is in no checkout.
    pub fn find(settings: &SettingLayers, directory: &Path) -> Result<Option<Self>, ConfigError> {
        repository_root(settings, directory)?.map(|root| Self::at(settings, root)).transpose()
    }

    fn at(settings: &SettingLayers, root: PathBuf) -> Result<Self, ConfigError> {
        let list = |text: &str| text.split(['\n', ':']).filter(|it| !it.is_empty()).map(PathBuf::from).collect();
        let kinds = settings.get(&settings::KIND)?;
        Ok(Self {
            checkout: checkout_at(settings, Some(root))?,
            images_dirs: settings.get(&settings::IMAGES_DIR)?.map(|given| list(&given.text)).unwrap_or_default(),
            kinds: kinds.map(|given| if given.text == NO_KIND { Vec::new() } else { list(&given.text) }),
            limits: image::limits(settings)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lists_have_colons_or_several_flags() {
        let read = |flags: &[(&'static str, &str)]| {
            let flags: BTreeMap<_, _> = flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
            ImagesDir::read(&SettingLayers::new(flags, &|_| None).unwrap(), Path::new("/")).unwrap()
        };
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        let place = read(&[("root", "/r")]);
        assert_eq!((place.images_dirs, place.kinds), (paths(&[]), None));
        let place = read(&[("root", "/r"), ("images-dir", "a\nb"), ("kind", "c:d")]);
        assert_eq!((place.images_dirs, place.kinds), (paths(&["a", "b"]), Some(paths(&["c", "d"]))));
        assert_eq!(read(&[("root", "/r"), ("kind", "none")]).kinds, Some(Vec::new()));
    }
}
