//! Tests with handmade storages in the layouts of Docker and Podman, and with invalid ones. `integration/engine/export.rs`
//! tests real storages.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

/// A layer's tar with two files, and the tar-split metadata of it.
struct Layer {
    tar: Vec<u8>,
    lines: Vec<serde_json::Value>,
}

/// Like tar-split: headers and padding as bytes, contents by their names.
fn layer(files: &[(&str, &[u8])]) -> Layer {
    let (mut tar, mut lines) = (Vec::new(), Vec::new());
    let mut pending = Vec::new();
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        // The tar library refuses a name that starts with a slash; engines keep such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        pending.extend_from_slice(header.as_bytes());
        lines.push(json!({ "type": 2, "payload": STANDARD.encode(&pending), "position": lines.len() }));
        lines.push(
            json!({ "type": 1, "name": name, "size": content.len(), "payload": "AA==", "position": lines.len() }),
        );
        tar.extend_from_slice(&std::mem::take(&mut pending));
        tar.extend_from_slice(content);
        pending.resize((512 - content.len() % 512) % 512, 0);
    }
    pending.resize(pending.len() + 1024, 0);
    lines.push(json!({ "type": 2, "payload": STANDARD.encode(&pending), "position": lines.len() }));
    tar.extend_from_slice(&pending);
    Layer { tar, lines }
}

fn write_split(path: &Path, lines: &[serde_json::Value]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut out = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), flate2::Compression::fast());
    for line in lines {
        out.write_all(line.to_string().as_bytes()).unwrap();
        out.write_all(b"\n").unwrap();
    }
    out.finish().unwrap();
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const FILES: &[(&str, &[u8])] = &[("./etc/one", b"first"), ("/usr/two", &[7; 3000]), ("three", b"")];

fn put_files(tree: &Path) {
    for (name, content) in FILES {
        write(&tree.join(name.trim_start_matches('/')), content);
    }
}

fn tar_of(files: LayerFiles) -> Result<Vec<u8>, String> {
    let config = json!({ "rootfs": { "diff_ids": [files.diff_id.prefixed()] } }).to_string().into_bytes();
    let image = in_storage(ImageFiles { config, layers: vec![files] }, tempfile::tempfile().unwrap());
    let image = image.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
    let mut tar = Vec::new();
    image.reader(0).read_to_end(&mut tar).map_err(|error| error.to_string())?;
    assert_eq!(tar.len() as u64, image.size());
    Ok(tar)
}

#[test]
fn docker_s_storage_has_the_image() {
    for (driver, tree) in [("overlay2", "overlay2/abc-init/diff"), ("vfs", "vfs/dir/abc-init")] {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let layer = layer(FILES);
        let below = Digest::of(b"below");
        let diff_id = Digest::of(&layer.tar);
        let config = json!({ "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{below}"), format!("sha256:{diff_id}")] } });
        let config = config.to_string();
        let id = Digest::of(config.as_bytes());
        let image_dir = root.join("image").join(driver);
        write(&image_dir.join("imagedb/content/sha256").join(id.to_string()), &config);
        let chain = Digest::of(format!("sha256:{below} sha256:{diff_id}").as_bytes());
        for (chain, diff_id, cache) in [(below, below, "base"), (chain, diff_id, "abc-init")] {
            let layer_dir = image_dir.join("layerdb/sha256").join(chain.to_string());
            write(&layer_dir.join("diff"), format!("sha256:{diff_id}"));
            write(&layer_dir.join("cache-id"), cache);
            write_split(&layer_dir.join("tar-split.json.gz"), &layer.lines);
        }
        put_files(&root.join(tree));
        let mut found = docker::find(root, driver, id).unwrap();
        assert_eq!(found.config, config.as_bytes());
        assert_eq!(found.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), [below, diff_id]);
        assert_eq!(tar_of(found.layers.pop().unwrap()).unwrap(), layer.tar, "{driver}");

        let other = docker::find(root, driver, Digest::of(b"other")).err().unwrap().to_string();
        assert!(other.starts_with("cannot read "), "{other}");
        write(&image_dir.join("layerdb/sha256").join(chain.to_string()).join("cache-id"), "../../etc");
        let error = docker::find(root, driver, id).err().unwrap().to_string();
        assert!(error.ends_with("cache-id in the engine's storage is not as expected: it names no folder"), "{error}");
        write(&image_dir.join("imagedb/content/sha256").join(id.to_string()), config.replace("layers", "Layers"));
        let error = docker::find(root, driver, id).err().unwrap().to_string();
        assert!(error.ends_with("it is not the image's configuration"), "{error}");
    }
    let error = docker::find(Path::new("/nonexistent"), "btrfs", Digest::of(b"")).err().unwrap().to_string();
    assert!(error.contains("the driver btrfs"), "{error}");
}

