//! The architecture that an image is for. `engine` builds for other architectures than its own.

use crate::report::keywords;

keywords! {
    /// An architecture, as Docker and OCI name it.
    pub enum TargetArch, "an architecture" {
        /// 64 bit, Intel and AMD.
        Amd64 = "amd64",
        /// 64 bit, ARM.
        Arm64 = "arm64",
    }
}

impl TargetArch {
    /// The platform to request from an engine.
    #[must_use]
    pub fn platform(self) -> String {
        format!("linux/{self}")
    }

    /// Whether `name` is another name of it: kernels and engines use different ones.
    #[must_use]
    pub fn is(self, name: &str) -> bool {
        match self {
            Self::Amd64 => matches!(name, "amd64" | "x86_64"),
            Self::Arm64 => matches!(name, "arm64" | "aarch64"),
        }
    }
}
