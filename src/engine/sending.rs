//! Detects the end of an upload to the engine, of a context or an archive. Once all of it is about to arrive, the engine
//! continues by itself, and that must be recorded. `build` and `load` send the data.

use std::io;

use futures_util::{Stream, StreamExt as _};
use tokio_util::bytes::Bytes;

/// The same pieces. Before the last one is sent, `note` is called with the total size. It is not called if the upload breaks
/// off: engines only start with a complete one.
pub(super) fn noting_the_end<F: Future<Output = ()> + Send + 'static>(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    note: impl FnOnce(u64) -> F + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let state = (Box::pin(pieces.fuse()), None, Some(note), 0);
    futures_util::stream::unfold(state, |(mut pieces, mut last_piece, mut note, mut sent)| async move {
        loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    sent += piece.len() as u64;
                    if let Some(before) = last_piece.replace(piece) {
                        return Some((Ok(before), (pieces, last_piece, note, sent)));
                    }
                }
                Some(Err(error)) => {
                    note = None;
                    return Some((Err(error), (pieces, last_piece, note, sent)));
                }
                None => {
                    if let Some(note) = note.take() {
                        note(sent).await;
                    }
                    return last_piece.take().map(|last| (Ok(last), (pieces, last_piece, note, sent)));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Whether the note existed before each piece, and at the end.
    async fn noted(pieces: Vec<io::Result<Bytes>>) -> Vec<bool> {
        let is_there = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&is_there);
        let output = noting_the_end(futures_util::stream::iter(pieces), move |_| {
            note.store(true, Ordering::Relaxed);
            std::future::ready(())
        });
        let output = output.map(|_| is_there.load(Ordering::Relaxed)).collect::<Vec<_>>().await;
        output.into_iter().chain([is_there.load(Ordering::Relaxed)]).collect()
    }

    #[tokio::test]
    async fn the_note_comes_before_the_last_piece_and_only_of_what_is_whole() {
        let piece = || Ok(Bytes::from_static(b"piece"));
        assert_eq!(noted(vec![piece(), piece(), piece()]).await, [false, false, true, true]);
        assert_eq!(noted(Vec::new()).await, [true]);
        let broken = noted(vec![piece(), piece(), Err(io::Error::other("broken"))]).await;
        assert!(!broken.contains(&true), "{broken:?}");
    }
}
