//! A layer's files in the engine's storage, opened by the names that the layer's tar has for them. No name leads out of the
//! layer's folder, whatever links are in it; what is done with the files is for others.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

/// The folder of a layer.
#[derive(Debug)]
pub(super) struct Tree(OwnedFd);

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens a regular file by its name in the tar, which may begin with `/` or `./`.
    pub(super) fn file(&self, name: &[u8]) -> io::Result<File> {
        let begin = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
        // A pipe in the file's place must not keep us waiting for somebody who writes into it.
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(&self.0, &name[begin..], how, Mode::empty(), beneath)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(file.into())
    }
}
