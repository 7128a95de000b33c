//! Cleanup: a run records each resource before it creates it in an engine, and removes it however the run ends. After a
//! SIGKILL the next start removes it. Images that others use or have named, and images that were there before, stay.
//!
//! Each arrow is a [`state::JournalEvent`]. `tracker` keeps it in memory; `journal` writes it to the engine, as the label of
//! an empty volume. `clean` removes what a state owns and so follows the arrows backwards; `after_kill` reads the volumes of
//! dead runs.
//!
//! ```text
//!  an image archive                                        owns
//!    (nothing) ──Load, Cache──▶ loading                    the tag
//!    loading ────Sent─────────▶ unpacking                  the tag, as soon as the engine has unpacked all of it
//!    unpacking ──Loaded───────▶ loaded                     the tag, and the id unless the image was there before
//!
//!  a build
//!    (nothing) ──Build────────▶ building                   the tag, and what `descent` finds on top of the bases
//!    building ───ContextSent──▶ building by itself         the same, as soon as the engine is at the end of its step
//!    building ───Ended────────▶ built                      the tag and the images of the steps, by their ids
//!    built ──────Build────────▶ building                   another try: both
//!    built ──────Stays────────▶ built                      all but this image and what is below it
//!
//!  a container that never runs
//!    (nothing) ──Container────▶ made                       the container
//!
//!  all of them ──clean, or Sweeps and the next start──▶ (nothing), and the volumes go last
//! ```
//!
//! The images of an interrupted build are not known: `candidates` lists all images of the engine, `made_by` compares their
//! histories with the steps of the `Dockerfile`, and `descent` decides, without the engine, which of them certainly belong to
//! the build.

pub(super) mod after_kill;
pub(super) mod candidates;
pub(super) mod clean;
pub(super) mod descent;
pub(super) mod journal;
pub(super) mod made_by;
pub(super) mod state;
pub(super) mod tracker;
pub(super) mod waits;
