//! The parent's name in a `Dockerfile`: engines fill in only build arguments that an `ARG` line declares, and Dockerfiles
//! written for `image_builder` begin with `FROM $DOCKER_IMAGE_PARENT` without one. Which parent it is is for others.

use std::io::{self, Read, Seek};

use tar::{Archive, EntryType, Header};

use crate::names::PARENT_ARG;

/// A `Dockerfile` is text that people write.
const LARGEST_DOCKERFILE: u64 = 4 * 1024 * 1024;

/// How a context must change for its `Dockerfile` to see its parent.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    None,
    /// Not at all, and the `Dockerfile` does not look at its parent anyway.
    Unused,
    /// It has no `ARG` line.
    Replace(Replacement),
}

/// Bytes of a context that stand in the place of others: the `Dockerfile`'s, with the line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    /// Where they begin in the context.
    pub from: u64,
    /// Where the context goes on.
    pub to: u64,
    /// What stands there instead.
    pub bytes: Vec<u8>,
}

/// Looks at the `Dockerfile` of a context, a plain tar.
pub fn change(context: impl Read + Seek) -> io::Result<Change> {
    let mut archive = Archive::new(context);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let is_it = entry.path_bytes().as_ref() == b"Dockerfile" && entry.header().entry_type() == EntryType::Regular;
        if !is_it || entry.size() > LARGEST_DOCKERFILE {
            continue;
        }
        let (from, start) = (entry.raw_header_position(), entry.raw_file_position());
        let to = start + entry.size().next_multiple_of(512);
        let mut text = Vec::new();
        entry.read_to_end(&mut text)?;
        return Ok(match at(&text) {
            _ if !contains(&text, PARENT_ARG) => Change::Unused,
            None => Change::None,
            Some(at) => {
                text.splice(at..at, line());
                Change::Replace(Replacement { from, to, bytes: member(entry.header().clone(), text) })
            }
        });
    }
    // What the engine says of a Dockerfile that is none is better than what could be said here.
    Ok(Change::None)
}

/// The text of a `Dockerfile` as the engine sees it: with the line, where that is missing.
#[must_use]
pub fn declared(mut text: Vec<u8>) -> Vec<u8> {
    if contains(&text, PARENT_ARG)
        && let Some(at) = at(&text)
    {
        text.splice(at..at, line());
    }
    text
}

fn line() -> Vec<u8> {
    format!("ARG {PARENT_ARG}\n").into_bytes()
}

fn member(mut header: Header, content: Vec<u8>) -> Vec<u8> {
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Where the line belongs: before the first `FROM`, behind the directives that must be on top. Nowhere, if it is there.
fn at(text: &[u8]) -> Option<usize> {
    let mut start = 0;
    let mut continued = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let words = String::from_utf8_lossy(line);
        let words = words.trim_start_matches('\u{feff}').trim();
        let (instruction, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        if !continued && instruction.eq_ignore_ascii_case("FROM") {
            // Behind the mark that some editors put at the beginning of a file.
            return Some(start + if line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 });
        }
        if !words.starts_with('#') {
            let declared = if continued { words } else { rest };
            let names = |word: &str| word.split('=').next() == Some(PARENT_ARG);
            if (continued || instruction.eq_ignore_ascii_case("ARG")) && declared.split_whitespace().any(names) {
                return None;
            }
            // With `# escape`, the other character.
            continued = words.ends_with(['\\', '`']);
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tar::Builder;

    use super::*;

    /// A `Dockerfile` with the line where it belongs; none, if it has it.
    fn with_line(text: &str) -> Option<String> {
        at(text.as_bytes()).map(|at| format!("{}ARG!\n{}", &text[..at], &text[at..]))
    }

    #[test]
    fn the_line_is_put_before_the_first_from_and_only_where_it_is_missing() {
        for (text, expected) in [
            ("FROM $DOCKER_IMAGE_PARENT\n", "ARG!\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("# syntax=x\n\n  from a\nFROM b\n", "# syntax=x\n\nARG!\n  from a\nFROM b\n"),
            ("ARG OTHER=1 \\\n  MORE\r\nFROM a", "ARG OTHER=1 \\\n  MORE\r\nARG!\nFROM a"),
            ("\u{feff}FROM a\n", "\u{feff}ARG!\nFROM a\n"),
            ("# ARG DOCKER_IMAGE_PARENT\nFROM a\n", "# ARG DOCKER_IMAGE_PARENT\nARG!\nFROM a\n"),
            ("ARG DOCKER_IMAGE_PARENTS\nFROM a\n", "ARG DOCKER_IMAGE_PARENTS\nARG!\nFROM a\n"),
            // Of the stage, not of its FROM.
            ("FROM $X\nARG DOCKER_IMAGE_PARENT\n", "ARG!\nFROM $X\nARG DOCKER_IMAGE_PARENT\n"),
        ] {
            assert_eq!(with_line(text).as_deref(), Some(expected), "{text:?}");
        }
        for text in [
            "ARG DOCKER_IMAGE_PARENT\nFROM a\n",
            "arg DOCKER_IMAGE_PARENT=base:1\nFROM a\n",
            "ARG OTHER \\\n# comment\n  DOCKER_IMAGE_PARENT\nFROM a\n",
            "no from\n",
        ] {
            assert_eq!(with_line(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_context_changes_in_its_dockerfile_only() {
        let context = |dockerfile: &str| {
            let mut tar = Builder::new(Vec::new());
            for (name, data) in [("A", "a"), ("Dockerfile", dockerfile), ("sub/Dockerfile", "FROM $X"), ("z", "z")] {
                let mut header = Header::new_gnu();
                header.set_size(data.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, name, data.as_bytes()).unwrap();
            }
            tar.into_inner().unwrap()
        };
        // So that the line makes it longer by a block.
        let long = format!("FROM $DOCKER_IMAGE_PARENT\n# {}\n", "x".repeat(480));
        for text in ["FROM ${DOCKER_IMAGE_PARENT}\n", &long] {
            let before = context(text);
            let Change::Replace(Replacement { from, to, bytes }) = change(Cursor::new(&before)).unwrap() else {
                panic!("no change of {text}")
            };
            let parts = |at: u64| before.split_at(usize::try_from(at).unwrap());
            let after = [parts(from).0, &bytes, parts(to).1].concat();
            let expected = format!("ARG DOCKER_IMAGE_PARENT\n{text}");
            assert_eq!(after, context(&expected));
            assert_eq!(declared(text.as_bytes().to_vec()), expected.as_bytes());
            assert_eq!(change(Cursor::new(&after)).unwrap(), Change::None);
        }
        assert_eq!(change(Cursor::new(context("FROM debian:12\n"))).unwrap(), Change::Unused);
        assert_eq!(change(Cursor::new(Vec::new())).unwrap(), Change::None);
    }
}
