//! Contexts that have a wrong hash, exceed a limit, are truncated or damaged, or fail on the way, and whose fault each one is.

use std::error::Error;

use super::*;

fn good() -> Vec<u8> {
    tar_of(&[("Dockerfile", FILE, "FROM scratch\n"), ("a/file", FILE, &"text".repeat(1000))])
}

#[test]
fn a_wrong_hash_says_what_it_would_have_been_right_for() {
    let tar = good();
    let gzipped = gzip(&tar);
    let raw = ContextHash(Digest::of(&tar));
    let contents = take(&tar, ContextScheme::Contents).unwrap().0.hash;
    let wrong = ContextHash(Digest::of(b"wrong"));
    let file = ContextHash(Digest::of(&gzipped));
    for (scheme, expected, actual, instead) in [
        (ContextScheme::Tar, contents, raw, Some(ContextScheme::Contents)),
        (ContextScheme::Gz, contents, file, Some(ContextScheme::Contents)),
        (ContextScheme::Gz, raw, file, Some(ContextScheme::Tar)),
        (ContextScheme::Contents, raw, contents, Some(ContextScheme::Tar)),
        (ContextScheme::Contents, file, contents, Some(ContextScheme::Gz)),
        (ContextScheme::Tar, wrong, raw, None),
        (ContextScheme::Gz, wrong, file, None),
        (ContextScheme::Contents, wrong, contents, None),
    ] {
        let expect = expecting(scheme, Some(expected));
        let error = receive(gzipped.as_slice(), &expect, &Limits::default(), io::sink()).unwrap_err();
        let message = error.to_string();
        for part in [expected.to_string(), actual.to_string(), scheme.to_string(), tar.len().to_string()] {
            assert!(message.contains(&part), "{message}");
        }
        assert!(message.chars().count() < 480, "{message}");
        assert_eq!(error.kind(), IntakeFault::Context);
        let IntakeError::Mismatch { instead: found, .. } = error else { panic!("{message}") };
        assert_eq!(found, instead, "{message}");
    }
    let right = receive(gzipped.as_slice(), &expecting(ContextScheme::Tar, Some(raw)), &Limits::default(), io::sink());
    assert_eq!(right.unwrap().hash, raw);
}

#[test]
fn a_2015_context_in_the_wrong_scheme_says_so_before_anything_else() {
    let tar = tar_of(&[("img/", DIR, ""), ("img/Dockerfile", FILE, "FROM a\n")]);
    let expect = expecting(ContextScheme::Tar, Some(contents_hash(&[("Dockerfile", "FROM a\n")])));
    let error = receive(tar.as_slice(), &expect, &Limits::default(), io::sink()).unwrap_err();
    assert!(error.to_string().contains("set HASH_SCHEME=contents"), "{error}");
}

#[test]
fn the_scheme_contents_needs_a_directory() {
    let mut expect = expecting(ContextScheme::Contents, None);
    expect.directory = None;
    let error = receive(good().as_slice(), &expect, &Limits::default(), io::sink()).unwrap_err();
    assert!(error.to_string().contains("CONTEXT_PATH"), "{error}");
    assert_eq!(error.kind(), IntakeFault::Configuration);
}

#[test]
fn other_things_than_a_tar_are_named() {
    for (bytes, looks) in [
        (b"".to_vec(), "empty"),
        (b"  <?xml version='1.0'?><Error>".to_vec(), "an HTML or XML page, perhaps an error"),
        (b"{\"error\": 404}".to_vec(), "JSON, perhaps an error"),
        (b"not found\n".to_vec(), "plain text"),
        (b"\x28\xb5\x2f\xfd....".to_vec(), "compressed with zstd"),
        (b"\xfd7zXZ\0....".to_vec(), "compressed with xz"),
        (b"BZh9....".to_vec(), "compressed with bzip2"),
        (b"PK\x03\x04....".to_vec(), "a zip file"),
        (vec![0; 100], "something unknown"),
        (gzip(b""), "a gzip of nothing"),
        (gzip(b"<html>"), "a gzip of an HTML or XML page"),
        (gzip(&gzip(&good())), "compressed twice"),
        (gzip(b"hello"), "a gzip of something else than a tar"),
    ] {
        let error = intake_error(&bytes, ContextScheme::Tar);
        assert_eq!(error.kind(), IntakeFault::Context);
        let IntakeError::NotATar { looks: found } = error else { panic!("{error}") };
        assert_eq!(found, looks);
    }
}

