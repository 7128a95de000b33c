//! Makes root the owner of a context's files. Docker's classic builder and Podman do this themselves, but BuildKit uses the
//! owners in the tar, so that an image would depend on who created the tar. The module `intake` refuses invalid entries.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::FileExt as _;

use tar::{Archive, EntryType, Header};

use crate::context::tar_format::split_record;

/// The header fields for the names of owner and group.
const NAMES: std::ops::Range<usize> = 265..329;

/// Makes root the owner of everything in a context, a plain tar in a file. Sizes and positions of the entries do not change.
pub fn reset_owners(mut file: &File) -> io::Result<()> {
    file.rewind()?;
    let mut archive = Archive::new(file);
    for entry in archive.entries_with_seek()?.raw(true) {
        let mut entry = entry?;
        let (at, data) = (entry.raw_header_position(), entry.raw_file_position());
        if entry.header().entry_type() == EntryType::XHeader {
            let mut records = Vec::new();
            entry.read_to_end(&mut records)?;
            if zero_ids(&mut records) {
                file.write_all_at(&records, data)?;
            }
        }
        if let Some(header) = with_root_owner(entry.header()) {
            file.write_all_at(header.as_bytes(), at)?;
        }
    }
    Ok(())
}

/// Whether a header has another owner than root, or is followed by records that may have one.
#[must_use]
pub fn may_have_other_owners(header: &Header) -> bool {
    header.entry_type() == EntryType::XHeader || with_root_owner(header).is_some()
}

/// The header with root as the owner; `None` if root already is the owner.
fn with_root_owner(header: &Header) -> Option<Header> {
    let old = header.as_old();
    // Docker's readers use the numbers; others also use the names, if the image has them.
    let named = header.as_ustar().is_some() || header.as_gnu().is_some();
    let has_no_names = !named || header.as_bytes()[NAMES].iter().all(|byte| *byte == 0);
    if is_zero(&old.uid) && is_zero(&old.gid) && has_no_names {
        return None;
    }
    let mut changed = header.clone();
    changed.set_uid(0);
    changed.set_gid(0);
    if named {
        changed.as_mut_bytes()[NAMES].fill(0);
    }
    changed.set_cksum();
    Some(changed)
}

fn is_zero(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, b'0' | b' ' | 0))
}

/// Replaces every digit in the records `uid` and `gid` with zero; returns whether this changed anything.
fn zero_ids(records: &mut [u8]) -> bool {
    let (mut at, mut changed) = (0, false);
    // The intake has refused invalid records.
    while let Some((record, rest)) = split_record(&records[at..]) {
        let end = records.len() - rest.len();
        if matches!(record.key.as_slice(), b"uid" | b"gid") {
            // The value ends before the line feed.
            let value = &mut records[end - 1 - record.value.len()..end - 1];
            for digit in value.iter_mut().filter(|byte| (b'1'..=b'9').contains(byte)) {
                *digit = b'0';
                changed = true;
            }
        }
        at = end;
    }
    changed
}

#[cfg(test)]
mod tests {
    use tar::Builder;

    use super::*;

    fn context(owner: u64, name: &str, ids: [&str; 2]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (number, new) in [Header::new_gnu, Header::new_ustar, Header::new_old].into_iter().enumerate() {
            let mut header = new();
            header.set_size(4);
            header.set_mode(0o640);
            header.set_uid(owner);
            header.set_gid(owner);
            if number < 2 {
                header.set_username(name).unwrap();
                header.set_groupname(name).unwrap();
            }
            let [uid, gid] = ids.map(str::as_bytes);
            tar.append_pax_extensions([("uid", uid), ("comment", b"uid=77".as_slice()), ("gid", gid)]).unwrap();
            tar.append_data(&mut header, format!("file{number}"), b"text".as_slice()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn owners_become_root_and_nothing_else_changes() {
        for (owner, name, ids) in [(1000, "worker", ["1000", "2008"]), (0o7_777_777, "", ["0000", "0000"])] {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &context(owner, name, ids)).unwrap();
            reset_owners(&file).unwrap();
            let mut changed = Vec::new();
            io::Seek::rewind(&mut file).unwrap();
            file.read_to_end(&mut changed).unwrap();
            assert!(changed == context(0, "", ["0000", "0000"]), "of {owner}");
        }
    }

    #[test]
    fn records_that_are_none_are_left_alone() {
        for text in ["", "x", "7 uid=1", "999999999999999999999 uid=1\n", "3 uid=1\n", "0 uid=1\n"] {
            let mut records = text.as_bytes().to_vec();
            zero_ids(&mut records);
            assert_eq!(records.len(), text.len());
        }
        let mut records = b"10 uid=123\n".to_vec();
        records[1] = b'1';
        assert!(zero_ids(&mut records));
        assert_eq!(records, b"11 uid=000\n");
    }
}
