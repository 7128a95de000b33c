//! The archive writer under fuzz: whatever an engine exports, what is written has one name, one manifest and all that
//! the manifest promises, for every reader; writing it again changes nothing, and `check` finds nothing wrong with it.
//! What `check` finds nothing wrong with can be loaded.

use std::collections::BTreeMap;

use image_worker::image::{ArchiveError, UnpackedImage, Written, check, verify_and_forward};
use image_worker::net::{Digest, ImageId};
use serde_json::{Value, json};
use tar::EntryType;

use super::input::Input;
use super::tars::{self, ListedMember, Words};

/// Of two layers, `one` and `two`.
const CONFIG: &[u8] = br#"{"rootfs":{"diff_ids":["sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","sha256:3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"]}}"#;
const TAG: &str = "builder:1234";
/// [`CONFIG`]'s own name, in the layouts of today and of before.
const CONFIG_JSON: &str = "22c68e6d5f88680234afecec61c219ed551a9ae42cf55f98baa248dbc78c5716.json";

const WORDS: Words = Words {
    names: &[
        b"l1/layer.tar", b"l2/layer.tar", b"manifest.json", b"repositories", CONFIG_JSON.as_bytes(), b"l1/", b"l1/VERSION",
        b"./manifest.json", b"./repositories", b"manifest.json/", b"index.json", b"blobs/sha256/x", b"oci-layout", b"8",
        b"../l1/layer.tar", b"l1",
    ],
    contents: &[
        CONFIG, b"", b"one", b"two", br#"[{"Config":"c","RepoTags":null,"Layers":null}]"#, b"[]", b"null", b"[{}]",
        br#"[{"Config":"22c68e6d5f88680234afecec61c219ed551a9ae42cf55f98baa248dbc78c5716.json","RepoTags":["a:b","c"],"Layers":["l1/layer.tar","l2/layer.tar"]}]"#,
        br#"[{"Config":"22c68e6d5f88680234afecec61c219ed551a9ae42cf55f98baa248dbc78c5716.json","Layers":["l2/layer.tar","l2/layer.tar"],"More":1}]"#,
        br#"[{"Config":"22c68e6d5f88680234afecec61c219ed551a9ae42cf55f98baa248dbc78c5716.json","Layers":["manifest.json","repositories"]}]"#,
        br#"{"builder":{"1234":"x"}}"#,
    ],
};

pub(super) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let id = match input.below(16) {
        0 | 1 => ImageId::of(b""),
        _ => ImageId::of(CONFIG),
    };
    let export = match input.below(8) {
        0 => input.rest().to_vec(),
        1 => tars::repair(input.rest().to_vec()),
        shape => {
            let mut tar = Vec::new();
            let manifest = json!([{ "Config": CONFIG_JSON, "RepoTags": input.pick(&[None, Some(["x:y"])]),
                "Layers": ["l1/layer.tar", "l2/layer.tar"] }])
            .to_string();
            let parts: [(&str, &[u8]); 3] = [(CONFIG_JSON, CONFIG), ("l1/layer.tar", b"one"), ("l2/layer.tar", b"two")];
            let parts = parts.into_iter().chain([("manifest.json", manifest.as_bytes())]);
            // Each shape but the last two leaves one part out; the script may bring it in its own way.
            for (number, (name, content)) in parts.enumerate().filter(|(number, _)| number + 2 != shape) {
                if number == 1 && input.flag() {
                    tar.extend(tars::long(name, content));
                } else {
                    tars::file(&mut tar, name, content);
                }
            }
            tars::script(tar, &mut input, &WORDS)
        }
    };
    let checked = check(export.as_slice()).expect("bytes in memory can be read");
    let loaded = verify_and_forward(export.as_slice(), TAG, None, std::io::sink());
    match loaded {
        Ok((loaded, _)) => assert_eq!((Some(loaded.image_id), loaded.sha256), (checked.image_id, checked.sha256)),
        Err(error) => assert!(!checked.problems.is_empty(), "nothing is wrong, but {error}"),
    }
    check_forwarded(&export);
    check_forwarded(&consistent(data));
    let id_of_config = ImageId::of(CONFIG);
    if let Ok((written, out)) = make(&layout(data), id_of_config, None) {
        accepted(id_of_config, &written, &out);
    }
    if let Ok((written, out)) = make(&export, id, None) {
        accepted(id, &written, &out);
        if data.len().is_multiple_of(16) {
            let (_, packed) = make(&export, id, Some(1)).expect("compressed it is the same archive");
            assert_eq!(zstd::decode_all(packed.as_slice()).expect("zstd"), out);
        }
    }
}

/// An archive whose configuration names its layers, as far as the script leaves it so.
fn consistent(data: &[u8]) -> Vec<u8> {
    let mut input = Input::new(data);
    let layers: [&[u8]; 2] = [b"one", b"two"];
    let config = json!({ "rootfs": { "diff_ids": layers.map(|layer| format!("sha256:{}", Digest::of(layer))) } });
    let config = config.to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()));
    let manifest =
        json!([{ "Config": name, "RepoTags": ["x:y"], "Layers": ["l1/layer.tar", "l2/layer.tar"] }]).to_string();
    let parts = [(name.as_str(), config.as_bytes()), ("l1/layer.tar", layers[0]), ("l2/layer.tar", layers[1])];
    let left_out = input.below(8);
    let mut tar = Vec::new();
    for (number, (name, content)) in parts.into_iter().chain([("manifest.json", manifest.as_bytes())]).enumerate() {
        if number != left_out {
            tars::file(&mut tar, name, content);
        }
    }
    tars::script(tar, &mut input, &WORDS)
}

