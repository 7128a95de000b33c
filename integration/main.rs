//! The integration tests: the program against real engines, services and tools, or their stand-ins.

#![allow(clippy::too_many_arguments, clippy::too_many_lines, reason = "the limits are for src/")]

mod bench;
mod cli;
mod commands;
mod conformance;
mod context;
mod engine;
mod faults;
mod fuzz;
mod harness;
mod image;
mod job;
mod layout;
mod repository;
mod scale;
mod schemas;
mod worker_config;
