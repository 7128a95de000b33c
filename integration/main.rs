//! The program against the world.

mod conformance;
mod dry_run;
mod fault_matrix;
mod fuzz;
mod harness;
mod hash;
mod house;
mod replay;
mod rerun;
mod run;
mod stand_in;
mod stand_in_tests;
mod worker_config;
