//! The hash of the scheme `contents`: a sha256 over the sorted lines `{file sha256}\t/{path}\n`, as Gecko computed it
//! in 2015 and taskgraph documents it. The callers select the files and hash each of them.

use std::collections::BTreeMap;

use crate::context::ContextHash;
use crate::net::Digest;

/// Collects the files of a context, in any order, and computes the hash.
#[derive(Clone, Debug, Default)]
pub struct ContentsHash {
    // Sorted by bytes, as Gecko's Python 2 did. This differs from the order of `ArchivePath` only for names that
    // are not UTF-8.
    files: BTreeMap<Vec<u8>, Digest>,
}

impl ContentsHash {
    /// Adds a file by its path from the root of the repository, without a leading `/`.
    pub fn add(&mut self, path: impl Into<Vec<u8>>, content: Digest) {
        self.files.insert(path.into(), content);
    }

    /// The hash of all files that were added.
    #[must_use]
    pub fn finish(&self) -> ContextHash {
        let mut lines = Vec::new();
        for (path, digest) in &self.files {
            lines.extend_from_slice(format!("{digest}\t/").as_bytes());
            lines.extend_from_slice(path);
            lines.push(b'\n');
        }
        ContextHash(Digest::of(&lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut hash = ContentsHash::default();
        hash.add("testing/docker/x/b", b);
        hash.add("testing/docker/x/a", a);
        let lines = format!("{a}\t/testing/docker/x/a\n{b}\t/testing/docker/x/b\n");
        assert_eq!(hash.finish(), ContextHash(Digest::of(lines.as_bytes())));
    }

    #[test]
    fn no_file_at_all() {
        assert_eq!(ContentsHash::default().finish(), ContextHash(Digest::of(b"")));
    }
}
