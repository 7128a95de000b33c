//! Writes the bytes of a context tar: names, their order, headers and padding, as taskgraph writes them with
//! Python 3.8's `tarfile` in the GNU format. The module `collect` selects and reads the files.

use std::cmp::Ordering;
use std::io::{self, Read as _, Write};

use tar::{EntryType, Header};

use crate::context::tar_format::{BLOCK, END, file_header, padding};
use crate::net::Digest;
use crate::net::digest_reader::DigestReader;

/// 2016-01-01T00:00:00Z, the time of every file in a context.
pub const CONTEXT_TIME: u32 = 1_451_606_400;

/// The size of an archive is a multiple of this: tar's default blocking factor, 20.
pub(super) const RECORD: u64 = 20 * BLOCK;
/// The size of a header's name field. A name of exactly this length has no terminating NUL.
const NAME_FIELD: usize = 100;

/// The name of a file in an archive: any bytes, in Python's sort order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArchivePath(Vec<u8>);

impl ArchivePath {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as a Python string: code points, and U+DC80 to U+DCFF for bytes that are not UTF-8 (`surrogateescape`).
    /// This differs from the order of the bytes: a stray byte sorts *below* U+E000 and above.
    fn code_points(&self) -> impl Iterator<Item = u32> {
        self.0.utf8_chunks().flat_map(|chunk| {
            let stray = chunk.invalid().iter().map(|byte| 0xDC00 + u32::from(*byte));
            chunk.valid().chars().map(u32::from).chain(stray)
        })
    }
}

impl Ord for ArchivePath {
    fn cmp(&self, other: &Self) -> Ordering {
        match (str::from_utf8(&self.0), str::from_utf8(&other.0)) {
            // UTF-8 sorts like its code points, and comparing bytes takes a tenth of the time.
            (Ok(ours), Ok(theirs)) => ours.cmp(theirs),
            _ => self.code_points().cmp(other.code_points()),
        }
    }
}

impl PartialOrd for ArchivePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How many bytes precede the content of a file with this name.
pub(super) fn header_bytes(path: &ArchivePath) -> u64 {
    let length = path.as_bytes().len();
    let long_name = if length > NAME_FIELD { BLOCK + (length as u64 + 1).next_multiple_of(BLOCK) } else { 0 };
    BLOCK + long_name
}

/// Writes an archive: call [`start_file`](Self::start_file), write the file's bytes, call [`end_file`](Self::end_file), and
/// so on; then [`finish`](Self::finish).
#[derive(Debug)]
pub(super) struct TarWriter<W> {
    out: DigestReader<W>,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: DigestReader::new(out) }
    }

    /// Writes the headers of a regular file of `size` bytes. It keeps only the permission bits of `mode`.
    pub(super) fn start_file(&mut self, path: &ArchivePath, mode: u32, size: u64) -> io::Result<()> {
        let name = path.as_bytes();
        if name.len() > NAME_FIELD {
            // A long name is the content of a separate member before the file, with a terminating NUL.
            let length = name.len() as u64 + 1;
            let header = file_header(blank(EntryType::GNULongName, 0), b"././@LongLink", 0, length);
            self.out.write_all(header.as_bytes())?;
            self.out.write_all(name)?;
            self.out.write_all(&[0])?;
            self.pad()?;
        }
        let header = file_header(blank(EntryType::Regular, CONTEXT_TIME), name, mode & 0o7777, size);
        self.out.write_all(header.as_bytes())
    }

    /// Pads the file's last block.
    pub(super) fn end_file(&mut self) -> io::Result<()> {
        self.pad()
    }

    /// Writes the end of the archive; returns the writer and the sha256 of the archive.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest)> {
        self.out.write_all(&END)?;
        let left = self.out.bytes().next_multiple_of(RECORD) - self.out.bytes();
        io::copy(&mut io::repeat(0).take(left), &mut self.out)?;
        let (out, archive) = self.out.finish();
        Ok((out, archive.sha256))
    }

    fn pad(&mut self) -> io::Result<()> {
        self.out.write_all(padding(self.out.bytes()))
    }
}

