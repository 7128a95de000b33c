//! The architecture that an image is for. Building for another than the engine's own is for `engine`.

use crate::report::keywords;

keywords! {
    /// An architecture, as Docker and OCI call it.
    pub enum TargetArch, "an architecture" {
        /// 64 bit, Intel's and AMD's.
        Amd64 = "amd64",
        /// 64 bit, ARM's.
        Arm64 = "arm64",
    }
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
