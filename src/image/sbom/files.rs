//! Finds the files of an image that list its packages, as a container sees them: from the topmost layer that contains the file,
//! unless a layer above hides it. Other modules parse the files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use super::SbomError;
use crate::image::layer::{self, Entry, Kind, Whiteout};
use crate::image::{Layer, ReadAt};

/// Ten times the size of a database of ten thousand packages. Each file is read into memory.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The files of an image by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Which files to find.
#[derive(Clone, Copy, Debug)]
pub(super) enum PathPattern {
    /// A file with its content.
    File(&'static str),
    /// The files in a directory.
    Directory(&'static str),
    /// Only whether a file exists; it is returned without content.
    Sign(&'static str),
}

impl PathPattern {
    fn path(self) -> &'static [u8] {
        let (Self::File(path) | Self::Directory(path) | Self::Sign(path)) = self;
        path.as_bytes()
    }

    fn matches(self, path: &[u8]) -> bool {
        match self {
            Self::File(_) | Self::Sign(_) => path == self.path(),
            Self::Directory(_) => below(path, self.path()).is_some_and(|name| !name.contains(&b'/')),
        }
    }

    /// Whether a change of this path in a layer can matter.
    fn depends_on(self, path: &[u8]) -> bool {
        self.matches(path) || path == self.path() || below(self.path(), path).is_some()
    }
}

/// The part of a path below a directory.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    if directory.is_empty() { Some(path) } else { path.strip_prefix(directory)?.strip_prefix(b"/") }
}

/// What layers above hide.
#[derive(Default)]
struct Hidden {
    /// These paths, and everything below them.
    paths: BTreeSet<Vec<u8>>,
    /// Everything below these directories.
    contents: BTreeSet<Vec<u8>>,
}

impl Hidden {
    fn has(&self, path: &[u8]) -> bool {
        let cuts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let parents: Vec<_> = std::iter::once(0).chain(cuts).map(|end| &path[..end]).collect();
        self.paths.contains(path)
            || parents.into_iter().any(|parent| self.paths.contains(parent) || self.contents.contains(parent))
    }
}

/// The changes of a layer to the wanted files.
#[derive(Default)]
struct Change {
    files: BTreeMap<Vec<u8>, Range<u64>>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    hidden: Hidden,
}

impl Change {
    fn add(&mut self, entry: &Entry, wanted: &[PathPattern]) {
        match entry.whiteout() {
            Some(Whiteout::Path(path)) => drop(self.hidden.paths.insert(path)),
            Some(Whiteout::Content(directory)) => drop(self.hidden.contents.insert(directory)),
            None => {
                let is_match = wanted.iter().any(|it| it.matches(&entry.path));
                if !is_match && (entry.kind == Kind::Directory || !wanted.iter().any(|it| it.depends_on(&entry.path))) {
                    return;
                }
                self.files.remove(&entry.path);
                match entry.kind {
                    Kind::File if is_match => drop(self.files.insert(entry.path.clone(), entry.data.clone())),
                    Kind::HardLink if is_match => self.links.push((entry.path.clone(), entry.link.clone())),
                    // Something that is not a file replaces a wanted file, or a directory that contains one.
                    _ => drop(self.hidden.paths.insert(entry.path.clone())),
                }
            }
        }
    }
}

/// The search for files in the layers of an image. It is shown each entry, so that others can look at the same ones.
pub(super) struct Search {
    wanted: Vec<PathPattern>,
    changes: Vec<Change>,
}

impl Search {
    /// For these files.
    pub(super) fn new(wanted: Vec<PathPattern>) -> Self {
        Self { wanted, changes: Vec::new() }
    }

    /// Looks at an entry of the layer with this number; the lowest has 0.
    pub(super) fn add(&mut self, layer: usize, entry: &Entry) {
        if self.changes.len() <= layer {
            self.changes.resize_with(layer + 1, Change::default);
        }
        self.changes[layer].add(entry, &self.wanted);
    }

