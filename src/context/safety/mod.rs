//! Checks the names and link targets of a context's entries: plain names, links that stay inside, no duplicates. The module
//! `intake` reads the entries.

mod tree;

use std::borrow::Cow;

use crate::context::tar_format::plain;
use crate::report::{Hint, shortened};
pub use tree::{DeadLink, Node, Tree};

/// The maximum length of a path on Linux (`PATH_MAX`); longer names could not be extracted.
pub const MAX_NAME: usize = 4096;
/// The maximum length of one part of a path in file systems (`NAME_MAX`).
const MAX_PART: usize = 255;
/// The maximum depth: every directory above an entry is looked up, which takes time. Real trees stay below 20.
const MAX_DEPTH: usize = 128;

/// What is wrong with an entry of a context, and a hint. The message follows the name of the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeEntry {
    /// An empty name or link target.
    #[error("has an empty name or link target{}", Hint("make the context again"))]
    Empty,
    /// Bytes that are not UTF-8, which Docker and Python display as different names.
    #[error("has a name or link target that is not UTF-8{}", Hint("rename the file"))]
    NotUtf8,
    /// A newline, NUL or other control character, which would forge lines in logs and in the `contents` hash.
    #[error("has a control character, like a newline, in its name or link target{}", Hint("rename the file"))]
    ControlCharacter,
    /// Longer than file systems allow.
    #[error("has a name or link target of more than {MAX_NAME} bytes, or {MAX_PART} in one part{}", Hint("shorten it"))]
    TooLong,
    /// Below more directories than any real tree has.
    #[error("lies below more than {MAX_DEPTH} directories{}", Hint("flatten the tree"))]
    TooDeep,
    /// A name that starts at the root of the file system.
    #[error("has an absolute name{}", Hint("names start at the image directory, without `/`"))]
    Absolute,
    /// A name with a part `..`.
    #[error("has `..` in its name, which leads out of the context{}", Hint("names start at the image directory"))]
    Traversal,
    /// A file or link whose name ends like that of a directory; some readers treat it as one.
    #[error("ends in `/` like a directory, but is a {}{}", .0, Hint("make the context again"))]
    NotADirectory(&'static str),
    /// Two entries with the same name.
    #[error("is in the context twice, and readers differ in which one they take{}", Hint("keep one of them"))]
    Duplicate,
    /// An entry below a file or a link.
    #[error(
        "lies below {parent:?}, which is an earlier file or link and not a directory{}",
        Hint("make the context again")
    )]
    BelowNonDirectory {
        /// The entry that should have been a directory.
        parent: String,
    },
    /// A file or link where earlier entries need a directory.
    #[error("is a file or link, but earlier entries lie below it{}", Hint("make the context again"))]
    AboveEntries,
    /// A symbolic link to a path outside the context.
    #[error("is a link to {target:?}, outside the context{}", Hint("copy the file into the image directory"))]
    LinkEscapes {
        /// Where the link points.
        target: String,
    },
    /// A symbolic link whose target depends on other links.
    #[error("is a link to {target:?}, with `..` after a name{}", Hint("write the target in its shortest form"))]
    LinkWinds {
        /// Where the link points.
        target: String,
    },
    /// A symbolic link that leads nowhere, if the hash needs the file behind it.
    #[error(
        "is a link to {target:?}, which leads to no file or directory of the context (or through another linked directory), so the scheme `contents` has nothing to hash{}",
        Hint("replace the link with a copy")
    )]
    LinkDead {
        /// Where the link points.
        target: String,
    },
    /// A hard link to something other than an earlier file.
    #[error(
        "is a hard link to {target:?}, which is no earlier regular file of the context{}",
        Hint("make the context again")
    )]
    HardLink {
        /// Where the link points.
        target: String,
    },
    /// A device, a fifo, or an unknown type.
    #[error("is a {}{}", .0, Hint("a context holds regular files, directories and links only"))]
    Kind(&'static str),
    /// A Dockerfile that is not a regular file.
    #[error("is a {}{}", .0, Hint("the Dockerfile must be a regular file"))]
    Dockerfile(&'static str),
    /// The setuid or the setgid bit.
    #[error(
        "has the setuid or setgid bit (mode {:o}){}",
        .0,
        Hint("remove it, and set it in the Dockerfile where it is needed")
    )]
    SetId(u32),
    /// A header that two readers may interpret differently.
    #[error(
        "has {}, which readers of tar files understand differently{}",
        .0,
        Hint("make the context again, in plain GNU or PAX format")
    )]
    Ambiguous(&'static str),
    /// A PAX record that a context does not need.
    #[error("has the PAX record {:?}, which a context does not need{}", .0, Hint("make the context again without it"))]
    PaxRecord(String),
    /// The first entry above the limit.
    #[error(
        "is one entry more than the {} that a context may have{}",
        .0,
        Hint("leave files out of the image directory")
    )]
    TooMany(u64),
    /// Names that take more memory than allowed.
    #[error(
        "brings the names of the context above {} bytes{}",
        .0,
        Hint("leave files out of the image directory, or shorten names")
    )]
    TooManyNames(u64),
    /// A file that ends beyond the maximum size of a context.
    #[error(
        "with its {size} bytes brings the context above {limit} bytes{}",
        Hint("leave large files out of the image directory")
    )]
    TooBig {
        /// The size in the entry's header.
        size: u64,
        /// The maximum size of the whole context, uncompressed.
        limit: u64,
    },
    /// An entry outside the single top directory of a 2015 context.
    #[error("lies outside {top:?}, the one top directory that the context started with{}", Hint("move it inside"))]
    OutsideTop {
        /// The top directory.
        top: String,
    },
}

