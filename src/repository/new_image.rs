//! The place of a new image: its directory, and the `kind.yml` that is to list it.

use std::path::PathBuf;

use super::{Entry, Tree, TreeError, USUAL_PLACES};
use crate::config::ImagesDir;
use crate::context::ImageName;

/// The place of a new image.
#[derive(Debug)]
pub struct NewImageRoot {
    /// The root of the repository.
    pub repository: PathBuf,
    /// The image directory, which does not exist or is empty.
    pub directory: PathBuf,
    /// The `kind.yml` to add it to; none where there is none, or where it lists the image already.
    pub kind: Option<PathBuf>,
    /// The other images; none in a repository without any.
    pub tree: Option<Tree>,
}

impl NewImageRoot {
    /// The place of an image that must not exist yet.
    pub fn of(place: &ImagesDir, name: &ImageName) -> Result<Self, TreeError> {
        let root = place.checkout.root.clone().unwrap_or_default();
        let repository = std::path::absolute(&root).map_err(|error| TreeError::Read { path: root, error })?;
        let (directory, kind, tree) = match Tree::open(place) {
            Ok(tree) => {
                let is_listed = match tree.images.get(name) {
                    None => false,
                    Some(Entry::Bare(_)) => true,
                    Some(_) => {
                        return Err(TreeError::Exists {
                            name: name.clone(),
                            place: tree.shown(&tree.directory(name.as_str())),
                        });
                    }
                };
                let kind = tree.kinds.first().filter(|_| !is_listed).cloned();
                (tree.directory(name.as_str()), kind, Some(tree))
            }
            // The first image of the repository.
            Err(TreeError::NoImagesRoot { .. }) => (repository.join(USUAL_PLACES[1]).join(name.as_str()), None, None),
            Err(error) => return Err(error),
        };
        let is_taken = directory.symlink_metadata().is_ok()
            && std::fs::read_dir(&directory).map_or(true, |mut entries| entries.next().is_some());
        if is_taken {
            return Err(TreeError::Exists { name: name.clone(), place: directory });
        }
        Ok(Self { repository, directory, kind, tree })
    }
}
