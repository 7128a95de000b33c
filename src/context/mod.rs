//! The context: the files that a build may see, as a tar, and the hash that names it.
//!
//! - [`collect`]: from an image directory to a [`collect::Context`], its hash and its tar.
//! - `choose`: which files, under which names.
//! - `walk`, `source`: the files below a directory, the bytes of a file. `archive`: the bytes of the tar.
//! - `untracked`: what of it git does not track.
//! - [`contents`]: the hash of the scheme `contents`.
//! - [`owners`]: the files are root's, whoever builds.
//! - [`intake`], [`safety`]: a context from outside, verified and refused where it is unsafe, in one pass.
//!
//! Where taskgraph has a hash, [`collect`] has the same one; scripts/compare-taskgraph tries. It refuses, with a
//! reason, a few trees that taskgraph takes: an `# %include` of `../repo-evil` from `/src/repo` (taskgraph compares
//! characters), `# %include-run-task` (only an installed taskgraph has the files), a `# %ARG` whose name is a regular
//! expression, or whose value is no template of `re.sub` while no line follows, a device other than `/dev/null`, a
//! directory that cannot be read (taskgraph leaves it out), a file that changes while it is read; a name, a size or a
//! count that [`intake`] refuses ([`collect::Context::within`]); in the scheme `contents` a directory without a Dockerfile. Named pipes are refused too: taskgraph waits for them forever.

mod ahead;
mod archive;
mod choose;
pub mod collect;
pub mod contents;
pub mod intake;
pub mod owners;
pub mod safety;
mod source;
mod trouble;
mod untracked;
mod walk;
