//! The program against the world.

mod conformance;
mod stand_in;
mod stand_in_tests;
