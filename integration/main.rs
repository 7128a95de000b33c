//! The program against the world.

mod conformance;