#[test]
fn every_cut_is_noticed() {
    let tar = good();
    let gzipped = gzip(&tar);
    for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
        for cut in 1..gzipped.len() {
            let error = intake_error(&gzipped[..cut], scheme);
            let known = matches!(error, IntakeError::Truncated { .. } | IntakeError::NotATar { .. });
            assert!(known, "at {cut}: {error}");
        }
        // The padding after the two zero blocks may be cut off; this cannot be detected.
        let end = tar.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512) + 1024;
        for cut in (1..end).step_by(7) {
            let error = intake_error(&tar[..cut], scheme);
            let known = matches!(error, IntakeError::Truncated { .. } | IntakeError::NotATar { .. });
            assert!(known, "at {cut}: {error}");
        }
        assert!(take(&tar[..end], scheme).is_ok());
    }
    let unfinished = [gnu(("Dockerfile", FILE, "")), pax(&[("path", "never")])];
    let error = intake_error(&with_end(&unfinished), ContextScheme::Tar);
    assert!(matches!(error, IntakeError::Truncated { .. }), "{error}");
}

#[test]
fn nothing_may_follow_the_end() {
    let tar = good();
    for (bytes, place) in [
        ([gzip(&tar), b"garbage".to_vec()].concat(), "behind the end of its gzip stream"),
        ([gzip(&tar), vec![0; 100]].concat(), "behind the end of its gzip stream"),
        ([tar.clone(), b"x".to_vec()].concat(), "behind the end of its tar"),
        (gzip(&[tar.clone(), tar.clone()].concat()), "behind the end of its tar"),
        ([gzip(&tar), gzip(&tar)].concat(), "behind the end of its tar"),
        (
            gzip(&[gnu(("Dockerfile", FILE, "")), vec![0; 512], gnu(("evil", FILE, "")), vec![0; 1024]].concat()),
            "behind the end of its tar",
        ),
    ] {
        let error = intake_error(&bytes, ContextScheme::Tar);
        let IntakeError::Trailing(found) = error else { panic!("{error}") };
        assert_eq!(found, place);
    }
    let error = intake_error(&[gzip(&tar), b"\x1f".to_vec()].concat(), ContextScheme::Tar);
    assert!(matches!(error, IntakeError::Truncated { .. }), "{error}");
}

