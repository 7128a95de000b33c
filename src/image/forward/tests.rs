//! Passes on the archives of all tools, complete and damaged ones: checks the output, and that a damaged archive gives nothing
//! that an engine could load.

use tar::Archive;

use super::super::fixture::{
    Tar, bzip2, config, docker_20, docker_25, gzip, jib, kaniko, layers, oci_layout, podman, pzstd, skopeo, xz,
};
use super::*;

const TAG: &str = "child:parent-x";

/// The result, and all output that was written, complete or not.
fn pass(archive: &[u8], expected: Option<Digest>) -> (Result<ForwardSummary, ForwardError>, Vec<u8>) {
    let mut out = Vec::new();
    let result = verify_and_forward(archive, TAG, expected, &mut out).map(|(summary, _)| summary);
    (result, out)
}

fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = Archive::new(archive);
    let read = |entry: io::Result<tar::Entry<&[u8]>>| {
        let mut entry = entry.ok()?;
        let mut data = Vec::new();
        entry.read_to_end(&mut data).ok()?;
        Some((entry.path().ok()?.display().to_string(), data))
    };
    archive.entries().unwrap().map_while(read).collect()
}

/// Asserts that an engine cannot load an image: that needs `manifest.json` or `repositories`.
fn assert_worthless(out: &[u8]) {
    let names: Vec<_> = members(out).into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name == "manifest.json" || name == "repositories"), "{names:?}");
}

