//! Builds, in tasks and on laptops, with any builder of an engine: parses their output, explains their failures, and passes
//! them what they need besides the context: secrets, credentials, proxies and a platform.

pub(super) mod bases;
pub(super) mod build_output;
pub(super) mod builder;
pub(super) mod builder_choice;
pub(super) mod buildkit_support;
pub(super) mod debug_image;
pub(super) mod failure;
pub(super) mod fault;
pub(super) mod local_build;
pub(super) mod options;
pub(super) mod platform;
pub(super) mod pull_limit;
pub(super) mod pulling;
pub(super) mod running_build;
pub(super) mod secrets;
pub(super) mod step_lines;
pub(super) mod steps;
pub(super) mod task_build;
