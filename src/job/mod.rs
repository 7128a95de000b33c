//! The image task's job: what it is given, what it fetches, and what it publishes.

pub mod build_script;
pub mod fetch;
pub mod loading;
pub mod metrics;
pub mod parent;
pub mod provenance;
pub mod publish;
pub mod work_dir;