#[test]
fn every_tools_archive_becomes_a_plain_one_with_one_name() {
    use Compression::{Gzip, Plain};
    type Case<'a> = (&'a str, Vec<u8>, &'a [Compression], &'a [&'a str], bool);
    let cases: [Case; 7] = [
        ("docker 20.10", docker_20(), &[Plain, Plain, Plain], &["base:1", "base:2"], true),
        ("podman", podman(), &[Plain, Plain], &["localhost/base:1"], true),
        ("skopeo", skopeo(), &[Plain, Plain], &[], false),
        ("docker 25", docker_25(), &[Gzip, Plain], &["base:1"], false),
        ("kaniko", kaniko(), &[Gzip, Gzip], &["base:1"], false),
        ("jib", jib(), &[Gzip, Gzip], &["base:1"], false),
        ("an OCI layout", oci_layout(), &[Gzip, Gzip], &[], false),
    ];
    for (tool, archive, compressions, tags, repositories) in cases {
        let variants = [
            (Compression::Plain, archive.clone()),
            (Compression::Gzip, gzip(&archive)),
            (Compression::Zstd, zstd::encode_all(&*archive, 3).unwrap()),
            (Compression::Zstd, pzstd(&archive)),
            (Compression::Xz, xz(&archive)),
            (Compression::Bzip2, bzip2(&archive)),
        ];
        for (compression, bytes) in variants {
            let (summary, out) = pass(&bytes, Some(Digest::of(&bytes)));
            let summary = summary.unwrap_or_else(|error| panic!("{tool}, {compression}: {error}"));
            assert_eq!((summary.packing, summary.layers.as_slice()), (compression, compressions), "{tool}");
            assert_eq!(
                (summary.tags, summary.repositories),
                (tags.iter().map(ToString::to_string).collect(), repositories)
            );
            assert_eq!((summary.sha256, summary.size), (Digest::of(&bytes), bytes.len() as u64));
            let before = members(&archive);
            let mut after = members(&out);
            let (name, text) = after.pop().unwrap();
            let manifest: Vec<Image> = serde_json::from_slice(&text).unwrap();
            assert_eq!(
                (name.as_str(), manifest[0].repo_tags.as_slice()),
                ("manifest.json", &[TAG.to_owned()][..]),
                "{tool}"
            );
            let config = before.iter().find(|(name, _)| *name == manifest[0].config).unwrap();
            assert_eq!(summary.image_id, ImageId::of(&config.1));
            let replaced = ["manifest.json", "repositories", "index.json", "oci-layout"];
            assert_eq!(
                after,
                before.into_iter().filter(|(name, _)| !replaced.contains(&name.as_str())).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn a_byte_that_is_wrong_is_noticed_or_means_nothing() {
    for archive in [docker_20(), podman(), docker_25(), gzip(&skopeo()), zstd::encode_all(&*kaniko(), 3).unwrap()] {
        let (whole, good) = pass(&archive, None);
        let whole = whole.unwrap();
        let mut noticed = 0;
        for at in (0..archive.len()).step_by(97) {
            let mut wrong = archive.clone();
            wrong[at] ^= 0x10;
            match pass(&wrong, None) {
                // Padding, for example, or a file of the old format that nobody reads.
                (Ok(summary), out) => {
                    let same = (summary.image_id, summary.layers) == (whole.image_id, whole.layers.clone());
                    assert!(same, "byte {at}");
                    let layers = |out: &[u8]| {
                        members(out)
                            .into_iter()
                            .filter(|(name, _)| name.contains("layer") || name.contains("sha256"))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(layers(&out), layers(&good), "byte {at}");
                }
                (Err(_), out) => {
                    noticed += 1;
                    assert_worthless(&out);
                }
            }
            // The digest of the whole file detects every change.
            assert!(pass(&wrong, Some(whole.sha256)).0.is_err(), "byte {at}");
        }
        assert!(noticed > 100, "{noticed} wrong bytes were noticed");
    }
}

#[test]
fn an_archive_that_is_cut_is_no_archive_wherever_it_is_cut() {
    for archive in [docker_20(), gzip(&podman()), zstd::encode_all(&*docker_25(), 3).unwrap()] {
        for cut in (0..archive.len() - 1024).step_by(611) {
            let (result, out) = pass(&archive[..cut], None);
            assert!(
                matches!(result, Err(ForwardError::Read(_) | ForwardError::Content(_))),
                "cut at {cut}: {result:?}"
            );
            assert_worthless(&out);
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_the_member() {
    let [one, two] = layers();
    let good = config(&[one.clone(), two.clone()]);
    let name = format!("{}.json", Digest::of(&good));
    let files = |first: &[u8]| Tar::new().file(&name, &good).file("a/layer.tar", first).file("b/layer.tar", &two);
    let both = ["a/layer.tar", "b/layer.tar"];
    let other = config(std::slice::from_ref(&one));
    for (archive, words) in [
        (files(b"other").manifest(&name, None, &both), "its layer a/layer.tar has sha256 ".to_owned()),
        (
            files(&gzip(&one)[..500]).manifest(&name, None, &both),
            "its layer a/layer.tar is damaged gzip data".to_owned(),
        ),
        (files(&one).manifest(&name, None, &both[..1]), "has 1 layers, but the configuration names 2".to_owned()),
        (files(&one).manifest(&name, None, &["a/layer.tar", "x"]), "its layer x is missing".to_owned()),
        (files(&one).manifest("x.json", None, &both), "its configuration x.json is missing".to_owned()),
        (files(&one), "it has no manifest.json".to_owned()),
        (files(&one).file("manifest.json", b"[]"), "manifest.json names 0 images".to_owned()),
        (files(&one).file(&name, &other).manifest(&name, None, &both), "comes twice".to_owned()),
        (files(&one).link("x", "/etc/passwd").manifest(&name, None, &both), "\"x\" leads out of it".to_owned()),
        (files(&one).link("x", "../y").manifest(&name, None, &both), "\"x\" leads out of it".to_owned()),
        (
            Tar::new().file("blobs/sha256/x", b"").file(&format!("blobs/sha256/{}", Digest::of(b"a")), b"b").manifest(
                &name,
                None,
                &[],
            ),
            "its configuration".to_owned(),
        ),
        (
            Tar::new().file(&name, &other).manifest(&name, None, &[]),
            format!("{name} has sha256 {}", Digest::of(&other)),
        ),
    ] {
        let (result, out) = pass(&archive.done(), None);
        let message = result.unwrap_err().to_string();
        assert!(message.contains(&words), "{words}: {message}");
        assert_worthless(&out);
    }
    let archive = docker_20();
    let error = pass(&archive, Some(Digest::of(b""))).0.unwrap_err().to_string();
    let both = [Digest::of(b"").to_string(), Digest::of(&archive).to_string()];
    assert!(both.iter().all(|digest| error.contains(digest)), "{error}");
}

#[test]
fn a_writer_that_takes_nothing_more_is_told_from_a_damaged_archive() {
    let mut small = [0; 1000];
    let error = verify_and_forward(docker_20().as_slice(), TAG, None, &mut small[..]).map(|_| ()).unwrap_err();
    assert!(matches!(error, ForwardError::Write(_)), "{error}");
}

#[test]
fn problems_are_told_all_or_counted() {
    let problems = |count: usize| (1..=count).map(|number| format!("problem {number}")).collect();
    let message = |count| ForwardError::Content(problems(count)).to_string();
    assert!(message(1).ends_with("whole image: problem 1"), "{}", message(1));
    assert!(message(5).ends_with("whole image: problem 1; and 4 more"), "{}", message(5));
}