#[test]
fn podman_s_storage_has_the_image() {
    for (driver, tree) in [("overlay", "overlay/upper/diff"), ("vfs", "vfs/dir/upper")] {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let layer = layer(FILES);
        let (below, diff_id) = (Digest::of(b"below"), Digest::of(&layer.tar));
        let config = b"{}";
        let id = Digest::of(config);
        let images = root.join(format!("{driver}-images"));
        write(&images.join("images.json"), json!([{ "id": id.to_string(), "layer": "upper" }]).to_string());
        let name = format!("={}", STANDARD.encode(format!("sha256:{id}")));
        write(&images.join(id.to_string()).join(name), config);
        let layers = root.join(format!("{driver}-layers"));
        let write_layers = |base_parent: &str| {
            let upper =
                json!({ "id": "upper", "parent": "base", "diff-digest": format!("sha256:{diff_id}"), "diff-size": 1 });
            let base = json!({ "id": "base", "parent": base_parent, "diff-digest": format!("sha256:{below}") });
            write(&layers.join("layers.json"), json!([upper, base]).to_string());
        };
        write_layers("");
        write_split(&layers.join("upper.tar-split.gz"), &layer.lines);
        put_files(&root.join(tree));
        let mut found = containers::find(root, driver, id).unwrap();
        assert_eq!(found.config, config);
        assert_eq!(found.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), [below, diff_id]);
        assert_eq!(tar_of(found.layers.pop().unwrap()).unwrap(), layer.tar, "{driver}");

        write_layers("upper");
        let error = containers::find(root, driver, id).err().unwrap().to_string();
        assert!(error.ends_with("a layer is below itself"), "{error}");
        let error = containers::find(root, driver, Digest::of(b"other")).err().unwrap().to_string();
        assert!(error.contains("it has no image"), "{error}");
    }
}

#[test]
fn no_name_leads_out_of_a_layer() {
    let directory = tempfile::tempdir().unwrap();
    let (split, tree) = (directory.path().join("split.gz"), directory.path().join("tree"));
    write(&directory.path().join("secret"), b"secret");
    put_files(&tree);
    symlink("../secret", tree.join("link")).unwrap();
    symlink("..", tree.join("up")).unwrap();
    symlink(directory.path(), tree.join("far")).unwrap();
    symlink("one", tree.join("etc/near")).unwrap();
    std::fs::create_dir(tree.join("folder")).unwrap();
    let files = || LayerFiles { diff_id: Digest::of(b""), split: split.clone(), tree: tree.clone() };
    for name in
        ["../secret", "etc/../../secret", "link", "up/secret", "far/secret", "etc/near", "folder", "none", "/../secret"]
    {
        write_split(&split, &[json!({ "type": 1, "name": name, "size": 5, "payload": "" })]);
        let error = tar_of(files()).unwrap_err();
        assert!(error.starts_with(&format!("the content of {name} is not there: ")), "{error}");
    }
    // A file that is too short is as wrong as a missing one.
    write_split(&split, &[json!({ "type": 1, "name": "etc/one", "size": 6, "payload": "" })]);
    let error = tar_of(files()).unwrap_err();
    assert!(error.contains("etc/one is not there"), "{error}");
    let raw = STANDARD.encode("etc/one");
    write_split(&split, &[json!({ "type": 1, "name": "", "name_raw": raw, "size": 5, "payload": "" })]);
    assert_eq!(tar_of(files()).unwrap(), b"first");
}

#[test]
fn a_recipe_that_is_none_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let split = directory.path().join("split.gz");
    let files = || LayerFiles { diff_id: Digest::of(b""), split: split.clone(), tree: directory.path().to_owned() };
    for line in [
        json!({ "type": 3, "payload": "" }),
        json!({ "type": 2, "payload": "=?" }),
        json!({ "type": 1, "size": 5 }),
        json!({ "type": 1, "name": "x", "size": -1 }),
        json!("text"),
    ] {
        write_split(&split, &[line]);
        let error = tar_of(files()).unwrap_err();
        assert!(error.starts_with(&format!("cannot read {}", split.display())), "{error}");
    }
    let huge = json!({ "type": 1, "name": "x", "size": u64::MAX });
    write_split(&split, &[huge.clone(), huge]);
    assert!(tar_of(files()).unwrap_err().contains("too large"));
    std::fs::write(&split, b"no gzip").unwrap();
    tar_of(files()).unwrap_err();
}
