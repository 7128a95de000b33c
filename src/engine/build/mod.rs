//! Builds: of a task and of a laptop, by whichever builder the engine has; what they print, where they fail and whose fault that is,
//! and what they are given besides the context: secrets, credentials, proxies, a platform.

pub(super) mod bases;
pub(super) mod build_output;
pub(super) mod builder;
pub(super) mod builder_choice;
pub(super) mod buildkit_support;
pub(super) mod debug_image;
pub(super) mod failure;
pub(super) mod fault;
pub(super) mod held;
pub(super) mod local_build;
pub(super) mod options;
pub(super) mod platform;
pub(super) mod pull_limit;
pub(super) mod pulling;
pub(super) mod secrets;
pub(super) mod step_lines;
pub(super) mod steps;
pub(super) mod task_build;
