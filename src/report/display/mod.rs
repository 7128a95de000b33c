//! The live display of a terminal: the steps that run with the last lines of their output, and transfers. `screen` is what
//! stands there, and makes the characters that change it; `live` writes them. Log lines are written above it.

mod cells;
mod live;
mod screen;
mod steps;
#[cfg(test)]
mod tests;
mod transfer;

pub use live::BuildSteps;
pub(super) use live::{Display, TransferLine};
pub use steps::{BuildEvent, StepEnd};
pub(super) use transfer::Total;
