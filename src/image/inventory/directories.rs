//! The directories of an image with the bytes below each, and the small tree that is drawn of them: with the largest files and
//! directories, and the rest of each directory as one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Serialize;

use super::{SizedPath, largest};
use crate::report::escaped;

/// A directory with this share of its bytes in one subdirectory is not listed besides the subdirectory; in percent.
const NEARLY_ALL: u64 = 90;

/// What has less than a thousandth of its directory is smaller than a pixel or two of it.
const SMALLEST_PART: u64 = 1000;

/// More cannot be told apart.
const MOST_CHILDREN: usize = 120;

/// Deeper directories are not drawn, and what draws them may recurse.
const DEEPEST: usize = 48;

/// About the size of a drawn tree as JSON: the page with it is to stay below 2 MB.
const MOST_BYTES: usize = 1_000_000;

/// What a node takes besides its name: the keys, and numbers of up to 13 digits.
const NODE_BYTES: usize = 64;

/// The index of the root.
const ROOT: usize = 0;

/// All directories that have files.
pub(super) struct Directories<'a>(Vec<Directory<'a>>);

#[derive(Default)]
struct Directory<'a> {
    name: &'a [u8],
    parent: usize,
    /// How many directories are above it.
    depth: usize,
    /// The bytes of the files below it.
    size: u64,
    /// How many they are.
    count: usize,
    subdirectories: Vec<usize>,
    files: Vec<(&'a [u8], u64)>,
}

/// A file, or a directory, with its size in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SizeTree {
    /// Its name; that of the root is empty.
    pub name: String,
    /// The bytes of it, or of all files below it.
    pub size: u64,
    /// For a directory: how many files are below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
    /// The largest files and directories in it, the largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<SizeTree>,
    /// All others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<Others>,
}

/// The files of a directory, and of directories in it, that are not drawn one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Others {
    /// How many they are.
    pub files: usize,
    /// Their bytes.
    pub size: u64,
}

/// What is drawn of a directory.
#[derive(Default)]
struct Drawn<'a> {
    children: Vec<Child<'a>>,
    others: Option<Others>,
}

#[derive(Clone, Copy)]
struct Child<'a> {
    name: &'a [u8],
    size: u64,
    count: usize,
    directory: Option<usize>,
}

impl<'a> Directories<'a> {
    /// The directories of files, which are sorted by path.
    pub(super) fn of(files: impl Iterator<Item = (&'a [u8], u64)>) -> Self {
        let mut all = vec![Directory::default()];
        // The directories above the file, from the root.
        let mut above = vec![ROOT];
        for (path, size) in files {
            let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(cut) => (Some(&path[..cut]), &path[cut + 1..]),
                None => (None, path),
            };
            let mut depth = 0;
            for name in directory.into_iter().flat_map(|directory| directory.split(|byte| *byte == b'/')) {
                depth += 1;
                // Sorted: the files of a directory come one after the other.
                if above.get(depth).is_some_and(|known| all[*known].name == name) {
                    continue;
                }
                let (parent, new) = (above[depth - 1], all.len());
                all.push(Directory { name, parent, depth, ..Directory::default() });
                all[parent].subdirectories.push(new);
                above.truncate(depth);
                above.push(new);
            }
            above.truncate(depth + 1);
            for directory in &above {
                all[*directory].size += size;
                all[*directory].count += 1;
            }
            all[above[depth]].files.push((name, size));
        }
        Self(all)
    }

    /// The directories with the most bytes, the largest first; without the root.
    pub(super) fn largest(&self, most: usize) -> Vec<SizedPath> {
        let is_useful = |directory: &Directory| {
            let child = directory.subdirectories.iter().map(|it| self.0[*it].size).max().unwrap_or_default();
            u128::from(child) * 100 < u128::from(directory.size) * u128::from(NEARLY_ALL)
        };
        let useful = self.0.iter().enumerate().skip(1).filter(|(_, directory)| is_useful(directory));
        let largest = largest(useful.map(|(index, directory)| (index, directory.size)), most);
        largest.into_iter().map(|(index, size)| SizedPath::new(&self.path(index), size)).collect()
    }

