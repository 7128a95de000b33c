//! Pipes for bytes, and the bridge from asynchronous streams to the synchronous readers of the modules above.

use std::error::Error;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// A stream as a reader for a blocking thread. An error of the stream arrives inside the reader's `io::Error`;
/// [`cause`] takes it out again. A reader whose runtime ends before the stream is at an error, too.
///
/// Must be called within a tokio runtime, and read outside of its asynchronous threads (`spawn_blocking`).
pub fn reader<E>(stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> impl Read + Send
where
    E: Error + Send + Sync + 'static,
{
    let (pieces, receiver) = mpsc::channel(PIPE_PIECES);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                // The reader was dropped.
                () = pieces.closed() => return,
            };
            let is_last = !matches!(next, Some(Ok(_)));
            if pieces.send(next.map(|piece| piece.map_err(io::Error::other))).await.is_err() || is_last {
                return;
            }
        }
    });
    StreamedReader { pieces: receiver, piece: Bytes::new(), ended: false }
}

/// The reading end. Waiting for a block needs no runtime, which may be shut down.
struct StreamedReader {
    /// None is the regular end of the stream; an end without it means that the stream was dropped.
    pieces: mpsc::Receiver<Option<io::Result<Bytes>>>,
    piece: Bytes,
    ended: bool,
}

impl Read for StreamedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.piece = piece?,
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.piece.len().min(buf.len());
        buf[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// The number of blocks that may wait in a [`pipe`] for the other side, so that neither side waits for each step of the other.
const PIPE_PIECES: usize = 4;

/// How large a piece of [`from_writer`]'s stream is: system calls do not count.
const WRITTEN_PIECE: usize = 256 * 1024;

/// A writer for a blocking thread, and the stream of what it writes. Each write is a block of the stream: write large ones. The
/// stream ends well only after [`PipeWriter::finish`]; dropping the writer without it is an error there.
pub fn pipe() -> (PipeWriter, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (pieces, receiver) = mpsc::channel(PIPE_PIECES);
    let finished = Arc::new(AtomicBool::new(false));
    let writer = PipeWriter { pieces, finished: finished.clone() };
    let next = |(mut receiver, finished): (mpsc::Receiver<Bytes>, Option<Arc<AtomicBool>>)| async move {
        let finished = finished?;
        match receiver.recv().await {
            Some(piece) => Some((Ok(piece), (receiver, Some(finished)))),
            None if finished.load(Ordering::Acquire) => None,
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

/// The stream of what `write` writes, on its own blocking thread; its error is the stream's last item. When the stream is
/// dropped, writing fails, and the thread ends.
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
    // The pipe knows only that its writer was dropped; the thread knows why.
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
    use crate::net::Digest;

    #[tokio::test]
    async fn a_stream_is_read_to_its_error() {
        let error = Digest::of(b"").to_string()[1..].parse::<Digest>().unwrap_err();
        let chunks = vec![Ok(Bytes::from_static(b"hello ")), Ok(Bytes::from_static(b"world")), Err(error.clone())];
        let mut reader = reader(futures_util::stream::iter(chunks));
        let read = move || {
            let mut text = Vec::new();
            let error = reader.read_to_end(&mut text).unwrap_err();
            (text, cause::<crate::net::NameError>(error).unwrap())
        };
        let (text, cause) = tokio::task::spawn_blocking(read).await.unwrap();
        assert_eq!((text.as_slice(), cause), (&b"hello world"[..], error));
    }

    #[test]
    fn a_reader_outlives_its_runtime() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (result, received) = std::sync::mpsc::channel();
        runtime.block_on(async {
            let (first, started) = tokio::sync::oneshot::channel();
            let endless = futures_util::stream::once(async { Ok::<_, io::Error>(Bytes::from_static(b"x")) });
            let mut reader = reader(endless.chain(futures_util::stream::pending()));
            tokio::task::spawn_blocking(move || {
                reader.read_exact(&mut [0]).unwrap();
                first.send(()).unwrap();
                result.send(reader.read(&mut [0]).map_err(|error| error.kind())).unwrap();
            });
            started.await.unwrap();
        });
        runtime.shutdown_background();
        assert_eq!(
            received.recv(),
            Ok(Err(io::ErrorKind::UnexpectedEof)),
            "no panic, and nothing that looks like an end"
        );
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
    async fn what_is_written_is_the_stream_to_the_writers_error() {
        let whole = from_writer(|out| out.write_all(&vec![7; 1_000_000]));
        let pieces: Vec<_> = whole.map(|piece| piece.unwrap().len()).collect().await;
        assert_eq!(pieces.iter().sum::<usize>(), 1_000_000);
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| *piece >= WRITTEN_PIECE), "{pieces:?}");
        let broken = from_writer(|out| {
            out.write_all(b"piece")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let items: Vec<_> = broken.map(|item| item.map_err(|error| error.kind())).collect().await;
        assert_eq!(items.last(), Some(&Err(io::ErrorKind::StorageFull)), "{items:?}");
        let (result, received) = tokio::sync::oneshot::channel();
        drop(from_writer(move |out| {
            let error = std::iter::repeat_with(|| out.write_all(b"piece")).find_map(Result::err);
            result.send(error.map(|error| error.kind())).unwrap();
            Ok(())
        }));
        assert_eq!(received.await.unwrap(), Some(io::ErrorKind::BrokenPipe));
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_takes_nothing() {
        let (mut writer, stream) = pipe();
        drop(stream);
        let error = tokio::task::spawn_blocking(move || writer.write_all(b"piece").unwrap_err()).await.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
