//! A temporary directory with files, for the tests of this module only.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Tree, TreeError};
use crate::config::ImagesDir;

/// A directory that is removed when it is dropped.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    /// Creates the directory with these files: path and content.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        for (path, content) in files {
            directory.write(path, content);
        }
        directory
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

/// The tree without a `kind.yml`.
pub(super) fn read(root: &Path, images_dir: Option<&Path>) -> Result<Tree, TreeError> {
    let images_dirs = images_dir.into_iter().map(Path::to_owned).collect();
    Tree::open(&ImagesDir { checkout: root.into(), images_dirs, kinds: Some(Vec::new()), ..ImagesDir::default() })
}

/// The tree with a `kind.yml`.
pub(super) fn with_kind(root: &Path, images_dir: Option<&Path>, kind: &Path) -> Result<Tree, TreeError> {
    let images_dirs = images_dir.into_iter().map(Path::to_owned).collect();
    Tree::open(&ImagesDir {
        checkout: root.into(),
        images_dirs,
        kinds: Some(vec![kind.to_owned()]),
        ..ImagesDir::default()
    })
}
