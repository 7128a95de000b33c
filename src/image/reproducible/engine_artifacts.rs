//! Finds what engines add to layers on their own: the mount points in the containers of RUN steps. docs/archives.md explains
//! which of them can be removed without changing the meaning of the image.

use std::collections::{HashMap, HashSet};

use crate::image::layer::{Entry, Kind, Layer, LayerError, Whiteout};

/// Directories that engines create in every container, so that no RUN step can create them; and `run`, which only Podman creates.
const DIRECTORIES: [&[u8]; 5] = [b"dev", b"etc", b"proc", b"run", b"sys"];

/// The one of them that some engines do not create.
const NOT_EVERYWHERE: &[u8] = b"run";

/// Files that are mounted into every container, so that no layer contains what a RUN step writes there.
const FILES: [&[u8]; 3] = [b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"];

/// Podman mounts it into each of its containers. Whether the mount point stays in the layer depends on the storage driver.
const PODMANS_FILE: &[u8] = b"run/.containerenv";

/// Which of these paths exist in the layers below.
#[derive(Debug)]
pub(super) struct LowerLayers {
    existing: HashMap<Vec<u8>, Facts>,
    by_podman: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    kind: Kind,
    mode: u32,
    owner: (u64, u64),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Facts {
    fn of(entry: &Entry) -> Self {
        let Entry { kind, mode, uid, gid, .. } = *entry;
        Self { kind, mode, owner: (uid, gid), xattrs: entry.xattrs.clone() }
    }

    /// Whether the directory is like those that engines create.
    fn is_plain_directory(&self) -> bool {
        self.kind == Kind::Directory && self.mode == 0o755 && self.owner == (0, 0) && self.xattrs.is_empty()
    }
}

impl LowerLayers {
    /// `by_podman`: whether Podman has built the image.
    pub(super) fn new(by_podman: bool) -> Self {
        Self { existing: HashMap::new(), by_podman }
    }

    /// The paths that an engine has added to a layer. `run` tells whether a RUN step made the layer.
    pub(super) fn engine_artifacts(&self, layer: &Layer, run: bool) -> Result<HashSet<Vec<u8>>, LayerError> {
        let mut engine_artifacts = HashSet::new();
        let mut directories: HashMap<Vec<u8>, Facts> = HashMap::new();
        let mut used: HashSet<Vec<u8>> = HashSet::new();
        layer.each(|entry| {
            let facts = Facts::of(&entry);
            if DIRECTORIES.contains(&entry.path.as_slice()) && entry.kind == Kind::Directory {
                directories.insert(entry.path, facts);
            } else if run && self.is_mount_point(&entry) {
                engine_artifacts.insert(entry.path);
            } else if let Some(top) = entry.path.split(|byte| *byte == b'/').next() {
                used.insert(top.to_vec());
            }
            Ok::<_, LayerError>(())
        })?;
        for (path, facts) in directories {
            let is_redundant = match self.existing.get(&path) {
                // Only its time is new.
                Some(below) => *below == facts,
                None => run && path != NOT_EVERYWHERE && facts.is_plain_directory(),
            };
            if is_redundant && !used.contains(&path) {
                engine_artifacts.insert(path);
            }
        }
        Ok(engine_artifacts)
    }

    fn is_mount_point(&self, entry: &Entry) -> bool {
        let path = entry.path.as_slice();
        let mounted = FILES.contains(&path) || (self.by_podman && path == PODMANS_FILE);
        mounted && entry.kind == Kind::File && entry.size == 0 && !self.existing.contains_key(path)
    }

    /// Adds a layer, without what engines put into it.
    pub(super) fn add(&mut self, layer: &Layer, engine_artifacts: &HashSet<Vec<u8>>) -> Result<(), LayerError> {
        layer.each(|entry| {
            match entry.whiteout() {
                Some(Whiteout::Path(gone)) => self.existing.retain(|path, _| *path != gone && !is_below(path, &gone)),
                Some(Whiteout::Content(directory)) => self.existing.retain(|path, _| !is_below(path, &directory)),
                None if engine_artifacts.contains(&entry.path) => {}
                None => {
                    let path = entry.path.as_slice();
                    if DIRECTORIES.contains(&path) || FILES.contains(&path) || path == PODMANS_FILE {
                        self.existing.insert(entry.path.clone(), Facts::of(&entry));
                    }
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}
