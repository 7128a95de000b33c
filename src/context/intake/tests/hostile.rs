//! Malicious contexts: each is refused for its own reason, with the entry's name in the message.

use super::*;
use crate::context::safety::shown;

/// Asserts that `entries` after a good Dockerfile are refused in both schemes, for this entry and this reason.
fn refused(entries: &[Vec<u8>], name: &[u8], hazard: &UnsafeEntry) {
    let dockerfile = gnu(("Dockerfile", FILE, "FROM scratch\n"));
    let tar = with_end(&[&[dockerfile], entries].concat());
    for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
        let error = intake_error(&gzip(&tar), scheme);
        let message = error.to_string();
        assert!(message.contains(&shown(name)), "{message}");
        assert!(message.chars().count() < 480, "too long for one line: {message}");
        assert_eq!(error.kind(), IntakeFault::Context);
        let IntakeError::Refused { hazard: found, .. } = error else { panic!("{message}") };
        assert_eq!(found, *hazard, "{message}");
    }
}

#[test]
fn hostile_names() {
    for (name, hazard) in [
        (&b"../evil"[..], UnsafeEntry::Traversal),
        (b"a/../../evil", UnsafeEntry::Traversal),
        (b"..", UnsafeEntry::Traversal),
        (b"/etc/passwd", UnsafeEntry::Absolute),
        (b"a\nDockerfile", UnsafeEntry::ControlCharacter),
        (b"a\x1b[31m", UnsafeEntry::ControlCharacter),
        (b"\xff\xfe", UnsafeEntry::NotUtf8),
        (b"", UnsafeEntry::Empty),
        (b"dir/", UnsafeEntry::NotADirectory("regular file")),
        (b"Dockerfile", UnsafeEntry::Duplicate),
        (b"./Dockerfile", UnsafeEntry::Duplicate),
        (b"Dockerfile/x", UnsafeEntry::BelowNonDirectory { parent: "Dockerfile".to_owned() }),
    ] {
        refused(&[entry(Header::new_gnu(), FILE, name, b"", b"evil")], name, &hazard);
        refused(&[entry(Header::new_ustar(), FILE, name, b"", b"evil")], name, &hazard);
    }
    // The header is harmless, but the record or long name before it replaces its name.
    for (name, hazard) in
        [("../evil", UnsafeEntry::Traversal), ("/evil", UnsafeEntry::Absolute), ("a\0b", UnsafeEntry::ControlCharacter)]
    {
        let innocent = gnu(("innocent", FILE, ""));
        let long = entry(Header::new_gnu(), EntryType::GNULongName, b"././@LongLink", b"", name.as_bytes());
        refused(&[pax(&[("path", name)]), innocent.clone()], name.as_bytes(), &hazard);
        refused(&[long, innocent], name.as_bytes(), &hazard);
    }
    let long = "a/".repeat(40_000);
    refused(
        &[pax(&[("path", &long[..59_999])]), gnu(("x", FILE, ""))],
        &long.as_bytes()[..59_999],
        &UnsafeEntry::TooLong,
    );
}

#[test]
fn hostile_links() {
    let escapes = |target: &str| UnsafeEntry::LinkEscapes { target: target.to_owned() };
    let hard = |target: &str| UnsafeEntry::HardLink { target: target.to_owned() };
    for (line, hazard) in [
        (("l", SYM, "/etc/passwd"), escapes("/etc/passwd")),
        (("l", SYM, "../l"), escapes("../l")),
        (("a/b/l", SYM, "../../../x"), escapes("../../../x")),
        (("l", SYM, "a/../../x"), UnsafeEntry::LinkWinds { target: "a/../../x".to_owned() }),
        (("l", SYM, ""), UnsafeEntry::Empty),
        (("l/", SYM, "x"), UnsafeEntry::NotADirectory("symbolic link")),
        (("h", HARD, "/etc/passwd"), hard("/etc/passwd")),
        (("h", HARD, "../x"), hard("../x")),
        (("h", HARD, "later"), hard("later")),
        (("h", HARD, "h"), hard("h")),
        (("h", HARD, ""), hard("")),
    ] {
        refused(&[gnu(line), gnu(("later", FILE, ""))], line.0.as_bytes(), &hazard);
    }
    // Through an earlier link, and over earlier entries.
    let link = gnu(("l", SYM, "d"));
    let below = |parent: &str| UnsafeEntry::BelowNonDirectory { parent: parent.to_owned() };
    refused(&[link.clone(), gnu(("l/x", FILE, ""))], b"l/x", &below("l"));
    refused(&[link.clone(), gnu(("l/", DIR, ""))], b"l/", &UnsafeEntry::Duplicate);
    refused(&[gnu(("l/x", FILE, "")), link.clone()], b"l", &UnsafeEntry::AboveEntries);
    refused(&[link, gnu(("h", HARD, "l"))], b"h", &hard("l"));
    refused(&[gnu(("d/", DIR, "")), gnu(("h", HARD, "d"))], b"h", &hard("d"));
    refused(&[pax(&[("linkpath", "/etc/passwd")]), gnu(("l", SYM, "ok"))], b"l", &escapes("/etc/passwd"));
    let long = entry(Header::new_gnu(), EntryType::GNULongLink, b"././@LongLink", b"", b"../../x\0");
    refused(&[long, gnu(("l", SYM, "ok"))], b"l", &escapes("../../x"));
}