    /// The wanted files of the image whose layers these are.
    pub(super) fn effective_files(self, file: &dyn ReadAt, layers: &[Layer]) -> Result<Files, SbomError> {
        let (mut found, mut hidden, mut found_paths) = (Files::new(), Hidden::default(), BTreeSet::new());
        for (layer, mut change) in layers.iter().zip(self.changes).rev() {
            let entries = layer::entries(file, &layer.pieces);
            for (path, target) in std::mem::take(&mut change.links) {
                // A hard link to another file of this layer, which is usually not a wanted one.
                let mut data = None;
                entries.each(|entry| {
                    data = (entry.path == target && entry.kind == Kind::File).then_some(entry.data).or(data.take());
                    Ok::<_, SbomError>(())
                })?;
                change.files.extend(data.map(|data| (path, data)));
            }
            for (path, data) in change.files {
                if !hidden.has(&path) && found_paths.insert(path.clone()) {
                    let name = String::from_utf8_lossy(&path).into_owned();
                    let is_sign = |it: &PathPattern| matches!(it, PathPattern::Sign(_)) && it.matches(&path);
                    let only_sign = self.wanted.iter().any(is_sign);
                    let text = if only_sign { Vec::new() } else { content(&entries, data, &name)? };
                    found.insert(name, text);
                }
            }
            hidden.paths.extend(change.hidden.paths);
            hidden.contents.extend(change.hidden.contents);
        }
        Ok(found)
    }
}

fn content(layer: &layer::Layer, data: Range<u64>, name: &str) -> Result<Vec<u8>, SbomError> {
    let size = data.end.saturating_sub(data.start);
    if size > LARGEST {
        return Err(SbomError::TooLarge { path: name.to_owned(), size });
    }
    let unreadable = |source| SbomError::Read { path: name.to_owned(), source };
    let mut bytes = layer.bytes();
    bytes.seek(SeekFrom::Start(data.start)).map_err(unreadable)?;
    let mut text = Vec::new();
    bytes.take(size).read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Content, each_entry, image};
    use super::*;

    const WANTED: &[PathPattern] =
        &[PathPattern::File("a/b/c"), PathPattern::Directory("a/d"), PathPattern::Sign("a/e")];

    /// `PATH=CONTENT` of the files that were found.
    fn found_files(layers: &[&[(&str, Content)]]) -> Vec<String> {
        let (file, layers) = image(layers);
        let mut search = Search::new(WANTED.to_vec());
        each_entry(&file, &layers, |layer, entry| search.add(layer, &entry));
        let files = search.effective_files(&file, &layers).unwrap();
        files.into_iter().map(|(path, text)| format!("{path}={}", String::from_utf8(text).unwrap())).collect()
    }

    #[test]
    fn the_topmost_file_counts() {
        use Content::{Directory, File, HardLink, Symlink};
        let low: &[_] =
            &[("a", Directory), ("a/b/c", File("low")), ("a/d/1", File("one")), ("a/e", File("e")), ("x", File("x"))];
        let all = ["a/b/c=low", "a/d/1=one", "a/e="];
        for (name, above, expected) in [
            ("nothing of it", vec![("y", File("y")), ("a/b", Directory), ("a/bb/c", File("no"))], all.to_vec()),
            ("replaced", vec![("a/b/c", File("high"))], vec!["a/b/c=high", all[1], all[2]]),
            ("taken away", vec![("a/b/.wh.c", File("")), ("a/.wh.e", File(""))], vec![all[1]]),
            ("with its folder", vec![(".wh.a", File(""))], vec![]),
            (
                "with its folder, which is there again",
                vec![("a/.wh.b", File("")), ("a/b/c", File("new"))],
                vec!["a/b/c=new", all[1], all[2]],
            ),
            ("an opaque folder", vec![("a/.wh..wh..opq", File("")), ("a/d/2", File("two"))], vec!["a/d/2=two"]),
            ("an opaque folder of another name", vec![("a/b/c/.wh..wh..opq", File(""))], all.to_vec()),
            ("an opaque root", vec![(".wh..wh..opq", File(""))], vec![]),
            ("a link in the place of a folder", vec![("a/b", Symlink("x"))], vec![all[1], all[2]]),
            ("a folder in the place of a file", vec![("a/b/c", Directory)], vec![all[1], all[2]]),
            (
                "a hard link",
                vec![("z", File("linked")), ("a/b/c", HardLink("z"))],
                vec!["a/b/c=linked", all[1], all[2]],
            ),
            ("twice in a layer", vec![("a/b/c", File("1")), ("a/b/c", File("2"))], vec!["a/b/c=2", all[1], all[2]]),
            (
                "more",
                vec![("a/d/2", File("two")), ("a/d/3/4", File("deep"))],
                vec![all[0], all[1], "a/d/2=two", all[2]],
            ),
        ] {
            assert_eq!(found_files(&[low, &above]), expected, "{name}");
            assert_eq!(found_files(&[low, &[], &above, &[("q", File(""))]]), expected, "{name}, with layers between");
        }
        let gone: &[_] = &[("a/.wh.b", File(""))];
        assert_eq!(found_files(&[low, gone, &[("a/b/c", File("again"))]])[0], "a/b/c=again");
        assert_eq!(found_files(&[]), [""; 0]);
    }
}
