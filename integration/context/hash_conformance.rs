//! The given trees have the hashes of the real tools, to the last digit, in both schemes. Trees that are not chosen
//! by hand are for scripts/compare-taskgraph, which needs Python.

use std::collections::BTreeMap;
use std::path::Path;

use flate2::read::GzDecoder;
use image_worker::context::collect::Context;
use image_worker::context::{ContextHash, HashScheme};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    images: BTreeMap<String, Image>,
}

#[derive(Deserialize)]
pub(crate) struct Image {
    pub(crate) tar: ContextHash,
    pub(crate) contents: ContextHash,
    #[serde(default)]
    pub(crate) args: BTreeMap<String, String>,
}

/// The images, in a repository that is removed with the first value.
pub(crate) fn images() -> (tempfile::TempDir, BTreeMap<String, Image>) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/conformance");
    let expected = std::fs::read_to_string(fixtures.join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&expected).unwrap();
    let root = tempfile::tempdir().unwrap();
    let tree = std::fs::File::open(fixtures.join("tree.tar.gz")).unwrap();
    let mut tree = tar::Archive::new(GzDecoder::new(tree));
    // Permission bits count, whatever the umask here.
    tree.set_preserve_permissions(true);
    tree.unpack(root.path()).unwrap();
    (root, expected.images)
}

#[test]
fn the_given_trees_have_the_given_hashes() {
    let (root, images) = images();
    assert_eq!(images.len(), 7);
    for (name, image) in images {
        for (scheme, expected) in [(HashScheme::Tar, image.tar), (HashScheme::Contents, image.contents)] {
            let directory = Path::new("testing/docker").join(&name);
            let context = Context::collect(&root.path().into(), &directory, &image.args, scheme).unwrap();
            assert_eq!(context.hash().unwrap(), expected, "{name}, scheme {scheme}");
            assert_eq!(context.write_tar_gz(std::io::sink()).unwrap(), expected, "{name}, scheme {scheme}, written");
        }
    }
}
