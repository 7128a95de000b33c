//! The program against the world.

mod stand_in;
mod stand_in_tests;