#[test]
fn hostile_kinds_and_modes() {
    let unknown_type = "thing of a type that Docker does not know";
    for (kind, what) in [
        (EntryType::Char, "character device"),
        (EntryType::Block, "block device"),
        (EntryType::Fifo, "fifo"),
        (EntryType::Continuous, "contiguous file"),
        (EntryType::GNUSparse, "sparse file"),
        (EntryType::new(b'D'), unknown_type),
        (EntryType::new(b'V'), unknown_type),
        (EntryType::new(b'X'), unknown_type),
    ] {
        refused(&[gnu(("thing", kind, ""))], b"thing", &UnsafeEntry::Kind(what));
    }
    let with_mode = |kind, mode| {
        let mut bytes = gnu(("thing", kind, ""));
        let mut header = Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        header.set_mode(mode);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        bytes
    };
    refused(&[with_mode(FILE, 0o4755)], b"thing", &UnsafeEntry::SetId(0o4755));
    refused(&[with_mode(FILE, 0o102_755)], b"thing", &UnsafeEntry::SetId(0o2755));
    refused(&[with_mode(DIR, 0o2755)], b"thing", &UnsafeEntry::SetId(0o2755));
    let two = UnsafeEntry::Ambiguous("one type in its mode and another in its header");
    refused(&[with_mode(FILE, 0o120_755)], b"thing", &two);
    refused(&[gnu(("d/", DIR, "data"))], b"d/", &UnsafeEntry::Ambiguous("data in a directory or link"));
}

#[test]
fn a_dockerfile_is_a_file() {
    for (line, what) in [
        (("Dockerfile", SYM, "other"), "symbolic link"),
        (("./Dockerfile", HARD, "other"), "hard link"),
        (("Dockerfile/", DIR, ""), "directory"),
    ] {
        let error = intake_error(&tar_of(&[("other", FILE, ""), line]), ContextScheme::Tar);
        let IntakeError::Refused { entry, hazard } = error else { panic!("{error}") };
        assert_eq!((entry, hazard), (shown(line.0.as_bytes()), UnsafeEntry::Dockerfile(what)));
    }
    for lines in [&[][..], &[("dockerfile", FILE, "")], &[("a/Dockerfile", FILE, "")]] {
        for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
            let error = intake_error(&tar_of(lines), scheme);
            assert!(matches!(error, IntakeError::NoDockerfile { nested: None }), "{error}");
        }
    }
    let error = intake_error(&tar_of(&[("img/Dockerfile", FILE, "")]), ContextScheme::Tar);
    assert!(matches!(error, IntakeError::NoDockerfile { nested: Some(_) }), "{error}");
    assert!(error.to_string().contains("HASH_SCHEME=contents"), "{error}");
}

