//! The packages of an image, as its SBOM lists them, and what differs between those of two images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::sbom::Contents;

/// The largest SBOM that is read, in bytes: a list of the 3,000 packages of a large image has about 1 MiB.
pub(super) const LARGEST_SBOM: u64 = 16 << 20;

/// `sbom.cdx.json`, as far as it is read. It comes from another task.
#[derive(Debug, Deserialize)]
pub(super) struct Sbom {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Debug, Deserialize)]
struct Component {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    version: Option<String>,
    purl: Option<String>,
}

/// The packages of an image, by what a package keeps from version to version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packages(BTreeMap<String, PackageVersion>);

/// A package in one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageVersion {
    /// Its name.
    pub name: String,
    /// Its version; empty if the SBOM has none.
    pub version: String,
}

/// A package in two images, in two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageUpgrade {
    /// Its name.
    pub name: String,
    /// The version in the earlier image.
    pub before: String,
    /// The version in the later one. It can be the lower version.
    pub now: String,
}

/// The packages that differ between two images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackageDifference {
    /// Only in the later image.
    pub added: Vec<PackageVersion>,
    /// Only in the earlier one.
    pub removed: Vec<PackageVersion>,
    /// In both, in two versions.
    pub upgraded: Vec<PackageUpgrade>,
}

impl From<Sbom> for Packages {
    fn from(sbom: Sbom) -> Self {
        // The operating system is a component, and no package.
        let libraries = sbom.components.into_iter().filter(|component| component.kind == "library");
        let packages = libraries.map(|Component { name, version, purl, .. }| {
            let identity = purl.map_or_else(|| name.clone(), |purl| identity(&purl));
            (identity, PackageVersion { name, version: version.unwrap_or_default() })
        });
        Self(packages.collect())
    }
}

impl From<&Contents> for Packages {
    fn from(contents: &Contents) -> Self {
        let packages = contents.packages().iter().map(|package| {
            let version = PackageVersion { name: package.name.clone(), version: package.version.clone() };
            (identity(&package.purl), version)
        });
        Self(packages.collect())
    }
}

/// A package URL without the version and the distribution's version: `pkg:deb/debian/curl?arch=amd64`. Two architectures of a
/// package are two packages.
fn identity(purl: &str) -> String {
    let (place, qualifiers) = purl.split_once('?').unwrap_or((purl, ""));
    // An `@` in a namespace or a name is escaped.
    let name = place.rsplit_once('@').map_or(place, |(name, _)| name);
    let kept: Vec<_> = qualifiers.split('&').filter(|it| !it.is_empty() && !it.starts_with("distro=")).collect();
    if kept.is_empty() { name.to_owned() } else { format!("{name}?{}", kept.join("&")) }
}

impl Packages {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What differs in a later image.
    pub(super) fn difference(&self, later: &Self) -> PackageDifference {
        let missing_in = |other: &Self, of: &Self| {
            let missing = of.0.iter().filter(|(identity, _)| !other.0.contains_key(*identity));
            missing.map(|(_, package)| package.clone()).collect()
        };
        let both = later.0.iter().filter_map(|(identity, now)| Some((self.0.get(identity)?, now)));
        let upgraded = both.filter(|(before, now)| before.version != now.version).map(|(before, now)| PackageUpgrade {
            name: now.name.clone(),
            before: before.version.clone(),
            now: now.version.clone(),
        });
        PackageDifference {
            added: missing_in(self, later),
            removed: missing_in(later, self),
            upgraded: upgraded.collect(),
        }
    }
}

impl PackageDifference {
    /// Whether the two images have the same packages in the same versions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.upgraded.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn packages(components: &[Value]) -> Packages {
        serde_json::from_value::<Sbom>(json!({ "components": components })).unwrap().into()
    }

    fn curl(version: &str, qualifiers: &str) -> Value {
        let purl = format!("pkg:deb/debian/curl@{version}?{qualifiers}");
        json!({ "type": "library", "name": "curl", "version": version, "purl": purl })
    }

    #[test]
    fn a_package_is_the_same_in_another_version_and_another_release_of_the_distribution() {
        let bookworm = [
            json!({ "type": "operating-system", "name": "debian", "version": "12" }),
            curl("7", "arch=amd64&distro=debian-12"),
            curl("7", "arch=i386&distro=debian-12"),
            json!({ "type": "library", "name": "no-purl" }),
        ];
        let trixie = [curl("8", "arch=amd64&distro=debian-13"), curl("8", "arch=arm64&distro=debian-13")];
        let (bookworm, trixie) = (packages(&bookworm), packages(&trixie));
        assert_eq!(bookworm.len(), 3);
        let named = |name: &str, version: &str| PackageVersion { name: name.into(), version: version.into() };
        let upgraded = vec![PackageUpgrade { name: "curl".into(), before: "7".into(), now: "8".into() }];
        let difference = bookworm.difference(&trixie);
        assert_eq!(difference.added, [named("curl", "8")], "arm64");
        assert_eq!(difference.removed, [named("no-purl", ""), named("curl", "7")], "and i386");
        assert_eq!(difference.upgraded, upgraded);
        assert!(!difference.is_empty() && trixie.difference(&trixie.clone()).is_empty());
    }

    #[test]
    fn identities_have_neither_versions_nor_distributions() {
        for (purl, expected) in [
            ("pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=debian-12", "pkg:deb/debian/g%2B%2B?arch=amd64"),
            ("pkg:apk/alpine/%40scope@1?distro=alpine-3", "pkg:apk/alpine/%40scope"),
            ("pkg:deb/debian/a", "pkg:deb/debian/a"),
        ] {
            assert_eq!(identity(purl), expected);
        }
    }
}
