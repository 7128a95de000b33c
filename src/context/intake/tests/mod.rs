//! Contexts that are accepted: both schemes, all formats in use, and the output. `hostile` tests contexts that are refused,
//! `broken` errors on the way.

mod broken;
mod hostile;
mod packed;

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::net::Digest;

/// Name, type, content or target.
pub(super) type Line<'a> = (&'a str, EntryType, &'a str);

pub(super) const FILE: EntryType = EntryType::Regular;
pub(super) const DIR: EntryType = EntryType::Directory;
pub(super) const SYM: EntryType = EntryType::Symlink;
pub(super) const HARD: EntryType = EntryType::Link;

/// The bytes of one entry in a tar; names and targets go into the header unchanged.
pub(super) fn entry(mut header: Header, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
    header.set_entry_type(kind);
    header.set_mode(if kind == DIR { 0o755 } else { 0o644 });
    header.set_mtime(1_451_606_400);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(super) fn gnu((name, kind, text): Line<'_>) -> Vec<u8> {
    let is_link = kind == SYM || kind == HARD;
    let (link, content) = if is_link { (text, "") } else { ("", text) };
    entry(Header::new_gnu(), kind, name.as_bytes(), link.as_bytes(), content.as_bytes())
}

/// A PAX header with these records.
pub(super) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// The entries and the end, padded as Python does.
pub(super) fn with_end(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.resize((tar.len() + 1024).next_multiple_of(10_240), 0);
    tar
}

pub(super) fn tar_of(lines: &[Line<'_>]) -> Vec<u8> {
    with_end(&lines.iter().map(|line| gnu(*line)).collect::<Vec<_>>())
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn expecting(scheme: ContextScheme, hash: Option<ContextHash>) -> Expectation {
    let directory = (scheme == ContextScheme::Contents).then(|| "testing/docker/img".parse().unwrap());
    Expectation { scheme, hash, directory, image: "img".parse().unwrap(), encoded: false }
}

/// Receives a context without an expected hash.
pub(super) fn take(source: &[u8], scheme: ContextScheme) -> Result<(Received, Vec<u8>), IntakeError> {
    let mut out = Vec::new();
    receive(source, &expecting(scheme, None), &Limits::default(), &mut out).map(|received| (received, out))
}

/// The error for a context that is refused.
pub(super) fn intake_error(source: &[u8], scheme: ContextScheme) -> IntakeError {
    take(source, scheme).map(|(received, _)| received).unwrap_err()
}

/// The hash over lines of path and content, computed by the four steps in taskgraph's documentation.
pub(super) fn contents_hash(files: &[(&str, &str)]) -> ContextHash {
    let line =
        |(path, content): &(&str, &str)| format!("{}\t/testing/docker/img/{path}\n", Digest::of(content.as_bytes()));
    ContextHash(Digest::of(files.iter().map(line).collect::<Vec<_>>().concat().as_bytes()))
}

/// The entries that the tar crate's own reader finds: name, type, target or content.
pub(super) fn listed(tar: &[u8]) -> Vec<(String, EntryType, String)> {
    let mut archive = Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let kind = entry.header().entry_type();
        let mut text = String::new();
        match entry.link_name_bytes() {
            Some(link) => text = String::from_utf8(link.into_owned()).unwrap(),
            None => drop(entry.read_to_string(&mut text)),
        }
        (name, kind, text)
    });
    entries.filter(|(_, kind, _)| *kind != EntryType::XGlobalHeader).collect()
}

fn of_lines(lines: &[Line<'_>]) -> Vec<(String, EntryType, String)> {
    lines.iter().map(|(name, kind, text)| ((*name).to_owned(), *kind, (*text).to_owned())).collect()
}

#[test]
fn a_tar_is_passed_on_as_it_came() {
    let lines = [
        ("./", DIR, ""),
        ("./Dockerfile", FILE, "FROM scratch\n"),
        ("bin/", DIR, ""),
        ("bin/run", FILE, "#!/bin/sh\n"),
        ("bin/again", HARD, "bin/run"),
        ("bin/other", SYM, "../Dockerfile"),
        ("bin/Run", FILE, ""),
        ("dir", SYM, "bin"),
        ("a\\b ü", FILE, ""),
    ];
    let tar = tar_of(&lines);
    for input in [tar.clone(), gzip(&tar), [gzip(&tar[..700]), gzip(b""), gzip(&tar[700..])].concat()] {
        let (received, out) = take(&input, ContextScheme::Tar).unwrap();
        assert_eq!(out, tar);
        let (bytes, compressed) = (tar.len() as u64, input.len() as u64);
        let hash = ContextHash(Digest::of(&tar));
        assert_eq!(received, Received { hash, scheme: ContextScheme::Tar, files: 5, bytes, compressed, others: false });
        assert_eq!(listed(&out), of_lines(&lines));
    }
}

#[test]
fn what_may_be_others_is_told() {
    let dockerfile = gnu(("Dockerfile", FILE, "FROM scratch\n"));
    let others = |entries: &[Vec<u8>]| take(&with_end(entries), ContextScheme::Tar).unwrap().0.others;
    assert!(!others(&[dockerfile.clone(), gnu(("bin/", DIR, ""))]));
    for change in [|header: &mut Header| header.set_uid(1000), |header: &mut Header| header.set_gid(1000)] {
        let mut header = Header::from_byte_slice(&dockerfile[..512]).clone();
        change(&mut header);
        header.set_cksum();
        assert!(others(&[[header.as_bytes(), &dockerfile[512..]].concat()]));
    }
    assert!(others(&[pax(&[("uid", "1000")]), dockerfile]));
}

#[test]
fn long_names_come_in_three_notations() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let dockerfile = gnu(("Dockerfile", FILE, "FROM scratch\n"));
    let mut gnu_long = Builder::new(dockerfile.clone());
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    gnu_long.append_data(&mut header, &long, std::io::empty()).unwrap();
    header.set_entry_type(HARD);
    gnu_long.append_link(&mut header, format!("{long}-hard"), &long).unwrap();
    header.set_entry_type(SYM);
    gnu_long.append_link(&mut header, "soft", &long).unwrap();

    let ustar = |kind, name: &[u8]| entry(Header::new_ustar(), kind, name, b"", b"");
    let pax_long = with_end(&[
        dockerfile.clone(),
        entry(Header::new_ustar(), EntryType::XGlobalHeader, b"pax_global_header", b"", b"13 comment=a\n"),
        pax(&[("path", &long), ("mtime", "1451606400.5"), ("size", "0")]),
        ustar(FILE, b"short"),
        pax(&[("path", &format!("{long}-hard")), ("linkpath", &long)]),
        ustar(HARD, b"short"),
        pax(&[("linkpath", &long)]),
        ustar(SYM, b"soft"),
    ]);

    let mut prefix = Header::new_ustar();
    prefix.as_ustar_mut().unwrap().prefix[..120].copy_from_slice(&[b'd'; 120]);
    let mut two_fields = entry(prefix, FILE, &[b'f'; 100], b"", b"");
    let whole = format!("{}/{}", "d".repeat(120), "f".repeat(100));
    two_fields.splice(0..0, dockerfile);

    for tar in [gnu_long.into_inner().unwrap(), pax_long] {
        let (_, out) = take(&tar, ContextScheme::Tar).unwrap();
        let (_, rewritten) = take(&tar, ContextScheme::Contents).unwrap();
        for out in [out, rewritten] {
            let (name, hard) = (long.clone(), format!("{long}-hard"));
            let rest =
                vec![(name, FILE, String::new()), (hard, HARD, long.clone()), ("soft".to_owned(), SYM, long.clone())];
            assert_eq!(listed(&out)[1..], rest);
        }
    }
    let (_, rewritten) = take(&with_end(&[two_fields]), ContextScheme::Contents).unwrap();
    assert_eq!(listed(&rewritten)[1], (whole, FILE, String::new()));
}

#[test]
fn contents_are_hashed_by_path_and_a_top_directory_is_stripped() {
    let hash =
        contents_hash(&[("Dockerfile", "FROM a\n"), ("b.c", "3"), ("b/c", "1"), ("b/h", "1"), ("b/l", "FROM a\n")]);
    let flat: [Line<'_>; 8] = [
        ("b/", DIR, ""),
        ("b/c", FILE, "1"),
        ("b/h", HARD, "b/c"),
        ("b/l", SYM, "../Dockerfile"),
        ("b/d", SYM, ".."),
        ("b.c", FILE, "3"),
        ("empty/", DIR, ""),
        ("Dockerfile", FILE, "FROM a\n"),
    ];
    let nested: [Line<'_>; 9] = [
        ("img/", DIR, ""),
        ("img/b/", DIR, ""),
        ("img/b/c", FILE, "1"),
        ("img/b/h", HARD, "img/b/c"),
        ("img/b/l", SYM, "../Dockerfile"),
        ("img/b/d", SYM, ".."),
        ("img/b.c", FILE, "3"),
        ("img/empty/", DIR, ""),
        ("img/Dockerfile", FILE, "FROM a\n"),
    ];
    for tar in [tar_of(&flat), tar_of(&nested), tar_of(&nested[1..])] {
        let (received, out) = take(&gzip(&tar), ContextScheme::Contents).unwrap();
        assert_eq!((received.hash, received.files), (hash, 4));
        assert_eq!(received.bytes, tar.len() as u64);
        assert_eq!(listed(&out), of_lines(&flat));
        let again = take(&out, ContextScheme::Contents).unwrap();
        assert_eq!((again.0.hash, again.1), (hash, out));
    }
}

#[test]
fn the_hash_is_that_of_the_documented_steps() {
    let lines = [("plain/Dockerfile", FILE, "FROM scratch\nCOPY hello /hello\n"), ("plain/hello", FILE, "hi\n")];
    // Computed outside of this program, by the four steps in taskgraph's documentation.
    let hash = Some("e45f598fb5c463fcbffbe9f59edb4b261a5d6d192634ecc6577368d406b5c525".parse().unwrap());
    let mut expect = expecting(ContextScheme::Contents, hash);
    expect.image = "plain".parse().unwrap();
    expect.directory = Some("testing/docker/plain".parse().unwrap());
    let tar = tar_of(&lines);
    assert_eq!(receive(tar.as_slice(), &expect, &Limits::default(), io::sink()).unwrap().files, 2);

    expect.scheme = ContextScheme::Tar;
    expect.directory = None;
    let error = receive(tar.as_slice(), &expect, &Limits::default(), io::sink()).unwrap_err();
    assert!(error.to_string().contains("set HASH_SCHEME=contents"), "{error}");
}

#[test]
fn a_directory_with_the_images_name_is_not_always_the_top() {
    let lines = [("Dockerfile", FILE, "FROM a\n"), ("img/x", FILE, "")];
    let (received, out) = take(&tar_of(&lines), ContextScheme::Contents).unwrap();
    assert_eq!(received.hash, contents_hash(&[("Dockerfile", "FROM a\n"), ("img/x", "")]));
    assert_eq!(listed(&out), of_lines(&lines));
    let (_, out) = take(&tar_of(&[("img", FILE, ""), lines[0]]), ContextScheme::Contents).unwrap();
    assert_eq!(listed(&out)[0].0, "img");
}

#[test]
fn permissions_survive_rewriting() {
    let mut header = Header::new_gnu();
    header.set_mode(0o100_755);
    header.set_mtime(7);
    header.set_size(0);
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, "Dockerfile", std::io::empty()).unwrap();
    let (_, out) = take(&builder.into_inner().unwrap(), ContextScheme::Contents).unwrap();
    let mut archive = Archive::new(Cursor::new(out));
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.header().mode().unwrap(), entry.header().mtime().unwrap()), (0o755, 7));
}

