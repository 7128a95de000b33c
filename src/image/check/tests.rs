//! The problems that the check reports for the archives of common tools, and for archives with exactly one defect.

use super::super::fixture::{
    Tar, bzip2, config, docker_20, docker_25, gzip, jib, kaniko, layers, oci_layout, podman, pzstd, skopeo, xz,
};
use super::super::problem::{DOUBT, LAYER, OUTSIDE, OWN_LOAD, PODMAN};
use super::*;

/// The problems of an archive, and who breaks on each.
fn problems(archive: &[u8]) -> Vec<(String, &'static str)> {
    let checked = check(archive).unwrap();
    assert_eq!((checked.sha256, checked.size), (Digest::of(archive), archive.len() as u64));
    checked.problems.into_iter().map(|problem| (problem.problem, problem.breaks)).collect()
}

/// The configuration's name.
fn name() -> String {
    format!("{}.json", Digest::of(&config(&layers())))
}

/// A valid archive without the members that describe its content.
fn parts() -> Tar {
    let [one, two] = layers();
    Tar::new().file(&name(), &config(&layers())).file("a/layer.tar", &one).file("b/layer.tar", &two)
}

const BOTH: [&str; 2] = ["a/layer.tar", "b/layer.tar"];
const REPOSITORIES_OF_BASE: &[u8] = br#"{"base":{"1":"b"}}"#;

fn named(tar: Tar) -> Tar {
    tar.manifest(&name(), Some(&["base:1"]), &BOTH).file("repositories", REPOSITORIES_OF_BASE)
}

#[test]
fn a_sound_archive_has_no_problem_however_it_is_packed() {
    for (tool, archive, tag) in [("docker", named(parts()).done(), "base:1"), ("podman", podman(), "localhost/base:1")]
    {
        assert_eq!(problems(&archive), [], "{tool}");
        for (compression, compressed) in [
            (Compression::Plain, archive.clone()),
            (Compression::Gzip, gzip(&archive)),
            (Compression::Zstd, zstd::encode_all(&*archive, 3).unwrap()),
        ] {
            let checked = check(compressed.as_slice()).unwrap();
            let id = ImageId::of(&config(&layers()));
            assert_eq!(
                (checked.packing, checked.problems, checked.image_id),
                (compression, Vec::new(), Some(id)),
                "{tool}"
            );
            assert_eq!((checked.tags, checked.layers), (vec![tag.to_owned()], 2), "{tool}");
        }
    }
}

#[test]
fn what_other_tools_leave_out_is_said() {
    let messages = |archive: &[u8]| problems(archive).into_iter().map(|(problem, _)| problem).collect::<Vec<_>>();
    assert_eq!(messages(&docker_20()), ["manifest.json gives the image 2 names, base:1, base:2"]);
    assert_eq!(messages(&skopeo()), ["manifest.json gives the image no name"]);
    let [one, two] = layers().map(|layer| Digest::of(&gzip(&layer)));
    assert_eq!(
        messages(&docker_25()),
        [
            format!("its layer blobs/sha256/{one} is packed with gzip"),
            "it has no repositories".to_owned(),
            "index.json, of an OCI layout, does not have the name base:1".to_owned()
        ]
    );
    let layer_problems = [one, two].map(|layer| format!("its layer {layer}.tar.gz is packed with gzip"));
    assert_eq!(messages(&kaniko()), [&layer_problems[0], &layer_problems[1], "it has no repositories"]);
}