#[test]
fn damage_is_noticed() {
    let mut gzipped = gzip(&good());
    let crc = gzipped.len() - 6;
    gzipped[crc] ^= 1;
    let error = intake_error(&gzipped, ContextScheme::Tar);
    assert!(matches!(error, IntakeError::Gzip { .. }), "{error}");
    assert!(error.source().is_some());

    let mut tar = good();
    let second = 1024;
    tar[second] ^= 1;
    let error = intake_error(&gzip(&tar), ContextScheme::Tar);
    assert!(matches!(error, IntakeError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains(r#"after its entry "Dockerfile""#), "{error}");
}

#[test]
fn limits_hold() {
    let small = |max_bytes, max_entries, max_name_bytes| {
        let limits = Limits { max_bytes, max_entries, max_name_bytes };
        let result = receive(good().as_slice(), &expecting(ContextScheme::Tar, None), &limits, io::sink());
        result.map_err(|error| (error.to_string(), error))
    };
    assert!(small(10_240, 2, 16).is_ok());
    let (message, error) = small(10_239, 2, 16).unwrap_err();
    assert!(matches!(error, IntakeError::TooLarge { limit: 10_239 }), "{message}");
    for (limits, entry, hazard) in [
        ((3000, 2, 16), r#""a/file""#, UnsafeEntry::TooBig { size: 4000, limit: 3000 }),
        ((10_240, 1, 16), r#""a/file""#, UnsafeEntry::TooMany(1)),
        ((10_240, 2, 15), r#""a/file""#, UnsafeEntry::TooManyNames(15)),
    ] {
        let limits = Limits { max_bytes: limits.0, max_entries: limits.1, max_name_bytes: limits.2 };
        let gzipped = gzip(&good());
        let expect = expecting(ContextScheme::Tar, None);
        let error = receive(gzipped.as_slice(), &expect, &limits, io::sink()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(entry), "{message}");
        let IntakeError::Refused { hazard: found, .. } = error else { panic!("{message}") };
        assert_eq!(found, hazard);
    }
}

/// Reads as a tar of one file with any number of zeros, generated on demand, and counts the bytes that were read.
struct Bomb<'c> {
    head: Cursor<Vec<u8>>,
    zeros: u64,
    bytes_read: &'c Cell<u64>,
}

impl Read for Bomb<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = self.head.read(buf)?;
        if read == 0 {
            read = buf.len().min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
            buf[..read].fill(0);
            self.zeros -= read as u64;
        }
        self.bytes_read.set(self.bytes_read.get() + read as u64);
        Ok(read)
    }
}

#[test]
fn bombs_stop_early() {
    let limits = Limits { max_bytes: 8 << 20, ..Limits::default() };
    let ten_gb: u64 = 10_000_000_000;
    let head = |size: u64| {
        let mut header = Header::new_gnu();
        header.set_path("zeros").unwrap();
        header.set_mode(0o644);
        // Ten gigabytes do not fit into the octal digits.
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let bytes_read = Cell::new(0);
    let explode = |head: Vec<u8>| {
        bytes_read.set(0);
        let bomb = Bomb { head: Cursor::new(head), zeros: ten_gb, bytes_read: &bytes_read };
        let gzipped = flate2::read::GzEncoder::new(bomb, Compression::fast());
        let mut out = DigestReader::new(io::sink());
        let error = receive(gzipped, &expecting(ContextScheme::Tar, None), &limits, &mut out).unwrap_err();
        // The compressor is one buffer ahead, and a compressed buffer of zeros is a thousand times as large uncompressed.
        assert!(out.bytes() <= limits.max_bytes, "{} bytes were written", out.bytes());
        assert!(bytes_read.get() < 64 << 20, "{} bytes were unpacked", bytes_read.get());
        error
    };
    // A false size is refused before the content is read, endless data after the end while it is read.
    let error = explode(head(8_000_000_000));
    assert!(error.to_string().contains(r#""zeros""#), "{error}");
    assert!(matches!(error, IntakeError::Refused { hazard: UnsafeEntry::TooBig { .. }, .. }), "{error}");
    let error = explode(head(ten_gb));
    assert!(matches!(error, IntakeError::Refused { hazard: UnsafeEntry::Ambiguous(_), .. }), "{error}");
    let error = explode(head(0));
    assert!(matches!(error, IntakeError::TooLarge { .. }), "{error}");
}

#[test]
fn a_gzip_that_never_unpacks_to_anything_ends_too() {
    struct Endless(Vec<u8>, usize);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            for byte in &mut *buf {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buf.len())
        }
    }
    let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
    let error = receive(Endless(gzip(b""), 0), &expecting(ContextScheme::Tar, None), &limits, io::sink()).unwrap_err();
    assert!(matches!(error, IntakeError::TooLarge { .. }), "{error}");
}

#[test]
fn a_million_empty_files_are_too_many() {
    struct Files(u64, Vec<u8>);
    impl Read for Files {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.1.is_empty() {
                self.0 += 1;
                self.1 = gnu((&format!("file{}", self.0), FILE, ""));
            }
            let read = self.1.as_slice().read(buf)?;
            self.1.drain(..read);
            Ok(read)
        }
    }
    let mut files = Files(0, Vec::new());
    let error = receive(&mut files, &expecting(ContextScheme::Tar, None), &Limits::default(), io::sink()).unwrap_err();
    assert!(error.to_string().contains(r#""file100001""#), "{error}");
    assert!(matches!(error, IntakeError::Refused { hazard: UnsafeEntry::TooMany(100_000), .. }), "{error}");
    assert!(files.0 < 101_000, "{} were read", files.0);
}

/// Fails after some bytes, with any kind of error.
struct Failing(usize, io::ErrorKind);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let gzipped = gzip(&good());
        let rest = &gzipped[gzipped.len().min(gzipped.len() / 2 - self.0)..gzipped.len() / 2];
        if rest.is_empty() {
            return Err(self.1.into());
        }
        let read = buf.len().min(rest.len());
        buf[..read].copy_from_slice(&rest[..read]);
        self.0 -= read;
        Ok(read)
    }
}

impl Write for Failing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(self.1.into());
        }
        let written = buf.len().min(self.0);
        self.0 -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_ends_of_the_pipe_are_told_apart() {
    let half = gzip(&good()).len() / 2;
    for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::InvalidInput] {
            for bytes in [0, 10, half] {
                let expect = expecting(scheme, None);
                let error = receive(Failing(bytes, kind), &expect, &Limits::default(), io::sink()).unwrap_err();
                assert_eq!(error.kind(), IntakeFault::Source, "{error}");
                let IntakeError::Source { bytes: after, source } = error else { panic!("{error}") };
                assert_eq!((after, source.kind()), (bytes as u64, kind));
            }
        }
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::WriteZero] {
            for bytes in [0, 600, 5000] {
                let out = Failing(bytes, kind);
                let error =
                    receive(gzip(&good()).as_slice(), &expecting(scheme, None), &Limits::default(), out).unwrap_err();
                assert_eq!(error.kind(), IntakeFault::Output, "{error}");
                let IntakeError::Output { source } = error else { panic!("{error}") };
                assert_eq!(source.kind(), kind);
            }
        }
    }
}

