//! What differs between the inputs of two hashes: files, arguments, the parent, the architecture.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;

use super::side::{Contents, Parent, Side};
use super::text_diff;
use crate::context::listing::{ContextEntry, ContextListing, ContextNode};
use crate::context::{ContextHash, ContextScheme, ImageName};
use crate::net::Digest;
use crate::report::secrets;
use crate::taskcluster::TaskId;

/// How many files are compared line by line; the others only by their digests.
const MOST_DIFFS: usize = 50;

/// Why two hashes of an image differ, or that they do not.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The image.
    pub image: ImageName,
    /// Whether the index finds both under the same hash. Hashes of two schemes cannot be compared: then, whether nothing differs.
    pub same: bool,
    /// The earlier one.
    pub before: SideHashes,
    /// The later one.
    pub after: SideHashes,
    /// Files of the context, by their names.
    pub files: Vec<FileChange>,
    /// Build arguments, by their names.
    pub arguments: Vec<ArgumentChange>,
    /// The image that it is built from.
    pub parent: Option<ParentChange>,
    /// The architecture.
    pub architecture: Option<ArchitectureChange>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// The hashes of one of the two.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideHashes {
    /// What it is, for people.
    pub what: String,
    /// Its task, if it is a build.
    pub task_id: Option<TaskId>,
    /// The hash in the `.hash.` route; none if only the task graph knows it.
    pub hash: Option<ContextHash>,
    /// The hash of its context.
    pub context_hash: ContextHash,
    /// How that is computed.
    pub scheme: ContextScheme,
}

/// A file of the context that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Its name in the context.
    pub name: String,
    /// What has happened to it.
    pub change: FileChangeKind,
    /// What it was.
    pub before: Option<FileFacts>,
    /// What it is.
    pub after: Option<FileFacts>,
    /// Where it comes from, if the Dockerfile includes it: a path from the root of the repository.
    pub from: Option<String>,
    /// The lines of a diff, of a small text.
    pub diff: Option<Vec<String>>,
    /// How many lines of the diff are left out.
    pub more: usize,
}

/// What has happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another content, or is something else.
    Changed,
    /// It has other permissions, and the same content.
    Mode,
}

/// An entry of a context.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFacts {
    /// `file`, `link` or `directory`.
    pub kind: &'static str,
    /// Its permissions, octal.
    pub mode: String,
    /// The size of a file in bytes.
    pub size: Option<u64>,
    /// The digest of a file.
    pub sha256: Option<Digest>,
    /// The target of a link.
    pub target: Option<String>,
}

/// A build argument that differs. Values that look secret are hidden.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ArgumentChange {
    /// Its name.
    pub name: String,
    /// What it was, if it was given.
    pub before: Option<String>,
    /// What it is, if it is given.
    pub after: Option<String>,
}

/// Another parent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ParentChange {
    /// What it was, if there was one.
    pub before: Option<Parent>,
    /// What it is, if there is one.
    pub after: Option<Parent>,
}

/// Another architecture; none is amd64.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ArchitectureChange {
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// The files of two contexts that differ.
pub(super) fn changed_files(before: &Contents, after: &Contents) -> io::Result<Vec<FileChange>> {
    // The scheme `contents` hashes names and contents of files only.
    let modes = ![before.scheme, after.scheme].contains(&ContextScheme::Contents);
    let mut files = files(before.listing.entries(), after.listing.entries(), modes);
    for file in &mut files {
        file.from = after.included.get(&file.name).or_else(|| before.included.get(&file.name)).cloned();
    }
    add_diffs(&mut files, &before.listing, &after.listing)?;
    Ok(files)
}

/// Explains the difference of two sides, of which these files differ.
pub(super) fn explain(before: &Side, after: &Side, files: Vec<FileChange>) -> Explanation {
    let arch = || ArchitectureChange { before: before.arch.clone(), after: after.arch.clone() };
    let mut explanation = Explanation {
        image: after.image.clone(),
        same: false,
        before: before.into(),
        after: after.into(),
        files,
        arguments: arguments(&before.args, &after.args),
        parent: parent(before.parent.as_ref(), after.parent.as_ref()),
        architecture: (before.arch != after.arch).then(arch),
        notes: Vec::new(),
    };
    let both = before.hash.zip(after.hash).filter(|_| before.scheme == after.scheme);
    explanation.same = both.map_or_else(|| explanation.is_empty(), |(before, after)| before == after);
    explanation.notes = notes(&explanation, before, after);
    explanation
}

