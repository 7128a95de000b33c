//! The setting that chooses between the two builders of a Docker Engine. `builder` applies it.

use crate::report::keywords;

keywords! {
    /// Which builder to use.
    #[derive(Default)]
    pub enum BuilderChoice, "a builder" {
        /// The engine's default, or the one that the `Dockerfile` needs.
        #[default]
        Auto = "auto",
        /// The classic builder: one step after the other, and an image for each step.
        Classic = "classic",
        /// BuildKit: stages in parallel, and `RUN --mount`.
        BuildKit = "buildkit",
    }
}
