//! Who builds, as far as the context that it gets depends on it.

/// The builder: each handles ignore files differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuiltBy {
    /// Docker's classic builder: it removes a listed `Dockerfile` and `.dockerignore` itself, after reading them.
    #[default]
    Classic,
    /// BuildKit: it ignores a `.dockerignore` in a context that it receives.
    BuildKit,
    /// Podman: it leaves files out itself, by the rules and from the ignore files that its version supports, unless it gets
    /// [`ForEngine::excludes`].
    Podman,
}

impl BuiltBy {
    /// Its name in the provenance.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::BuildKit => "buildkit",
            Self::Podman => "buildah",
        }
    }
}
