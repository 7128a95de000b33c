//! Compares archives written directly with the same ones arranged from an unpacked image, and tests layers that do not match.
//! The module `engine::storage` supplies real layers.

use std::cell::RefCell;
use std::io::Read as _;

use serde_json::json;

use super::*;
use crate::image::check;

fn layers() -> Vec<Vec<u8>> {
    let layer = |name: &str, size: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        tar.append_data(&mut header, name, &vec![7; size][..]).unwrap();
        tar.into_inner().unwrap()
    };
    vec![layer("a", 3), layer("b", 3_000_001), layer("a", 3), layer("c", 0)]
}

fn known_layers(layers: &[Vec<u8>]) -> KnownLayers<'static> {
    let summary = |layer: &Vec<u8>| LayerSummary { diff_id: Digest::of(layer), size: layer.len() as u64 };
    let layers: Vec<_> = layers.iter().map(summary).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.prefixed()).collect();
    let config = json!({ "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    KnownLayers { config: config.to_string().into_bytes(), layers, tag: "image:1" }
}

/// Writes the archive of an image; `layer` gives the bytes of each layer.
fn build(
    image: KnownLayers<'_>,
    layer: impl Fn(usize) -> io::Result<Vec<u8>>,
) -> Result<UnpackedImage, KnownLayersError> {
    let write = |number, out: &mut dyn Write| layer(number)?.chunks(1000).try_for_each(|piece| out.write_all(piece));
    UnpackedImage::write_known_layers(image, write, tempfile::tempfile().unwrap())
}

#[test]
fn what_is_laid_down_is_the_canonical_archive() {
    let layers = layers();
    let requested = RefCell::new(Vec::new());
    let unpacked = build(known_layers(&layers), |number| {
        requested.borrow_mut().push(number);
        Ok(layers[number].clone())
    });
    let unpacked = unpacked.unwrap();
    assert_eq!(*requested.borrow(), [0, 1, 3], "each layer once");
    let archive = unpacked.arrange("image:1").unwrap();
    let (mut bytes, mut file) = (Vec::new(), Vec::new());
    archive.copy_to(&mut bytes).unwrap();
    let known = archive.sum().unwrap();
    assert_eq!((known.sha256, known.size), (Digest::of(&bytes), bytes.len() as u64));
    io::Seek::rewind(&mut unpacked.file()).unwrap();
    unpacked.file().read_to_end(&mut file).unwrap();
    assert!(file == bytes, "the file is the archive, and nothing else");
    assert_eq!(check(bytes.as_slice()).unwrap().problems, []);

    let again = UnpackedImage::import(bytes.as_slice(), tempfile::tempfile().unwrap()).unwrap();
    assert_eq!((again.config(), again.image_id()), (unpacked.config(), unpacked.image_id()));
    let mut arranged = Vec::new();
    again.arrange("image:1").unwrap().copy_to(&mut arranged).unwrap();
    assert!(arranged == bytes);
    for (number, layer) in layers.iter().enumerate() {
        let mut read = Vec::new();
        unpacked.reader(number).read_to_end(&mut read).unwrap();
        assert!(read == *layer, "layer {number}");
    }
    // Under another name it is another archive with the same layers.
    let (mut other, mut expected) = (Vec::new(), Vec::new());
    unpacked.arrange("other:2").unwrap().copy_to(&mut other).unwrap();
    again.arrange("other:2").unwrap().copy_to(&mut expected).unwrap();
    assert!(other == expected && other != bytes);
}

#[test]
fn what_was_not_announced_is_refused() {
    let layers = layers();
    let right = &layers[1];
    let mut wrong = right.clone();
    wrong[1000] ^= 1;
    for other in [wrong, right[1..].to_vec(), [right, &[0][..]].concat(), Vec::new()] {
        let layer = |number: usize| Ok(if number == 1 { other.clone() } else { layers[number].clone() });
        let error = build(known_layers(&layers), layer).unwrap_err();
        let KnownLayersError::Other { wanted, found, .. } = error else { panic!("{error}") };
        assert_eq!((wanted, found), (Digest::of(right), Digest::of(&other)));
    }
    let error = build(known_layers(&layers), |_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
    assert!(matches!(&error, KnownLayersError::Read { layer, .. } if *layer == Digest::of(&layers[0])), "{error}");
    let mut other = known_layers(&layers);
    other.layers.swap(0, 1);
    assert!(matches!(build(other, |number| Ok(layers[number].clone())), Err(KnownLayersError::Config)));
    let none = KnownLayers { config: b"no JSON".to_vec(), ..known_layers(&layers) };
    assert!(matches!(build(none, |number| Ok(layers[number].clone())), Err(KnownLayersError::Config)));
    // A write error is not reported as an error of the layer.
    let read_only = tempfile::NamedTempFile::new().unwrap();
    let file = File::open(read_only.path()).unwrap();
    let write = |number: usize, out: &mut dyn Write| out.write_all(&layers[number]);
    let error = UnpackedImage::write_known_layers(known_layers(&layers), write, file).unwrap_err();
    assert!(matches!(error, KnownLayersError::Write(_)), "{error}");
}
