//! Each subcommand as its users call it: the real binary, against the stand-in and the real engine.

mod build;
mod check;
mod container;
pub(crate) mod decide;
mod doctor;
mod dry_run;
mod hash;
mod history;
mod init;
mod inspect;
mod load;
mod lookup;
mod partial_load;
mod progress;
mod push;
pub(crate) mod replay;
mod rerun;
mod rerun_several;
mod run;
pub(crate) mod tree;
mod why;
