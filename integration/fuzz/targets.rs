//! The fuzz targets by name: each takes any bytes, and panics where a promise of the program is broken. What gives
//! them bytes is for the tests beside (`cargo test`) and for libFuzzer (`scripts/fuzz`).

#[path = "build_output.rs"]
mod build_output;
#[path = "config.rs"]
mod config;
#[path = "context.rs"]
mod context;
#[path = "dockerfile.rs"]
mod dockerfile;
#[path = "image_archive.rs"]
mod image_archive;
#[path = "input.rs"]
mod input;
#[path = "log_lines.rs"]
mod log_lines;
#[path = "names.rs"]
mod names;
#[path = "tars.rs"]
mod tars;

/// A promise: returns where it is kept, and panics where it is not.
type Target = fn(&[u8]);

/// All targets; their corpora are in `corpus/NAME/`.
pub(crate) const TARGETS: [(&str, Target); 7] = [
    ("build_output", build_output::target),
    ("context", context::target),
    ("dockerfile", dockerfile::target),
    ("image_archive", image_archive::target),
    ("config", config::target),
    ("log_lines", log_lines::target),
    ("names", names::target),
];
