//! Parses the databases of dpkg and apk, and `os-release`, into packages with package URLs (purl). The module `sbom` finds the
//! files, and `document` writes the packages.

use std::collections::BTreeMap;

use packageurl::PackageUrl;

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// `pkg:…`, unique among the installed packages.
    pub purl: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The program that has installed it.
    pub manager: &'static str,
}

/// The distribution of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    /// `debian`
    pub(super) id: Option<String>,
    /// `12`; rolling ones have none.
    pub(super) version: Option<String>,
    /// The name for display.
    pub(super) name: Option<String>,
}

impl Distribution {
    /// Reads an `os-release`: shell assignments, of which it supports only the simple ones.
    pub(super) fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let values: BTreeMap<_, _> = text.lines().filter_map(|line| line.trim().split_once('=')).collect();
        let value = |key: &str| {
            let value = values.get(key)?.trim();
            let bare = ['"', '\''].iter().find_map(|it| value.strip_prefix(*it)?.strip_suffix(*it)).unwrap_or(value);
            (!bare.is_empty()).then(|| bare.to_owned())
        };
        Self { id: value("ID"), version: value("VERSION_ID"), name: value("PRETTY_NAME").or_else(|| value("NAME")) }
    }

    /// The form used in purls: `debian-12`.
    fn qualifier(&self) -> Option<String> {
        let id = self.id.as_ref()?;
        Some(self.version.as_ref().map_or_else(|| id.clone(), |version| format!("{id}-{version}")))
    }
}

/// The required fields of a package in a database.
struct PackageRecord<'a> {
    name: &'a str,
    version: &'a str,
    architecture: Option<&'a str>,
    /// The source package, if its name or version differs: `NAME` or `NAME@VERSION`.
    upstream: Option<String>,
}

impl PackageRecord<'_> {
    /// Converts it to a package of the type `kind`; `vendor` is used if the distribution has no id.
    fn package(self, kind: &str, vendor: &str, of: &Distribution) -> Option<Package> {
        let mut purl = PackageUrl::new(kind, self.name).ok()?;
        purl.with_namespace(of.id.as_deref().unwrap_or(vendor)).ok()?;
        purl.with_version(self.version).ok()?;
        let arch = self.architecture.map(str::to_owned);
        let qualifiers = [("arch", arch), ("distro", of.qualifier()), ("upstream", self.upstream)];
        for (key, value) in qualifiers {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                purl.add_qualifier(key, value).ok()?;
            }
        }
        let (name, version) = (self.name.to_owned(), self.version.to_owned());
        let manager = if kind == "deb" { "dpkg" } else { "apk" };
        Some(Package { purl: purl.to_string(), name, version, manager })
    }
}

/// The installed packages of a `status` file, or of a file below `status.d`, which lists only installed packages.
pub(super) fn dpkg(text: &[u8], of: &Distribution) -> Vec<Package> {
    let text = String::from_utf8_lossy(text);
    let one = |fields: BTreeMap<&str, &str>| {
        // want, error, state: packages that were removed but whose configuration remains are listed too.
        let installed = |status: &&str| status.split_whitespace().last() == Some("installed");
        if !fields.get("status").is_none_or(installed) {
            return None;
        }
        let (name, version) = (*fields.get("package")?, *fields.get("version")?);
        let upstream = fields.get("source").map(|source| match source.split_once(" (") {
            Some((source, of)) => format!("{source}@{}", of.trim_end_matches(')')),
            None => (*source).to_owned(),
        });
        let architecture = fields.get("architecture").copied();
        PackageRecord { name, version, architecture, upstream }.package("deb", "debian", of)
    };
    paragraphs(&text, |line| {
        let (key, value) = line.split_once(':')?;
        // Continuation lines begin with a blank; none of them is needed.
        let known = ["package", "version", "architecture", "source", "status"];
        Some((known.into_iter().find(|it| it.eq_ignore_ascii_case(key))?, value.trim()))
    })
    .into_iter()
    .filter_map(one)
    .collect()
}

