//! Exports as engines make them, and as nobody should: what becomes of them in one pass.

use tar::{Archive, Entry, EntryType, Header};

use super::*;
use crate::names::Digest;

/// The lower layer is larger than what is kept in memory.
fn large() -> Vec<u8> {
    vec![7; 5 * 1024 * 1024 + 3]
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", Digest::of(layer))).collect();
    serde_json::json!({ "architecture": "amd64", "rootfs": { "diff_ids": ids } }).to_string().into()
}

fn config() -> Vec<u8> {
    config_of(&[&large(), b"two"])
}

fn id() -> String {
    format!("sha256:{}", Digest::of(&config()))
}

/// An archive as Docker exports an image by id, with some members left out or changed.
fn export(change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let content = config();
    let config = format!("{}.json", Digest::of(&content));
    let manifest = format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["l1/layer.tar","l2/layer.tar"]}}]"#);
    let large = large();
    let members: [(&str, &[u8]); 5] = [
        (&config, &content),
        ("l1/VERSION", b"1.0"),
        ("l1/layer.tar", &large),
        ("l2/layer.tar", b"two"),
        ("manifest.json", manifest.as_bytes()),
    ];
    let mut out = Builder::new(Vec::new());
    for (name, data) in members {
        if let Some(data) = change(name, data) {
            let mut header = Header::new_ustar();
            header.set_size(data.len() as u64);
            out.append_data(&mut header, name, data.as_slice()).unwrap();
        }
    }
    out.into_inner().unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "it stands where changes do that can leave a member out")]
fn unchanged(_: &str, data: &[u8]) -> Option<Vec<u8>> {
    Some(data.to_vec())
}

fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = Archive::new(archive);
    let read = |entry: io::Result<Entry<&[u8]>>| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        (entry.path().unwrap().display().to_string(), data)
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn an_oci_layout_beside_the_manifest_is_left_out() {
    let mut export = Builder::new(Vec::new());
    for (name, data) in members(&self::export(unchanged)) {
        if name == "manifest.json" {
            for oci in ["index.json", "oci-layout"] {
                let mut header = Header::new_ustar();
                header.set_size(2);
                export.append_data(&mut header, oci, &b"{}"[..]).unwrap();
            }
        }
        let mut header = Header::new_ustar();
        header.set_size(data.len() as u64);
        export.append_data(&mut header, name, data.as_slice()).unwrap();
    }
    let export = export.into_inner().unwrap();
    let (_, out) = normalise(export.as_slice(), &id(), "builder:1234", Vec::new()).unwrap();
    let names: Vec<_> = members(&out).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(!names.iter().any(|name| name == "index.json" || name == "oci-layout"), "{names:?}");
}

