use std::io::{Read, Seek, SeekFrom};

use crate::image_archive::Spool;
use crate::image_archive::fixture::{config, docker_20, docker_25, kaniko, layers, podman, skopeo};
use crate::names::Digest;

fn take_in(archive: &[u8]) -> Spool {
    Spool::take_in(archive, tempfile::tempfile().unwrap()).unwrap()
}

fn layer(spool: &Spool, number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    spool.reader(number).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_layers_of_all_exporters_come_out_plain() {
    let [one, two] = layers();
    for archive in [podman(), skopeo(), docker_25(), kaniko()] {
        let spool = take_in(&archive);
        assert_eq!([layer(&spool, 0), layer(&spool, 1)], [one.clone(), two.clone()]);
        assert_eq!(spool.config(), config(&[one.clone(), two.clone()]));
        assert_eq!(spool.layers()[0].size, one.len() as u64);
        assert_eq!(spool.layers()[1].diff_id, Digest::of(&two));
        spool.expect(&spool.image_id()).unwrap();
    }
    let twins = take_in(&docker_20());
    assert_eq!(twins.layers().len(), 3);
    assert_eq!(twins.layers()[0], twins.layers()[2], "the same layer shares its bytes");
    assert_eq!(twins.tags(), ["base:1", "base:2"]);
    let mut reader = twins.reader(0);
    reader.seek(SeekFrom::End(-5)).unwrap();
    let mut end = Vec::new();
    reader.read_to_end(&mut end).unwrap();
    assert_eq!(end, one[one.len() - 5..]);
}
