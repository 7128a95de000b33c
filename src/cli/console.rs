//! The process's streams, for containers that use them in place of the program.

use std::io::{self, IsTerminal, Write};

use crate::engine::OutputStream;
use crate::job::foreground::Console;

/// The streams of this process.
pub(super) fn console() -> Console {
    Console { is_terminal: io::stdin().is_terminal() && io::stdout().is_terminal(), write }
}

fn write(stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        OutputStream::Stdout => write_now(io::stdout(), bytes),
        OutputStream::Stderr => write_now(io::stderr(), bytes),
    }
}

/// Writes without waiting for the end of a line: a prompt has none.
fn write_now(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
