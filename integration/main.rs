//! The program against the world.
