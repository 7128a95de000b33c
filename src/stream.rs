//! Pipes for bytes: a writer and a reader that hash and count what passes, and the bridge from the streams of the
//! outside world to the readers of the rooms that think. What the numbers mean is for the rooms above.

use std::error::Error;
use std::io::{self, Read, Write};

use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tokio_util::bytes::Bytes;
use tokio_util::io::{StreamReader, SyncIoBridge};

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

/// A stream as a reader for a blocking thread. An error of the stream arrives inside the reader's `io::Error`;
/// [`cause`] takes it out again.
///
/// Must be called within a tokio runtime, and read outside of its asynchronous threads (`spawn_blocking`).
pub fn reader<E>(stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> impl Read + Send
where
    E: Error + Send + Sync + 'static,
{
    SyncIoBridge::new(StreamReader::new(Box::pin(stream.map(|chunk| chunk.map_err(io::Error::other)))))
}

/// The error of the stream that a [`reader`] read from, if that is what the reader's error is about.
pub fn cause<E: Error + Send + Sync + 'static>(error: io::Error) -> Result<E, io::Error> {
    error.downcast::<E>()
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

    #[tokio::test]
    async fn a_stream_is_read_to_its_error() {
        let error = crate::names::Digest::of(b"").to_string()[1..].parse::<Digest>().unwrap_err();
        let chunks = vec![Ok(Bytes::from_static(b"hello ")), Ok(Bytes::from_static(b"world")), Err(error.clone())];
        let mut reader = reader(futures_util::stream::iter(chunks));
        let read = move || {
            let mut text = Vec::new();
            let error = reader.read_to_end(&mut text).unwrap_err();
            (text, cause::<crate::names::NameError>(error).unwrap())
        };
        let (text, cause) = tokio::task::spawn_blocking(read).await.unwrap();
        assert_eq!((text.as_slice(), cause), (&b"hello world"[..], error));
    }

    #[test]
    fn only_what_the_writer_took_is_counted() {
        let mut small = [0; 3];
        let mut tally = Tally::new(&mut small[..]);
        assert!(tally.write_all(b"hello").is_err());
        assert_eq!(tally.finish().1, Digest::of(b"hel"));
    }
}
