//! Limits for the size of a context.

/// Limits for the size of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLimits {
    /// The maximum number of uncompressed bytes.
    pub max_bytes: u64,
    /// The maximum number of tar entries.
    pub max_entries: u64,
}

impl Default for ContextLimits {
    /// The default values of the settings.
    fn default() -> Self {
        Self { max_bytes: 2 << 30, max_entries: 100_000 }
    }
}
