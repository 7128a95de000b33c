//! Tests each kind of difference with images that are made here. `integration/` compares images of engines.

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::image::UnpackedImage;
use crate::image::fixture::Tar;

/// Builds a layer.
struct Files(Builder<Vec<u8>>);

impl Files {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, size: usize) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header
    }

    fn with(mut self, path: &str, data: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Self::header(EntryType::Regular, data.len());
        change(&mut header);
        self.0.append_data(&mut header, path, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.with(path, data, |_| {})
    }

    fn link(mut self, path: &str, target: &str) -> Self {
        self.0.append_link(&mut Self::header(EntryType::Symlink, 0), path, target).unwrap();
        self
    }

    fn xattr(mut self, value: &[u8]) -> Self {
        self.0.append_pax_extensions([("SCHILY.xattr.user.a", value)]).unwrap();
        self
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn image(layers: &[Vec<u8>], more: &Value, tag: &str) -> UnpackedImage {
    let ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", Digest::of(layer))).collect();
    let mut config = json!({ "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": ids } });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config));
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let mut archive = Tar::new().file(&name, &config);
    for (name, layer) in names.iter().zip(layers) {
        archive = archive.file(name, layer);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let archive = archive.manifest(&name, Some(&[tag]), &names).done();
    UnpackedImage::import(archive.as_slice(), tempfile::tempfile().unwrap()).unwrap()
}

fn compare(a: Vec<u8>, b: Vec<u8>) -> Comparison {
    Comparison::of(&image(&[a], &json!({}), "a:1"), &image(&[b], &json!({}), "a:1")).unwrap()
}

fn found(comparison: &Comparison) -> Vec<(&str, &[Aspect])> {
    let files = comparison.layers.iter().flat_map(|layer| &layer.files);
    files.map(|file| (file.path.as_str(), file.aspects.as_slice())).collect()
}

