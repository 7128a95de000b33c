//! The program against the world.

mod conformance;
mod harness;
mod run;
mod stand_in;
mod stand_in_tests;
