//! The name of an image without a registry, as a reference of a Dockerfile has it: it could be an image of the same tree.

/// An image's name without a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainName<'a> {
    /// The name.
    pub name: &'a str,
    /// The tag, where it has one.
    pub tag: Option<&'a str>,
}

impl<'a> PlainName<'a> {
    /// The name in a reference; none if that names a registry, or a digest.
    #[must_use]
    pub fn of(image: &'a str) -> Option<Self> {
        if image.contains(['/', '@']) {
            return None;
        }
        let (name, tag) = image.split_once(':').map_or((image, None), |(name, tag)| (name, Some(tag)));
        Some(Self { name, tag })
    }

    /// Whether it has no other tag than `latest`.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        matches!(self.tag, None | Some("latest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_registry_has_a_plain_name() {
        for (image, tag, is_latest) in
            [("builder", None, true), ("builder:latest", Some("latest"), true), ("builder:1", Some("1"), false)]
        {
            let plain = PlainName::of(image).unwrap();
            assert_eq!((plain.name, plain.tag, plain.is_latest()), ("builder", tag, is_latest), "{image}");
        }
        for image in ["localhost:5000/builder", "builder@sha256:00"] {
            assert_eq!(PlainName::of(image), None, "{image}");
        }
    }
}
