//! A writer or reader that hashes and counts the bytes that pass.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use crate::net::{Digest, SizedDigest};

/// Passes bytes on to a writer, or from a reader, and keeps their sha256 and their number. For long data the digest is computed
/// in its own thread, in parallel with the transfer.
#[derive(Debug)]
pub struct DigestReader<T> {
    inner: T,
    hashing: Box<Hashing>,
    bytes: u64,
}

impl<T> DigestReader<T> {
    /// Starts at zero bytes.
    pub fn new(inner: T) -> Self {
        Self { inner, hashing: Box::new(Hashing::Inline(Sha256::new())), bytes: 0 }
    }

    /// How many bytes have passed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The other end, and the sha256 and length of all that passed.
    pub fn finish(self) -> (T, SizedDigest) {
        let sha256 = Digest::new(self.hashing.finish().finalize().into());
        (self.inner, SizedDigest { sha256, size: self.bytes })
    }

    fn count(&mut self, passed: &[u8]) {
        self.bytes += passed.len() as u64;
        self.hashing.update(passed);
        if self.bytes > LONG {
            self.hashing.go_beside();
        }
    }
}

/// From here on a thread pays, which takes some 20 µs to start: this takes a millisecond to hash.
const LONG: u64 = 1024 * 1024;

/// The size of a block for the thread.
const HASHED_PIECE: usize = 256 * 1024;

/// The number of blocks that may wait for the thread: 2 MiB.
const HASHED_PIECES: usize = 8;

/// Where a digest is computed.
#[derive(Debug)]
enum Hashing {
    Inline(Sha256),
    Threaded {
        piece: Vec<u8>,
        pieces: SyncSender<Vec<u8>>,
        /// Hashed blocks for reuse: fresh memory costs as much as the copy into it.
        used: Receiver<Vec<u8>>,
        hasher: JoinHandle<Sha256>,
    },
    /// There is no thread to be had.
    InlineOnly(Sha256),
}

impl Hashing {
    fn update(&mut self, passed: &[u8]) {
        match self {
            Self::Inline(hasher) | Self::InlineOnly(hasher) => hasher.update(passed),
            Self::Threaded { piece, pieces, used, .. } => {
                piece.extend_from_slice(passed);
                if piece.len() >= HASHED_PIECE {
                    let empty = used.try_recv().unwrap_or_else(|_| Vec::with_capacity(HASHED_PIECE));
                    // The thread lives until the channel is closed.
                    let _ = pieces.send(std::mem::replace(piece, empty));
                }
            }
        }
    }

    fn go_beside(&mut self) {
        let Self::Inline(hasher) = self else { return };
        let (pieces, receiver) = sync_channel::<Vec<u8>>(HASHED_PIECES);
        let (back, used) = channel();
        let mut beside = hasher.clone();
        let hashing = move || {
            for mut piece in receiver {
                beside.update(&piece);
                piece.clear();
                let _ = back.send(piece);
            }
            beside
        };
        *self = match std::thread::Builder::new().name("sha256".to_owned()).spawn(hashing) {
            Ok(hasher) => Self::Threaded { piece: Vec::with_capacity(HASHED_PIECE), pieces, used, hasher },
            Err(_) => Self::InlineOnly(std::mem::take(hasher)),
        };
    }

    fn finish(self) -> Sha256 {
        match self {
            Self::Inline(hasher) | Self::InlineOnly(hasher) => hasher,
            Self::Threaded { piece, pieces, hasher, .. } => {
                let _ = pieces.send(piece);
                drop(pieces);
                hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

impl<W: Write> Write for DigestReader<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.count(&buf[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for DigestReader<R> {
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
    fn long_data_has_the_same_digest() {
        let bytes: Vec<u8> = (0..5_000_011_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
        for step in [1_000_000, 4_093, 5_000_011] {
            let mut tally = DigestReader::new(io::sink());
            bytes.chunks(step).for_each(|piece| tally.write_all(piece).unwrap());
            let (_, passed) = tally.finish();
            assert_eq!(passed, SizedDigest { sha256: Digest::of(&bytes), size: 5_000_011 }, "in pieces of {step}");
        }
        // A dropped stream leaves no waiting thread.
        let mut tally = DigestReader::new(io::sink());
        tally.write_all(&bytes).unwrap();
        let Hashing::Threaded { pieces, hasher, .. } = *tally.hashing else { panic!("not in a thread of its own") };
        drop(pieces);
        hasher.join().unwrap();
    }

    #[test]
    fn the_bytes_that_passed_are_counted_and_hashed() {
        let mut written = DigestReader::new(Vec::new());
        written.write_all(b"hello ").unwrap();
        written.write_all(b"world").unwrap();
        let (out, passed) = written.finish();
        assert_eq!(out.as_slice(), b"hello world");
        assert_eq!(passed, SizedDigest { sha256: Digest::of(b"hello world"), size: 11 });

        let mut read = DigestReader::new(&b"hello world"[..]);
        io::copy(&mut read, &mut io::sink()).unwrap();
        assert_eq!(read.finish().1, passed);
    }

    #[test]
    fn only_what_the_writer_took_is_counted() {
        let mut small = [0; 3];
        let mut tally = DigestReader::new(&mut small[..]);
        assert!(tally.write_all(b"hello").is_err());
        assert_eq!(tally.finish().1.sha256, Digest::of(b"hel"));
    }
}
