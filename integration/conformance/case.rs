//! A case: a `Dockerfile` with its context, what must come out, and what it is about, on one page of text each in
//! `integration/conformance/dockerfiles/`. Reading the page and packing the context; building it is for others.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// The latest time of an entry, that of taskgraph's contexts.
pub(super) const MTIME: u64 = 1_451_606_400;

/// A user that no engine has, so that it shows where an engine keeps a context's owners and where it does not.
const OWNER: u64 = 1000;

/// A page of `integration/conformance/dockerfiles/`.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) about: String,
    /// `DOCKER_BUILD_ARGS`.
    pub(super) args: Option<String>,
    /// Whether it must not build.
    pub(super) fails: bool,
    /// How it must end.
    pub(super) exit_code: u8,
    /// What must be in the listing of the image, and what must not be.
    pub(super) expected: Vec<String>,
    pub(super) dockerfile: String,
    members: Vec<Member>,
}

/// An entry of the context.
struct Member {
    name: String,
    mode: u32,
    mtime: u64,
    content: Content,
}

enum Content {
    File(Vec<u8>),
    /// With an extended attribute: the name, and the value in hexadecimal digits.
    Attributed(Vec<u8>, String),
    Directory,
    Symlink(String),
    Hardlink(String),
    Fifo,
    /// A tar of the entries below a directory, which are in no other place.
    Pack {
        of: String,
        gzip: bool,
    },
}

impl Case {
    /// All pages, by name.
    pub(super) fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/conformance/dockerfiles");
        let mut cases: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                Self::read(&name, &std::fs::read_to_string(&path).unwrap())
            })
            .collect();
        cases.sort_by(|one, other| one.name.cmp(&other.name));
        cases
    }

    /// The page's head, `KEY` or `KEY: VALUE` in each line after the first, and then the entries, each below a line
    /// `-- NAME --`; docs/conformance.md has the format.
    fn read(name: &str, text: &str) -> Self {
        let mut lines = text.split_inclusive('\n');
        let about = lines.next().unwrap_or_default().trim().to_owned();
        let mut case = Self {
            name: name.to_owned(),
            about,
            args: None,
            fails: false,
            exit_code: 0,
            expected: Vec::new(),
            dockerfile: String::new(),
            members: Vec::new(),
        };
        let (mut crlf, mut with_busybox) = (false, false);
        for line in lines {
            if let Some(title) = line.strip_prefix("-- ").and_then(|rest| rest.trim_end().strip_suffix(" --")) {
                case.members.push(Member::titled(title));
            } else if let Some(member) = case.members.last_mut() {
                match &mut member.content {
                    Content::File(text) | Content::Attributed(text, _) => text.extend(line.as_bytes()),
                    _ => panic!("{name}: {} is no file and has no text", member.name),
                }
            } else {
                let (key, value) = line.trim_end().split_once(": ").unwrap_or((line.trim_end(), ""));
                match key {
                    "with" if value == "busybox" => with_busybox = true,
                    "args" => case.args = Some(value.to_owned()),
                    "fails" => (case.fails, case.exit_code) = (true, 20),
                    // Not the Dockerfile's fault.
                    "fails with 30" => (case.fails, case.exit_code) = (true, 30),
                    "crlf" => crlf = true,
                    "expect" => case.expected.push(value.to_owned()),
                    _ => panic!("{name}: cannot understand the line {line:?}"),
                }
            }
        }
        if with_busybox {
            case.members.extend(busybox());
        }
        // A time of its own for each case, so that no two share a layer: Podman fails when another build's images, and a
        // layer of them that it has just found to be the same, are removed meanwhile.
        let time = MTIME - name.bytes().fold(0, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000_000);
        case.set_time(time);
        let dockerfile = case.members.iter_mut().find(|member| member.name == "Dockerfile").expect("a Dockerfile");
        let Content::File(text) = &mut dockerfile.content else { panic!("{name}: the Dockerfile is a file") };
        case.dockerfile = String::from_utf8(text.clone()).unwrap();
        if crlf {
            *text = case.dockerfile.replace('\n', "\r\n").into_bytes();
        }
        assert!(case.fails == case.expected.is_empty(), "{name}: either it fails, or it lists what comes out");
        case
    }

    /// Gives all entries this time, in seconds since 1970.
    pub(super) fn set_time(&mut self, time: u64) {
        self.members.iter_mut().for_each(|member| member.mtime = time);
    }

    /// The context, a plain tar.
    pub(super) fn context(&self) -> Vec<u8> {
        let packs: BTreeMap<_, _> = self
            .members
            .iter()
            .filter_map(|member| match &member.content {
                Content::Pack { of, gzip } => Some((member.name.as_str(), (format!("{of}/"), *gzip))),
                _ => None,
            })
            .collect();
        let mut context = Builder::new(Vec::new());
        let mut parents = Vec::new();
        for member in &self.members {
            if packs.values().any(|(directory, _)| member.name.starts_with(directory)) {
                continue;
            }
            if let Some((directory, gzip)) = packs.get(member.name.as_str()) {
                let packed = self.pack(directory, *gzip);
                append(&mut context, &member.name, EntryType::Regular, (member.mode, member.mtime), &packed);
                continue;
            }
            for (slash, _) in member.name.trim_end_matches('/').match_indices('/') {
                let parent = &member.name[..=slash];
                let is_listed = self.members.iter().any(|other| other.name == parent);
                if !is_listed && !parents.contains(&parent) {
                    append(&mut context, parent, EntryType::Directory, (0o755, member.mtime), &[]);
                    parents.push(parent);
                }
            }
            member.append_to(&mut context, &member.name);
        }
        context.into_inner().unwrap()
    }

    fn pack(&self, directory: &str, gzip: bool) -> Vec<u8> {
        let mut pack = Builder::new(Vec::new());
        for member in &self.members {
            if let Some(name) = member.name.strip_prefix(directory) {
                member.append_to(&mut pack, name);
            }
        }
        let pack = pack.into_inner().unwrap();
        if !gzip {
            return pack;
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&pack).unwrap();
        packed.finish().unwrap()
    }
}

