//! Registry images: the files VERSION, REGISTRY and HASH of an image directory, in docker's own grammar. Other modules push and
//! pull.

use std::io;
use std::path::{Path, PathBuf};

use super::TreeError;
use crate::context::ImageName;
use crate::net::Digest;
use crate::net::registry::{is_repository, is_tag};
use crate::report::Hint;

/// A registry image: a name in a docker registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// `REGISTRY/NAME`
    pub repository: String,
    /// The tag, as VERSION has it. An image that has a HASH may do without.
    pub version: Option<String>,
    /// `sha256:…`, as HASH has it.
    pub digest: Option<String>,
}

/// Why there is no registry image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryProblem {
    /// Neither VERSION nor HASH.
    #[error(
        "it has no VERSION file{}",
        Hint("`docker_image` is for images in a registry, `task_id_for_image` for built ones")
    )]
    NoVersion,
    /// VERSION without REGISTRY.
    #[error(
        "it has a VERSION and no REGISTRY{}",
        Hint(format_args!("write the registry into {} or {}", own.display(), common.display()))
    )]
    NoRegistry {
        /// The image's own file.
        own: PathBuf,
        /// The file for all images.
        common: PathBuf,
    },
    /// A file whose content docker would refuse.
    #[error("{} holds {text:?}, which is not {what}", file.display())]
    Grammar {
        /// The file.
        file: PathBuf,
        /// Its content.
        text: String,
        /// The expected content.
        what: &'static str,
    },
}

impl Registry {
    /// Reads the files of an image; none where it has neither VERSION nor HASH.
    pub(super) fn read(images_root: &Path, name: &ImageName) -> Result<Option<Self>, TreeError> {
        let wrong = |problem| TreeError::Registry { name: name.clone(), problem };
        let version_file = VersionFile::read(images_root, name)?;
        let version = version_file.version.transpose().map_err(wrong)?;
        let digest = version_file.digest.transpose().map_err(wrong)?;
        if version.is_none() && digest.is_none() {
            return Ok(None);
        }
        let own = images_root.join(name.as_str()).join("REGISTRY");
        let none = || RegistryProblem::NoRegistry { own, common: images_root.join("REGISTRY") };
        let registry = version_file.registry.ok_or_else(none).flatten().map_err(wrong)?;
        Ok(Some(Self { repository: format!("{registry}/{name}"), version, digest }))
    }

    /// What tasks and Dockerfiles call the image: `REGISTRY/NAME@sha256:…` with a HASH, else `REGISTRY/NAME:VERSION`.
    #[must_use]
    pub fn reference(&self) -> String {
        match (&self.digest, &self.version) {
            (Some(digest), _) => format!("{}@{digest}", self.repository),
            (None, Some(version)) => format!("{}:{version}", self.repository),
            (None, None) => self.repository.clone(),
        }
    }
}

/// Whether an image has a file of a registry image, be it right or wrong.
pub(super) fn is_versioned(images_root: &Path, name: &ImageName) -> bool {
    let own = images_root.join(name.as_str());
    ["VERSION", "HASH"].iter().any(|file| own.join(file).exists())
}

/// The content of one file.
pub(super) type Checked = Result<String, RegistryProblem>;

/// The content of an image's files, each by itself.
#[derive(Debug)]
pub(super) struct VersionFile {
    /// VERSION
    pub(super) version: Option<Checked>,
    /// HASH
    pub(super) digest: Option<Checked>,
    /// REGISTRY, the image's own or that of all images.
    pub(super) registry: Option<Checked>,
}

impl VersionFile {
    /// Reads the files of an image.
    pub(super) fn read(images_root: &Path, name: &ImageName) -> Result<Self, TreeError> {
        let own = images_root.join(name.as_str());
        let is_registry = |text: &str| is_repository(&format!("{text}/{name}"));
        let registry = |file: &Path| checked(file, "a registry, `quay.io/mozilla` for example", is_registry);
        Ok(Self {
            version: checked(&own.join("VERSION"), "a tag", is_tag)?,
            digest: checked(&own.join("HASH"), "sha256: and 64 hex digits", is_digest)?,
            registry: match registry(&own.join("REGISTRY"))? {
                None => registry(&images_root.join("REGISTRY"))?,
                found => found,
            },
        })
    }

    /// Whether the image has a file of a registry image, be it right or wrong.
    pub(super) fn is_versioned(&self) -> bool {
        self.version.is_some() || self.digest.is_some()
    }

    /// The problems of the files.
    pub(super) fn problems(&self) -> impl Iterator<Item = &RegistryProblem> {
        [&self.version, &self.digest, &self.registry].into_iter().filter_map(|it| it.as_ref()?.as_ref().err())
    }
}

/// The text of a file, if it exists and is valid.
fn checked(file: &Path, what: &'static str, check: impl Fn(&str) -> bool) -> Result<Option<Checked>, TreeError> {
    let text = match super::read_text(file) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TreeError::Read { path: file.to_owned(), error }),
    };
    if check(&text) {
        return Ok(Some(Ok(text)));
    }
    let text = text.chars().take(60).collect();
    Ok(Some(Err(RegistryProblem::Grammar { file: file.to_owned(), text, what })))
}

fn is_digest(text: &str) -> bool {
    Digest::from_prefixed(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Files;
    use super::*;

    fn reference(files: &[(&str, &str)]) -> Result<Option<String>, String> {
        let files = Files::new(files);
        let message = |error: TreeError| error.to_string().replace(&files.root().display().to_string(), "");
        let found = Registry::read(files.root(), &"i".parse().unwrap()).map_err(message)?;
        Ok(found.map(|registry| registry.reference()))
    }

    #[test]
    fn files_make_the_reference() {
        let hash = format!("sha256:{}\n", "0a".repeat(32));
        let all = [
            ("REGISTRY", "quay.io/m\n"),
            ("i/REGISTRY", " taskcluster\n"),
            ("i/VERSION", "0.1.2\n"),
            ("i/HASH", &hash),
        ];
        assert_eq!(reference(&[("i/Dockerfile", ""), all[0]]), Ok(None));
        assert_eq!(reference(&[all[0], all[2]]), Ok(Some("quay.io/m/i:0.1.2".to_owned())));
        assert_eq!(reference(&all[..3]), Ok(Some("taskcluster/i:0.1.2".to_owned())));
        assert_eq!(reference(&all), Ok(Some(format!("taskcluster/i@{}", hash.trim()))));
        assert_eq!(reference(&[all[0], all[3]]), Ok(Some(format!("quay.io/m/i@{}", hash.trim()))));
    }

    #[test]
    fn what_docker_would_refuse_is_refused() {
        assert_eq!(
            reference(&[("i/VERSION", "1")]).unwrap_err(),
            "the image i: it has a VERSION and no REGISTRY; write the registry into /i/REGISTRY or /REGISTRY"
        );
        for (file, text, what) in [
            ("i/VERSION", "", "a tag"),
            ("i/VERSION", "1 2", "a tag"),
            ("i/HASH", "sha256:00", "sha256: and 64 hex digits"),
            ("i/REGISTRY", "", "a registry, `quay.io/mozilla` for example"),
            ("REGISTRY", "https://quay.io", "a registry, `quay.io/mozilla` for example"),
        ] {
            let mut files = vec![("i/VERSION", "1"), ("REGISTRY", "r")];
            files.retain(|(name, _)| *name != file);
            files.push((file, text));
            let expected = format!("the image i: /{file} holds {text:?}, which is not {what}");
            assert_eq!(reference(&files).unwrap_err(), expected);
        }
    }
}