#[test]
fn each_thing_that_is_wrong_is_said_with_who_breaks_on_it() {
    let [one, two] = layers();
    let first = |first: &[u8]| {
        let tar = Tar::new().file(&name(), &config(&layers())).file("a/layer.tar", first);
        named(tar.file("b/layer.tar", &two)).done()
    };
    let repositories =
        |text: &[u8]| parts().manifest(&name(), Some(&["base:1"]), &BOTH).file("repositories", text).done();
    let tags =
        |tags: &[&str]| parts().manifest(&name(), Some(tags), &BOTH).file("repositories", REPOSITORIES_OF_BASE).done();
    let zstd_layer = zstd::encode_all(&*one, 3).unwrap();
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (first(b"other"), "its layer a/layer.tar has sha256 ", LAYER),
        (first(&gzip(&one)[..500]), "its layer a/layer.tar is damaged gzip data", LAYER),
        (first(&zstd_layer), "its layer a/layer.tar is packed with zstd", ZSTD),
        (named(parts()).link("x", "../etc").done(), "its member \"x\" leads out of it", OUTSIDE),
        (named(parts()).file("a/layer.tar", &one).done(), "\"a/layer.tar\" comes twice", DOUBT),
        (named(parts()).file("manifest.json", b"[]").done(), "or comes twice", DOUBT),
        (named(parts()).file("repositories", b"{}").done(), "or comes twice", DOUBT),
        (named(parts()).file(&"n".repeat(120), b"").done(), "is no file, but GNULongName", DOUBT),
        (parts().done(), "it has no manifest.json", NOTHING_LOADS),
        (parts().file("manifest.json", b"{}").done(), "manifest.json: invalid type", NOTHING_LOADS),
        (
            parts().manifest("x.json", Some(&["base:1"]), &BOTH).file("repositories", REPOSITORIES_OF_BASE).done(),
            "its configuration x.json is missing",
            NOTHING_LOADS,
        ),
        (repositories(b"[]"), "repositories: invalid type", REPOSITORIES),
        (repositories(br#"{"base":{"2":"b"}}"#), "[base:2], manifest.json has base:1", REPOSITORIES),
        (repositories(br#"{"base":{"1":"b"},"other":{"1":"b"}}"#), "[base:1, other:1]", REPOSITORIES),
        (repositories(br#"{"base":{"1":"c"}}"#), "the layer \"c\", which is not there", OLD_LAYERS),
        (tags(&["Base:1"]), "the name \"Base:1\", which is none", BAD_NAME),
        (tags(&["base"]), "the name \"base\", which is none", BAD_NAME),
        (b"<html>please log in</html>".to_vec(), "it is no tar archive", NOTHING_LOADS),
        (Vec::new(), "it has no manifest.json", NOTHING_LOADS),
    ];
    for (archive, words, breaks) in cases {
        let problems = problems(&archive);
        assert_eq!(problems.len(), 1, "{words}: {problems:?}");
        assert!(problems[0].0.contains(words) && problems[0].1 == breaks, "{words}: {problems:?}");
    }
}

/// The consumers that cannot load an archive.
fn kept_out(archive: &[u8]) -> Vec<&'static str> {
    let consumers = check(archive).unwrap().consumers;
    consumers.into_iter().filter(|consumer| consumer.cannot.is_some()).map(|consumer| consumer.name).collect()
}

#[test]
fn every_packing_that_engines_take_is_unpacked_and_said_who_takes_it() {
    let archive = named(parts()).done();
    for (compression, compressed, out) in [
        (Compression::Plain, archive.clone(), vec![TASKGRAPH]),
        (Compression::Zstd, pzstd(&archive), vec![OLD_DOCKER]),
        (Compression::Xz, xz(&archive), vec![DOCKER_WORKER, TASKGRAPH]),
        (Compression::Bzip2, bzip2(&archive), vec![DOCKER_WORKER, TASKGRAPH]),
    ] {
        let checked = check(compressed.as_slice()).unwrap();
        assert_eq!((checked.packing, checked.problems), (compression, Vec::new()));
        assert_eq!(kept_out(&compressed), out, "{compression}");
        assert!(!problems(&compressed[..compressed.len() / 2]).is_empty(), "half of {compression}");
    }
}

#[test]
fn what_only_some_load_is_said_with_their_names() {
    let layout = problems(&oci_layout());
    assert!(layout.iter().any(|(_, breaks)| *breaks == NO_MANIFEST), "{layout:?}");
    assert!(!kept_out(&oci_layout()).contains(&PODMAN) && !kept_out(&oci_layout()).contains(&OWN_LOAD));
    let with = |config: &str, layers: [&[u8]; 2]| {
        let name = format!("{}.json", Digest::of(config.as_bytes()));
        let tar =
            Tar::new().file(&name, config.as_bytes()).file("a/layer.tar", layers[0]).file("b/layer.tar", layers[1]);
        tar.manifest(&name, Some(&["base:1"]), &BOTH).file("repositories", REPOSITORIES_OF_BASE).done()
    };
    let config = |more: &str, layers: [&[u8]; 2]| {
        let [one, two] = layers.map(Digest::of);
        format!(r#"{{{more}"rootfs":{{"type":"layers","diff_ids":["sha256:{one}","sha256:{two}"]}}}}"#)
    };
    let [one, two] = layers();
    let tars = [one.as_slice(), two.as_slice()];
    let windows = with(&config(r#""os":"windows","#, tars), tars);
    assert_eq!(problems(&windows), [("it is an image for Windows".to_owned(), WINDOWS)]);
    assert_eq!(kept_out(&windows), CONSUMERS);
    let long = with(&config(r#""history":[{},{},{},{"empty_layer":true}],"#, tars), tars);
    assert_eq!(problems(&long)[0].1, HISTORY);
    let out = kept_out(&long);
    assert!(out.contains(&OLD_DOCKER) && !out.contains(&PODMAN) && !out.contains(&OWN_LOAD), "{out:?}");
    let noise = [b"no tar, but more than a header of one has".repeat(20), two.clone()];
    let noise = [noise[0].as_slice(), noise[1].as_slice()];
    assert_eq!(problems(&with(&config("", noise), noise)), [("its layer a/layer.tar is no tar".to_owned(), NO_TAR)]);
    let jib = problems(&jib());
    assert!(jib.iter().all(|(_, breaks)| [GZIP, REPOSITORIES].contains(breaks)), "{jib:?}");
}

#[test]
fn headers_that_name_other_members_to_other_readers_are_refused() {
    let archive = |edit: fn(&mut tar::Header)| {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        edit(&mut header);
        header.set_cksum();
        [header.as_bytes().as_slice(), &named(parts()).done()].concat()
    };
    let edits: [fn(&mut tar::Header); 3] = [
        // Go reads an invalid time as a part of the name.
        |header| header.as_mut_bytes()[345..349].copy_from_slice(b"evil"),
        |header| {
            header.as_mut_bytes()[257..265].copy_from_slice(b"ustar\x0000");
            header.as_mut_bytes()[508..512].copy_from_slice(b"tar\0");
        },
        |header| header.as_mut_bytes()[257..265].copy_from_slice(b"ustar\x0099"),
    ];
    assert_eq!(problems(&archive(|_| {})), []);
    for edit in edits {
        let problems = problems(&archive(edit));
        assert!(problems.len() == 1 && problems[0].1 == DOUBT, "{problems:?}");
    }
}

#[test]
fn all_problems_are_said() {
    let [one, _] = layers();
    let archive = Tar::new()
        .file(&name(), &config(&layers()))
        .file("a/layer.tar", &gzip(&one))
        .file("b/layer.tar", b"other")
        .link("x", "/etc/passwd")
        .manifest(&name(), Some(&["base:1", "base:2"]), &BOTH)
        .done();
    let problems = problems(&archive);
    let words = ["\"x\" leads out of it", "b/layer.tar has sha256", "a/layer.tar is packed with gzip", "2 names"];
    assert_eq!(problems.len(), words.len(), "{problems:?}");
    assert!(problems.iter().zip(words).all(|((problem, _), words)| problem.contains(words)), "{problems:?}");
}

#[test]
fn an_oci_layout_with_the_name_is_no_problem() {
    let with = |name: &str| {
        let index = serde_json::json!({ "manifests": [{ "annotations": { "io.containerd.image.name": name } }] });
        named(parts()).file("index.json", index.to_string().as_bytes()).file("oci-layout", b"{}").done()
    };
    assert_eq!(problems(&with("docker.io/library/base:1")), []);
    assert_eq!(problems(&with("docker.io/library/database:1"))[0].1, OCI);
}

#[test]
fn a_cut_archive_has_problems_wherever_it_is_cut() {
    for archive in [named(parts()).done(), gzip(&podman()), zstd::encode_all(&*podman(), 3).unwrap()] {
        for cut in (0..archive.len() - 1024).step_by(611) {
            assert!(!problems(&archive[..cut]).is_empty(), "cut at {cut}");
        }
    }
}

#[test]
fn an_archive_of_nothing_but_problems_ends() {
    let archive = (0..1000).fold(Tar::new(), |tar, number| tar.link(&format!("{number}"), "/etc/passwd")).done();
    let problems = problems(&archive);
    assert_eq!(problems.len(), MOST_PROBLEMS + 1);
    assert!(problems[MOST_PROBLEMS].0.contains("too many problems"), "{problems:?}");
}

#[test]
fn a_disk_that_cannot_be_read_is_no_fault_of_the_archive() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            // EIO
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let archive = named(parts()).done();
    assert_eq!(check(archive[..700].chain(Broken)).unwrap_err().raw_os_error(), Some(5));
}
