//! Streams ranges of a file with other bytes between them: a tar that differs in some members from one on disk, without a
//! second copy. The module `for_engine` selects the members.

use std::io::{self, SeekFrom};
use std::path::PathBuf;

use futures_util::Stream;
use tar::Header;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::bytes::Bytes;

use crate::context::tar_format::padding;

/// The size of reads.
const CHUNK: u64 = 256 * 1024;

/// A part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A range of the file: start, and end (exclusive).
    Stretch(u64, u64),
    Bytes(Vec<u8>),
}

/// Pieces in order; adjacent ranges are joined.
#[derive(Debug, Default)]
pub(super) struct PieceList(Vec<Piece>);

impl PieceList {
    pub(super) fn push(&mut self, piece: Piece) {
        match (self.0.last_mut(), piece) {
            (Some(Piece::Stretch(_, end)), Piece::Stretch(from, to)) if *end == from => *end = to,
            (_, piece) => self.0.push(piece),
        }
    }

    /// Streams all pieces; `path` is the file.
    pub(super) fn stream(self, path: PathBuf) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let sending = Sending { path, file: None, rest: self.0.into_iter(), at: 0, end: 0 };
        futures_util::stream::try_unfold(sending, |mut sending| async move {
            Ok(sending.next().await?.map(|bytes| (bytes, sending)))
        })
    }
}

struct Sending {
    path: PathBuf,
    /// Open, and at the position `at`.
    file: Option<File>,
    rest: std::vec::IntoIter<Piece>,
    at: u64,
    end: u64,
}

impl Sending {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.at == self.end {
            match self.rest.next() {
                None => return Ok(None),
                Some(Piece::Bytes(bytes)) => return Ok(Some(bytes.into())),
                Some(Piece::Stretch(from, to)) => {
                    let mut file = match self.file.take() {
                        Some(file) => file,
                        None => File::open(&self.path).await?,
                    };
                    file.seek(SeekFrom::Start(from)).await?;
                    (self.file, self.at, self.end) = (Some(file), from, to);
                }
            }
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        let wanted = CHUNK.min(self.end - self.at);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let read = file.take(wanted).read_to_end(&mut bytes).await? as u64;
        if read < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read;
        Ok(Some(bytes.into()))
    }
}

/// A tar member with this content, and a matching header.
pub(super) fn member(mut header: Header, content: &[u8]) -> Vec<u8> {
    header.set_size(content.len() as u64);
    header.set_cksum();
    [header.as_bytes(), content, padding(content.len() as u64)].concat()
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn stretches_of_a_file_stand_between_other_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..=255).cycle().take(600_000).collect();
        std::fs::write(&path, &content).unwrap();
        let mut pieces = PieceList::default();
        for piece in [
            Piece::Stretch(10, 20),
            Piece::Stretch(20, 300_000),
            Piece::Bytes(b"between".to_vec()),
            Piece::Stretch(5, 5),
            Piece::Stretch(400_000, 600_000),
        ] {
            pieces.push(piece);
        }
        assert_eq!(pieces.0.len(), 4);
        let sent: Vec<Bytes> = pieces.stream(path.clone()).try_collect().await.unwrap();
        assert!(sent.iter().all(|bytes| !bytes.is_empty() && bytes.len() as u64 <= CHUNK));
        assert!(sent.concat() == [&content[10..300_000], b"between", &content[400_000..]].concat());
        // A file that has become shorter is an error.
        let mut beyond = PieceList::default();
        beyond.push(Piece::Stretch(0, 600_001));
        assert!(beyond.stream(path).try_collect::<Vec<_>>().await.is_err());
    }
}
