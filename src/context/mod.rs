//! The context: the files that a build may see, as a tar, and the hash that names it.
//!
//! - [`collect`]: from an image directory to a [`collect::Context`], its hash and its tar.
//! - `choose`: which files, under which names. [`checkout`]: the repository that they are in, and its taskgraph;
//!   [`run_task`]: the files of `# %include-run-task`, and finding the taskgraph that has them; [`pinned`]: which release
//!   that should be.
//! - `walk`, `source`: the files below a directory, the bytes of a file. `archive`: the bytes of the tar.
//! - `untracked`: what of it git does not track. [`trees`]: the directories and files that it is made from.
//! - [`contents`]: the hash of the scheme `contents`.
//! - [`owners`]: the files are root's, whoever builds.
//! - [`for_engine`]: what an engine gets of a verified context, as the stream of `pieces`.
//! - [`tar_format`]: headers, PAX records and paths of tars, for images too.
//! - [`intake`], [`safety`]: a context from outside, verified and refused where it is unsafe, in one pass.
//!
//! Where taskgraph has a hash, [`collect`] has the same one; scripts/compare-taskgraph tries. It refuses, with a
//! reason, a few trees that taskgraph takes: an `# %include` of `../repo-evil` from `/src/repo` (taskgraph compares
//! characters), a `# %ARG` whose name is a regular expression, or whose value is no template of `re.sub` while no line
//! follows, a device other than `/dev/null`, a directory that cannot be read (taskgraph leaves it out), a file that
//! changes while it is read; a name, a size or a count that [`intake`] refuses ([`collect::Context::within`]); in the
//! scheme `contents` a directory without a Dockerfile. Named pipes are refused too: taskgraph waits for them forever.
//! Before 19.1 taskgraph took `__pycache__` along.

pub(crate) mod ahead;
mod archive;
pub mod checkout;
mod choose;
pub mod collect;
pub mod contents;
mod error;
pub mod for_engine;
mod hash;
pub mod intake;
mod limits;
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

pub use hash::{ContextHash, ContextScheme, HashScheme};
pub use limits::ContextLimits;
pub use names::{ImageName, RepoPath};
pub(crate) use names::{is_repo_path, last_part};
