//! The three namespaces of an image in the index. `job` writes their entries.

use serde::Serialize;

use crate::context::{ContextHash, ImageName};
use crate::net::NameError;
use crate::taskcluster::{IndexPrefix, Namespace, Project, PushDate};

/// The three namespaces that an image is indexed under. The README says what finds an image by each ("Use it in a task graph").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageNamespaces {
    /// `….latest`
    pub latest: Namespace,
    /// `….pushdate.{year}.{month}-{day}-{pushtime}`
    pub pushdate: Namespace,
    /// `….hash.{context_hash}`
    pub hash: Namespace,
}

impl ImageNamespaces {
    /// The namespaces of an image.
    ///
    /// # Errors
    /// When one of them is longer than the index can store.
    pub fn new(
        index: &IndexPrefix,
        project: &Project,
        image: &ImageName,
        pushdate: PushDate,
        hash: ContextHash,
    ) -> Result<Self, NameError> {
        let base = image_namespace(index, project, image);
        Ok(Self {
            latest: Namespace::of_latest(index, project, image)?,
            pushdate: format!("{base}.pushdate.{}", pushdate.route_tail()).parse()?,
            hash: Namespace::of_hash(index, project, image, hash)?,
        })
    }
}

impl Namespace {
    /// Where a project's image of a hash is found: `….hash.{hash}`.
    ///
    /// # Errors
    /// When it is longer than the index can store.
    pub fn of_hash(
        index: &IndexPrefix,
        project: &Project,
        image: &ImageName,
        hash: ContextHash,
    ) -> Result<Self, NameError> {
        format!("{}.hash.{hash}", image_namespace(index, project, image)).parse()
    }

    /// Where a project's newest image of a name is found: `….latest`.
    ///
    /// # Errors
    /// When it is longer than the index can store.
    pub fn of_latest(index: &IndexPrefix, project: &Project, image: &ImageName) -> Result<Self, NameError> {
        format!("{}.latest", image_namespace(index, project, image)).parse()
    }

    /// Where a project's images of a name are found by their pushes: `….pushdate`, and with a year `….pushdate.{year}`.
    ///
    /// # Errors
    /// When it is longer than the index can store, or the year is no part of a namespace.
    pub fn of_pushes(
        index: &IndexPrefix,
        project: &Project,
        image: &ImageName,
        year: Option<&str>,
    ) -> Result<Self, NameError> {
        let below = year.map(|year| format!(".{year}")).unwrap_or_default();
        format!("{}.pushdate{below}", image_namespace(index, project, image)).parse()
    }

    /// The push whose `….pushdate.{year}.{month}-{day}-{pushtime}` this is; none for any other namespace.
    #[must_use]
    pub fn push(&self) -> Option<PushDate> {
        let (_, tail) = self.as_str().rsplit_once(".pushdate.")?;
        PushDate::of_route_tail(tail)
    }

    /// The route to this namespace.
    #[must_use]
    pub fn route(&self) -> String {
        format!("index.{self}")
    }
}

/// `docker.images.v1.{project}.{image_name}`, below the prefix's own namespace.
fn image_namespace(index: &IndexPrefix, project: &Project, image: &ImageName) -> String {
    let below = index.as_str().strip_prefix("index").unwrap_or_default().trim_start_matches('.');
    let dot = if below.is_empty() { "" } else { "." };
    format!("{below}{dot}docker.images.v1.{project}.{image}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Digest;

    #[test]
    fn namespaces_of_an_image() {
        let hash = ContextHash(Digest::of(b""));
        let of = |index: &str, image: &str| {
            ImageNamespaces::new(
                &index.parse().unwrap(),
                &"mozilla-central".parse().unwrap(),
                &image.parse().unwrap(),
                "20151209123456".parse().unwrap(),
                hash,
            )
        };
        let names = of("index", "builder").unwrap();
        assert_eq!(names.latest.as_str(), "docker.images.v1.mozilla-central.builder.latest");
        assert_eq!(names.pushdate.as_str(), "docker.images.v1.mozilla-central.builder.pushdate.2015.12-09-123456");
        assert_eq!(names.hash.as_str(), format!("docker.images.v1.mozilla-central.builder.hash.{hash}"));
        let route = format!("index.docker.images.v1.mozilla-central.builder.hash.{hash}");
        assert_eq!(names.hash.route(), route);
        assert_eq!(names.pushdate.push(), Some("20151209123456".parse().unwrap()));
        assert_eq!(names.latest.push(), None);
        let pushes = |year| {
            let (index, project, image) = ("index".parse().unwrap(), "try".parse().unwrap(), "a".parse().unwrap());
            Namespace::of_pushes(&index, &project, &image, year).map(|found| found.to_string()).ok()
        };
        assert_eq!(pushes(None).unwrap(), "docker.images.v1.try.a.pushdate");
        assert_eq!(pushes(Some("2015")).unwrap(), "docker.images.v1.try.a.pushdate.2015");
        assert_eq!(pushes(Some("20/15")), None);
        let staging = of("index.garbage", "builder").unwrap();
        assert_eq!(staging.latest.as_str(), "garbage.docker.images.v1.mozilla-central.builder.latest");
        let long = of(&format!("index.{}", "x".repeat(64)), &"a".repeat(128));
        assert!(long.is_err(), "the index cannot store more than 255 characters");
    }
}
