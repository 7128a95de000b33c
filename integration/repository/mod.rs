//! Image directories of a checkout, on a laptop and in CI.

mod laptop;
mod walk;
