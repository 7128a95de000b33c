//! Image archives: their canonical form, and the same bytes twice.

mod canonical;
mod reproducible;
