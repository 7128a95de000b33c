//! What engines put into layers without being told: the places where they mount things into the containers of RUN steps.
//! What of it can be taken out without a lie, and why, is in docs/archives.md.

use std::collections::{HashMap, HashSet};

use crate::image::layer::{Entry, Kind, Layer, LayerError, Whiteout};

/// Folders that engines make in every container, so that no RUN step can make them; and `run`, which only Podman makes.
const FOLDERS: [&[u8]; 5] = [b"dev", b"etc", b"proc", b"run", b"sys"];

/// The one of them that is not in every engine's containers.
const NOT_EVERYWHERE: &[u8] = b"run";

/// Files that are mounted into every container, so that what a RUN step writes there is in no layer.
const FILES: [&[u8]; 3] = [b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"];

/// Podman mounts it into every container of its own. Whether the place stays in the layer hangs on the storage.
const PODMANS_FILE: &[u8] = b"run/.containerenv";

/// What is there of these when a layer begins.
#[derive(Debug)]
pub(super) struct LowerLayers {
    there: HashMap<Vec<u8>, Facts>,
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

    /// As engines make a folder when they need one.
    fn is_plain_folder(&self) -> bool {
        self.kind == Kind::Folder && self.mode == 0o755 && self.owner == (0, 0) && self.xattrs.is_empty()
    }
}

impl LowerLayers {
    /// Of an image that Podman has built, or another engine.
    pub(super) fn new(by_podman: bool) -> Self {
        Self { there: HashMap::new(), by_podman }
    }

    /// The paths of what an engine has put into a layer. `run` says whether a RUN step made the layer.
    pub(super) fn engine_artifacts(&self, layer: &Layer, run: bool) -> Result<HashSet<Vec<u8>>, LayerError> {
        let mut engine_artifacts = HashSet::new();
        let mut folders: HashMap<Vec<u8>, Facts> = HashMap::new();
        let mut used: HashSet<Vec<u8>> = HashSet::new();
        layer.each(|entry| {
            let facts = Facts::of(&entry);
            if FOLDERS.contains(&entry.path.as_slice()) && entry.kind == Kind::Folder {
                folders.insert(entry.path, facts);
            } else if run && self.is_mount_point(&entry) {
                engine_artifacts.insert(entry.path);
            } else if let Some(top) = entry.path.split(|byte| *byte == b'/').next() {
                used.insert(top.to_vec());
            }
            Ok::<_, LayerError>(())
        })?;
        for (path, facts) in folders {
            let said_already = match self.there.get(&path) {
                // Nothing but its time is new.
                Some(below) => *below == facts,
                None => run && path != NOT_EVERYWHERE && facts.is_plain_folder(),
            };
            if said_already && !used.contains(&path) {
                engine_artifacts.insert(path);
            }
        }
        Ok(engine_artifacts)
    }

    fn is_mount_point(&self, entry: &Entry) -> bool {
        let path = entry.path.as_slice();
        let mounted = FILES.contains(&path) || (self.by_podman && path == PODMANS_FILE);
        mounted && entry.kind == Kind::File && entry.size == 0 && !self.there.contains_key(path)
    }

    /// What is there when a layer ends, without what engines put into it.
    pub(super) fn add(&mut self, layer: &Layer, engine_artifacts: &HashSet<Vec<u8>>) -> Result<(), LayerError> {
        layer.each(|entry| {
            match entry.whiteout() {
                Some(Whiteout::Path(gone)) => self.there.retain(|path, _| *path != gone && !is_below(path, &gone)),
                Some(Whiteout::Content(folder)) => self.there.retain(|path, _| !is_below(path, &folder)),
                None if engine_artifacts.contains(&entry.path) => {}
                None => {
                    let path = entry.path.as_slice();
                    if FOLDERS.contains(&path) || FILES.contains(&path) || path == PODMANS_FILE {
                        self.there.insert(entry.path.clone(), Facts::of(&entry));
                    }
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}
