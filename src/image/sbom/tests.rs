//! Checks the document with another library. `integration/` tests real images.

use cyclonedx_bom::prelude::{Bom, Validate as _};
use serde_json::{Value, json};

use super::fixture::{Content, each_entry, image};
use super::*;

const RELEASE_TEXT: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
const STATUS: &str = "Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-1+x\nSource: src (3)\n\n\
                      Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";

fn of(layers: &[&[(&str, Content)]]) -> Option<Contents> {
    let (file, layers) = image(layers);
    let mut search = PackageSearch::default();
    each_entry(&file, &layers, |layer, entry| search.add(layer, &entry));
    search.contents(&file, &layers).unwrap()
}

/// The document, validated by the library of `CycloneDX`.
fn validated(contents: &Contents, moment: Option<jiff::Timestamp>) -> Value {
    let image_id = format!("sha256:{}", "0123456789abcdef".repeat(4)).parse().unwrap();
    let subject = Subject { tag: "builder:0011", image_id, moment };
    let text = serde_json::to_string(&document(subject, contents)).unwrap();
    let bom = Bom::parse_from_json_v1_5(text.as_bytes()).unwrap();
    let judged = bom.validate();
    assert!(judged.passed(), "{judged:?}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_image_of_debian_lists_its_packages() {
    use Content::{File, Symlink};
    let low: &[_] = &[
        ("usr/lib/os-release", File(RELEASE_TEXT)),
        ("etc/os-release", Symlink("../usr/lib/os-release")),
        ("var/lib/dpkg/status", File("Package: old\nStatus: install ok installed\nVersion: 0\n")),
    ];
    let contents = of(&[low, &[("var/lib/dpkg/status", File(STATUS))]]).unwrap();
    let value = validated(&contents, None);
    assert_eq!(value["serialNumber"], "urn:uuid:01234567-89ab-8def-8123-456789abcdef");
    assert_eq!(value["metadata"]["component"]["name"], "builder");
    assert_eq!(value["metadata"].get("timestamp"), None, "the same image, the same document");
    let names: Vec<_> = value["components"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["debian", "a", "b"]);
    let purl = value["components"][2]["purl"].as_str().unwrap().replace("%3A", ":");
    assert_eq!(purl, "pkg:deb/debian/b@1:2.0-1%2Bx?arch=amd64&distro=debian-12&upstream=src%403");
    assert_eq!(value["components"][2]["version"], "1:2.0-1+x");
}

#[test]
fn images_without_a_package_manager_have_no_list() {
    use Content::{Directory, File};
    assert_eq!(of(&[&[("etc/os-release", File(RELEASE_TEXT)), ("var/lib/dpkg", Directory)]]), None);
    let removed: &[_] = &[("var/lib/dpkg/.wh.status", File(""))];
    assert_eq!(of(&[&[("var/lib/dpkg/status", File(STATUS))], removed]), None, "the last layer removed it");
}

#[test]
fn each_kind_of_database_is_read_or_said_not_to_be() {
    use Content::File;
    let apk = of(&[&[("usr/lib/apk/db/installed", File("P:musl\nV:1\nA:x86_64\n"))]]).unwrap();
    assert_eq!(validated(&apk, None)["components"][0]["purl"], "pkg:apk/alpine/musl@1?arch=x86_64");

    let distroless = of(&[
        &[("var/lib/dpkg/status.d/base", File("Package: base\nVersion: 1\n"))],
        &[
            ("var/lib/dpkg/status.d/tzdata", File("Package: tzdata\nVersion: 2\n")),
            ("var/lib/dpkg/status.d/tzdata.md5sums", File("x")),
        ],
    ]);
    assert_eq!(distroless.unwrap().packages().len(), 2);

    let rpm = of(&[&[("var/lib/rpm/rpmdb.sqlite", File("SQLite format 3")), ("etc/os-release", File("ID=fedora\n"))]])
        .unwrap();
    assert_eq!((rpm.packages().len(), rpm.unread()), (0, &["var/lib/rpm/rpmdb.sqlite"][..]));
    let moment = jiff::Timestamp::from_second(1_451_606_400).unwrap();
    let value = validated(&rpm, Some(moment));
    assert_eq!(
        value["metadata"]["properties"],
        json!([{ "name": "image-worker:unread", "value": "var/lib/rpm/rpmdb.sqlite" }])
    );
    assert_eq!(value["metadata"]["timestamp"], "2016-01-01T00:00:00Z");
}
