//! The command line and the process: arguments, dispatch, error lines and exit codes. The only module that touches the real
//! environment, clock and stdout.

mod arguments;
mod dispatch;
mod help;
mod keep;
mod load;
mod process;
mod values;

pub use arguments::{Decision, ImageArgument, Invocation, Verb, command, parse};
pub use process::main;
