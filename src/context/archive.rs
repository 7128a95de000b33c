//! The bytes of a context tar: names, their order, headers and padding, as taskgraph writes them with
//! Python 3.8's `tarfile` in the GNU format. Which files go in, and reading them, is for `collect`.

use std::cmp::Ordering;
use std::io::{self, Write};

use crate::net::Digest;
use crate::net::stream::DigestReader;

/// 2016-01-01T00:00:00Z, the time of every file in a context.
pub const CONTEXT_TIME: u32 = 1_451_606_400;

const BLOCK: usize = 512;
/// Archives end at a multiple of this: tar's default blocking factor, 20.
pub(super) const RECORD: u64 = 20 * 512;
/// What fits into a header's name field. A name of exactly this length has no closing NUL.
const NAME_FIELD: usize = 100;

/// The name of a file in an archive: any bytes, in the order in which Python sorts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArchivePath(Vec<u8>);

impl ArchivePath {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as Python holds it: code points, and U+DC80 to U+DCFF for bytes that are not UTF-8
    /// (`surrogateescape`). That is not the order of the bytes: a stray byte sorts *below* U+E000 and above.
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
            // UTF-8 sorts as its code points do, and comparing bytes is a tenth of the work.
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

/// How many bytes stand before the content of a file with this name.
pub(super) fn header_bytes(path: &ArchivePath) -> u64 {
    let length = path.as_bytes().len();
    let long_name = if length > NAME_FIELD { BLOCK + (length + 1).next_multiple_of(BLOCK) } else { 0 };
    (BLOCK + long_name) as u64
}

/// Writes an archive: [`start_file`](Self::start_file), the file's bytes, [`end_file`](Self::end_file), and so
/// on to [`finish`](Self::finish).
#[derive(Debug)]
pub(super) struct TarWriter<W> {
    out: DigestReader<W>,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: DigestReader::new(out) }
    }

    /// Writes the headers of a regular file of `size` bytes. Of `mode` the permission bits are kept.
    pub(super) fn start_file(&mut self, path: &ArchivePath, mode: u32, size: u64) -> io::Result<()> {
        let name = path.as_bytes();
        if name.len() > NAME_FIELD {
            // The name goes before the file, as the content of a member of its own, with a closing NUL.
            let length = name.len() as u64 + 1;
            self.out.write_all(&header(b"././@LongLink", 0, length, 0, b'L'))?;
            self.out.write_all(name)?;
            self.out.write_all(&[0])?;
            self.pad()?;
        }
        self.out.write_all(&header(name, mode & 0o7777, size, CONTEXT_TIME, b'0'))
    }

    /// Fills the file's last block.
    pub(super) fn end_file(&mut self) -> io::Result<()> {
        self.pad()
    }

    /// Writes the end of the archive; gives back the writer and the sha256 of all that was written.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest)> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        while !self.out.bytes().is_multiple_of(RECORD) {
            self.out.write_all(&[0; BLOCK])?;
        }
        let (out, digest, _) = self.out.finish();
        Ok((out, digest))
    }

    fn pad(&mut self) -> io::Result<()> {
        let past = usize::try_from(self.out.bytes() % BLOCK as u64).unwrap_or_default();
        if past == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][past..]) }
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

/// One header block. Owner, group and device numbers are 0 and *written*, as before Python 3.9; names of
/// owner and group are empty.
fn header(name: &[u8], mode: u32, size: u64, mtime: u32, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &name[..name.len().min(NAME_FIELD)];
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], u64::from(mode));
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    if size < 1 << 33 {
        octal(&mut block[124..136], size);
    } else {
        // Eleven octal digits end below 8 GiB: then base 256, marked by the first byte.
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    octal(&mut block[136..148], u64::from(mtime));
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar  \0");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    // The checksum counts its own field as spaces, and is written with one digit less than the other numbers.
    block[148..156].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// `value` in octal digits over the whole field but its last byte, which is NUL.
fn octal(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev().skip(1) {
        *digit = b'0' + (value % 8) as u8;
        value /= 8;
    }
    if let Some(last) = field.last_mut() {
        *last = 0;
    }
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
    fn sizes_from_8_gib_on_are_in_base_256() {
        assert_eq!(&header(b"x", 0, (1 << 33) - 1, 0, b'0')[124..136], b"77777777777\0");
        assert_eq!(&header(b"x", 0, 1 << 33, 0, b'0')[124..136], b"\x80\0\0\0\0\0\0\x02\0\0\0\0");
    }

    #[test]
    fn the_end_is_padded_to_whole_records() {
        // Two blocks end the archive: with 8704 bytes of content everything fits into one record.
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
