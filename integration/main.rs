//! The program against the world.

mod archive;
mod build;
mod check;
mod conformance;
mod decide;
mod dry_run;
mod fault_matrix;
mod fuzz;
mod harness;
mod hash;
mod house;
mod load;
mod lookup;
mod managed;
mod parent;
mod payload;
mod push;
mod replay;
mod rerun;
mod run;
mod stand_in;
mod stand_in_tests;
mod taskgraph_images;
mod tree;
mod walk;
mod worker_config;
