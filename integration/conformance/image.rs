//! An image as one listing: what a container would find in its file system, and what it would be started with. Times
//! are not in it, nor in how many layers the files came; an own reader, so that it cannot share the program's mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

/// `/path` → what is there, and `Env` and the like → JSON.
pub(super) type Listing = BTreeMap<String, String>;

/// The keys of a configuration that containers are started with; labels are a subject each.
const CONFIGURED: [&str; 11] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// The keys beside it: what it runs on, and who made it.
const BESIDE: [(&str, &str); 4] =
    [("architecture", "Architecture"), ("author", "Author"), ("os", "Os"), ("variant", "Variant")];

/// What is at a path.
#[derive(Clone)]
struct Node {
    /// Kind, mode, owner.
    facts: String,
    /// Content, target, device.
    content: String,
    attributes: BTreeMap<String, String>,
    /// The same for all names of a file with several.
    file: usize,
}

/// Reads an archive in Docker's form.
pub(super) fn listing(archive: &[u8]) -> Listing {
    let mut members = BTreeMap::new();
    for entry in Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        members.insert(entry.path().unwrap().to_str().unwrap().to_owned(), bytes);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    let member = |value: &Value| &members[value.as_str().unwrap()];
    let mut listing = configured(&serde_json::from_slice(member(&manifest[0]["Config"])).unwrap());
    let mut tree = BTreeMap::new();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        put_on(&mut tree, member(layer));
    }
    let mut names: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for (path, node) in &tree {
        names.entry(node.file).or_default().insert(path);
    }
    for (path, node) in &tree {
        let mut facts = format!("{}{}", node.facts, node.content);
        for (name, value) in &node.attributes {
            let _ = write!(facts, " {name}={value}");
        }
        for other in names[&node.file].iter().filter(|other| *other != path) {
            let _ = write!(facts, " = {other}");
        }
        listing.insert(path.clone(), facts);
    }
    listing
}

/// No value, an empty one and `null` mean the same.
fn configured(config: &Value) -> Listing {
    let inner = CONFIGURED.iter().map(|key| (*key, &config["config"][*key]));
    let all = inner.chain(BESIDE.iter().map(|(key, name)| (*name, &config[*key])));
    let set = all.filter(|(_, value)| !matches!(value.to_string().as_str(), "null" | "{}" | "[]" | "\"\""));
    let labels = config["config"]["Labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (format!("Label {key}"), value.to_string()));
    set.map(|(key, value)| (key.to_owned(), sorted(value).to_string())).chain(labels).collect()
}

/// The same value with the keys of its objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(pairs) => {
            let pairs: BTreeMap<_, _> = pairs.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            Value::Object(pairs.into_iter().collect())
        }
        other => other.clone(),
    }
}

/// Puts a layer on what is below it: first what it takes away from there, then what it brings.
fn put_on(tree: &mut BTreeMap<String, Node>, layer: &[u8]) {
    let mut brought: Vec<(String, Node)> = Vec::new();
    let mut files = tree.values().map(|node| node.file).max().map_or(0, |last| last + 1);
    for entry in Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = path_of(&entry.path_bytes());
        let (directory, name) = path.rsplit_once('/').unwrap();
        if name == ".wh..wh..opq" {
            empty(tree, directory);
            continue;
        }
        if let Some(gone) = name.strip_prefix(".wh.") {
            remove(tree, &format!("{directory}/{gone}"));
            continue;
        }
        let header = entry.header();
        let kind = header.entry_type();
        if kind == EntryType::Link {
            let target = path_of(&entry.link_name_bytes().unwrap());
            let same = brought.iter().rev().find(|(other, _)| *other == target).map(|(_, node)| node);
            let node = same.or_else(|| tree.get(&target)).unwrap_or_else(|| panic!("{path} links to no file")).clone();
            brought.push((path, node));
            continue;
        }
        let word = match kind {
            EntryType::Regular => "file",
            EntryType::Directory => "dir",
            EntryType::Symlink => "symlink",
            EntryType::Fifo => "fifo",
            EntryType::Char => "char",
            EntryType::Block => "block",
            other => panic!("{path} is of the kind {other:?}"),
        };
        let (mode, uid, gid) = (header.mode().unwrap() & 0o7777, header.uid().unwrap(), header.gid().unwrap());
        let facts = format!("{word} {mode:04o} {uid}:{gid}");
        let device = (header.device_major().ok().flatten(), header.device_minor().ok().flatten());
        let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        let attributes = attributes(&mut entry);
        let content = match (kind, device) {
            (EntryType::Regular, _) => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                content(&bytes)
            }
            (EntryType::Symlink, _) => format!(" -> {}", target.unwrap()),
            (EntryType::Char | EntryType::Block, (Some(major), Some(minor))) => format!(" {major}:{minor}"),
            _ => String::new(),
        };
        files += 1;
        brought.push((path, Node { facts, content, attributes, file: files }));
    }
    for (path, node) in brought {
        if !node.facts.starts_with("dir") {
            remove(tree, &path);
        }
        tree.insert(path, node);
    }
    tree.remove("/");
}

fn remove(tree: &mut BTreeMap<String, Node>, path: &str) {
    if tree.remove(path).is_some_and(|node| node.facts.starts_with("dir")) {
        empty(tree, path);
    }
}

fn empty(tree: &mut BTreeMap<String, Node>, directory: &str) {
    let below = format!("{directory}/");
    tree.retain(|path, _| !path.starts_with(&below));
}

fn path_of(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    format!("/{}", name.trim_start_matches("./").trim_matches('/'))
}

fn attributes(entry: &mut tar::Entry<'_, &[u8]>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
            found.insert(name.to_owned(), hexadecimal(extension.value_bytes()));
        }
    }
    found
}

/// What is in a file, where it is short, else its size and the beginning of its hash.
fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 40 => format!(" {text:?}"),
        _ => {
            let hash = hexadecimal(&Sha256::digest(bytes)[..8]);
            format!(" {} bytes, sha256 {hash}", bytes.len())
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