#[test]
fn pax_and_gnu_tricks() {
    let file = || gnu(("file", FILE, "data"));
    let long = |name: &[u8]| entry(Header::new_gnu(), EntryType::GNULongName, b"././@LongLink", b"", name);
    let raw_pax = |content: &[u8]| entry(Header::new_ustar(), EntryType::XHeader, b"pax", b"", content);
    let global = |content: &[u8]| entry(Header::new_ustar(), EntryType::XGlobalHeader, b"glob", b"", content);
    let record = |key: &str| UnsafeEntry::PaxRecord(key.to_owned());
    let sparse = UnsafeEntry::Kind("sparse file");
    let twice = UnsafeEntry::Ambiguous("two extension headers of one kind, or of two formats");
    let malformed = UnsafeEntry::Ambiguous("a malformed PAX header");
    for (entries, name, hazard) in [
        (
            vec![pax(&[("size", "0")]), file()],
            "file",
            UnsafeEntry::Ambiguous("one size in its header and another in a PAX record"),
        ),
        (
            vec![pax(&[("size", "04")]), file()],
            "file",
            UnsafeEntry::Ambiguous("one size in its header and another in a PAX record"),
        ),
        (vec![pax(&[("path", "a"), ("path", "b")]), file()], "a", UnsafeEntry::Ambiguous("the same PAX record twice")),
        (vec![pax(&[("path", "")]), file()], "", UnsafeEntry::Ambiguous("a PAX record without value")),
        (vec![pax(&[("GNU.sparse.major", "1")]), file()], "file", sparse.clone()),
        (vec![pax(&[("GNU.sparse.name", "../x")]), file()], "file", sparse),
        (
            vec![pax(&[("SCHILY.xattr.security.capability", "x")]), file()],
            "file",
            record("SCHILY.xattr.security.capability"),
        ),
        (vec![pax(&[("hdrcharset", "BINARY")]), file()], "file", record("hdrcharset")),
        (vec![global(b"14 path=../ab\n"), file()], "glob", record("path")),
        (vec![long(b"a"), global(b"13 comment=a\n"), file()], "glob", twice.clone()),
        (vec![pax(&[("path", "a")]), pax(&[("path", "b")]), file()], "", twice.clone()),
        (vec![long(b"a"), long(b"b"), file()], "././@LongLink", twice.clone()),
        (vec![pax(&[("path", "a")]), long(b"b"), file()], "././@LongLink", twice.clone()),
        (vec![long(b"b"), pax(&[("path", "a")]), file()], "", twice),
        (vec![long(b"\0"), file()], "././@LongLink", UnsafeEntry::Empty),
        (vec![long(&[b'a'; 5000]), file()], "././@LongLink", UnsafeEntry::TooLong),
        (vec![raw_pax(b"x path=a\n"), file()], "pax", malformed.clone()),
        (vec![raw_pax(b"11 path=a\n"), file()], "pax", malformed.clone()),
        (vec![raw_pax(b"9 path=a\n\0"), file()], "pax", malformed.clone()),
        (vec![raw_pax(b"+9 path=a\n"), file()], "pax", malformed.clone()),
        (vec![raw_pax(b"5 =a\n"), file()], "pax", malformed.clone()),
        (vec![raw_pax(b"99999999999999999999 path=a\n"), file()], "pax", malformed),
        (vec![raw_pax(&[b'1'; 70_000]), file()], "pax", UnsafeEntry::TooLong),
    ] {
        refused(&entries, name.as_bytes(), &hazard);
    }
}

#[test]
fn headers_that_two_readers_read_differently() {
    let patched = |at: usize, bytes: &[u8], header: Header| {
        let mut whole = entry(header, FILE, b"file", b"", b"");
        let mut header = Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&whole[..512]);
        header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
        header.set_cksum();
        whole[..512].copy_from_slice(header.as_bytes());
        whole
    };
    let (gnu, ustar) = (Header::new_gnu, Header::new_ustar);
    let unusual = UnsafeEntry::Ambiguous("unusual fields in its header");
    for (bytes, hazard) in [
        (patched(345, b"../prefix", gnu()), unusual.clone()),
        (patched(508, b"tar\0", ustar()), unusual),
        (patched(257, b"\0\0\0\0\0\0\0\0", ustar()), UnsafeEntry::Ambiguous("a header that is neither POSIX nor GNU")),
        (patched(124, b"\x80\0\0\0\0\0\0\0\0\0\0\0", gnu()), UnsafeEntry::Ambiguous("a size that is not octal")),
        (patched(124, b"+0000000000\0", gnu()), UnsafeEntry::Ambiguous("a size that is not octal")),
        (patched(124, b"00000\x000000", gnu()), UnsafeEntry::Ambiguous("a size that is not octal")),
        (patched(100, b"0000\x00755", gnu()), UnsafeEntry::Ambiguous("a number in its header that is none")),
        (patched(100, b"\x80\0\0\0\0\0\0\0", gnu()), UnsafeEntry::Ambiguous("a mode that is not octal")),
        (patched(108, b"000x000\0", ustar()), UnsafeEntry::Ambiguous("a number in its header that is none")),
        (patched(329, b"/", ustar()), UnsafeEntry::Ambiguous("a number in its header that is none")),
    ] {
        refused(&[bytes], b"file", &hazard);
    }
}

#[test]
fn a_2015_context_has_one_top_directory() {
    let tar = tar_of(&[("img/Dockerfile", FILE, ""), ("other", FILE, "")]);
    let error = intake_error(&tar, ContextScheme::Contents);
    assert_eq!(
        error.to_string(),
        r#"the context's entry "other" lies outside "img/", the one top directory that the context started with; move it inside"#
    );
    for line in [("img/l", SYM, "../other"), ("img/h", HARD, "x")] {
        let error = intake_error(&tar_of(&[("img/Dockerfile", FILE, ""), line]), ContextScheme::Contents);
        assert!(error.to_string().contains(line.0), "{error}");
        assert!(matches!(error, IntakeError::Refused { .. }), "{error}");
    }
    let dead = tar_of(&[("img/Dockerfile", FILE, ""), ("img/l", SYM, "nothing")]);
    let error = intake_error(&dead, ContextScheme::Contents);
    assert!(error.to_string().contains(r#""l" is a link to "nothing""#), "{error}");
}
