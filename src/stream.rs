//! Pipes for bytes that check themselves: a writer and a reader that hash and count what passes.
//! What the numbers mean, and what to do when they are wrong, is for the rooms above.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::names::Digest;

/// Passes bytes on to a writer, or out of a reader, and keeps their sha256 and their number.
#[derive(Debug)]
pub struct Tally<T> {
    inner: T,
    hasher: Sha256,
    bytes: u64,
}

impl<T> Tally<T> {
    /// Starts at zero bytes.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// How many bytes have passed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The other end, the sha256 of all that passed, and its length in bytes.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest::new(self.hasher.finalize().into()), self.bytes)
    }

    fn count(&mut self, passed: &[u8]) {
        self.hasher.update(passed);
        self.bytes += passed.len() as u64;
    }
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.count(&buf[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Tally<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.count(&buf[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_and_hashes_what_passed() {
        let mut written = Tally::new(Vec::new());
        written.write_all(b"hello ").unwrap();
        written.write_all(b"world").unwrap();
        let (out, digest, bytes) = written.finish();
        assert_eq!((out.as_slice(), bytes), (&b"hello world"[..], 11));
        assert_eq!(digest, Digest::of(b"hello world"));

        let mut read = Tally::new(&b"hello world"[..]);
        io::copy(&mut read, &mut io::sink()).unwrap();
        assert_eq!(read.finish().1, digest);
    }

    #[test]
    fn only_what_the_writer_took_is_counted() {
        let mut small = [0; 3];
        let mut tally = Tally::new(&mut small[..]);
        assert!(tally.write_all(b"hello").is_err());
        assert_eq!(tally.finish().1, Digest::of(b"hel"));
    }
}