/// An OCI layout of the same image, without a manifest of Docker's, as far as the script leaves it so.
fn layout(data: &[u8]) -> Vec<u8> {
    let mut input = Input::new(data);
    let blob = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content));
    let descriptor = |content: &[u8]| json!({ "digest": format!("sha256:{}", Digest::of(content)) });
    let layers: [&[u8]; 2] = [b"one", b"two"];
    let manifest = json!({ "schemaVersion": 2, "config": descriptor(CONFIG), "layers": layers.map(descriptor) });
    let manifest = manifest.to_string().into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor(&manifest)] }).to_string().into_bytes();
    let top = json!({ "manifests": [descriptor(input.pick(&[&manifest, &index]))] }).to_string().into_bytes();
    let blobs = [layers[1], &index, CONFIG, &manifest, layers[0]];
    let left_out = input.below(12);
    let mut tar = Vec::new();
    for (number, content) in blobs.into_iter().enumerate() {
        if number != left_out {
            tars::file(&mut tar, &blob(content), content);
        }
    }
    tars::file(&mut tar, "index.json", &top);
    tars::script(tar, &mut input, &WORDS)
}

/// Asserts that what is forwarded to its end is the same when it is forwarded again, and that no name is in it but ours;
/// what is not has nothing that an engine could load.
fn check_forwarded(archive: &[u8]) {
    let mut out = Vec::new();
    if let Ok((first, _)) = verify_and_forward(archive, TAG, None, &mut out) {
        assert_eq!((first.sha256, first.size), (Digest::of(archive), archive.len() as u64));
        let (second, again) =
            verify_and_forward(out.as_slice(), TAG, Some(Digest::of(&out)), Vec::new()).expect("it is whole");
        assert_eq!((&second.image_id, &second.layers, again), (&first.image_id, &first.layers, out));
        assert_eq!((second.tags, second.repositories), (vec![TAG.to_owned()], false));
    } else {
        let entries = tars::list(&out).unwrap_or_default();
        assert!(!entries.iter().any(|entry| entry.name == b"manifest.json"), "an engine could load this");
    }
}

fn make(export: &[u8], id: ImageId, level: Option<i32>) -> Result<(Written, Vec<u8>), ArchiveError> {
    let unpacked = UnpackedImage::import(export, tempfile::tempfile().expect("a temporary file"))?;
    unpacked.expect(id)?;
    let mut out = Vec::new();
    let archive = unpacked.arrange(TAG)?;
    let digested = archive.sum()?;
    let written = archive.write_into(level, &mut out, |_| {})?;
    assert!(level.is_some() || digested == written, "{digested:?}, but {written:?} was written");
    Ok((written, out))
}

fn accepted(id: ImageId, written: &Written, out: &[u8]) {
    assert_eq!((written.sha256, written.size), (Digest::of(out), out.len() as u64));
    let mut problems = check(out).expect("bytes in memory can be read").problems;
    // What the layers and the configuration are is the input's.
    let of_input = [" is no tar", "its history has ", "an image for Windows"];
    problems.retain(|it| !of_input.iter().any(|words| it.problem.contains(words)));
    assert!(problems.is_empty(), "{problems:?}");
    let entries = tars::list(out).expect("what was written can be read");
    // As engines do: all members are unpacked, a later one over an earlier one.
    let mut members: BTreeMap<String, ListedMember> = BTreeMap::new();
    let mut documents = Vec::new();
    for entry in entries {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let plain = parts.join("/");
        if plain == "manifest.json" || plain == "repositories" {
            assert_eq!(entry.kind, EntryType::Regular, "{name} is a file");
            documents.push((name.clone(), serde_json::from_slice::<Value>(&entry.content).expect("JSON")));
        }
        members.insert(plain, entry);
    }
    let [(first, manifest), (second, repositories)] = documents.as_slice() else {
        panic!("{} members list what the archive holds", documents.len())
    };
    assert_eq!((first.as_str(), second.as_str()), ("manifest.json", "repositories"));
    let [image] = manifest.as_array().expect("a list").as_slice() else { panic!("one image, not {manifest}") };
    assert_eq!(image["RepoTags"], json!([TAG]), "one name");
    let names = repositories.as_object().expect("an object");
    let versions = names["builder"].as_object().expect("an object");
    assert!(names.len() == 1 && versions.len() == 1 && versions.contains_key("1234"), "{repositories}");

    let file = |name: &Value| {
        let mut at = name.as_str().expect("a text").to_owned();
        for _ in 0..=members.len() {
            let member = members.get(&at).unwrap_or_else(|| panic!("{name} is missing, at {at:?}"));
            let directory = at.rsplit_once('/').map_or("", |(directory, _)| directory);
            at = match member.kind {
                EntryType::Regular => return member,
                EntryType::Link => resolve("", &member.link),
                EntryType::Symlink => resolve(directory, &member.link),
                other => panic!("{name} is a {other:?}"),
            };
        }
        panic!("{name} is a link without an end")
    };
    assert_eq!(ImageId::of(&file(&image["Config"]).content), id);
    let layers = image["Layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 2, "as in the configuration");
    for layer in layers {
        file(layer);
    }
    let (again, bytes) = make(out, id, None).expect("what was written is an export");
    assert_eq!((&again, bytes.as_slice()), (written, out), "written again it is the same");
}

fn resolve(directory: &str, link: &[u8]) -> String {
    let mut at: Vec<_> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in std::str::from_utf8(link).expect("a target in UTF-8").split('/') {
        match part {
            "" | "." => {}
            ".." => assert!(at.pop().is_some(), "a link out of the archive"),
            part => at.push(part),
        }
    }
    at.join("/")
}
