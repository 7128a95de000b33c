//! Contexts whose hash is that of the compressed file, sent in different ways.

use super::*;

/// taskgraph before version 12 does not declare that its hash is that of the compressed file, and workers may compress it again.
#[test]
fn the_hash_of_the_packed_file_is_as_good() {
    let tar = tar_of(&[("Dockerfile", FILE, "FROM scratch\n"), ("a/file", FILE, &"text".repeat(1000))]);
    let gzipped = gzip(&tar);
    let hash = |bytes: &[u8]| ContextHash(Digest::of(bytes));
    let take = |sent: &[u8], encoded: bool, scheme: ContextScheme, expected: Option<ContextHash>| {
        let expect = Expectation { encoded, ..expecting(scheme, expected) };
        let mut out = Vec::new();
        let received = receive(sent, &expect, &Limits::default(), &mut out);
        received.map(|received| {
            assert_eq!(out, tar);
            (received.scheme, received.hash)
        })
    };
    let twice = gzip(&gzipped);
    for scheme in [ContextScheme::Tar, ContextScheme::Gz] {
        let expected = Some(hash(&gzipped));
        for (sent, encoded) in [
            (&gzipped, false),
            // As workers send some artifacts, whatever they contain; as storage sends a `.tar.gz` that it declares as a tar.
            (&twice, true),
            (&gzipped, true),
        ] {
            assert_eq!(take(sent, encoded, scheme, expected).unwrap(), (ContextScheme::Gz, hash(&gzipped)));
        }
    }
    // If both schemes match, or no hash is expected, the result is the scheme that was requested.
    for (sent, encoded) in [(&tar, false), (&gzipped, false), (&gzipped, true), (&twice, true)] {
        for expected in [None, Some(hash(&tar))] {
            assert_eq!(take(sent, encoded, ContextScheme::Tar, expected).unwrap(), (ContextScheme::Tar, hash(&tar)));
        }
    }
    assert_eq!(take(&tar, false, ContextScheme::Gz, Some(hash(&tar))).unwrap().0, ContextScheme::Gz);
    assert_eq!(take(&twice, true, ContextScheme::Gz, None).unwrap().1, hash(&gzipped));
    // A transfer that breaks off or is damaged can be tried again; the context is not at fault.
    for damaged in [&twice[..twice.len() - 4], &[&twice[..20], &[0xff; 20], &twice[40..]].concat()] {
        let error = take(damaged, true, ContextScheme::Gz, Some(hash(&gzipped))).unwrap_err();
        assert_eq!(error.kind(), IntakeFault::Source, "{error}");
    }
}