#[test]
fn everything_passes_and_the_one_tag_is_added() {
    let export = export(unchanged);
    let (content, out) = normalise(export.as_slice(), &id(), "builder:1234", Vec::new()).unwrap();
    assert_eq!(content, Normalised { image_id: id(), layers: 2, packed: 0 });
    let before = members(&export);
    let after = members(&out);
    assert_eq!(after[..4], before[..4], "layers and configuration are untouched");
    let text = |at: usize| String::from_utf8(after[at].1.clone()).unwrap();
    assert_eq!((after[4].0.as_str(), after[5].0.as_str()), ("manifest.json", "repositories"));
    assert!(text(4).contains(r#""RepoTags":["builder:1234"]"#), "{}", text(4));
    assert_eq!(text(5), r#"{"builder":{"1234":"l2"}}"#);
}

#[test]
fn an_export_that_is_not_the_image_is_refused() {
    let without = |missing: &'static str| move |name: &str, data: &[u8]| (name != missing).then(|| data.to_vec());
    let said = |export: Vec<u8>, id: &str| normalise(export.as_slice(), id, "a:b", io::sink()).unwrap_err().to_string();
    assert!(said(export(without("manifest.json")), &id()).contains("no manifest.json"));
    assert!(said(export(without("l1/layer.tar")), &id()).contains("layer l1/layer.tar is missing"));
    let other = format!("sha256:{}", Digest::of(b"other"));
    assert!(said(export(unchanged), &other).contains(&other));
    let other = config_of(&[b"one", b"two"]);
    let swapped = |name: &str, data: &[u8]| Some(if data == config() { other.clone() } else { unchanged(name, data)? });
    assert!(said(export(swapped), &id()).contains(&Digest::of(&other).to_string()));
    let damaged = |name: &str, data: &[u8]| Some(if name == "l1/layer.tar" { b"one".to_vec() } else { data.to_vec() });
    assert!(said(export(damaged), &id()).contains("its layer l1/layer.tar has sha256 "));
}

#[test]
fn an_export_that_readers_could_take_for_two_is_refused() {
    let member = |kind: EntryType, name: &str, link: &str, data: &[u8]| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let (file, link) = (EntryType::Regular, EntryType::Symlink);
    for (first, why) in [
        (member(file, "./manifest.json", "", b"[]"), "manifest.json is no file, or comes twice"),
        (member(link, "repositories", "l1/layer.tar", b""), "repositories is no file, or comes twice"),
        (member(file, "l1/../l2/layer.tar", "", b""), "\"l2/layer.tar\" comes twice"),
        (member(EntryType::Continuous, "other", "", b""), "\"other\" is no file"),
        (member(EntryType::GNULongName, "@LongLink", "", b"manifest.json"), "is no file, but GNULongName"),
        (member(EntryType::XHeader, "pax", "", b"22 path=manifest.json\n"), "names or sizes in extension headers"),
        (member(file, "../out", "", b""), "\"../out\" has no plain name"),
        (member(link, "other", "x", b"data"), "\"other\" is a folder or link with content"),
    ] {
        let export = [first, export(unchanged)].concat();
        let error = normalise(export.as_slice(), &id(), "a:b", io::sink()).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let mut mode = Header::new_gnu();
    mode.as_old_mut().mode = *b"00064.\0\0";
    mode.set_size(0);
    mode.set_cksum();
    let error = normalise(&mode.as_bytes()[..], &id(), "a:b", io::sink()).unwrap_err().to_string();
    assert!(error.contains("has a number that is none"), "{error}");

    // Two layers that are the same.
    let twins = config_of(&[b"two", b"two"]);
    let name = format!("{}.json", Digest::of(&twins));
    for (target, whole) in [("../l2/layer.tar", true), ("../l3/layer.tar", false), ("layer.tar", false)] {
        let manifest = format!(r#"[{{"Config":"{name}","Layers":["l1/layer.tar","l2/layer.tar"]}}]"#);
        let parts: [Vec<u8>; 5] = [
            member(link, "l1/layer.tar", target, b""),
            member(file, &name, "", &twins),
            member(file, "l2/layer.tar", "", b"two"),
            member(file, "manifest.json", "", manifest.as_bytes()),
            vec![0; 1024],
        ];
        let id = format!("sha256:{}", Digest::of(&twins));
        assert_eq!(normalise(parts.concat().as_slice(), &id, "a:b", io::sink()).is_ok(), whole, "{target}");
    }
    let times = [member(EntryType::XHeader, "pax", "", b"16 mtime=123.50\n"), export(unchanged)].concat();
    assert!(normalise(times.as_slice(), &id(), "a:b", io::sink()).is_ok());
}

#[test]
fn a_cut_export_is_an_error_wherever_it_is_cut() {
    let export = export(unchanged);
    for cut in [0, 100, 512, 600, 5000, export.len() - 2000] {
        let error = normalise(&export[..cut], &id(), "a:b", io::sink()).unwrap_err();
        assert!(matches!(error, ArchiveError::Read(_) | ArchiveError::Content(_)), "cut at {cut}: {error}");
    }
}

#[test]
fn a_full_disk_is_told_from_a_broken_export() {
    let mut small = [0; 1000];
    let error = normalise(export(unchanged).as_slice(), &id(), "a:b", &mut small[..]).map(|_| ()).unwrap_err();
    assert!(matches!(error, ArchiveError::Write(_)), "{error}");
}

#[test]
fn a_compressed_archive_is_the_same_archive() {
    let export = export(unchanged);
    let (mut plain, mut packed) = (Vec::new(), Vec::new());
    let a = crate::image_archive::write(export.as_slice(), &id(), "a:b", None, &mut plain).unwrap();
    let b = crate::image_archive::write(export.as_slice(), &id(), "a:b", Some(3), &mut packed).unwrap();
    assert_eq!(zstd::decode_all(packed.as_slice()).unwrap(), plain);
    assert_eq!((a.sha256, a.size), (Digest::of(&plain), plain.len() as u64));
    assert_eq!((b.sha256, b.size), (Digest::of(&packed), packed.len() as u64));
}
