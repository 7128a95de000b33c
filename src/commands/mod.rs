//! The verbs, one file each: each verb's story. Why a verb did not do what it is for, and the exit code that says so, is
//! `failed`'s.

pub mod check;
pub mod context;
pub mod decide;
mod failed;
pub mod hash;
pub mod load;
pub mod lookup;
pub mod prospect;
pub mod replay;
pub mod rerun;
pub mod run;
pub mod stop;
pub mod whereabouts;

pub use failed::Failed;
