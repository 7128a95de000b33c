//! Dockerfiles: taskgraph's preprocessing, the instructions that follow, and what can be known from them without an engine.
//! Reading and packing files is for `context`, building for `engine`.

pub mod base_images;
pub mod builder_features;
pub mod declare;
pub mod instructions;
pub mod preprocess;
mod substitute;
mod words;
