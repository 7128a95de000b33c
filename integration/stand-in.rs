//! The stand-in Taskcluster as a program.
fn main() {}
