//! The verbs, one file each: each verb's story. Why a verb did not do what it is for is `failed`'s, what its exit code is
//! `exit_code`'s.

mod apart;
pub mod build;
mod cache;
pub mod check;
pub mod context;
pub mod decide;
mod declared;
pub mod dry_run;
mod exit_code;
mod export;
mod failed;
pub mod hash;
mod indexed_parent;
mod leftovers;
pub mod load;
pub mod lookup;
mod measure;
mod named_image;
pub mod prospect;
mod published_document;
pub mod push;
pub mod replay;
pub mod rerun;
pub mod run;
mod scopes;
mod secret_values;
pub mod stop;
pub mod tree;
pub mod whereabouts;

use tokio::task::spawn_blocking;

pub use exit_code::CONFIGURATION;
pub use failed::Failed;
use failed::command_line;
pub use named_image::image_names;

/// Does work that takes its time on a thread of its own, so that signals are heard meanwhile.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failed> + Send + 'static) -> Result<T, Failed> {
    spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
