//! The software bill of materials: which packages are in an image, by the databases of its own package managers, as a
//! `CycloneDX` document. Nothing is guessed: what no database has is not listed. Publishing it is for others.
//!
//! - `files`: a file as a container sees it, through all layers. `databases`: what stands in them. `document`: `CycloneDX`.

mod databases;
mod document;
mod files;
#[cfg(test)]
pub(super) mod fixture;

use std::io;

use databases::{Distribution, Package};
pub use document::{Document, Subject, document};
use files::{Files, PathPattern, effective};

use crate::image::UnpackedImage;
use crate::image::layer::LayerError;
use crate::report::Bytes;

/// `CycloneDX`'s media type.
pub const CONTENT_TYPE: &str = "application/vnd.cyclonedx+json; version=1.5";

const DPKG: &str = "var/lib/dpkg/status";
const DPKG_FOLDER: &str = "var/lib/dpkg/status.d";
/// Where apk has its database, before and after Alpine merged its folders.
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// rpm's three formats, at the places of Red Hat's and of SUSE's and Fedora's newer releases. They need a library that
/// reads them, the smallest of which is larger than all else that is done here: they are seen, and said not to be listed.
const RPM: [&str; 6] = [
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
];

/// Why packages are not listed. The image is none the worse for it.
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
        /// Why not.
        source: io::Error,
    },
    /// Nobody has that many packages.
    #[error("{path} in the image has {}, which is no list of packages", Bytes(*.size))]
    TooLarge {
        /// Its path in the image.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The list cannot be written.
    #[error("cannot write the list of packages into {path}")]
    Write {
        /// The folder.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// What is in an image, as far as its package managers know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    distribution: Distribution,
    packages: Vec<Package>,
    /// Databases that are there, and not read.
    unread: Vec<&'static str>,
}

impl Contents {
    /// How many packages are listed.
    #[must_use]
    pub fn packages(&self) -> usize {
        self.packages.len()
    }

    /// Databases that are there, and not read.
    #[must_use]
    pub fn unread(&self) -> &[&'static str] {
        &self.unread
    }
}

/// What is in an image; none if no package manager has been there.
pub fn contents(image: &UnpackedImage) -> Result<Option<Contents>, SbomError> {
    let files = [DPKG].into_iter().chain(APK).chain(RELEASE).map(PathPattern::File);
    let wanted: Vec<_> = files.chain([PathPattern::Folder(DPKG_FOLDER)]).chain(RPM.map(PathPattern::Sign)).collect();
    Ok(listed(&effective(image.file(), image.layers(), &wanted)?))
}

fn listed(files: &Files) -> Option<Contents> {
    let release = RELEASE.iter().find_map(|path| files.get(*path));
    let distribution = release.map(|text| Distribution::read(text)).unwrap_or_default();
    // Beside the packages are their lists of sums.
    let folder = files.iter().filter(|(path, _)| path.starts_with(DPKG_FOLDER) && !path.ends_with(".md5sums"));
    let debs: Vec<_> = files.get(DPKG).into_iter().chain(folder.map(|(_, text)| text)).collect();
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
