//! The context reader under fuzz: whatever comes, it answers; and what it takes is a safe tree with the hash that it
//! reported, as readers compute it that are not its own.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use image_worker::context::intake::{Expectation, IntakeError, Limits, Received, receive};
use image_worker::context::{ContextHash, ContextScheme};
use image_worker::net::Digest;
use image_worker::report;
use tar::EntryType;

use super::input::Input;
use super::tars::{self, ListedMember, Words};

const WORDS: Words = Words {
    names: &[
        b"Dockerfile",
        b"a",
        b"a/",
        b"a/b",
        b"a/b/c",
        b"b",
        b"b/",
        b"./",
        b"./a",
        b"./b/x",
        b"img/",
        b"img",
        b"img/Dockerfile",
        b"img/a",
        b"img/img/b",
        b"../a",
        b"../Dockerfile",
        b"\xc3\xbc/\xf0\x9f\xa6\x80",
        b".dockerignore",
        b"Dockerfile/x",
        b"./Dockerfile",
        b"b/../a",
        b"13",
        b"l",
        b"l/m",
    ],
    contents: &[b"", b"FROM scratch\n", b"x", b"\0\0\0\0"],
};

/// Small, so that both sides of each limit are near.
const LIMITS: Limits = Limits { max_bytes: 256 * 1024, max_entries: 24, max_name_bytes: 12_000 };

pub(super) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let scheme = if input.flag() { ContextScheme::Contents } else { ContextScheme::Tar };
    let compression = input.below(8);
    let tar = match input.below(8) {
        0 => input.rest().to_vec(),
        1 => tars::repair(input.rest().to_vec()),
        2 => tars::script(Vec::new(), &mut input, &WORDS),
        _ => {
            let mut tar = Vec::new();
            let top = if scheme == ContextScheme::Contents && input.flag() { "img/" } else { "" };
            tars::file(&mut tar, &format!("{top}Dockerfile"), b"FROM scratch\n");
            tars::script(tar, &mut input, &WORDS)
        }
    };
    let source = match compression {
        0..=4 => tar.clone(),
        5 => tars::gzip(&tar),
        6 => [tars::gzip(&tar[..tar.len() / 2]), tars::gzip(&tar[tar.len() / 2..])].concat(),
        _ => {
            let mut packed = tars::gzip(&tar);
            let at = data.len() % packed.len();
            packed[at] ^= data.last().copied().unwrap_or(1);
            packed
        }
    };
    match take(&source, "img", scheme, None) {
        Ok((received, out)) => accepted(&source, &received, &out),
        Err(error) => assert_message(&error),
    }
}

fn take(
    source: &[u8],
    image: &str,
    scheme: ContextScheme,
    hash: Option<ContextHash>,
) -> Result<(Received, Vec<u8>), IntakeError> {
    let directory = (scheme == ContextScheme::Contents).then(|| "testing/docker/img".parse().unwrap());
    let expect = Expectation { scheme, hash, directory, image: image.parse().unwrap(), encoded: false };
    let mut out = Vec::new();
    receive(source, &expect, &LIMITS, &mut out).map(|received| (received, out))
}

/// Asserts that an error's text stands in one line of a log, whatever the context's names hold; so do its causes, once reported.
fn assert_message(error: &IntakeError) {
    let own = error.to_string();
    assert!(own.chars().count() < 1000 && !own.chars().any(char::is_control), "an unsafe message: {own:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = report::error_line(&error.to_string());
        assert!(!line.chars().any(char::is_control), "an unsafe line: {line:?}");
        cause = error.source();
    }
}

fn accepted(source: &[u8], received: &Received, out: &[u8]) {
    let entries = tars::list(out).expect("what was taken can be read");
    let tree = tree(&entries);
    assert_eq!(received.compressed, source.len() as u64);
    assert_eq!(received.files, tree.values().filter(|node| matches!(node, Node::File(_))).count() as u64);
    assert!(entries.len() as u64 <= LIMITS.max_entries && received.bytes <= LIMITS.max_bytes);
    let hash = match received.scheme {
        ContextScheme::Tar | ContextScheme::Gz => {
            assert_eq!(received.bytes, out.len() as u64);
            ContextHash(Digest::of(out))
        }
        ContextScheme::Contents => contents_hash(&tree),
    };
    assert_eq!(received.hash, hash, "the hash is the one that others compute");

    // Once more, with the hash as a promise: the same. Under a name that is no top directory, so nothing is stripped.
    let again = take(out, &"z".repeat(128), received.scheme, Some(hash)).expect("what went out is taken again");
    assert_eq!((again.0.hash, again.1.as_slice()), (hash, out));
    let promised = take(source, "img", received.scheme, Some(hash)).expect("the promise was kept");
    assert_eq!((&promised.0, promised.1.as_slice()), (received, out));
    let other = ContextHash(Digest::of(b"something else"));
    let error = take(source, "img", received.scheme, Some(other)).expect_err("another promise was not");
    assert!(matches!(error, IntakeError::Mismatch { actual, .. } if actual == hash), "{error}");
}

