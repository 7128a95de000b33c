//! Contexts that are named by the packed file, however they are sent.

use super::*;

/// taskgraph before version 12 does not say that it means the packed file, and workers may pack that once more.
#[test]
fn the_hash_of_the_packed_file_is_as_good() {
    let tar = tar_of(&[("Dockerfile", FILE, "FROM scratch\n"), ("a/file", FILE, &"text".repeat(1000))]);
    let packed = gzip(&tar);
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
    let twice = gzip(&packed);
    for scheme in [ContextScheme::Tar, ContextScheme::Gz] {
        let expected = Some(hash(&packed));
        for (sent, encoded) in [
            (&packed, false),
            // As workers send some artifacts, whatever is in them; as storage that takes it for the tar's own compression does.
            (&twice, true),
            (&packed, true),
        ] {
            assert_eq!(take(sent, encoded, scheme, expected).unwrap(), (ContextScheme::Gz, hash(&packed)));
        }
    }
    // Where both fit, or nothing is expected, it is the scheme that was asked for.
    for (sent, encoded) in [(&tar, false), (&packed, false), (&packed, true), (&twice, true)] {
        for expected in [None, Some(hash(&tar))] {
            assert_eq!(take(sent, encoded, ContextScheme::Tar, expected).unwrap(), (ContextScheme::Tar, hash(&tar)));
        }
    }
    assert_eq!(take(&tar, false, ContextScheme::Gz, Some(hash(&tar))).unwrap().0, ContextScheme::Gz);
    assert_eq!(take(&twice, true, ContextScheme::Gz, None).unwrap().1, hash(&packed));
    // A transfer that breaks off or is damaged is worth another try, and no other context.
    for damaged in [&twice[..twice.len() - 4], &[&twice[..20], &[0xff; 20], &twice[40..]].concat()] {
        let error = take(damaged, true, ContextScheme::Gz, Some(hash(&packed))).unwrap_err();
        assert_eq!(error.kind(), IntakeFault::Source, "{error}");
    }
}