fn text(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn the_same_image_is_the_same() {
    let layer = || Files::new().file("a", b"1").done();
    let comparison = compare(layer(), layer());
    assert!(comparison.identical && comparison.configuration.is_empty() && comparison.causes.is_empty());
    assert!(comparison.to_string().ends_with("they are the same image"), "{comparison}");
}

#[test]
fn each_aspect_of_a_file_is_told() {
    let a = Files::new()
        .file("content", b"one\nsame\n")
        .link("link", "x")
        .file("mode", b"")
        .file("only-a", b"")
        .file("owner", b"")
        .file("size", b"12")
        .file("time", b"")
        .xattr(b"1")
        .file("xattr", b"");
    let b = Files::new()
        .file("content", b"two\nsame\n")
        .link("link", "y")
        .with("mode", b"", |header| header.set_mode(0o4755))
        .file("only-b", b"")
        .with("owner", b"", |header| {
            header.set_uid(7);
            header.set_username("me").unwrap();
        })
        .file("size", b"1\0")
        .with("time", b"", |header| header.set_mtime(1_700_000_001))
        .xattr(b"\0")
        .file("xattr", b"");
    let b = b.done();
    let comparison = compare(a.done(), b);
    let found = found(&comparison);
    let names: Vec<_> = found.iter().map(|(path, _)| *path).collect();
    assert_eq!(names, ["content", "link", "mode", "only-a", "only-b", "owner", "size", "time", "xattr"]);
    let lines = vec!["-one".to_owned(), "+two".to_owned()];
    assert_eq!(found[0].1, [Aspect::Content(Digest::of(b"one\nsame\n"), Digest::of(b"two\nsame\n"), lines)]);
    let (x, y) = text("x", "y");
    assert_eq!(found[1].1, [Aspect::Link(x, y)]);
    let (before, after) = text("0644", "4755");
    assert_eq!(found[2].1, [Aspect::Mode(before, after)]);
    assert_eq!((found[3].1, found[4].1), (&[Aspect::OnlyInA][..], &[Aspect::OnlyInB][..]));
    let (before, after) = text("0:0", "7 (me):0");
    assert_eq!(found[5].1, [Aspect::Owner(before, after)]);
    assert_eq!(found[6].1, [Aspect::Content(Digest::of(b"12"), Digest::of(b"1\0"), Vec::new())], "no text");
    let (before, after) = text("2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z");
    assert_eq!(found[7].1, [Aspect::Time(before, after)]);
    let (before, after) = text("user.a=1", "user.a=\\x00");
    assert_eq!(found[8].1, [Aspect::Xattrs(before, after)]);
    let output = comparison.to_string();
    for line in [
        "  only-a: only in A",
        "      -one",
        "      +two",
        "  mode: mode 0644 | 4755",
        "- only times differ (time), at 1 place: build with --reproducible",
    ] {
        assert!(output.contains(line), "{line} in\n{output}");
    }
}

#[test]
fn another_kind_size_or_device_at_a_path_is_told() {
    let device = |minor| {
        Files::new().with("d", b"", |header| {
            header.set_entry_type(EntryType::Char);
            header.set_device_major(1).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    };
    let comparison = compare(
        device(3).file("f", b"1").done(),
        device(5).with("f", b"", |it| it.set_entry_type(EntryType::Fifo)).done(),
    );
    let (a, b) = text("1:3", "1:5");
    let (file, pipe) = text("file", "pipe");
    let content = Aspect::Content(Digest::of(b"1"), Digest::of(b""), Vec::new());
    let expected: [(&str, &[Aspect]); 2] =
        [("d", &[Aspect::Device(a, b)]), ("f", &[Aspect::Kind(file, pipe), Aspect::Size(1, 0), content])];
    assert_eq!(found(&comparison), expected);
}

#[test]
fn order_and_writing_are_told_where_nothing_else_differs() {
    let a = Files::new().file("a", b"").file("b", b"").file("c", b"");
    let b = Files::new().file("b", b"").file("c", b"").file("a", b"");
    let comparison = compare(a.done(), b.done());
    assert_eq!(found(&comparison), []);
    assert_eq!(comparison.layers[0].order.as_deref(), Some("a"));
    assert!(comparison.to_string().contains("in another order, from a on"), "{comparison}");
    // A regular file has no device number: the field can be empty, or contain zero.
    let zero = |header: &mut Header| header.set_device_major(0).unwrap();
    let (empty, zero) = (Files::new().file("a", b"").done(), Files::new().with("a", b"", zero).done());
    assert_eq!(found(&compare(empty, zero)), [("a", &[Aspect::Header][..])]);
    let twice = |last: &[u8]| Files::new().file("a", b"1").file("a", last).done();
    assert_eq!(found(&compare(twice(b"2"), twice(b"2"))), []);
    assert_eq!(found(&compare(twice(b"2"), twice(b"3"))).len(), 1);
}

#[test]
fn layers_and_configurations_are_put_side_by_side() {
    let layer = |path: &str| Files::new().file(path, b"").done();
    let steps = |steps: &[&str], created: &str| {
        let steps: Vec<_> = steps.iter().map(|step| json!({ "created": created, "created_by": step })).collect();
        json!({ "created": created, "history": steps, "config": { "Hostname": created, "Env": ["A=1"] } })
    };
    let a = image(&[layer("a"), layer("b")], &steps(&["FROM", "RUN b"], "2020"), "name:1");
    let b = image(&[layer("a"), layer("x"), layer("b")], &steps(&["FROM", "RUN x", "RUN b"], "2021"), "name:2");
    let comparison = Comparison::of(&a, &b).unwrap();
    let pairs: Vec<_> =
        comparison.layers.iter().map(|it| (it.a.map(|(n, _)| n), it.b.map(|(n, _)| n), it.identical)).collect();
    assert_eq!(pairs, [(Some(1), Some(1), true), (None, Some(2), false), (Some(2), Some(3), true)]);
    assert_eq!(comparison.layers[1].made_by.as_deref(), Some("RUN x"));
    let keys: Vec<_> = comparison.configuration.iter().map(|it| it.what.as_str()).collect();
    let expected = [
        "config.Hostname",
        "created",
        "history[0].created",
        "history[1].created",
        "history[1].created_by",
        "history[2]",
    ];
    assert_eq!(keys, expected);
    let output = comparison.to_string();
    for line in
        ["names: name:1 | name:2", "layer 2 is only in B", "created: \"2020\" | \"2021\"", "history[2]: nothing | "]
    {
        assert!(output.contains(line), "{line} in\n{output}");
    }
    assert_eq!(comparison.causes[0].hint, "build with --reproducible");
}

#[test]
fn only_the_names_can_differ() {
    let layer = || vec![Files::new().done()];
    let comparison = Comparison::of(&image(&layer(), &json!({}), "a:1"), &image(&layer(), &json!({}), "a:2")).unwrap();
    assert!(!comparison.identical);
    assert!(comparison.summary().starts_with("they differ: other names, 0 values"), "{}", comparison.summary());
}

#[test]
fn what_is_much_is_cut_for_people_and_what_is_wild_cannot_command_a_terminal() {
    let many = |data: &[u8]| {
        let files = (0..100).fold(Files::new(), |files, number| files.file(&format!("f{number:03}"), data));
        files.file("z\u{1b}[2J", data).done()
    };
    let comparison = compare(many(b"1"), many(b"2"));
    assert_eq!(found(&comparison).len(), 101);
    let output = comparison.to_string();
    assert!(output.contains("  and 76 more; --json has all") && !output.contains('\u{1b}'), "{output}");
    assert_eq!(serde_json::to_value(&comparison).unwrap()["layers"][0]["files"].as_array().unwrap().len(), 101);
}

#[test]
fn damage_names_the_image_that_has_it() {
    let good = Files::new().file("a", b"1").done();
    let mut bad = good.clone();
    bad.truncate(512);
    let (a, b) = (image(&[good], &json!({}), "a:1"), image(&[bad], &json!({}), "a:1"));
    let error = Comparison::of(&a, &b).unwrap_err();
    assert_eq!(error.to_string(), format!("layer 1 of {} cannot be compared with its counterpart", b.image_id()));
    assert_eq!(Comparison::of(&b, &a).unwrap_err().to_string(), error.to_string());
}
