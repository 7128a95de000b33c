//! The architecture that an image is for. Building for another than the engine's own is for `engine`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// An architecture, as Docker and OCI call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetArch {
    /// 64 bit, Intel's and AMD's.
    Amd64,
    /// 64 bit, ARM's.
    Arm64,
}

impl TargetArch {
    /// The platform that an engine is asked for.
    #[must_use]
    pub fn platform(self) -> String {
        format!("linux/{self}")
    }

    /// Whether `name` is another name of it: kernels and engines call both otherwise.
    #[must_use]
    pub fn is(self, name: &str) -> bool {
        match self {
            Self::Amd64 => matches!(name, "amd64" | "x86_64"),
            Self::Arm64 => matches!(name, "arm64" | "aarch64"),
        }
    }
}

impl fmt::Display for TargetArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

impl FromStr for TargetArch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            _ => Err(format!("{text:?} is not an architecture: expected amd64 or arm64")),
        }
    }
}
