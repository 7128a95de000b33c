//! The directories of a tree's images: the images roots, and what is in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::kind::Kind;
use super::{TreeError, USUAL_PLACES};
use crate::context::ImageName;

/// The images roots: the configured ones, else the usual ones. A `kind.yml` uses the `docker` directory beside its kind's.
pub(super) fn images_roots(root: &Path, named: &[PathBuf], kinds: &[Kind]) -> Result<Vec<PathBuf>, TreeError> {
    if !named.is_empty() {
        return Ok(named.iter().map(|given| root.join(given)).collect());
    }
    if kinds.is_empty() {
        return usual_place(root).map(|place| vec![place]);
    }
    let beside = |file: &PathBuf| Some(file.ancestors().nth(3)?.join("docker")).filter(|it| it.is_dir());
    let mut roots: Vec<PathBuf> = Vec::new();
    for place in kinds.iter().flat_map(|kind| &kind.files).filter_map(beside) {
        if !roots.contains(&place) {
            roots.push(place);
        }
    }
    if roots.is_empty() {
        roots.push(root.join(USUAL_PLACES[1]));
    }
    Ok(roots)
}

/// The default images root.
fn usual_place(root: &Path) -> Result<PathBuf, TreeError> {
    let mut there = USUAL_PLACES.iter().map(|place| root.join(place)).filter(|place| place.is_dir());
    let root = root.to_owned();
    match (there.next(), there.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err(TreeError::NoImagesRoot { root }),
        (Some(_), Some(_)) => Err(TreeError::TwoImagesRoots { root }),
    }
}

/// The content of the images roots.
#[derive(Default)]
pub(super) struct Directories {
    pub(super) images: BTreeMap<ImageName, PathBuf>,
    pub(super) others: BTreeMap<String, PathBuf>,
}

impl Directories {
    pub(super) fn read(images_roots: &[PathBuf]) -> Result<Self, TreeError> {
        let mut directories = Self::default();
        for images_root in images_roots {
            let unreadable = |error| TreeError::Read { path: images_root.clone(), error };
            for entry in fs::read_dir(images_root).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                // A name that is no text can't be written in a graph.
                let name = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_dir());
                let Some(name) = name.map(str::to_owned) else { continue };
                match name.parse() {
                    Ok(name) if has_dockerfile(&path) => drop(directories.images.entry(name).or_insert(path)),
                    _ => drop(directories.others.entry(name).or_insert(path)),
                }
            }
        }
        Ok(directories)
    }
}

/// Whether there is a Dockerfile, even a broken link or an unreadable file: making the context reports that.
pub(super) fn has_dockerfile(directory: &Path) -> bool {
    match directory.join("Dockerfile").symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}