impl<W: Write> Write for TarWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A header without a name and a size. Device numbers are 0 and *written*, as before Python 3.9; the names of owner and group
/// are empty.
fn blank(kind: EntryType, mtime: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mtime(mtime.into());
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.set_device_major(0);
        gnu.set_device_minor(0);
    }
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn archive(files: &[(&[u8], u32, &[u8])]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (name, mode, content) in files {
            tar.start_file(&ArchivePath::new(*name), *mode, content.len() as u64).unwrap();
            tar.write_all(content).unwrap();
            tar.end_file().unwrap();
        }
        let (bytes, digest) = tar.finish().unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        bytes
    }

    #[test]
    fn an_empty_archive_is_one_record_of_zeros() {
        assert_eq!(archive(&[]), [0; 10240]);
    }

    #[test]
    fn a_header_has_the_fields_of_python_3_8() {
        let bytes = archive(&[(b"hello", 0o100_755, b"hi\n")]);
        assert_eq!(bytes.len(), 10240);
        assert_eq!(&bytes[..6], b"hello\0");
        assert_eq!(&bytes[100..157], b"0000755\x000000000\x000000000\x0000000000003\x0012641340600\x00010222\x00 0");
        assert_eq!(&bytes[257..265], b"ustar  \0");
        assert_eq!(&bytes[329..345], b"0000000\x000000000\x00");
        assert_eq!(&bytes[512..516], b"hi\n\0");
    }

    #[test]
    fn a_name_of_100_bytes_fits_and_of_101_does_not() {
        let fits = archive(&[(&[b'n'; 100], 0o644, b"")]);
        assert_eq!(&fits[98..102], b"nn00");
        let long = archive(&[(&[b'n'; 101], 0o644, b"")]);
        assert_eq!(&long[..14], b"././@LongLink\0");
        assert_eq!(&long[100..157], b"0000000\x000000000\x000000000\x0000000000146\x0000000000000\x00011216\x00 L");
        assert_eq!(&long[512 + 99..512 + 103], b"nn\0\0");
        assert_eq!(&long[1024..1024 + 101], &[&[b'n'; 100][..], b"0"].concat());
    }

    #[test]
    fn the_end_is_padded_to_whole_records() {
        // Two blocks end the archive: with 8704 bytes of content, everything fits into one record.
        assert_eq!(archive(&[(b"x", 0o644, &[1; 8704])]).len(), 10240);
        assert_eq!(archive(&[(b"x", 0o644, &[1; 8705])]).len(), 20480);
    }

    #[test]
    fn names_sort_as_in_python() {
        // sorted(os.fsdecode(name) for name in …)
        let sorted: [&[u8]; 9] = [
            b"",
            b"A",
            b"a",
            "a\u{ff}".as_bytes(),
            "\u{d7ff}".as_bytes(),
            b"\x80",
            b"\xed\xa0\x80",
            "\u{e000}".as_bytes(),
            "\u{10000}".as_bytes(),
        ];
        let mut paths = sorted.map(ArchivePath::new);
        paths.reverse();
        paths.sort();
        assert_eq!(paths, sorted.map(ArchivePath::new));
    }

    proptest! {
        #[test]
        fn equal_only_when_the_bytes_are(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            let order = ArchivePath::new(a.clone()).cmp(&ArchivePath::new(b.clone()));
            prop_assert_eq!(order == Ordering::Equal, a == b);
        }

        #[test]
        fn other_tars_read_it(
            files in prop::collection::vec(("[a-zé]{1,120}(/[a-z]{1,60}){0,3}", 0u32..0o2000, any::<Vec<u8>>()), 0..5)
        ) {
            let members: Vec<_> = files.iter().map(|(n, m, c)| (n.as_bytes(), *m, c.as_slice())).collect();
            let bytes = archive(&members);
            let mut read = Vec::new();
            for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                read.push((name, entry.header().mode().unwrap(), content));
            }
            prop_assert_eq!(read, files);
        }
    }
}
