//! A folder with files, for the tests of this room. Nothing else uses it.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder that is gone when it is dropped.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    /// The folder with these files: path and content.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (path, content) in files {
            folder.write(path, content);
        }
        folder
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