impl Explanation {
    /// Whether no difference was found.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.arguments.is_empty() && self.parent.is_none() && self.architecture.is_none()
    }
}

impl From<&Side> for SideHashes {
    fn from(side: &Side) -> Self {
        let Side { label, task, hash, context_hash, scheme, .. } = side;
        let (what, task_id) = (label.clone(), task.clone());
        Self { what, task_id, hash: *hash, context_hash: *context_hash, scheme: *scheme }
    }
}

/// What cannot be said by a difference.
fn notes(explanation: &Explanation, before: &Side, after: &Side) -> Vec<String> {
    let mut notes = Vec::new();
    let sides = [before, after];
    if before.scheme != after.scheme {
        notes.push(format!(
            "the hashes of the contexts cannot be compared: one is of the scheme {}, the other of {}",
            before.scheme, after.scheme
        ));
    }
    let forgotten = |side: &&Side| side.parent.as_ref().is_some_and(|parent| parent.hash.is_none());
    if let Some(side) = sides.iter().find(|side| forgotten(side) && explanation.parent.is_none()) {
        notes.push(format!(
            "the hash of the parent of {} is not known, so that the parents are not compared",
            side.label
        ));
    }
    if sides.iter().any(|side| side.hash.is_none()) {
        notes.push(
            "the hash in the index is not known, so that only contexts, arguments and parents are compared".to_owned(),
        );
    }
    if !explanation.same && explanation.is_empty() {
        notes.push(if before.context_hash == after.context_hash {
            "contexts, arguments and architectures are the same: what differs is not in the tasks' definitions, like packages of other tasks or `digest-extra`".to_owned()
        } else {
            "the files are the same, and were packed in another way: in another order, or with other times or owners".to_owned()
        });
    }
    notes
}

/// The entries that differ, by their names.
fn files(
    before: &BTreeMap<String, ContextEntry>,
    after: &BTreeMap<String, ContextEntry>,
    modes: bool,
) -> Vec<FileChange> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let compare = |name: &String| {
        let counts = |entry: &&ContextEntry| modes || entry.node != ContextNode::Directory;
        let (old, new) = (before.get(name).filter(counts), after.get(name).filter(counts));
        let change = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => FileChangeKind::Added,
            (Some(_), None) => FileChangeKind::Removed,
            (Some(old), Some(new)) if content(&old.node) != content(&new.node) => FileChangeKind::Changed,
            (Some(old), Some(new)) if modes && old.mode != new.mode => FileChangeKind::Mode,
            (Some(_), Some(_)) => return None,
        };
        let (before, after) = (old.map(FileFacts::from), new.map(FileFacts::from));
        Some(FileChange { name: name.clone(), change, before, after, from: None, diff: None, more: 0 })
    };
    names.into_iter().filter_map(compare).collect()
}

/// What is compared of an entry: not where it is in its tar.
fn content(node: &ContextNode) -> ContextNode {
    match node {
        ContextNode::File { digest, size, .. } => ContextNode::File { digest: *digest, size: *size, at: 0 },
        other => other.clone(),
    }
}

impl From<&ContextEntry> for FileFacts {
    fn from(ContextEntry { mode, node }: &ContextEntry) -> Self {
        let (kind, size, sha256, target) = match node {
            ContextNode::Directory => ("directory", None, None, None),
            ContextNode::Symlink(target) => ("link", None, None, Some(target.clone())),
            ContextNode::File { digest, size, .. } => ("file", Some(*size), Some(*digest), None),
        };
        Self { kind, mode: format!("{mode:03o}"), size, sha256, target }
    }
}

/// Adds the diffs of small texts.
fn add_diffs(files: &mut [FileChange], before: &ContextListing, after: &ContextListing) -> io::Result<()> {
    let changed = files.iter_mut().filter(|file| file.change == FileChangeKind::Changed);
    for file in changed.take(MOST_DIFFS) {
        let content = |listing: &ContextListing| match listing.entries().get(&file.name) {
            Some(entry) => listing.content(entry, text_diff::LARGEST),
            None => Ok(None),
        };
        let (Some(old), Some(new)) = (content(before)?, content(after)?) else { continue };
        if let Some(diff) = text_diff::diff(&old, &new) {
            (file.diff, file.more) = (Some(diff.lines), diff.more);
        }
    }
    Ok(())
}

