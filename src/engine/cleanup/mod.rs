//! Leaving nothing behind: what a run puts into an engine is written down before it is there, and removed on every way out,
//! after a SIGKILL by the next start. What others use, have named, or had before us, stays.
//!
//! Each arrow is a [`state::JournalEvent`]: it goes into memory, and as the label of an empty volume into the engine, by `tracker`
//! and `journal`. `clean` removes what a state owns, from the right to the left; `after_kill` reads the volumes of runs that are dead.
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
//! Where a build was cut short, its images are not known: `candidates` asks the engine for all of its images, `made_by` compares what
//! made them with the steps of the `Dockerfile`, and `descent` decides, without the engine, which of them are ours for certain.

pub(super) mod after_kill;
pub(super) mod candidates;
pub(super) mod clean;
pub(super) mod descent;
pub(super) mod journal;
pub(super) mod made_by;
pub(super) mod state;
pub(super) mod tracker;
pub(super) mod waits;
