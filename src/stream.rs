//! Pipes for bytes: a writer and a reader that hash and count what passes, and the bridge from the streams of the
//! outside world to the readers of the rooms that think. What the numbers mean is for the rooms above.

use std::error::Error;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
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

/// How many pieces may wait in a [`pipe`] for the other side: enough that neither waits for the other's every step.
const PIPE_PIECES: usize = 4;

/// How large a piece of [`from_writer`]'s stream is: system calls do not count.
const WRITTEN_PIECE: usize = 256 * 1024;

/// A writer for a blocking thread, and the stream of what it writes. Each write is a piece of the stream: write large
/// ones. The stream ends well only after [`PipeWriter::finish`]; a writer that is gone without it is an error there.
pub fn pipe() -> (PipeWriter, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (pieces, receiver) = mpsc::channel(PIPE_PIECES);
    let finished = Arc::new(AtomicBool::new(false));
    let writer = PipeWriter { pieces, finished: finished.clone() };
    let next = |(mut receiver, finished): (mpsc::Receiver<Bytes>, Option<Arc<AtomicBool>>)| async move {
        let asked = finished?;
        match receiver.recv().await {
            Some(piece) => Some((Ok(piece), (receiver, Some(asked)))),
            None if asked.load(Ordering::Acquire) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), (receiver, None))),
        }
    };
    (writer, futures_util::stream::unfold((receiver, Some(finished)), next))
}

/// The writing end of a [`pipe`].
#[derive(Debug)]
pub struct PipeWriter {
    pieces: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

impl PipeWriter {
    /// All is written: the stream ends well.
    pub fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }
}

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.pieces.blocking_send(Bytes::copy_from_slice(buf)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The stream of what `write` writes, on a blocking thread of its own; its error is the stream's last item. When nobody
/// wants the stream any more, writing fails, and the thread ends.
pub fn from_writer<F>(write: F) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    F: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
{
    let (writer, stream) = pipe();
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(WRITTEN_PIECE, writer);
        write(&mut out)?;
        out.into_inner().map(PipeWriter::finish).map_err(io::IntoInnerError::into_error)
    });
    // The pipe knows only that its writer is gone; the thread knows why.
    let why = async {
        match writing.await {
            Ok(written) => written.and(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(panic) => Err(io::Error::other(panic)),
        }
    };
    let mut why = Some(Box::pin(why));
    stream.then(move |piece| {
        let why = if piece.is_err() { why.take() } else { None };
        async move {
            match why {
                Some(why) => why.await,
                None => piece,
            }
        }
    })
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

    #[tokio::test]
    async fn a_pipe_ends_well_only_when_its_writer_says_so() {
        for finish in [true, false] {
            let (mut writer, stream) = pipe();
            let writing = tokio::task::spawn_blocking(move || {
                (0..20).for_each(|_| writer.write_all(b"piece").unwrap());
                if finish {
                    writer.finish();
                }
            });
            let pieces: Vec<_> = stream.collect().await;
            writing.await.unwrap();
            assert!(pieces[..20].iter().all(|piece| piece.as_ref().unwrap() == &b"piece"[..]));
            let ends: Vec<_> = pieces[20..].iter().map(|end| end.as_ref().unwrap_err().kind()).collect();
            assert_eq!(ends, if finish { vec![] } else { vec![io::ErrorKind::UnexpectedEof] });
        }
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_takes_nothing() {
        let (mut writer, stream) = pipe();
        drop(stream);
        let error = tokio::task::spawn_blocking(move || writer.write_all(b"piece").unwrap_err()).await.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn only_what_the_writer_took_is_counted() {
        let mut small = [0; 3];
        let mut tally = Tally::new(&mut small[..]);
        assert!(tally.write_all(b"hello").is_err());
        assert_eq!(tally.finish().1, Digest::of(b"hel"));
    }
}
