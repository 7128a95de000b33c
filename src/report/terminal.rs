//! The terminal that bars are drawn on. It can be closed meanwhile: then drawing stops, and this is no reason to fail.

use std::io;

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

/// How often bars are drawn in a second, as indicatif does it by itself.
const DRAWN: u8 = 20;

/// Stderr as a place for bars.
pub(super) fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Terminal(Term::buffered_stderr())), DRAWN)
}

#[derive(Debug)]
struct Terminal(Term);

/// Whatever happened to it.
#[expect(clippy::unnecessary_wraps, reason = "what indicatif wants to hear")]
fn done(_: io::Result<()>) -> io::Result<()> {
    Ok(())
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        done(self.0.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        done(self.0.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        done(self.0.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        done(self.0.move_cursor_left(n))
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        done(self.0.write_line(s))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        done(self.0.write_str(s))
    }

    fn clear_line(&self) -> io::Result<()> {
        done(self.0.clear_line())
    }

    fn flush(&self) -> io::Result<()> {
        done(self.0.flush())
    }
}
