//! The image task's job, stage by stage, and what other subcommands do in the same way. [`image_task`] is the job itself;
//! [`CommandError`] has all the ways in which it, or a subcommand, can fail.

pub mod artifact_status;
mod build;
pub mod build_script;
mod cache;
pub mod context_archive;
mod declared;
pub mod dry_run;
mod dry_run_tags;
mod error;
pub mod export;
pub mod fetch;
pub mod image_task;
mod indexed_parent;
pub mod loading;
pub mod local_build;
pub mod lookup;
mod measure;
pub mod metrics;
pub mod named_image;
mod orphans;
pub mod parent;
mod prepare;
pub mod provenance;
pub mod publish;
mod published_document;
pub mod push;
pub mod rerun_assessment;
mod run;
pub mod scopes;
pub mod secret_values;
pub mod shutdown;
pub mod task_definition;
pub mod unpack;
pub mod work_dir;

pub use error::CommandError;