enum Node {
    Directory,
    File(Digest),
    Symlink(String),
}

/// The tree that the entries unpack to; asserts that unpacking them is safe, and that no entry hides another.
fn tree(entries: &[ListedMember]) -> BTreeMap<String, Node> {
    let mut tree = BTreeMap::new();
    let mut parents = BTreeSet::new();
    for entry in entries {
        let raw = std::str::from_utf8(&entry.name).expect("a name in UTF-8");
        assert!(!raw.starts_with('/') && !raw.chars().any(char::is_control), "an unsafe name: {raw:?}");
        let parts: Vec<_> = raw.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        assert!(!parts.contains(&".."), "a name that climbs: {raw:?}");
        assert_eq!(entry.mode & 0o6000, 0, "setuid or setgid: {raw:?}");
        let name = parts.join("/");
        let node = match entry.kind {
            EntryType::Directory => Node::Directory,
            EntryType::Regular => Node::File(Digest::of(&entry.content)),
            EntryType::Symlink => Node::Symlink(inside(&parts, &entry.link)),
            EntryType::Link => match tree.get(clean(&entry.link)) {
                Some(Node::File(digest)) => Node::File(*digest),
                _ => panic!("{raw:?} is a hard link to {:?}", String::from_utf8_lossy(&entry.link)),
            },
            other => panic!("{raw:?} is a {other:?}"),
        };
        for depth in 1..parts.len() {
            let parent = parts[..depth].join("/");
            assert!(!matches!(tree.get(&parent), Some(Node::File(_) | Node::Symlink(_))), "{raw:?} is below a file");
            parents.insert(parent);
        }
        assert!(matches!(node, Node::Directory) || !parents.contains(&name), "{raw:?} is above others");
        assert!(tree.insert(name, node).is_none(), "{raw:?} comes twice");
    }
    let dockerfile = entries.iter().find(|entry| clean(&entry.name) == "Dockerfile");
    assert!(dockerfile.is_some_and(|entry| entry.kind == EntryType::Regular), "no regular Dockerfile at the top");
    for parent in parents {
        tree.entry(parent).or_insert(Node::Directory);
    }
    tree
}

fn clean(name: &[u8]) -> &str {
    let name = std::str::from_utf8(name).expect("a name in UTF-8");
    name.strip_prefix("./").unwrap_or(name)
}

/// The end of a link from `parts` by the letter, which must not leave the tree on its way.
fn inside(parts: &[&str], link: &[u8]) -> String {
    let link = std::str::from_utf8(link).expect("a target in UTF-8");
    assert!(!link.is_empty() && !link.starts_with('/') && !link.chars().any(char::is_control), "a target {link:?}");
    resolve(&parts[..parts.len() - 1], link).unwrap_or_else(|| panic!("{parts:?} leads out, by {link:?}"))
}

fn resolve(directory: &[&str], link: &str) -> Option<String> {
    let mut at = directory.to_vec();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(at.pop()?),
            part => at.push(part),
        }
    }
    Some(at.join("/"))
}

/// The hash of 2015, by its documentation: lines of files and of links to files, sorted by path.
fn contents_hash(tree: &BTreeMap<String, Node>) -> ContextHash {
    let mut lines = Vec::new();
    for (name, node) in tree {
        let mut end = node;
        for _ in 0..=tree.len() {
            let Node::Symlink(target) = end else { break };
            end = if target.is_empty() { &Node::Directory } else { tree.get(target).expect("a link that ends") };
        }
        match end {
            Node::File(digest) => lines.push(format!("{digest}\t/testing/docker/img/{name}\n")),
            Node::Directory => {}
            Node::Symlink(_) => panic!("{name:?} is a link without an end"),
        }
    }
    ContextHash(Digest::of(lines.concat().as_bytes()))
}
