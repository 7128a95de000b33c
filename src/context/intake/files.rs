//! The intake's checks of names, sizes and counts, for files that are not in a tar yet: commands that hash a context report at
//! once what a task would refuse later. The module `archive` writes the tar of such files.

use super::Limits;
use super::error::IntakeError;
use crate::context::archive::{ArchivePath, RECORD, header_bytes};
use crate::context::safety::{Node, Tree, UnsafeEntry, clean_file_name, shown};
use crate::context::tar_format::BLOCK;
use crate::net::Digest;

/// Refuses files whose tar [`receive`](super::receive) would refuse, with the same error. The files must be in the order of
/// the tar.
pub(in crate::context) fn check<'f>(
    files: impl Iterator<Item = (&'f ArchivePath, u64)>,
    limits: &Limits,
) -> Result<(), IntakeError> {
    let (mut end, mut entries, mut tree) = (0, 0, Tree::default());
    // Only names matter here, so all files have the same content.
    let file = Node::File(Digest::of(b""));
    for (path, size) in files {
        let raw = path.as_bytes();
        let refuse = |hazard| IntakeError::Refused { entry: shown(raw), hazard };
        let name = clean_file_name(raw).map_err(refuse)?;
        let start = end + header_bytes(path);
        if start > limits.max_bytes {
            return Err(IntakeError::TooLarge { limit: limits.max_bytes });
        }
        let file_end = start + size;
        if file_end > limits.max_bytes {
            return Err(refuse(UnsafeEntry::TooBig { size, limit: limits.max_bytes }));
        }
        end = file_end.next_multiple_of(BLOCK);
        entries += 1;
        if entries > limits.max_entries {
            return Err(refuse(UnsafeEntry::TooMany(limits.max_entries)));
        }
        tree.admit(&name, false).map_err(refuse)?;
        tree.insert(&name, file.clone());
        if tree.name_bytes() > limits.max_name_bytes {
            return Err(refuse(UnsafeEntry::TooManyNames(limits.max_name_bytes)));
        }
    }
    if (end + 2 * BLOCK).next_multiple_of(RECORD) > limits.max_bytes {
        return Err(IntakeError::TooLarge { limit: limits.max_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{self, Write as _};

    use super::super::{Expectation, receive};
    use super::*;
    use crate::context::ContextScheme;
    use crate::context::archive::TarWriter;

    /// The results for files before they are in a tar, and for their tar.
    fn results(files: &[(&str, usize)], limits: &Limits) -> [Result<(), String>; 2] {
        let files: BTreeMap<_, _> = files.iter().map(|(name, size)| (ArchivePath::new(*name), *size)).collect();
        let before = check(files.iter().map(|(name, size)| (name, *size as u64)), limits);
        let mut tar = TarWriter::new(Vec::new());
        for (name, size) in &files {
            tar.start_file(name, 0o644, *size as u64).unwrap();
            tar.write_all(&vec![b'x'; *size]).unwrap();
            tar.end_file().unwrap();
        }
        let (tar, _) = tar.finish().unwrap();
        let image = "image".parse().unwrap();
        let expect = Expectation { scheme: ContextScheme::Tar, hash: None, directory: None, image, encoded: false };
        let after = receive(tar.as_slice(), &expect, limits, io::sink());
        [before.map_err(|error| error.to_string()), after.map(drop).map_err(|error| error.to_string())]
    }

    #[test]
    fn what_is_said_of_files_is_said_of_their_tar() {
        let long = "n".repeat(101);
        let deep = vec!["d"; 130].join("/");
        let sets: [&[(&str, usize)]; 14] = [
            &[],
            &[("a", 0), ("b/c", 513), ("b.c", 1)],
            &[("new\nline", 1)],
            &[("a//b", 1)],
            &[("a", 1), ("b/./c", 1), ("./a", 1)],
            &[("a", 1), ("a/./b", 1)],
            &[("topsrcdir/../a", 1)],
            &[("topsrcdir/a/", 1)],
            &[("a", 1), ("a/b/c", 1)],
            &[("a", 1), ("a.b", 1), ("a/b", 1)],
            &[(&deep, 1)],
            &[(&long, 1), ("a", 9000)],
            &[("a", 8191), ("b", 1)],
            &[("b", 8193), ("c", 5000)],
        ];
        let mut refused = 0;
        for set in sets {
            let files: Vec<_> = set.iter().copied().chain([("Dockerfile", 12)]).collect();
            for max_bytes in [10_239, 10_240, 10_752, 20_479, 20_480, 1 << 20] {
                for max_entries in [1, 2, 3, 100] {
                    for max_name_bytes in [11, 100, 1 << 20] {
                        let [before, after] = results(&files, &Limits { max_bytes, max_entries, max_name_bytes });
                        assert_eq!(before, after, "{files:?}, {max_bytes} bytes, {max_entries} entries");
                        refused += usize::from(before.is_err());
                    }
                }
            }
        }
        assert!((100..14 * 6 * 4 * 3 - 50).contains(&refused), "{refused} are refused: both sides are tried");
    }
}
