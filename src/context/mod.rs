//! The context: the files that a build may use, as a tar, and the hash that identifies it.
//!
//! - [`collect`]: makes a [`collect::Context`], its hash and its tar from an image directory.
//! - `choose`: selects the files and their names. [`checkout`]: the repository that contains them, and its taskgraph;
//!   [`run_task`]: finds an installed taskgraph, for the files of `# %include-run-task`; [`pinned`]: the release that it should
//!   have.
//! - `walk`, `source`: find the files below a directory, and read a file. `archive`: writes the tar.
//! - `untracked`: finds files that git does not track. [`trees`]: the directories and files that a context is made from.
//! - [`contents`]: the hash of the scheme `contents`.
//! - [`owners`]: makes root the owner of all files, for all builders.
//! - [`for_engine`]: prepares a verified context for an engine, as a stream of `pieces`.
//! - [`tar_format`]: headers, PAX records and paths of tars, also for images.
//! - [`listing`]: the entries of a verified context, for comparisons.
//! - [`intake`], [`safety`]: verify a context from outside in one pass, and refuse unsafe entries.
//!
//! If taskgraph computes a hash, [`collect`] computes the same one; scripts/compare-taskgraph tests this. [`collect`] refuses,
//! with a reason, a few trees that taskgraph accepts: an `# %include` of `../repo-evil` from `/src/repo` (taskgraph compares
//! characters); a `# %ARG` whose name is a regular expression, or whose value is not a template of `re.sub` while no line
//! follows; a device other than `/dev/null`; a directory that cannot be read (taskgraph omits it); a file that
//! changes while it is read; a name, a size or a number of files that [`intake`] refuses ([`collect::Context::within`]); in the
//! scheme `contents` a directory without a Dockerfile. It also refuses named pipes: taskgraph waits for them forever.
//! Before 19.1, taskgraph included `__pycache__`.

pub(crate) mod ahead;
mod archive;
mod built_by;
pub mod checkout;
mod choose;
pub mod collect;
pub mod contents;
mod error;
pub mod for_engine;
mod hash;
pub mod intake;
mod limits;
pub mod listing;
mod names;
pub mod owners;
mod pieces;
pub mod pinned;
pub mod run_task;
pub mod safety;
mod source;
pub mod tar_format;
pub mod trees;
mod untracked;
mod walk;

pub use built_by::BuiltBy;
pub use hash::{ContextHash, ContextScheme, HashScheme};
pub use limits::ContextLimits;
pub use names::{ImageName, RepoPath};
pub(crate) use names::{is_repo_path, last_part};
