//! The command line and the process: arguments, error lines and exit codes. The only module that touches the real environment,
//! clock and stdout.

mod arguments;
mod completion;
mod console;
mod exit_code;
mod process;

pub use arguments::{Invocation, command, parse};
pub use process::main;