    fn path(&self, mut index: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while index != ROOT {
            names.push(self.0[index].name);
            index = self.0[index].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The tree to be drawn: the largest directories are opened first, until it is as large as it may be.
    pub(super) fn drawn(&self) -> SizeTree {
        let mut drawn: Vec<Drawn> = self.0.iter().map(|_| Drawn::default()).collect();
        let mut left = MOST_BYTES;
        let mut next = BinaryHeap::from([(self.0[ROOT].size, Reverse(ROOT))]);
        while let Some((_, Reverse(index))) = next.pop() {
            let opened = self.open(&self.0[index], &mut left);
            let directories = opened.children.iter().filter_map(|child| Some((child.size, Reverse(child.directory?))));
            next.extend(directories.filter(|(_, Reverse(child))| self.0[*child].depth < DEEPEST));
            drawn[index] = opened;
        }
        let root = Child { name: b"", size: self.0[ROOT].size, count: self.0[ROOT].count, directory: Some(ROOT) };
        tree(root, &drawn)
    }

    /// What of a directory is drawn one by one, as far as there is room left.
    fn open(&self, directory: &Directory<'a>, left: &mut usize) -> Drawn<'a> {
        let subdirectories = directory.subdirectories.iter().map(|index| {
            let Directory { name, size, count, .. } = self.0[*index];
            Child { name, size, count, directory: Some(*index) }
        });
        let files = directory.files.iter().map(|(name, size)| Child { name, size: *size, count: 1, directory: None });
        let mut all: Vec<_> = subdirectories.chain(files).collect();
        all.sort_unstable_by(|one, other| other.size.cmp(&one.size).then_with(|| one.name.cmp(other.name)));
        let smallest = (directory.size / SMALLEST_PART).max(1);
        let large = all.iter().take(MOST_CHILDREN).take_while(|child| child.size >= smallest);
        let fits = |child: &&Child| {
            let room = left.checked_sub(NODE_BYTES + most_escaped(child.name));
            *left = room.unwrap_or(*left);
            room.is_some()
        };
        let shown = large.take_while(fits).count();
        let others = all.split_off(shown);
        let folded = Others {
            files: others.iter().map(|child| child.count).sum(),
            size: others.iter().map(|child| child.size).sum(),
        };
        Drawn { children: all, others: (folded.files > 0).then_some(folded) }
    }
}

fn tree(node: Child, drawn: &[Drawn]) -> SizeTree {
    let opened = node.directory.map(|index| &drawn[index]);
    SizeTree {
        name: escaped(&String::from_utf8_lossy(node.name)),
        size: node.size,
        files: node.directory.map(|_| node.count),
        children: opened.into_iter().flat_map(|it| &it.children).map(|child| tree(*child, drawn)).collect(),
        others: opened.and_then(|it| it.others),
    }
}

/// How many bytes a text has at most in JSON that can stand in HTML: six for each that may have to be escaped.
#[must_use]
pub fn most_escaped(text: &[u8]) -> usize {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+ :~@=,".contains(byte);
    text.iter().map(|byte| if plain(byte) { 1 } else { 6 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(String, u64)]) -> (SizeTree, usize) {
        let tree = Directories::of(files.iter().map(|(path, size)| (path.as_bytes(), *size))).drawn();
        let size = serde_json::to_string(&tree).unwrap().len();
        (tree, size)
    }

    /// Asserts that the parts of each directory add up to it.
    fn assert_adds_up(tree: &SizeTree) {
        let Some(files) = tree.files else { return };
        let (mut all, mut bytes) = (0, 0);
        for child in &tree.children {
            all += child.files.unwrap_or(1);
            bytes += child.size;
            assert_adds_up(child);
        }
        let Others { files: other, size } = tree.others.unwrap_or_default();
        let is_open = !tree.children.is_empty() || tree.others.is_some();
        assert!(!is_open || (all + other, bytes + size) == (files, tree.size), "{}: {all} + {other}", tree.name);
    }

    #[test]
    fn small_trees_are_drawn_whole() {
        let files = [("a-b", 1), ("a/x", 5), ("a/y/z", 20), ("b", 3), ("empty", 0)];
        let (tree, _) = of(&files.map(|(path, size)| (path.to_owned(), size)));
        assert_adds_up(&tree);
        let names = |tree: &SizeTree| tree.children.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!((tree.size, tree.files, names(&tree)), (29, Some(5), ["a", "b", "a-b"].map(str::to_owned).into()));
        assert_eq!(tree.others, Some(Others { files: 1, size: 0 }));
        assert_eq!(names(&tree.children[0]), ["y", "x"]);
        assert_eq!(
            tree.children[0].children[0].children,
            [SizeTree { name: "z".to_owned(), size: 20, ..SizeTree::default() }]
        );
        let (nothing, _) = of(&[]);
        assert_eq!(nothing, SizeTree { files: Some(0), ..SizeTree::default() });
    }

    #[test]
    fn a_tree_stays_small_however_many_files_there_are_and_adds_up() {
        // As in a toolchain: 200 directories of 1000 files, of which most are small.
        let file = |number: u64| {
            let (directory, size) = (number % 200, 1 + number * number % 9973);
            (format!("usr/lib/module-{directory:03}/part-{}/file-{number}.rs", number % 7), size)
        };
        let mut files: Vec<_> = (0..200_000).map(file).collect();
        files.sort_unstable();
        let (tree, size) = of(&files);
        assert_eq!((tree.files, tree.size), (Some(200_000), files.iter().map(|(_, size)| size).sum()));
        assert_adds_up(&tree);
        assert!((200_000..1_000_000).contains(&size), "{size} bytes");
        // Names that have to be escaped.
        let mut hostile: Vec<_> = (0..20_000).map(|number| (format!("{}/{number}", "<\u{1}é".repeat(60)), 7)).collect();
        hostile.extend((0..20_000).map(|number| (format!("{}{number}", "<".repeat(200)), 7)));
        hostile.sort_unstable();
        let (tree, size) = of(&hostile);
        assert_adds_up(&tree);
        assert!(size < 1_000_000, "{size} bytes");
    }

    #[test]
    fn a_path_as_deep_as_it_may_be_ends_the_drawing_and_nothing_else() {
        let (tree, size) = of(&[("d/".repeat(100_000) + "file", 9)]);
        assert_adds_up(&tree);
        assert!(size < 10_000, "{size} bytes");
        let depth = std::iter::successors(Some(&tree), |tree| tree.children.first()).count();
        assert_eq!(depth, DEEPEST + 1);
    }
}
