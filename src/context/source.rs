//! The source of one file of a context. It reads only regular files, and checks that the size has not changed since the file
//! was found. The module `collect` selects the files and hashes them.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::error::CollectError;

/// `/dev/null` on Linux, major 1 and minor 3, as `st_rdev` has it.
const DEV_NULL: u64 = 0x103;
/// "Too many levels of symbolic links" on Linux; `ErrorKind` has no stable name for it.
const ELOOP: i32 = 40;

/// The size of reads of large files, so that the cost of system calls is negligible.
const BUFFER: usize = 256 * 1024;

/// A file of a context before it is written.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) mode: u32,
    pub(super) size: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    InMemory(Vec<u8>),
    InFile(PathBuf),
}

impl Source {
    /// A file that exists only in the context.
    pub(super) fn generated(bytes: Vec<u8>) -> Self {
        Self { mode: 0o644, size: bytes.len() as u64, bytes: Bytes::InMemory(bytes) }
    }

    /// The regular file at `path`, after following links.
    pub(super) fn file(path: &Path) -> Result<Self, CollectError> {
        let metadata = fs::metadata(path).map_err(|error| {
            if is_absent(&error) && path.is_symlink() {
                CollectError::DanglingLink { path: path.to_owned() }
            } else {
                CollectError::read(path, error)
            }
        })?;
        // Real contexts mask systemd units with links to /dev/null. Python opens it and reads an empty file.
        let is_null = metadata.file_type().is_char_device() && metadata.rdev() == DEV_NULL;
        if !metadata.is_file() && !is_null {
            return Err(CollectError::NotAFile { path: path.to_owned(), kind: kind(&metadata) });
        }
        Ok(Self { mode: metadata.mode() & 0o7777, size: metadata.len(), bytes: Bytes::InFile(path.to_owned()) })
    }

    /// The path of the file, unless it exists only in the context.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.bytes {
            Bytes::InMemory(_) => None,
            Bytes::InFile(path) => Some(path),
        }
    }

    /// Refuses setuid and setgid files: in a context everything belongs to root.
    pub(super) fn check_mode(&self) -> Result<(), CollectError> {
        match &self.bytes {
            Bytes::InFile(path) if self.mode & 0o6000 != 0 => Err(CollectError::SetId { path: path.clone() }),
            _ => Ok(()),
        }
    }

    /// Writes the bytes, exactly `size` of them.
    pub(super) fn copy_to(&self, out: &mut (impl Write + ?Sized)) -> Result<(), CollectError> {
        let path = match &self.bytes {
            Bytes::InMemory(bytes) => return out.write_all(bytes).map_err(CollectError::Write),
            Bytes::InFile(path) => path,
        };
        let changed = || CollectError::Changed { path: path.clone(), size: self.size };
        let mut file = File::open(path).map_err(|error| CollectError::read(path, error))?;
        // One byte more than expected: a read of a regular file that returns fewer bytes is at the end, and for small files one
        // read suffices.
        let mut buffer = vec![0; usize::try_from(self.size + 1).map_or(BUFFER, |all| all.min(BUFFER))];
        let mut left = self.size;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(CollectError::read(path, error)),
            };
            left = left.checked_sub(read as u64).ok_or_else(changed)?;
            out.write_all(&buffer[..read]).map_err(CollectError::Write)?;
            if left == 0 && read < buffer.len() {
                break;
            }
        }
        if left == 0 { Ok(()) } else { Err(changed()) }
    }
}

/// Reads the regular file at `path`: for files that people write.
pub(super) fn read_whole(path: &Path) -> Result<Vec<u8>, CollectError> {
    let mut bytes = Vec::new();
    Source::file(path)?.copy_to(&mut bytes)?;
    Ok(bytes)
}

/// Whether an error means that a path does not exist, like `os.path.exists`.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput)
        || error.raw_os_error() == Some(ELOOP)
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_regular_files() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let error_of = |name: &str| Source::file(&at(name)).unwrap_err();
        for link in ["dangling", "loop"] {
            assert!(matches!(error_of(link), CollectError::DanglingLink { path } if path == at(link)));
        }
        assert!(matches!(error_of("none"), CollectError::Read { path, .. } if path == at("none")));
        assert!(matches!(error_of("zero"), CollectError::NotAFile { kind: "a device", .. }));
        assert!(matches!(error_of("socket"), CollectError::NotAFile { kind: "a socket", .. }));
        assert!(matches!(error_of("."), CollectError::NotAFile { kind: "a directory", .. }));
        assert_eq!(read_whole(&at("null")).unwrap(), b"");
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("f");
        fs::write(&path, "12345").unwrap();
        let source = Source::file(&path).unwrap();
        for now in ["1234", "123456", ""] {
            fs::write(&path, now).unwrap();
            let error = source.copy_to(&mut io::sink()).unwrap_err();
            assert!(matches!(error, CollectError::Changed { path: p, size: 5 } if p == path), "{now}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(source.copy_to(&mut io::sink()), Err(CollectError::Read { .. })));
    }

    #[test]
    fn a_full_disk_is_not_an_unreadable_file() {
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(&path, "12345").unwrap();
        let full = |source: Source| source.copy_to(&mut &mut [0; 3][..]).unwrap_err();
        assert!(matches!(full(Source::file(path.path()).unwrap()), CollectError::Write(_)));
        assert!(matches!(full(Source::generated(b"12345".to_vec())), CollectError::Write(_)));
    }
}
