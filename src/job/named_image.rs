//! Finds the image of a command line argument: by its name or by the path of its directory, with the arguments of its `kind.yml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::config::{ConfigError, ImagesDir, NamedImage, SettingLayers, is_path};
use crate::context::checkout::Checkout;
use crate::context::collect::{CollectError, Context};
use crate::context::intake::Limits;
use crate::context::trees::ContextTrees;
use crate::context::{HashScheme, ImageName};
use crate::repository::{Tree, TreeError};

/// An image directory that was found.
#[derive(Debug)]
pub(crate) struct FoundImage {
    /// The repository that it is in.
    pub(crate) checkout: Checkout,
    /// Where its Dockerfile is.
    pub(crate) directory: PathBuf,
    /// Its arguments: those of its tree, and those given on the command line.
    pub(crate) args: BTreeMap<String, String>,
    /// The tree that it is an image of.
    pub(crate) in_tree: Option<TreeImage>,
    scheme: HashScheme,
    limits: Limits,
}

/// An image of a tree, which validates the given arguments.
#[derive(Debug)]
pub(crate) struct TreeImage {
    pub(crate) tree: Tree,
    pub(crate) name: ImageName,
}

impl FoundImage {
    /// Its context, which `run` takes.
    pub(crate) fn context(&self) -> Result<Context, CollectError> {
        Context::collect(&self.checkout, &self.directory, &self.args, self.scheme)?.within(&self.limits)
    }

    /// What its context is made from, and those of the images that it is built from.
    pub(crate) fn context_trees(&self) -> Vec<ContextTrees> {
        match &self.in_tree {
            Some(TreeImage { tree, name }) => tree.context_trees(std::slice::from_ref(name), self.scheme),
            None => vec![ContextTrees::of(&self.checkout, &self.directory, &self.args, self.scheme)],
        }
    }
}

/// Finds a named image. `preferred` is its name where its directory has several.
pub(crate) fn find(named: &NamedImage, preferred: Option<&ImageName>) -> Result<FoundImage, CommandError> {
    let checkout = named.checkout.clone();
    let limits =
        Limits { max_bytes: named.limits.max_bytes, max_entries: named.limits.max_entries, ..Limits::default() };
    let scheme = named.scheme;
    if let Some(tree) = open(named)?
        && let Some(name) = name_in(&tree, named, preferred)?
    {
        let tree = tree.with_args(&name, named.args.clone());
        let image = tree.image(&name)?;
        let (directory, args) = (image.directory.clone(), image.args.clone());
        return Ok(FoundImage { checkout, directory, args, in_tree: Some(TreeImage { tree, name }), scheme, limits });
    }
    let directory = named.directory.join(&named.typed);
    Ok(FoundImage { checkout, directory, args: named.args.clone(), in_tree: None, scheme, limits })
}

/// The tree of the image's repository; an image directory can do without one.
fn open(named: &NamedImage) -> Result<Option<Tree>, CommandError> {
    let Some(place) = &named.place else { return Ok(None) };
    match Tree::open(place) {
        Ok(tree) => Ok(Some(tree)),
        Err(TreeError::NoImagesRoot { .. } | TreeError::TwoImagesRoots { .. }) if is_directory(named) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The image that is meant; none for a directory that no image of the tree is made from.
fn name_in(tree: &Tree, named: &NamedImage, preferred: Option<&ImageName>) -> Result<Option<ImageName>, CommandError> {
    match tree.find(&named.typed, &named.directory) {
        Ok(found) => Ok(found.map(|image| image.name.clone())),
        Err(TreeError::SeveralImages { names, .. })
            if preferred.is_some_and(|preferred| names.iter().any(|name| name == preferred.as_str())) =>
        {
            Ok(preferred.cloned())
        }
        // Making its context reports that it does not exist.
        Err(TreeError::Read { .. }) if !is_directory(named) && is_path(&named.typed) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(named: &NamedImage) -> bool {
    named.directory.join(Path::new(&named.typed)).is_dir()
}

/// The error of a name or a path that is no image of the tree; the given one where all are images. A missing setting is of no interest
/// to who has mistyped a name.
pub fn unknown_first<T>(
    read: Result<T, ConfigError>,
    typed: &[String],
    settings: &SettingLayers,
    directory: &Path,
) -> Result<T, CommandError> {
    read.or_else(|error| {
        if typed.is_empty() {
            return Err(error.into());
        }
        let tree = Tree::open(&ImagesDir::read(settings, directory)?)?;
        typed.iter().try_for_each(|typed| tree.named(typed, directory).map(drop))?;
        Err(error.into())
    })
}

/// The names of images from command line arguments, names or paths. Only a path needs the tree.
pub fn image_names(typed: &[String], place: &ImagesDir, directory: &Path) -> Result<Vec<ImageName>, CommandError> {
    if !typed.iter().any(|typed| is_path(typed)) {
        return typed.iter().map(|name| name.parse().map_err(CommandError::Name)).collect();
    }
    let tree = Tree::open(place)?;
    typed.iter().map(|typed| Ok(tree.named(typed, directory)?)).collect()
}