#[test]
fn ten_thousand_files_are_no_work() {
    let names: Vec<String> = (0..10_000).map(|i| format!("dir{}/file{i}", i % 100)).collect();
    let mut lines: Vec<Line<'_>> = names.iter().map(|name| (name.as_str(), FILE, "some text\n")).collect();
    lines.push(("Dockerfile", FILE, "FROM a\n"));
    let gzipped = gzip(&tar_of(&lines));
    for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
        assert_eq!(take(&gzipped, scheme).unwrap().0.files, 10_001);
    }
}

/// Reads at most a few bytes at a time, and is sometimes interrupted.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = (self.1 % 5 + 1).min(buf.len());
        self.0.read(&mut buf[..most])
    }
}

#[test]
fn drops_make_the_same_river() {
    let tar = tar_of(&[("Dockerfile", FILE, "FROM a\n"), ("big", FILE, &"x".repeat(300_000))]);
    for input in [tar.clone(), gzip(&tar)] {
        for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
            let mut out = Vec::new();
            let received = receive(Drip(&input, 0), &expecting(scheme, None), &Limits::default(), &mut out).unwrap();
            assert_eq!((received, out), take(&input, scheme).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any tree of plain files is accepted, in both schemes and with or without a top directory.
    #[test]
    fn any_tree_of_files_comes_through(
        files in proptest::collection::btree_map("[a-z ü]{1,40}(/[A-Z.]{3,60}){0,4}", "[ -~]{0,2000}", 0..8)
    ) {
        let mut lines: Vec<(String, String)> = files.into_iter().collect();
        lines.push(("Dockerfile".to_owned(), "FROM a\n".to_owned()));
        let build = |top: &str| {
            let mut builder = Builder::new(Vec::new());
            for (name, content) in &lines {
                let mut header = Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, format!("{top}{name}"), content.as_bytes()).unwrap();
            }
            builder.into_inner().unwrap()
        };
        // A file may have the name of another one's directory: that is refused, and tested elsewhere.
        prop_assume!(lines.iter().all(|(a, _)| !lines.iter().any(|(b, _)| b.starts_with(&format!("{a}/")))));
        let mut sorted: Vec<_> = lines.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
        sorted.sort_unstable();
        let flat = build("");
        prop_assert_eq!(take(&flat, ContextScheme::Tar).unwrap().1, flat.clone());
        let (received, out) = take(&gzip(&build("img/")), ContextScheme::Contents).unwrap();
        prop_assert_eq!(received.hash, contents_hash(&sorted));
        prop_assert_eq!(listed(&out), listed(&flat));
    }
}