#[test]
fn a_refused_context_gets_no_end() {
    let big = "x".repeat(400_000);
    let tar = tar_of(&[("Dockerfile", FILE, ""), ("big", FILE, &big), ("../evil", FILE, "")]);
    let mut out = Vec::new();
    receive(tar.as_slice(), &expecting(ContextScheme::Contents, None), &Limits::default(), &mut out).unwrap_err();
    assert!(!out.is_empty() && !out.ends_with(&[0; 1024]));

    let wrong = expecting(ContextScheme::Contents, Some(ContextHash(Digest::of(b""))));
    let mut out = Vec::new();
    receive(good().as_slice(), &wrong, &Limits::default(), &mut out).unwrap_err();
    assert!(!out.ends_with(&[0; 1024]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..3000), magic in 0..3) {
        let bytes = match magic {
            0 => bytes,
            1 => [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0], bytes.as_slice()].concat(),
            _ => gzip(&[gnu(("Dockerfile", FILE, "")), bytes].concat()),
        };
        let error = intake_error(&bytes, ContextScheme::Tar);
        prop_assert_eq!(error.kind(), IntakeFault::Context);
    }

    /// A changed tar is refused, or the crate's own reader reads it in the same way.
    #[test]
    fn changes_are_refused_or_read_alike(
        changes in proptest::collection::vec((0..4096_usize, any::<u8>()), 1..4),
        fix_checksum in any::<bool>(),
    ) {
        let mut tar = with_end(&[
            gnu(("Dockerfile", FILE, "FROM a\n")),
            pax(&[("path", "a/file"), ("mtime", "1.5")]),
            gnu(("file", FILE, "text")),
            gnu(("a/link", SYM, "../Dockerfile")),
        ]);
        for (at, byte) in changes {
            tar[at] = byte;
            if fix_checksum {
                // With the right checksum, the change reaches later checks.
                for block in [0, 1024, 2048, 3072] {
                    let mut header = Header::new_old();
                    header.as_mut_bytes().copy_from_slice(&tar[block..block + 512]);
                    header.set_cksum();
                    tar[block..block + 512].copy_from_slice(header.as_bytes());
                }
            }
        }
        for scheme in [ContextScheme::Tar, ContextScheme::Contents] {
            if let Ok((received, out)) = take(&tar, scheme) {
                let mut files = 0;
                for entry in Archive::new(out.as_slice()).entries().unwrap() {
                    let entry = entry.unwrap();
                    let kind = entry.header().entry_type();
                    prop_assert!(matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link | EntryType::XGlobalHeader));
                    let name = entry.path().unwrap().into_owned();
                    prop_assert!(name.is_relative() && !name.components().any(|part| part == std::path::Component::ParentDir));
                    files += u64::from(matches!(kind, EntryType::Regular | EntryType::Link));
                }
                prop_assert_eq!(files, received.files);
                if scheme == ContextScheme::Tar {
                    prop_assert_eq!(&out, &tar);
                    prop_assert_eq!(received.hash, ContextHash(Digest::of(&tar)));
                }
            }
        }
    }
}
