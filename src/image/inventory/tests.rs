//! Inventories of small images whose bytes are counted by hand. `integration/` tests real images.

use super::files::FileTree;
use super::*;
use crate::image::sbom::fixture::{Content, each_entry, image};

fn tree(layers: &[&[(&str, Content)]]) -> (FileTree, Vec<usize>) {
    let (file, layers) = image(layers);
    let mut tree = FileTree::default();
    let mut counts = vec![0; layers.len()];
    each_entry(&file, &layers, |layer, entry| counts[layer] += usize::from(tree.add(entry, layer).is_some()));
    (tree, counts)
}

fn wasted(tree: &FileTree) -> Vec<String> {
    let one = |it: &WastedPath| format!("{}={} {:?} {}", it.path, it.bytes, it.by, it.layer);
    tree.waste(9).paths.iter().map(one).collect()
}

#[test]
fn later_layers_overwrite_and_delete() {
    use Content::{Directory, File, HardLink, Symlink};
    let low: &[_] = &[
        ("a", Directory),
        ("a/one", File("1234567890")),
        ("a/two", File("12345")),
        ("a/b/three", File("123")),
        ("ab", File("1")),
        ("link", Symlink("a/one")),
        ("again", HardLink("a/one")),
    ];
    let (all, counts) = tree(&[low]);
    assert_eq!((all.count(), counts.as_slice(), all.visible(1)), (6, &[6][..], vec![19]));
    assert_eq!(all.waste(9), Waste { bytes: 0, efficiency: 100, paths: Vec::new() });
    for (name, above, expected, visible) in [
        ("another file", vec![("a/four", File("4"))], vec![], vec![19, 1]),
        ("the same directory again", vec![("a", Directory)], vec![], vec![19, 0]),
        ("overwritten", vec![("a/one", File("new"))], vec!["a/one=10 Overwritten 2"], vec![9, 3]),
        ("deleted", vec![("a/.wh.one", File(""))], vec!["a/one=10 Deleted 2"], vec![9, 0]),
        ("a directory deleted", vec![(".wh.a", File(""))], vec!["a=18 Deleted 2"], vec![1, 0]),
        (
            "deleted and made again",
            vec![("a/two", File("22")), (".wh.a", File("")), ("a/one", File("1"))],
            vec!["a=13 Deleted 2", "a/two=5 Overwritten 2"],
            vec![1, 3],
        ),
        ("emptied", vec![("a/.wh..wh..opq", File("")), ("a/x", File("x"))], vec!["a=18 Deleted 2"], vec![1, 1]),
        ("a file in its place", vec![("a", File("a"))], vec!["a=18 Overwritten 2"], vec![1, 1]),
        ("a directory in its place", vec![("ab", Directory)], vec!["ab=1 Overwritten 2"], vec![18, 0]),
        ("nothing to delete", vec![(".wh.nothing", File(""))], vec![], vec![19, 0]),
    ] {
        let (all, _) = tree(&[low, &above]);
        assert_eq!(
            (wasted(&all), all.visible(2)),
            (expected.into_iter().map(str::to_owned).collect(), visible),
            "{name}"
        );
    }
    let (twice, _) = tree(&[low, &[("a/one", File("12"))], &[("a/.wh.one", File(""))]]);
    assert_eq!(wasted(&twice), ["a/one=12 Deleted 3"]);
    assert_eq!(twice.waste(9).efficiency, 42, "9 of 21 bytes");
}

#[test]
fn what_is_large_is_listed_where_it_is() {
    use Content::File;
    let (all, _) = tree(&[&[
        ("usr/lib/big/file", File("1234567890123456789012345678901234567890")),
        ("usr/share/doc", File("12345")),
        ("etc/passwd", File("12")),
        ("empty", File("")),
    ]]);
    let shown =
        |paths: Vec<SizedPath>| paths.into_iter().map(|it| format!("{} {}", it.size, it.path)).collect::<Vec<_>>();
    assert_eq!(shown(all.largest_files(2)), ["40 usr/lib/big/file", "5 usr/share/doc"]);
    assert_eq!(shown(all.directories().largest(9)), ["45 usr", "40 usr/lib/big", "5 usr/share", "2 etc"]);
}

#[test]
fn a_configuration_shows_no_values_of_variables() {
    let text = r#"{"os":"linux","architecture":"arm64","created":"2026-01-01T00:00:00Z","config":{"User":"worker","Env":["PATH=/bin","TOKEN=hush"],"Cmd":["sh","-c"],"ExposedPorts":{"80/tcp":{}},"Labels":{"a":"b"}}}"#;
    let configuration = Configuration::read(text.as_bytes());
    assert_eq!(configuration.platform, "linux/arm64");
    assert_eq!(
        (configuration.variables, configuration.labels),
        (vec!["PATH".to_owned(), "TOKEN".to_owned()], vec!["a=b".to_owned()])
    );
    assert_eq!(configuration.exposed_ports, ["80/tcp"]);
    assert_eq!(Configuration::read(b"{}").platform, "unknown/unknown");
}
