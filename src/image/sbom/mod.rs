//! The software bill of materials: lists the packages of an image from the databases of its package managers, as a `CycloneDX`
//! document. It guesses nothing: packages that are in no database are not listed. Other modules publish the document.
//!
//! - `files`: finds a file as a container sees it, in all layers. `databases`: parses the files. `document`: `CycloneDX`.

mod databases;
mod document;
mod files;
#[cfg(test)]
pub(super) mod fixture;

use std::collections::BTreeMap;
use std::io;

use databases::Distribution;
pub use databases::Package;
pub use document::{Document, Subject, document};
use files::{Files, PathPattern, Search};

use crate::image::layer::{Entry, LayerError};
use crate::image::{Layer, ReadAt};
use crate::report::Bytes;

/// The media type of `CycloneDX`.
pub const CONTENT_TYPE: &str = "application/vnd.cyclonedx+json; version=1.5";

const DPKG: &str = "var/lib/dpkg/status";
const DPKG_DIR: &str = "var/lib/dpkg/status.d";
/// The location of apk's database, before and after Alpine merged its directories.
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// The three formats of rpm's database, at the locations of Red Hat and of SUSE and newer releases of Fedora. Reading them needs
/// a library, and the smallest one is larger than everything else here: they are reported as not listed.
const RPM: [&str; 6] = [
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
];

/// Why packages are not listed. The image itself is fine.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The file cannot be read.
    #[error("cannot read {path} in the image")]
    Read {
        /// Its path in the image.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The file is too large for a list of packages.
    #[error("{path} in the image has {}, which is no list of packages", Bytes(*.size))]
    TooLarge {
        /// Its path in the image.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
}

/// The packages of an image that its package managers know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    distribution: Distribution,
    packages: Vec<Package>,
    /// Databases that exist but are not supported.
    unread: Vec<&'static str>,
}

impl Contents {
    /// The packages, in the order of their package URLs.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// How many packages each package manager has installed.
    #[must_use]
    pub fn managers(&self) -> BTreeMap<&'static str, usize> {
        let mut managers = BTreeMap::new();
        for package in &self.packages {
            *managers.entry(package.manager).or_default() += 1;
        }
        managers
    }

    /// Databases that exist but are not supported.
    #[must_use]
    pub fn unread(&self) -> &[&'static str] {
        &self.unread
    }
}

/// The search for the packages of an image. It is shown each entry, so that one pass over the layers can serve others too.
pub struct PackageSearch(Search);

impl Default for PackageSearch {
    fn default() -> Self {
        let files = [DPKG].into_iter().chain(APK).chain(RELEASE).map(PathPattern::File);
        let directory = [PathPattern::Directory(DPKG_DIR)];
        Self(Search::new(files.chain(directory).chain(RPM.map(PathPattern::Sign)).collect()))
    }
}

impl PackageSearch {
    /// Looks at an entry of the layer with this number; the lowest has 0.
    pub fn add(&mut self, layer: usize, entry: &Entry) {
        self.0.add(layer, entry);
    }

    /// The packages; `None` if there is no database of a package manager. All entries of the layers in `file` were shown.
    pub fn contents(self, file: &dyn ReadAt, layers: &[Layer]) -> Result<Option<Contents>, SbomError> {
        Ok(listed(&self.0.effective_files(file, layers)?))
    }
}

fn listed(files: &Files) -> Option<Contents> {
    let release = RELEASE.iter().find_map(|path| files.get(*path));
    let distribution = release.map(|text| Distribution::read(text)).unwrap_or_default();
    // The directory also contains lists of checksums.
    let status_d = files.iter().filter(|(path, _)| path.starts_with(DPKG_DIR) && !path.ends_with(".md5sums"));
    let debs: Vec<_> = files.get(DPKG).into_iter().chain(status_d.map(|(_, text)| text)).collect();
    let apks: Vec<_> = APK.iter().filter_map(|path| files.get(*path)).collect();
    let unread: Vec<_> = RPM.into_iter().filter(|path| files.contains_key(*path)).collect();
    if debs.is_empty() && apks.is_empty() && unread.is_empty() {
        return None;
    }
    let debs = debs.into_iter().flat_map(|text| databases::dpkg(text, &distribution));
    let mut packages: Vec<_> =
        debs.chain(apks.into_iter().flat_map(|text| databases::apk(text, &distribution))).collect();
    packages.sort_unstable();
    packages.dedup_by(|one, other| one.purl == other.purl);
    Some(Contents { distribution, packages, unread })
}

#[cfg(test)]
mod tests;
