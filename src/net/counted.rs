//! A reader that tells from outside how far it has come, while others own it.

use std::cell::Cell;
use std::io::{self, Read};

/// How far a reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The bytes that were read.
    pub bytes: u64,
    /// Whether more was wanted than there is.
    pub is_at_end: bool,
}

/// Passes bytes on, and writes down how many.
#[derive(Debug)]
pub struct Counted<'p, R> {
    inner: R,
    position: &'p Cell<Position>,
}

impl<'p, R> Counted<'p, R> {
    /// Starts where `position` is.
    pub fn new(inner: R, position: &'p Cell<Position>) -> Self {
        Self { inner, position }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        let Position { bytes, is_at_end } = self.position.get();
        let is_at_end = is_at_end || (read == 0 && !buf.is_empty());
        self.position.set(Position { bytes: bytes + read as u64, is_at_end });
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_seen_when_more_is_wanted() {
        let position = Cell::new(Position::default());
        let mut reader = Counted::new(&b"abc"[..], &position);
        reader.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(position.get(), Position { bytes: 3, is_at_end: false });
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert!(!position.get().is_at_end);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert_eq!(position.get(), Position { bytes: 3, is_at_end: true });
    }
}