/// An entry's name without empty parts and `.` parts, so that two spellings are one name; the name of the root is empty.
/// `# %include ./` gives such names. The hash uses them as they are written, and engines remove these parts, too.
///
/// Any UTF-8 without control characters is a valid name, also with backslashes: on Linux they are ordinary characters.
pub fn clean_name(raw: &[u8], directory: bool) -> Result<Cow<'_, str>, UnsafeEntry> {
    let name = clean_text(raw)?;
    if name.starts_with('/') {
        return Err(UnsafeEntry::Absolute);
    }
    let clean = match plain(raw) {
        Cow::Borrowed(_) => Cow::Borrowed(name),
        Cow::Owned(clean) => Cow::Owned(String::from_utf8(clean).map_err(|_| UnsafeEntry::NotUtf8)?),
    };
    for (depth, part) in clean.split('/').enumerate() {
        match part {
            ".." => return Err(UnsafeEntry::Traversal),
            _ if part.len() > MAX_PART => return Err(UnsafeEntry::TooLong),
            _ if depth >= MAX_DEPTH => return Err(UnsafeEntry::TooDeep),
            _ => {}
        }
    }
    if clean.is_empty() && !directory { Err(UnsafeEntry::Empty) } else { Ok(clean) }
}

/// The [`clean_name`] of a regular file.
pub(super) fn clean_file_name(raw: &[u8]) -> Result<Cow<'_, str>, UnsafeEntry> {
    if raw.ends_with(b"/") { Err(UnsafeEntry::NotADirectory("regular file")) } else { clean_name(raw, false) }
}

/// The target of the symbolic link `name` (a [`clean_name`]), if it stays inside the context.
///
/// `..` may only be at the beginning of the target, where it leads to real directories. After a name, it might start from the
/// target of another link, and the text does not show where it leads.
pub fn symlink_target<'t>(name: &str, raw: &'t [u8]) -> Result<&'t str, UnsafeEntry> {
    let target = clean_text(raw)?;
    let mut above = name.matches('/').count();
    let mut descended = false;
    if target.starts_with('/') {
        return Err(UnsafeEntry::LinkEscapes { target: cut(raw) });
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if descended => return Err(UnsafeEntry::LinkWinds { target: cut(raw) }),
            ".." if above == 0 => return Err(UnsafeEntry::LinkEscapes { target: cut(raw) }),
            ".." => above -= 1,
            _ if part.len() > MAX_PART => return Err(UnsafeEntry::TooLong),
            _ => descended = true,
        }
    }
    Ok(target)
}

/// A name for a message: quoted, with control characters escaped, and no longer than a line.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    format!("{:?}", cut(name))
}

