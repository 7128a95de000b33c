//! What the supervisor asks the kernel for. Only Linux has it, so that other systems have no managed engine.

pub(super) use kernel::{adopt_orphans, end_with_parent, unmount};

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::path::Path;

    use rustix::mount::UnmountFlags;
    use rustix::process::{Signal, getpid, set_child_subreaper, set_parent_process_death_signal};

    /// Makes processes that lose their parent children of this one, so nothing that its children start can escape.
    pub(in super::super) fn adopt_orphans() -> io::Result<()> {
        Ok(set_child_subreaper(Some(getpid()))?)
    }

    /// Has this process get a signal when its parent ends.
    pub(in super::super) fn end_with_parent(signal: Signal) -> io::Result<()> {
        Ok(set_parent_process_death_signal(Some(signal))?)
    }

    /// Unmounts a file system, at once for those who look for it, and whole when nobody uses it any more.
    pub(in super::super) fn unmount(path: &Path) -> io::Result<()> {
        Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::io;
    use std::path::Path;

    use rustix::process::Signal;

    pub(in super::super) fn adopt_orphans() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn end_with_parent(_signal: Signal) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn unmount(_path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
