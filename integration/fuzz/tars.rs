//! Tars made by a fuzz input: entries in all formats, right and wrong, and an independent look at what came out.
//! What the program must do with them is for the targets.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use super::input::Input;

/// So many entries reach every branch, and an input stays small enough for thousands of runs in a second.
const MOST_ENTRIES: usize = 40;

const KINDS: &[u8] = b"0000055512125\x003467SLKxgDVMA";
const KEYS: [&str; 14] = [
    "path",
    "linkpath",
    "size",
    "mtime",
    "uid",
    "comment",
    "path",
    "SCHILY.xattr.user.a",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "hdrcharset",
    "uname",
    "",
    "LIBARCHIVE.x",
];

/// What a script may name: the first names are what the target knows.
pub(super) struct Words<'a> {
    pub(super) names: &'a [&'a [u8]],
    pub(super) contents: &'a [&'a [u8]],
}

impl Words<'_> {
    fn name(&self, input: &mut Input) -> Vec<u8> {
        const UNUSUAL: [&[u8]; 14] = [
            b"",
            b"/",
            b".",
            b"./",
            b"..",
            b"../x",
            b"/etc/passwd",
            b"a//b",
            b"a/../b",
            b"a\nb",
            b"\xff",
            b"a\0b",
            b"./././a",
            b"a\x1b[2Kb",
        ];
        match input.byte() {
            at @ 0..=179 => self.names[usize::from(at) % self.names.len()].to_vec(),
            at @ 180..=209 => UNUSUAL[usize::from(at) % UNUSUAL.len()].to_vec(),
            210..=219 => vec![b'n'; input.below(5000)],
            220..=224 => b"d/".repeat(input.below(200)),
            _ => input.bytes().to_vec(),
        }
    }

    fn content(&self, input: &mut Input) -> Vec<u8> {
        match input.byte() {
            at @ 0..=199 => self.contents[usize::from(at) % self.contents.len()].to_vec(),
            200..=219 => vec![input.byte(); input.below(3000)],
            _ => input.bytes().to_vec(),
        }
    }
}

/// A tar as the rest of the input describes it.
pub(super) fn script(mut tar: Vec<u8>, input: &mut Input, words: &Words) -> Vec<u8> {
    let mut last = 0..tar.len();
    for _ in 0..MOST_ENTRIES {
        if input.is_empty() {
            break;
        }
        let begin = tar.len();
        match input.byte() {
            0..=149 => {
                let kind = EntryType::new(input.pick(KINDS));
                ordinary(&mut tar, kind, input, words);
            }
            150..=179 => extension(&mut tar, if input.flag() { b'x' } else { b'g' }, &records(input, words)),
            180..=199 => {
                let kind = if input.flag() { b'L' } else { b'K' };
                let mut name = words.name(input);
                if input.flag() {
                    name.push(0);
                }
                extension(&mut tar, kind, &name);
            }
            200..=209 => tar.extend_from_within(last.start.min(tar.len())..last.end.min(tar.len())),
            210..=224 => {
                // A header that is right in its checksum and wrong somewhere else.
                let at = last.start;
                if tar.len() >= at + 512 {
                    tar[at + input.below(512)] = input.byte();
                    checksum(&mut tar[at..at + 512]);
                }
                continue;
            }
            225..=234 => {
                let at = input.below(tar.len().max(1));
                if let Some(byte) = tar.get_mut(at) {
                    *byte ^= input.byte();
                }
                continue;
            }
            235..=239 => {
                tar.truncate(tar.len().saturating_sub(input.below(1024)));
                continue;
            }
            240..=244 => tar.extend_from_slice(&[0; 512]),
            _ => {
                tar.extend_from_slice(input.bytes());
                tar.resize(tar.len().next_multiple_of(512), 0);
            }
        }
        last = begin.min(tar.len())..tar.len();
    }
    tar.extend_from_slice(&[0; 1024]);
    tar
}

fn ordinary(tar: &mut Vec<u8>, kind: EntryType, input: &mut Input, words: &Words) {
    let mut header = if input.byte() < 200 { Header::new_gnu() } else { Header::new_ustar() };
    let (name, link) =
        (words.name(input), if kind.is_file() || kind.is_dir() { Vec::new() } else { words.name(input) });
    let content = if kind.is_file() || input.byte() > 240 { words.content(input) } else { Vec::new() };
    header.set_mode(match input.byte() {
        0..=199 => {
            if kind.is_dir() {
                0o755
            } else {
                0o644
            }
        }
        other => u32::from(other) << 4 | u32::from(input.byte()),
    });
    put(tar, header, kind, &name, &link, &content);
}

/// One entry; names that are too long are cut.
pub(super) fn put(tar: &mut Vec<u8>, mut header: Header, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    for number in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        number(&mut header, 0);
    }
    let fill = |field: &mut [u8], text: &[u8]| {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text[..length]);
    };
    fill(&mut header.as_old_mut().name, name);
    fill(&mut header.as_old_mut().linkname, link);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// A plain file.
pub(super) fn file(tar: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    put(tar, header, EntryType::Regular, name.as_bytes(), b"", content);
}

fn extension(tar: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let mut header = if kind == b'L' || kind == b'K' { Header::new_gnu() } else { Header::new_ustar() };
    header.set_mode(0o644);
    put(tar, header, EntryType::new(kind), b"././@LongLink", b"", content);
}

fn records(input: &mut Input, words: &Words) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..=input.below(3) {
        let key = input.pick(&KEYS);
        let value = words.name(input);
        let body = key.len() + value.len() + 3;
        let length = body + (body + body.to_string().len()).to_string().len();
        // Now and then one byte more or less than there is.
        let wrong = match input.byte() {
            250.. => 1,
            _ => 0,
        };
        text.extend_from_slice(format!("{} {key}=", length + wrong).as_bytes());
        text.extend_from_slice(&value);
        text.push(b'\n');
    }
    text
}

/// Writes the checksum of a header into it.
fn checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let checksum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
}

/// Gives every header of a tar its right checksum, as far as the sizes lead: what a mutation of bytes would not find.
pub(super) fn repair(mut tar: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        let mut size = 0;
        if block.iter().any(|byte| *byte != 0) {
            checksum(block);
            size = Header::from_byte_slice(block).entry_size().unwrap_or(0).min(1 << 40);
        }
        at += 512 + usize::try_from(size.next_multiple_of(512)).unwrap_or(0);
    }
    tar
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One entry as the tar crate's own reader sees it.
pub(super) struct ListedMember {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) content: Vec<u8>,
}

/// All entries, long names and PAX records resolved.
pub(super) fn list(tar: &[u8]) -> io::Result<Vec<ListedMember>> {
    let mut members = Vec::new();
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        members.push(ListedMember {
            name: entry.path_bytes().into_owned(),
            kind: entry.header().entry_type(),
            link: entry.link_name_bytes().unwrap_or_default().into_owned(),
            // Nothing at all is zero to every reader; anything else must be a number.
            mode: match entry.header().mode() {
                Err(error) if entry.header().as_old().mode != [0; 8] => return Err(error),
                mode => mode.unwrap_or(0),
            },
            content,
        });
    }
    Ok(members)
}

/// A tar of these entries, by the tar crate's own writer, in the format that it likes.
pub(super) fn long(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    let mut tar = builder.into_inner().unwrap();
    tar.truncate(tar.len() - 1024);
    tar
}
