//! The terminal behind stderr: whether there is one, and how large it is now.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

/// The size of a terminal in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Of a terminal that does not say how large it is: of serial consoles, and of programs that only imitate a terminal.
const UNKNOWN: Size = Size { columns: 80, rows: 24 };

impl Size {
    /// Whether the display is readable in it: a step's name with its time, and some lines of output below it.
    pub(super) fn is_enough(self) -> bool {
        self.columns >= 40 && self.rows >= 8
    }
}

/// The size of the terminal at stderr as the terminal says it, which can be 0; `None` if stderr is no terminal.
pub(super) fn reported_size() -> Option<Size> {
    let stderr = io::stderr();
    let size = stderr.is_terminal().then(|| tcgetwinsize(&stderr).ok())??;
    Some(Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// The size to draw for.
pub(super) fn size() -> Size {
    reported_size().filter(|size| size.columns > 0 && size.rows > 0).unwrap_or(UNKNOWN)
}
