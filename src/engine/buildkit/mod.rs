//! BuildKit, the newer builder of a Docker Engine: its session, its progress in the format of the classic builder, and the
//! cache images that it gets. `build` requests builds and handles their results.

mod lines;
mod offer;
mod progress;
pub(super) mod session;
mod vertex;

pub(super) use progress::{Progress, ProgressFailure};
