//! The directory with a layer's files in the engine's storage: opens a file by its name in the layer's tar. No name leads out
//! of the directory, whatever links it contains. `split` reads the files.

pub(super) use system::Tree;

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

    /// The directory of a layer.
    #[derive(Debug)]
    pub(in super::super) struct Tree(OwnedFd);

    impl Tree {
        pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
        }

        /// Opens a regular file by its name in the tar, which may start with `/` or `./`.
        pub(in super::super) fn file(&self, name: &[u8]) -> io::Result<File> {
            let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
            // If there is a pipe in place of the file, opening it must not block until somebody writes to it.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let file = openat2(&self.0, &name[start..], flags, Mode::empty(), resolve)?;
            if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it is no regular file"));
            }
            Ok(file.into())
        }
    }
}

/// On other systems an engine is in a virtual machine, and its storage with it.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    #[derive(Debug)]
    pub(in super::super) enum Tree {}

    impl Tree {
        pub(in super::super) fn open(_path: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in super::super) fn file(&self, _name: &[u8]) -> io::Result<File> {
            match *self {}
        }
    }
}