fn arguments(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<ArgumentChange> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let hidden = |value: Option<&String>| value.map(|value| secrets::hide(value).into_owned());
    let change = |name: &String| {
        let (before, after) = (hidden(before.get(name)), hidden(after.get(name)));
        ArgumentChange { name: name.clone(), before, after }
    };
    differ.map(change).collect()
}

/// The difference of two parents; none where one of their hashes is not known.
fn parent(before: Option<&Parent>, after: Option<&Parent>) -> Option<ParentChange> {
    let differ = match (before, after) {
        (None, None) => false,
        (Some(old), Some(new)) => match (old.hash, new.hash) {
            (Some(old), Some(new)) => old != new,
            _ => false,
        },
        (Some(_), None) | (None, Some(_)) => true,
    };
    differ.then(|| ParentChange { before: before.cloned(), after: after.cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str, mode: u32, at: u64) -> ContextEntry {
        let node = ContextNode::File { digest: Digest::of(content.as_bytes()), size: content.len() as u64, at };
        ContextEntry { mode, node }
    }

    fn listed(entries: Vec<(&str, ContextEntry)>) -> BTreeMap<String, ContextEntry> {
        entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect()
    }

    #[test]
    fn files_differ_by_name_content_kind_and_mode() {
        let link = |target: &str| ContextEntry { mode: 0o777, node: ContextNode::Symlink(target.to_owned()) };
        let directory = |mode| ContextEntry { mode, node: ContextNode::Directory };
        let before = listed(vec![
            ("content", file("a", 0o644, 1)),
            ("directory", directory(0o755)),
            ("gone", file("a", 0o644, 2)),
            ("kind", file("a", 0o777, 3)),
            ("mode", file("a", 0o644, 4)),
            ("same", file("a", 0o644, 5)),
        ]);
        let after = listed(vec![
            ("content", file("b", 0o755, 0)),
            ("directory", directory(0o700)),
            ("kind", link("a")),
            ("mode", file("a", 0o755, 9)),
            ("new", file("", 0o644, 8)),
            ("same", file("a", 0o644, 7)),
        ]);
        let changes = |modes| -> Vec<(String, FileChangeKind)> {
            files(&before, &after, modes).into_iter().map(|file| (file.name, file.change)).collect()
        };
        let of =
            |list: &[(&str, FileChangeKind)]| list.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        let all: Vec<_> = of(&[
            ("content", FileChangeKind::Changed),
            ("directory", FileChangeKind::Mode),
            ("gone", FileChangeKind::Removed),
            ("kind", FileChangeKind::Changed),
            ("mode", FileChangeKind::Mode),
            ("new", FileChangeKind::Added),
        ]);
        assert_eq!(changes(true), all);
        let hashed: Vec<_> = all.into_iter().filter(|(name, _)| name != "directory" && name != "mode").collect();
        assert_eq!(changes(false), hashed, "the scheme `contents` has no modes");
        let facts = &files(&before, &after, true)[0];
        let mode = |facts: &Option<FileFacts>| facts.as_ref().unwrap().mode.clone();
        assert_eq!((mode(&facts.before), mode(&facts.after)), ("644".to_owned(), "755".to_owned()));
    }

    #[test]
    fn arguments_and_parents_differ_by_their_values() {
        let args = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let changes =
            arguments(&args(&[("A", "1"), ("B", "1"), ("C", "1")]), &args(&[("A", "1"), ("B", "2"), ("D", "1")]));
        let shown: Vec<_> =
            changes.iter().map(|it| (it.name.as_str(), it.before.as_deref(), it.after.as_deref())).collect();
        assert_eq!(shown, [("B", Some("1"), Some("2")), ("C", Some("1"), None), ("D", None, Some("1"))]);

        let of = |hash: Option<&str>| Parent {
            image: Some("base".parse().unwrap()),
            hash: hash.map(|text| ContextHash(Digest::of(text.as_bytes()))),
            task_id: None,
        };
        let differ = |before: Option<&Parent>, after: Option<&Parent>| parent(before, after).is_some();
        assert!(differ(Some(&of(Some("a"))), Some(&of(Some("b")))) && differ(None, Some(&of(None))));
        assert!(!differ(Some(&of(Some("a"))), Some(&of(Some("a")))) && !differ(Some(&of(None)), Some(&of(Some("a")))));
        assert!(!differ(None, None));
    }
}
