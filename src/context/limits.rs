//! How large a context may be.

/// How large a context may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLimits {
    /// The most uncompressed bytes.
    pub max_bytes: u64,
    /// The most tar entries.
    pub max_entries: u64,
}

impl Default for ContextLimits {
    /// What the settings have where nobody says another.
    fn default() -> Self {
        Self { max_bytes: 2 << 30, max_entries: 100_000 }
    }
}
