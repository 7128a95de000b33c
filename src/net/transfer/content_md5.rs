//! MD5, as storages use it: against accidental corruption only. S3 compares an upload with its `Content-MD5`, and has the same
//! digest as the `ETag` of objects that were uploaded in one part and are not encrypted by keys of a service.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use tokio::sync::mpsc::Receiver;
use tokio_util::bytes::Bytes;

/// The MD5 of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentMd5([u8; 16]);

impl ContentMd5 {
    /// The digest of what `write` writes.
    pub fn of_written<E>(write: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<Self, E> {
        let mut sum = Md5Writer(Md5::new());
        write(&mut sum)?;
        Ok(Self(sum.0.finalize().into()))
    }

    /// The digest of what arrives, of at most `size` bytes. Outside of a runtime's asynchronous threads.
    pub(super) fn of_received(mut pieces: Receiver<Bytes>, size: u64) -> Self {
        let (mut sum, mut received) = (Md5::new(), 0);
        while received < size
            && let Some(piece) = pieces.blocking_recv()
        {
            sum.update(&piece);
            received += piece.len() as u64;
        }
        Self(sum.finalize().into())
    }

    /// As the header has it.
    #[must_use]
    pub fn header(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Whether an `ETag` is this digest. A different one may be another kind of digest.
    #[must_use]
    pub fn is_etag(&self, etag: &str) -> bool {
        let hex = format!("{:032x}", u128::from_be_bytes(self.0));
        etag.trim_matches('"').eq_ignore_ascii_case(&hex)
    }
}

struct Md5Writer(Md5);

impl Write for Md5Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_written_as_the_header_and_the_etag_have_it() {
        // RFC 1321, A.5.
        let sum = ContentMd5::of_written(|out| out.write_all(b"message digest")).unwrap();
        assert_eq!(sum.header(), "+WtpfXy3k41SWi8xqvFh0A==");
        assert!(sum.is_etag("\"f96b697d7cb7938d525a2f31aaf161d0\"") && sum.is_etag("F96B697D7CB7938D525A2F31AAF161D0"));
        assert!(!sum.is_etag("\"f96b697d7cb7938d525a2f31aaf161d0-3\"") && !sum.is_etag(""));
    }
}