/// The packages of an apk database.
pub(super) fn apk(text: &[u8], of: &Distribution) -> Vec<Package> {
    let text = String::from_utf8_lossy(text);
    let one = |fields: BTreeMap<&str, &str>| {
        let (name, version) = (*fields.get("P")?, *fields.get("V")?);
        let upstream = fields.get("o").filter(|origin| **origin != name).map(|origin| (*origin).to_owned());
        PackageRecord { name, version, architecture: fields.get("A").copied(), upstream }.package("apk", "alpine", of)
    };
    paragraphs(&text, |line| line.split_once(':').filter(|(key, _)| ["P", "V", "A", "o"].contains(key)))
        .into_iter()
        .filter_map(one)
        .collect()
}

/// The fields of each paragraph; paragraphs are separated by empty lines. The first field with a name counts.
fn paragraphs<'a>(
    text: &'a str,
    field: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> Vec<BTreeMap<&'a str, &'a str>> {
    let mut all = vec![BTreeMap::new()];
    for line in text.lines() {
        if line.trim().is_empty() {
            all.push(BTreeMap::new());
        } else if let (Some((key, value)), Some(last)) = (field(line), all.last_mut()) {
            last.entry(key).or_insert(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn purls(packages: Vec<Package>) -> Vec<String> {
        packages.into_iter().map(|package| package.purl).collect()
    }

    fn debian() -> Distribution {
        Distribution::read(
            b"# of Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n",
        )
    }

    #[test]
    fn a_distribution_says_who_it_is() {
        assert_eq!(debian().qualifier().unwrap(), "debian-12");
        assert_eq!(debian().name.unwrap(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(Distribution::read(b"ID='arch'\nVERSION_ID=\"\"\n").qualifier().unwrap(), "arch");
        assert_eq!(Distribution::read(b"\xff nonsense"), Distribution::default());
    }

    #[test]
    fn dpkg_lists_what_is_installed() {
        let text = b"\
Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nSource: glibc\nVersion: 2.36-9+deb12u13\n\
Description: GNU C Library\n Shared libraries\n Version: 0\n\n\
Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
Package: half\nStatus: install reinstreq half-installed\nArchitecture: amd64\nVersion: 1\n\n\
Package: held\nStatus: hold ok installed\nArchitecture: all\nSource: other (1.0)\nVersion: 1:1.0~rc1-2\n\n\n\
package: lower\nstatus: install ok installed\nversion: 3\n\nStatus: install ok installed\n";
        let expected = [
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12&upstream=glibc",
            "pkg:deb/debian/held@1:1.0~rc1-2?arch=all&distro=debian-12&upstream=other%401.0",
            "pkg:deb/debian/lower@3?distro=debian-12",
        ];
        let found: Vec<_> = purls(dpkg(text, &debian())).iter().map(|it| it.replace("%3A", ":")).collect();
        assert_eq!(found, expected);
        // As in distroless images: one package per file.
        let alone = dpkg(b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\n", &Distribution::default());
        assert_eq!(purls(alone), ["pkg:deb/debian/base-files@12.4?arch=amd64"]);
    }

    #[test]
    fn apk_lists_what_is_installed() {
        let text = b"C:Q1xyz=\nP:musl\nV:1.2.4-r2\nA:x86_64\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\n\n\
                     P:ssl_client\nV:1.36.1-r5\nA:x86_64\no:busybox\nF:usr\n\nF:nothing\n";
        let of = Distribution { id: Some("alpine".to_owned()), version: Some("3.18.4".to_owned()), name: None };
        let expected = [
            "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.18.4",
            "pkg:apk/alpine/ssl_client@1.36.1-r5?arch=x86_64&distro=alpine-3.18.4&upstream=busybox",
        ];
        assert_eq!(purls(apk(text, &of)), expected);
    }

    proptest! {
        #[test]
        fn never_a_panic(text in any::<Vec<u8>>(), lines in "(Package|P|Version|V|Source|ID|Status):? ?[ -~é]{0,9}\n{0,2}") {
            let text = [text, lines.into_bytes()].concat();
            let of = Distribution::read(&text);
            let _ = (dpkg(&text, &of), apk(&text, &of));
        }
    }
}
