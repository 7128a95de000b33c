//! The two builders that a Docker Engine has, and the choice between them. What each of them says and leaves behind is
//! for `engine`.

use crate::report::keywords;

keywords! {
    /// Which builder is wanted.
    #[derive(Default)]
    pub enum BuilderChoice, "a builder" {
        /// The engine's own, or the one that the `Dockerfile` needs.
        #[default]
        Auto = "auto",
        /// One step after the other, each with an image of its own.
        Classic = "classic",
        /// BuildKit: stages side by side, and `RUN --mount`.
        BuildKit = "buildkit",
    }
}
