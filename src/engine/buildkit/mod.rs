//! BuildKit, the younger builder of a Docker Engine: what it says of a build, in the classic builder's words. Asking for
//! a build, and what its end means, is `build`'s.

mod lines;
mod offer;
mod progress;
pub(super) mod session;
mod vertex;

pub(super) use progress::{Failing, Progress};
