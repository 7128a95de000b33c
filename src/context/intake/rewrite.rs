//! Writes a new tar of a context, entry by entry, for contexts of 2015: without their top directory, and with
//! headers that contain only what was checked. It writes the end of the archive only on request.

use std::io::{self, BufWriter, Read, Write};

use tar::{Builder, EntryType, Header};

use crate::context::intake::error::IntakeError;
use crate::context::intake::headers::{Kind, Member};
use crate::context::intake::pipe::{CHUNK, Output};

/// Writes the new tar.
pub(super) struct Rewrite<'c, W: Write> {
    builder: Builder<BufWriter<Output<'c, W>>>,
}

impl<'c, W: Write> Rewrite<'c, W> {
    pub(super) fn new(out: Output<'c, W>) -> Self {
        Self { builder: Builder::new(BufWriter::with_capacity(CHUNK, out)) }
    }

    /// Writes one entry; its content comes from `data`.
    pub(super) fn append(&mut self, member: &Member, data: impl Read) -> Result<(), IntakeError> {
        let mut header = Header::new_gnu();
        header.set_mode(member.mode);
        header.set_mtime(member.mtime);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(member.size);
        let name = &member.name;
        let written = match &member.kind {
            Kind::File => self.builder.append_data(&mut header, name, data),
            Kind::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.builder.append_data(&mut header, format!("{name}/"), io::empty())
            }
            Kind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                self.builder.append_link(&mut header, name, &*String::from_utf8_lossy(target))
            }
            Kind::Hardlink(target) => {
                header.set_entry_type(EntryType::Link);
                self.builder.append_link(&mut header, name, target)
            }
        };
        written.map_err(output)
    }

    /// Writes the end of the archive.
    pub(super) fn finish(self) -> Result<(), IntakeError> {
        self.builder.into_inner().and_then(|mut out| out.flush()).map_err(output)
    }
}

fn output(error: io::Error) -> IntakeError {
    IntakeError::from_io(error, |source| IntakeError::Output { source })
}
