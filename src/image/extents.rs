//! Reads and changes pieces of a file, or of something like a file, as if they were one file. The callers decide which pieces
//! belong together.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Bytes that can be read at any position, by several readers at the same time.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Reads some bytes at a position into the buffer. Zero is the end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, position)
    }
}

/// Ranges of a file, one after the other. Each reader has its own position: several can read the same file at the same time.
#[derive(Debug)]
pub struct ExtentReader<'f> {
    file: &'f dyn ReadAt,
    ranges: &'f [Range<u64>],
    /// Where each piece begins in the concatenation.
    starts: Vec<u64>,
    length: u64,
    position: u64,
}

impl<'f> ExtentReader<'f> {
    /// The pieces of a file, in this order, starting at the first byte.
    #[must_use]
    pub fn new(file: &'f dyn ReadAt, ranges: &'f [Range<u64>]) -> Self {
        let mut length = 0;
        let starts = ranges
            .iter()
            .map(|piece| {
                let start = length;
                length += piece.end.saturating_sub(piece.start);
                start
            })
            .collect();
        Self { file, ranges, starts, length, position: 0 }
    }

    /// The total number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The ranges of the file that hold a range of the concatenation.
    #[must_use]
    pub fn places(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut places = Vec::new();
        let mut position = range.start;
        while let Some(place) = self.range_at(position, range.end) {
            position += place.end - place.start;
            places.push(place);
        }
        places
    }

    /// The longest contiguous range of the file from a position of the concatenation, not beyond `end`; `None` if it is empty.
    fn range_at(&self, position: u64, end: u64) -> Option<Range<u64>> {
        let end = end.min(self.length);
        if position >= end {
            return None;
        }
        // The last piece that begins at or before the position; an empty piece begins where the next one does.
        let index = self.starts.partition_point(|start| *start <= position).checked_sub(1)?;
        let (piece, start) = (self.ranges.get(index)?, self.starts.get(index)?);
        let from = piece.start + (position - start);
        Some(from..piece.end.min(from + (end - position)))
    }

    /// Fills a buffer from a position of the concatenation.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        let end = position + buffer.len() as u64;
        for place in self.places(position..end) {
            let next = done + usize::try_from(place.end - place.start).map_err(io::Error::other)?;
            read_exact_at(self.file, &mut buffer[done..next], place.start)?;
            done = next;
        }
        if done < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// A reader for a range of the concatenation.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> impl Read + use<'f> {
        let part = ExtentReader { position: range.start, starts: self.starts.clone(), ..*self };
        part.take(range.end.saturating_sub(range.start))
    }

    /// Copies a range of the concatenation to a writer.
    pub fn copy<W: Write>(&self, range: Range<u64>, out: &mut W) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start);
        let copied = io::copy(&mut self.part(range), out)?;
        if copied < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Pieces of a file that can be changed.
#[derive(Debug)]
pub(super) struct ExtentWriter<'f> {
    file: &'f File,
    /// Reads the same pieces.
    pub(super) reader: ExtentReader<'f>,
}

impl<'f> ExtentWriter<'f> {
    /// The pieces of a file, in this order.
    pub(super) fn new(file: &'f File, ranges: &'f [Range<u64>]) -> Self {
        Self { file, reader: ExtentReader::new(file, ranges) }
    }

    /// Overwrites bytes of the file at a position of the concatenation.
    pub(super) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        let end = position + bytes.len() as u64;
        for place in self.reader.places(position..end) {
            let next = done + usize::try_from(place.end - place.start).map_err(io::Error::other)?;
            self.file.write_all_at(&bytes[done..next], place.start)?;
            done = next;
        }
        if done < bytes.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn read_exact_at(file: &dyn ReadAt, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                let read = read?;
                position += read as u64;
                buffer = &mut buffer[read..];
            }
        }
    }
    Ok(())
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(place) = self.range_at(self.position, u64::MAX) else { return Ok(0) };
        let most = usize::try_from(place.end - place.start).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], place.start)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for ExtentReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(from) => self.length.checked_add_signed(from),
            SeekFrom::Current(from) => self.position.checked_add_signed(from),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file
    }

    #[test]
    fn pieces_read_as_one() {
        let (file, pieces) = (file(), [7..9, 4..4, 0..3, 9..10]);
        let mut whole = ExtentReader::new(&file, &pieces);
        assert_eq!(whole.length(), 6);
        let mut text = String::new();
        whole.read_to_string(&mut text).unwrap();
        assert_eq!(text, "780129");
        whole.seek(SeekFrom::Start(1)).unwrap();
        whole.seek(SeekFrom::Current(2)).unwrap();
        text.clear();
        whole.read_to_string(&mut text).unwrap();
        assert_eq!(text, "129");
        assert_eq!(whole.places(1..6), [8..9, 0..3, 9..10]);
        let mut part = [0; 3];
        whole.read_exact_at(&mut part, 1).unwrap();
        assert_eq!(&part, b"801");
        assert_eq!(whole.read_exact_at(&mut part, 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn changes_go_where_the_bytes_are() {
        let (file, pieces) = (file(), [7..9, 0..3]);
        let writer = ExtentWriter::new(&file, &pieces);
        writer.write_all_at(b"abc", 1).unwrap();
        let mut text = Vec::new();
        let whole = &writer.reader;
        whole.copy(0..5, &mut text).unwrap();
        assert_eq!(text, b"7abc2");
        let mut all = [0; 10];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut all, 0).unwrap();
        assert_eq!(&all, b"bc234567a9");
        assert_eq!(writer.write_all_at(b"xy", 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(whole.copy(3..9, &mut text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let (file, pieces) = (file(), [8..20; 1]);
        let mut text = Vec::new();
        let error = ExtentReader::new(&file, &pieces).read_to_end(&mut text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
