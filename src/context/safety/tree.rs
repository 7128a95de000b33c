//! The tree of the entries that a context has so far: which entries may still be added, and its hash in the scheme
//! `contents`. The module `safety` checks the names themselves.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::context::ContextHash;
use crate::context::contents::ContentsHash;
use crate::context::safety::{UnsafeEntry, cut};
use crate::context::tar_format::{parent, resolve};
use crate::net::Digest;

/// How many links in a row are followed: the same number as in the kernel.
const MAX_HOPS: usize = 40;

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory that has an entry of its own.
    Directory,
    /// A regular file, or a hard link to one, with the sha256 of its content.
    File(Digest),
    /// A symbolic link and its target.
    Symlink(Box<str>),
}

/// A symbolic link that leads to no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLink {
    /// Its name.
    pub name: String,
    /// Its target, shortened.
    pub target: String,
}

/// The names in a context so far, in the sort order of the scheme `contents`.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Box<str>, Node>,
    name_bytes: u64,
}

impl Tree {
    /// Checks whether an entry with this [`clean_name`](super::clean_name) may follow the entries before it.
    pub fn admit(&self, name: &str, directory: bool) -> Result<(), UnsafeEntry> {
        if self.nodes.contains_key(name) {
            return Err(UnsafeEntry::Duplicate);
        }
        for (end, _) in name.match_indices('/') {
            let parent = &name[..end];
            if self.nodes.get(parent).is_some_and(|node| *node != Node::Directory) {
                return Err(UnsafeEntry::BelowNonDirectory { parent: cut(parent.as_bytes()) });
            }
        }
        if !directory && self.has_below(name) {
            return Err(UnsafeEntry::AboveEntries);
        }
        Ok(())
    }

    /// Adds an entry that was admitted.
    pub fn insert(&mut self, name: &str, node: Node) {
        let target = if let Node::Symlink(target) = &node { target.len() } else { 0 };
        self.name_bytes += (name.len() + target) as u64;
        self.nodes.insert(name.into(), node);
    }

    /// The entry with this name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// How many bytes the names and link targets take: the tree's memory, apart from a constant for each entry.
    #[must_use]
    pub fn name_bytes(&self) -> u64 {
        self.name_bytes
    }

    /// How many regular files there are.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.nodes.values().filter(|node| matches!(node, Node::File(_))).count() as u64
    }

    /// The hash of the scheme `contents`, for a tree at `directory` in its repository.
    ///
    /// As in 2015 it covers regular files and links to files (with the digest of the file they lead to); links to
    /// directories, empty directories and permissions are not part of it. With `top`, it covers only the entries below that
    /// directory, and omits the directory from the paths.
    pub fn contents_hash(&self, directory: &str, top: Option<&str>) -> Result<ContextHash, DeadLink> {
        let mut hash = ContentsHash::default();
        for (name, node) in &self.nodes {
            let path = match top {
                None => Some(&**name),
                Some(top) => name.strip_prefix(top).and_then(|rest| rest.strip_prefix('/')),
            };
            let Some(path) = path else { continue };
            let digest = match node {
                Node::Directory => None,
                Node::File(digest) => Some(*digest),
                Node::Symlink(target) => self.digest_behind(name, target)?,
            };
            if let Some(digest) = digest {
                hash.add(format!("{directory}/{path}"), digest);
            }
        }
        Ok(hash.finish())
    }

    /// Whether all names are below this directory.
    #[must_use]
    pub fn is_all_below(&self, top: &str) -> bool {
        let inside = |name: &str| name.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        !self.nodes.is_empty() && self.nodes.keys().all(|name| name.is_empty() || inside(name))
    }

    /// The digest of the file at the end of a link; `None` for a directory.
    fn digest_behind(&self, name: &str, target: &str) -> Result<Option<Digest>, DeadLink> {
        let dead = || DeadLink { name: name.to_owned(), target: cut(target.as_bytes()) };
        // The target is never outside: `symlink_target` has refused such links.
        let follow = |from: &str, to: &str| resolve(parent(from), to).ok_or_else(dead);
        let mut at = follow(name, target)?;
        for _ in 0..MAX_HOPS {
            match self.nodes.get(at.as_str()) {
                Some(Node::File(digest)) => return Ok(Some(*digest)),
                Some(Node::Symlink(next)) => at = follow(&at, next)?,
                Some(Node::Directory) => return Ok(None),
                None if at.is_empty() || self.has_below(&at) => return Ok(None),
                None => break,
            }
        }
        Err(dead())
    }

    fn has_below(&self, name: &str) -> bool {
        let prefix = format!("{name}/");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        self.nodes.range::<str, _>(from).next().is_some_and(|(next, _)| next.starts_with(&prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_admits_each_name_once_and_only_below_directories() {
        let mut tree = Tree::default();
        tree.insert("a", Node::Directory);
        tree.insert("a/f", Node::File(Digest::of(b"")));
        tree.insert("a/l", Node::Symlink("f".into()));
        tree.insert("b/c/d", Node::File(Digest::of(b"")));
        assert_eq!(tree.admit("A", false), Ok(()));
        assert_eq!(tree.admit("b/c", true), Ok(()));
        assert_eq!(tree.admit("a/f", false), Err(UnsafeEntry::Duplicate));
        assert_eq!(tree.admit("a", true), Err(UnsafeEntry::Duplicate));
        let below = |parent: &str| Err(UnsafeEntry::BelowNonDirectory { parent: parent.to_owned() });
        assert_eq!(tree.admit("a/f/x", false), below("a/f"));
        assert_eq!(tree.admit("a/l/x/y", false), below("a/l"));
        assert_eq!(tree.admit("b/c", false), Err(UnsafeEntry::AboveEntries));
        assert_eq!((tree.files(), tree.name_bytes()), (2, 13));
    }

    #[test]
    fn contents_follow_links_to_files_and_skip_the_rest() {
        let mut tree = Tree::default();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        tree.insert("z", Node::File(one));
        tree.insert("d/f", Node::File(two));
        tree.insert("d/l", Node::Symlink("../m".into()));
        tree.insert("m", Node::Symlink("z".into()));
        tree.insert("dl", Node::Symlink("d".into()));
        tree.insert("e", Node::Directory);
        let lines = format!("{two}\t/t/x/d/f\n{one}\t/t/x/d/l\n{one}\t/t/x/m\n{one}\t/t/x/z\n");
        assert_eq!(tree.contents_hash("t/x", None), Ok(ContextHash(Digest::of(lines.as_bytes()))));

        tree.insert("loop", Node::Symlink("loop".into()));
        let dead = DeadLink { name: "loop".to_owned(), target: "loop".to_owned() };
        assert_eq!(tree.contents_hash("t/x", None), Err(dead));
    }
}
