//! What many image tasks, decisions and consumers do to the services: the requests of each kind of run, counted; a burst of
//! starts against services that fail for all at once; what `decide` makes of images that have expired. docs/scale.md is written
//! from what happens here.

mod burst;
mod expiry;
mod indexed;
mod model;
mod requests;

use crate::harness::document;

/// Writes, or compares, a section of docs/scale.md.
fn section(name: &str, lines: &[String]) {
    document::section("scale.md", name, &lines.join("\n"));
}
