//! The files of an image as a container sees them, layer by layer, and the bytes that each layer hides in the layers below.

use std::collections::{BTreeMap, HashMap};

use super::directories::Directories;
use super::{SizedPath, Waste, WastedBy, WastedPath, largest};
use crate::image::layer::{Entry, Kind, Whiteout};

/// A file that a container sees.
struct VisibleFile {
    layer: usize,
    bytes: u64,
}

/// The bytes that were wasted at a path.
struct Wasted {
    bytes: u64,
    by: WastedBy,
    layer: usize,
}

/// The files that are visible in the layers added so far.
#[derive(Default)]
pub(super) struct FileTree {
    /// All entries except directories, by path.
    files: BTreeMap<Vec<u8>, VisibleFile>,
    wasted: HashMap<Vec<u8>, Wasted>,
}

impl FileTree {
    /// Adds the next entry of a layer. Returns the bytes of a file of the layer; none for a directory or a whiteout.
    pub(super) fn add(&mut self, entry: Entry, layer: usize) -> Option<u64> {
        match entry.whiteout() {
            Some(Whiteout::Path(path)) => {
                let bytes = self.remove(&path, layer) + self.remove_below(&path, layer);
                self.waste_at(path, bytes, WastedBy::Deleted, layer);
                return None;
            }
            Some(Whiteout::Content(directory)) => {
                let bytes = self.remove_below(&directory, layer);
                self.waste_at(directory, bytes, WastedBy::Deleted, layer);
                return None;
            }
            None => {}
        }
        let is_file = entry.kind != Kind::Directory;
        // A directory replaces a file, a file replaces a directory, or a newer file replaces an older one; also within one layer.
        let mut bytes = self.files.remove(&entry.path).map_or(0, |file| file.bytes);
        if is_file {
            bytes += self.remove_below(&entry.path, layer);
        }
        self.waste_at(entry.path.clone(), bytes, WastedBy::Overwritten, layer);
        is_file.then(|| {
            let bytes = entry.data.end.saturating_sub(entry.data.start);
            self.files.insert(entry.path, VisibleFile { layer, bytes });
            bytes
        })
    }

    /// Removes a file of a lower layer. A whiteout does not affect files of its own layer (OCI image specification, layers).
    fn remove(&mut self, path: &[u8], layer: usize) -> u64 {
        if self.files.get(path).is_none_or(|file| file.layer == layer) {
            return 0;
        }
        self.files.remove(path).map_or(0, |file| file.bytes)
    }

    /// Removes all files of lower layers below a directory; the empty path is the root.
    fn remove_below(&mut self, directory: &[u8], layer: usize) -> u64 {
        let from = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        let is_below = |(path, file): &(&Vec<u8>, &VisibleFile)| path.starts_with(&from) && file.layer != layer;
        let range = self.files.range(from.clone()..).take_while(|(path, _)| path.starts_with(&from));
        let paths: Vec<_> = range.filter(is_below).map(|(path, _)| path.clone()).collect();
        paths.iter().map(|path| self.files.remove(path).map_or(0, |file| file.bytes)).sum()
    }

    fn waste_at(&mut self, path: Vec<u8>, bytes: u64, by: WastedBy, layer: usize) {
        if bytes > 0 {
            let wasted = self.wasted.entry(path).or_insert(Wasted { bytes: 0, by, layer });
            (wasted.bytes, wasted.by, wasted.layer) = (wasted.bytes + bytes, by, layer);
        }
    }

    /// How many files there are.
    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    /// The visible bytes of each layer, the lowest first.
    pub(super) fn visible(&self, layers: usize) -> Vec<u64> {
        let mut visible = vec![0; layers];
        for file in self.files.values() {
            visible[file.layer] += file.bytes;
        }
        visible
    }

    /// The largest files, the largest first.
    pub(super) fn largest_files(&self, most: usize) -> Vec<SizedPath> {
        let files = largest(self.files.iter().map(|(path, file)| (path, file.bytes)), most);
        files.into_iter().map(|(path, size)| SizedPath::new(path, size)).collect()
    }

    /// The directories that the files are in.
    pub(super) fn directories(&self) -> Directories<'_> {
        Directories::of(self.files.iter().map(|(path, file)| (path.as_slice(), file.bytes)))
    }

    /// The wasted bytes, with the largest paths first.
    pub(super) fn waste(&self, most: usize) -> Waste {
        let bytes: u64 = self.wasted.values().map(|wasted| wasted.bytes).sum();
        let visible: u64 = self.files.values().map(|file| file.bytes).sum();
        let all = u128::from(bytes) + u128::from(visible);
        let efficiency = (u128::from(visible) * 100).checked_div(all).and_then(|percent| u8::try_from(percent).ok());
        let mut paths: Vec<_> = self.wasted.iter().collect();
        paths.sort_unstable_by(|(a, one), (b, other)| other.bytes.cmp(&one.bytes).then_with(|| a.cmp(b)));
        let paths = paths.into_iter().take(most).map(|(path, wasted)| WastedPath {
            path: String::from_utf8_lossy(path).into_owned(),
            bytes: wasted.bytes,
            by: wasted.by,
            layer: wasted.layer + 1,
        });
        Waste { bytes, efficiency: efficiency.unwrap_or(100), paths: paths.collect() }
    }
}