impl Member {
    /// Reads `NAME`, `NAME MODE`, `NAME MODE XATTR=HEX`, `DIRECTORY/ MODE`, `NAME -> TARGET`, `NAME = TARGET`,
    /// `FIFO|`, or `NAME.tar < DIRECTORY`.
    fn titled(title: &str) -> Self {
        let of = |name: &str, mode, content| Self { name: name.to_owned(), mode, mtime: MTIME, content };
        if let Some((name, target)) = title.split_once(" -> ") {
            return of(name, 0o777, Content::Symlink(target.to_owned()));
        }
        if let Some((name, target)) = title.split_once(" = ") {
            return of(name, 0o644, Content::Hardlink(target.to_owned()));
        }
        if let Some((name, directory)) = title.split_once(" < ") {
            let (of_directory, packed) = directory.split_once(' ').unwrap_or((directory, ""));
            let gzip = packed == "gz" || Path::new(name).extension().is_some_and(|it| it == "gz");
            return of(name, 0o644, Content::Pack { of: of_directory.to_owned(), gzip });
        }
        let (title, attribute) = match title.rsplit_once(' ') {
            Some((rest, word)) if word.contains('=') => (rest, Some(word)),
            _ => (title, None),
        };
        let (name, mode) = match title.rsplit_once(' ') {
            Some((name, digits)) if digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                (name, Some(u32::from_str_radix(digits, 8).unwrap()))
            }
            _ => (title, None),
        };
        if let Some(name) = name.strip_suffix('|') {
            return of(name, mode.unwrap_or(0o644), Content::Fifo);
        }
        if name.ends_with('/') {
            return of(name, mode.unwrap_or(0o755), Content::Directory);
        }
        let content = match attribute {
            Some(attribute) => Content::Attributed(Vec::new(), attribute.to_owned()),
            None => Content::File(Vec::new()),
        };
        of(name, mode.unwrap_or(0o644), content)
    }

    fn append_to(&self, tar: &mut Builder<Vec<u8>>, name: &str) {
        match &self.content {
            Content::File(text) => append(tar, name, EntryType::Regular, (self.mode, self.mtime), text),
            Content::Attributed(text, attribute) => {
                let (key, hex) = attribute.split_once('=').unwrap();
                let value: Vec<_> =
                    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
                let key = format!("SCHILY.xattr.{key}");
                tar.append_pax_extensions([(key.as_str(), value.as_slice())]).unwrap();
                append(tar, name, EntryType::Regular, (self.mode, self.mtime), text);
            }
            Content::Directory => append(tar, name, EntryType::Directory, (self.mode, self.mtime), &[]),
            Content::Fifo => append(tar, name, EntryType::Fifo, (self.mode, self.mtime), &[]),
            Content::Symlink(target) => {
                let mut header = header(EntryType::Symlink, self.mode, self.mtime, 0);
                tar.append_link(&mut header, name, target).unwrap();
            }
            Content::Hardlink(target) => {
                // Inside a pack names begin at its directory.
                let prefix = self.name.strip_suffix(name).unwrap_or_default();
                let mut header = header(EntryType::Link, self.mode, self.mtime, 0);
                tar.append_link(&mut header, name, target.strip_prefix(prefix).unwrap_or(target)).unwrap();
            }
            Content::Pack { .. } => panic!("{}: a pack in a pack", self.name),
        }
    }
}

fn header(kind: EntryType, mode: u32, mtime: u64, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(mtime);
    header.set_uid(OWNER);
    header.set_gid(OWNER);
    header
}

fn append(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, (mode, mtime): (u32, u64), content: &[u8]) {
    tar.append_data(&mut header(kind, mode, mtime, content.len()), name, content).unwrap();
}

/// A shell and its tools, for images that have no base: Debian's busybox is static.
fn busybox() -> [Member; 2] {
    let program = std::fs::read("/bin/busybox").expect("busybox-static; run scripts/test");
    [
        Member { name: "bin/busybox".to_owned(), mode: 0o755, mtime: MTIME, content: Content::File(program) },
        Member {
            name: "bin/sh".to_owned(),
            mode: 0o777,
            mtime: MTIME,
            content: Content::Symlink("busybox".to_owned()),
        },
    ]
}
