//! The two builders that a Docker Engine has, and the choice between them. What each of them says and leaves behind is
//! for `engine`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Which builder is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuilderChoice {
    /// The engine's own, or the one that the `Dockerfile` needs.
    #[default]
    Auto,
    /// One step after the other, each with an image of its own.
    Classic,
    /// BuildKit: stages side by side, and `RUN --mount`.
    BuildKit,
}

impl fmt::Display for BuilderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Classic => "classic",
            Self::BuildKit => "buildkit",
        })
    }
}

impl FromStr for BuilderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "classic" => Ok(Self::Classic),
            "buildkit" => Ok(Self::BuildKit),
            _ => Err(format!("{text:?} is not a builder: expected auto, classic or buildkit")),
        }
    }
}