/// Text from outside for a message, which has to fit into one line of Treeherder.
pub(super) fn cut(text: &[u8]) -> String {
    const LINE: usize = 100;
    shortened(&String::from_utf8_lossy(text), LINE)
}

fn clean_text(raw: &[u8]) -> Result<&str, UnsafeEntry> {
    if raw.is_empty() {
        return Err(UnsafeEntry::Empty);
    }
    if raw.len() > MAX_NAME {
        return Err(UnsafeEntry::TooLong);
    }
    let text = std::str::from_utf8(raw).map_err(|_| UnsafeEntry::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(UnsafeEntry::ControlCharacter);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (raw, directory, clean) in [
            (&b"Dockerfile"[..], false, "Dockerfile"),
            (b"./a/b", false, "a/b"),
            (b"a/", true, "a"),
            (b"a", true, "a"),
            (b"./", true, ""),
            (b".", true, ""),
            (b"a\\b", false, "a\\b"),
            ("\u{fc}/\u{1f980}".as_bytes(), false, "\u{fc}/\u{1f980}"),
            (b"..a/b..", false, "..a/b.."),
            (b"a//b", false, "a/b"),
            (b"topsrcdir/./.git/HEAD", false, "topsrcdir/.git/HEAD"),
            (b"././a", false, "a"),
            (b"a//", true, "a"),
            (b".//a/.", true, "a"),
        ] {
            assert_eq!(clean_name(raw, directory).as_deref(), Ok(clean));
        }
        let long = "a/".repeat(MAX_NAME);
        let deep = vec!["a"; MAX_DEPTH + 1].join("/");
        for (raw, directory, hazard) in [
            (&b""[..], false, UnsafeEntry::Empty),
            (b"/etc/passwd", false, UnsafeEntry::Absolute),
            (b"/", true, UnsafeEntry::Absolute),
            (b"..", true, UnsafeEntry::Traversal),
            (b"a/../../b", false, UnsafeEntry::Traversal),
            (b"./..", true, UnsafeEntry::Traversal),
            (b".", false, UnsafeEntry::Empty),
            (b".//", false, UnsafeEntry::Empty),
            (b"a\nb", false, UnsafeEntry::ControlCharacter),
            (b"a\0b", false, UnsafeEntry::ControlCharacter),
            ("a\u{85}b".as_bytes(), false, UnsafeEntry::ControlCharacter),
            (b"\xff", false, UnsafeEntry::NotUtf8),
            (long.as_bytes(), true, UnsafeEntry::TooLong),
            (&[b'a'; MAX_PART + 1], false, UnsafeEntry::TooLong),
            (deep.as_bytes(), false, UnsafeEntry::TooDeep),
        ] {
            assert_eq!(clean_name(raw, directory), Err(hazard), "{}", shown(raw));
        }
    }

    #[test]
    fn link_targets() {
        let escapes = |target: &str| Err(UnsafeEntry::LinkEscapes { target: target.to_owned() });
        let winds = |target: &str| Err(UnsafeEntry::LinkWinds { target: target.to_owned() });
        for (name, target, result) in [
            ("l", "t", Ok("t")),
            ("a/l", "../t", Ok("../t")),
            ("a/b/l", "../.././t/", Ok("../.././t/")),
            ("a/l", "..", Ok("..")),
            ("l", "../t", escapes("../t")),
            ("a/l", "../../t", escapes("../../t")),
            ("l", "/etc/passwd", escapes("/etc/passwd")),
            ("l", "a/../t", winds("a/../t")),
            ("l", "a/up/../../../t", winds("a/up/../../../t")),
            ("l", "", Err(UnsafeEntry::Empty)),
        ] {
            assert_eq!(symlink_target(name, target.as_bytes()), result, "{name} -> {target}");
        }
    }

    #[test]
    fn names_in_messages_stay_on_their_line() {
        assert_eq!(shown(b"a\nb"), r#""a\nb""#);
        assert_eq!(shown("ü".repeat(100).as_bytes()), format!("{:?}", "ü".repeat(100)));
        assert_eq!(shown(&[b'a'; 5000]), format!("\"{}…\"", "a".repeat(100)));
    }
}
