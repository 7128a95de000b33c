//! Dockerfiles: taskgraph's preprocessing, the tokenizer, and everything that follows from the instructions without an engine.
//! `context` reads and packs files, `engine` builds.
//!
//! - [`preprocess`], `substitute`: taskgraph's own syntax, which is gone before an engine reads the text.
//! - [`instructions`]: the tokenizer; `directives` and `here_documents` are parts of it, `words` reads what instructions say.
//! - [`base_images`], [`builder_features`], [`declare`]: the images, what only BuildKit knows, arguments without `ARG`.
//! - [`secret_mounts`]: the secrets that steps ask for.
//! - [`plain_name`]: a name that could be an image of the same tree.
//! - [`stages`]: what a builder does, stage by stage.
//! - [`dockerignore`], [`ignore_pattern`]: which files of a context stay out.

pub mod base_images;
pub mod builder_features;
pub mod declare;
mod directives;
pub mod dockerignore;
mod here_documents;
pub mod ignore_pattern;
pub mod instructions;
pub mod plain_name;
pub mod preprocess;
pub mod secret_mounts;
pub mod stages;
mod substitute;
mod words;

pub use declare::PARENT_ARG;
