//! The few files of an image that say what is installed in it: each as a container would see it, of the topmost layer that
//! has it, unless a layer above takes it away. What stands in them is for those who parse them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use super::SbomError;
use crate::image::Layer;
use crate::image::layer::{self, Entry, Kind, Whiteout};

/// Ten times a database of ten thousand packages. Each is in memory as a whole.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Files that an image has, by their paths.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum PathPattern {
    /// A file, and what it holds.
    File(&'static str),
    /// The files in a folder.
    Folder(&'static str),
    /// Whether a file is there; it is given without content.
    Sign(&'static str),
}

impl PathPattern {
    fn path(self) -> &'static [u8] {
        let (Self::File(path) | Self::Folder(path) | Self::Sign(path)) = self;
        path.as_bytes()
    }

    fn is(self, path: &[u8]) -> bool {
        match self {
            Self::File(_) | Self::Sign(_) => path == self.path(),
            Self::Folder(_) => below(path, self.path()).is_some_and(|name| !name.contains(&b'/')),
        }
    }

    /// Whether what a layer does to a path can matter.
    fn hangs_on(self, path: &[u8]) -> bool {
        self.is(path) || path == self.path() || below(self.path(), path).is_some()
    }
}

/// What follows in a path below a folder.
fn below<'a>(path: &'a [u8], folder: &[u8]) -> Option<&'a [u8]> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix(b"/") }
}

/// What layers above take away.
#[derive(Default)]
struct Hidden {
    /// These, and everything below them.
    paths: BTreeSet<Vec<u8>>,
    /// Everything below these.
    contents: BTreeSet<Vec<u8>>,
}

impl Hidden {
    fn has(&self, path: &[u8]) -> bool {
        let cuts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let folders: Vec<_> = std::iter::once(0).chain(cuts).map(|end| &path[..end]).collect();
        self.paths.contains(path)
            || folders.into_iter().any(|folder| self.paths.contains(folder) || self.contents.contains(folder))
    }
}

/// What a layer does to what is wanted.
#[derive(Default)]
struct Change {
    files: BTreeMap<Vec<u8>, Range<u64>>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    hidden: Hidden,
}

impl Change {
    fn note(&mut self, entry: Entry, wanted: &[PathPattern]) {
        match entry.whiteout() {
            Some(Whiteout::Path(path)) => drop(self.hidden.paths.insert(path)),
            Some(Whiteout::Content(folder)) => drop(self.hidden.contents.insert(folder)),
            None => {
                let is_it = wanted.iter().any(|it| it.is(&entry.path));
                if !is_it && (entry.kind == Kind::Folder || !wanted.iter().any(|it| it.hangs_on(&entry.path))) {
                    return;
                }
                self.files.remove(&entry.path);
                match entry.kind {
                    Kind::File if is_it => drop(self.files.insert(entry.path, entry.data)),
                    Kind::HardLink if is_it => self.links.push((entry.path, entry.link)),
                    // No file, in the place of one, or of a folder with one.
                    _ => drop(self.hidden.paths.insert(entry.path)),
                }
            }
        }
    }
}

/// The wanted files of an image whose layers are in `file`, the lowest first.
pub(super) fn effective(file: &File, layers: &[Layer], wanted: &[PathPattern]) -> Result<Files, SbomError> {
    let (mut found, mut hidden, mut seen) = (Files::new(), Hidden::default(), BTreeSet::new());
    for layer in layers.iter().rev() {
        let entries = layer::entries(file, &layer.pieces);
        let mut change = Change::default();
        entries.each(|entry| {
            change.note(entry, wanted);
            Ok::<_, SbomError>(())
        })?;
        for (path, target) in std::mem::take(&mut change.links) {
            // Another name of a file of this layer, most often one that nobody wants.
            let mut data = None;
            entries.each(|entry| {
                data = (entry.path == target && entry.kind == Kind::File).then_some(entry.data).or(data.take());
                Ok::<_, SbomError>(())
            })?;
            change.files.extend(data.map(|data| (path, data)));
        }
        for (path, data) in change.files {
            if !hidden.has(&path) && seen.insert(path.clone()) {
                let name = String::from_utf8_lossy(&path).into_owned();
                let only_sign = wanted.iter().any(|it| matches!(it, PathPattern::Sign(_)) && it.is(&path));
                let text = if only_sign { Vec::new() } else { content(&entries, data, &name)? };
                found.insert(name, text);
            }
        }
        hidden.paths.extend(change.hidden.paths);
        hidden.contents.extend(change.hidden.contents);
    }
    Ok(found)
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
    use super::super::fixture::{Content, image};
    use super::*;

    const WANTED: &[PathPattern] = &[PathPattern::File("a/b/c"), PathPattern::Folder("a/d"), PathPattern::Sign("a/e")];

    /// `PATH=CONTENT` of what the image has.
    fn told(layers: &[&[(&str, Content)]]) -> Vec<String> {
        let (file, layers) = image(layers);
        let files = effective(&file, &layers, WANTED).unwrap();
        files.into_iter().map(|(path, text)| format!("{path}={}", String::from_utf8(text).unwrap())).collect()
    }

    #[test]
    fn the_topmost_file_counts() {
        use Content::{File, Folder, HardLink, Symlink};
        let low: &[_] =
            &[("a", Folder), ("a/b/c", File("low")), ("a/d/1", File("one")), ("a/e", File("e")), ("x", File("x"))];
        let all = ["a/b/c=low", "a/d/1=one", "a/e="];
        for (name, above, expected) in [
            ("nothing of it", vec![("y", File("y")), ("a/b", Folder), ("a/bb/c", File("no"))], all.to_vec()),
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
            ("a folder in the place of a file", vec![("a/b/c", Folder)], vec![all[1], all[2]]),
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
            assert_eq!(told(&[low, &above]), expected, "{name}");
            assert_eq!(told(&[low, &[], &above, &[("q", File(""))]]), expected, "{name}, with layers between");
        }
        let gone: &[_] = &[("a/.wh.b", File(""))];
        assert_eq!(told(&[low, gone, &[("a/b/c", File("again"))]])[0], "a/b/c=again");
        assert_eq!(told(&[]), [""; 0]);
    }
}
