//! Makes the context of an image directory: its files and their names, its tar, and its hash, which equals taskgraph's. The
//! modules beside this one process Dockerfiles, write the tar format, and read files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use super::ahead::{ahead, batches};
pub use super::archive::CONTEXT_TIME;
use super::archive::{ArchivePath, TarWriter};
use super::checkout::Checkout;
pub use super::choose::dockerfile;
use super::choose::{processed_files, raw_files};
use super::contents::ContentsHash;
pub use super::error::CollectError;
use super::intake::Limits;
use super::intake::files::check;
use super::source::Source;
use super::untracked::{untracked, warn_of};
use super::walk::normalise;
use crate::context::{ContextHash, HashScheme};
use crate::net::digest_reader::DigestReader;

/// How many files a thread reads at a time: half a millisecond's work.
const READ_AHEAD: usize = 64;

/// Larger files are not read ahead, and this is the size of a batch of the others: memory stays constant.
const LARGE: u64 = 512 * 1024;

/// The files of a context, found but not yet read.
///
/// The scheme defines the files and their form: `tar` takes the files that taskgraph takes, with the Dockerfile
/// processed and its includes added; `contents` takes every file of the image directory unchanged.
#[derive(Debug)]
pub struct Context {
    scheme: HashScheme,
    /// The image directory.
    image_directory: PathBuf,
    /// The image directory relative to the root of the repository: the scheme `contents` adds it to each path.
    directory: PathBuf,
    files: BTreeMap<ArchivePath, Source>,
}

/// A file of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile<'a> {
    /// Its name in the context.
    pub name: &'a Path,
    /// Its permission bits.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
    /// The file that it comes from.
    pub source: PathBuf,
}

impl Context {
    /// Finds the files of the context of `directory`, a path from the root of the repository. Without a root, a Dockerfile can
    /// include nothing, and only the scheme `tar` is possible.
    ///
    /// `args` are the values for `# %ARG` lines; the scheme `contents` ignores them.
    pub fn collect(
        checkout: &Checkout,
        directory: &Path,
        args: &BTreeMap<String, String>,
        scheme: HashScheme,
    ) -> Result<Self, CollectError> {
        let LocatedDirectory { root, image_directory } = locate(checkout, directory)?;
        let checkout = checkout.at(root.clone());
        let in_repository = root.as_ref().and_then(|root| image_directory.strip_prefix(root).ok()).map(Path::to_owned);
        let (directory, files) = match scheme {
            HashScheme::Tar => (in_repository.unwrap_or_default(), processed_files(&checkout, &image_directory, args)?),
            HashScheme::Contents => {
                let directory = in_repository.ok_or_else(|| {
                    let (directory, root) = (image_directory.clone(), root.clone().unwrap_or_default());
                    CollectError::OutsideRepository { directory, root }
                })?;
                (directory, raw_files(&image_directory)?)
            }
        };
        Ok(Self { scheme, image_directory, directory, files })
    }

    /// The same context, if `run` would accept it: its names, its size and the number of files are within the limits.
    pub fn within(self, limits: &Limits) -> Result<Self, CollectError> {
        let files = self.files.iter().map(|(name, source)| (name, source.size));
        match check(files, limits) {
            Ok(()) => Ok(self),
            Err(error) => Err(CollectError::Refused { directory: self.image_directory, error: Box::new(error) }),
        }
    }

    /// The hash of the context in its scheme.
    pub fn hash(&self) -> Result<ContextHash, CollectError> {
        match self.scheme {
            HashScheme::Tar => self.write_tar(io::sink()),
            HashScheme::Contents => {
                let mut hash = ContentsHash::default();
                let hash_file = |(_, source): &(_, &Source)| {
                    let mut digest_reader = DigestReader::new(io::sink());
                    source.copy_to(&mut digest_reader).map(|()| digest_reader.finish().1.sha256)
                };
                ahead(&batches(&self.list(), READ_AHEAD, LARGE, weight), hash_file, |(name, _), digest| {
                    hash.add(self.repository_path(name), digest?);
                    Ok::<_, CollectError>(())
                })?;
                Ok(hash.finish())
            }
        }
    }

    /// Writes the context as a tar, the same bytes for the same files, and returns its hash in its scheme.
    pub fn write_tar<W: Write>(&self, out: W) -> Result<ContextHash, CollectError> {
        let (mut out, hash) = self.write(out)?;
        out.flush().map_err(CollectError::Write)?;
        Ok(hash)
    }

    /// Writes the context as a compressed tar, the same bytes for the same files; the hash is that of
    /// [`write_tar`](Self::write_tar).
    pub fn write_tar_gz<W: Write>(&self, out: W) -> Result<ContextHash, CollectError> {
        // No file name, a fixed time, a fixed level: nothing else in the gzip format can vary.
        let gzip = GzBuilder::new().mtime(CONTEXT_TIME).write(out, Compression::new(6));
        let (gzip, hash) = self.write(gzip)?;
        let mut out = gzip.finish().map_err(CollectError::Write)?;
        out.flush().map_err(CollectError::Write)?;
        Ok(hash)
    }

    /// The image directory, as an absolute path.
    #[must_use]
    pub fn image_directory(&self) -> &Path {
        &self.image_directory
    }

    /// The scheme that the files were collected for.
    #[must_use]
    pub fn scheme(&self) -> HashScheme {
        self.scheme
    }

    /// The files, in the order of the tar, including the processed Dockerfile.
    pub fn files(&self) -> impl Iterator<Item = ContextFile<'_>> {
        self.files.iter().map(|(name, source)| ContextFile {
            name: Path::new(OsStr::from_bytes(name.as_bytes())),
            mode: source.mode,
            size: source.size,
            source: source.path().map_or_else(|| self.image_directory.join("Dockerfile"), Path::to_owned),
        })
    }

    /// Logs a warning about files that git does not track.
    pub fn warn_of_untracked(&self) {
        let sources: Vec<_> = self.files().map(|file| file.source).collect();
        warn_of(&untracked(&self.image_directory, sources.iter().map(PathBuf::as_path)));
    }

    /// The total size of the files in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.values().map(|source| source.size).sum()
    }

    fn write<W: Write>(&self, out: W) -> Result<(W, ContextHash), CollectError> {
        // Check before writing the first byte: a refusal should not leave a part of an archive.
        self.files.values().try_for_each(Source::check_mode)?;
        let mut tar = TarWriter::new(out);
        let mut contents = ContentsHash::default();
        let read = |(_, source): &(_, &Source)| {
            let mut bytes = Vec::new();
            // Large files are not kept in memory, but read in their turn.
            let small = source.size <= LARGE;
            let result = if small { source.copy_to(&mut bytes) } else { Ok(()) };
            result.map(|()| small.then_some(bytes))
        };
        ahead(&batches(&self.list(), READ_AHEAD, LARGE, weight), read, |(name, source), read| {
            let read = read?;
            tar.start_file(name, source.mode, source.size).map_err(CollectError::Write)?;
            let copy = |out: &mut dyn Write| match &read {
                Some(bytes) => out.write_all(bytes).map_err(CollectError::Write),
                None => source.copy_to(out),
            };
            match self.scheme {
                HashScheme::Tar => copy(&mut tar)?,
                HashScheme::Contents => {
                    let mut digest_reader = DigestReader::new(&mut tar);
                    copy(&mut digest_reader)?;
                    contents.add(self.repository_path(name), digest_reader.finish().1.sha256);
                }
            }
            tar.end_file().map_err(CollectError::Write)
        })?;
        let (out, digest) = tar.finish().map_err(CollectError::Write)?;
        let hash = match self.scheme {
            HashScheme::Tar => ContextHash(digest),
            HashScheme::Contents => contents.finish(),
        };
        Ok((out, hash))
    }

    fn list(&self) -> Vec<(&ArchivePath, &Source)> {
        self.files.iter().collect()
    }

    fn repository_path(&self, name: &ArchivePath) -> Vec<u8> {
        self.directory.join(OsStr::from_bytes(name.as_bytes())).into_os_string().into_encoded_bytes()
    }
}

fn weight((_, source): &(&ArchivePath, &Source)) -> u64 {
    source.size
}

/// Where an image directory is, as absolute paths.
pub(super) struct LocatedDirectory {
    /// The repository's root.
    pub(super) root: Option<PathBuf>,
    pub(super) image_directory: PathBuf,
}

/// Finds an image directory, a path from the root of the repository.
pub(super) fn locate(checkout: &Checkout, directory: &Path) -> Result<LocatedDirectory, CollectError> {
    let absolute = |path: &Path| match std::path::absolute(path) {
        Ok(absolute) => Ok(normalise(&absolute)),
        Err(error) => Err(CollectError::read(path, error)),
    };
    let root = checkout.root.as_deref().map(absolute).transpose()?;
    let image_directory = match &root {
        Some(root) => normalise(&root.join(directory)),
        None => absolute(directory)?,
    };
    Ok(LocatedDirectory { root, image_directory })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A repository with one image; each file has its own path as content, except the Dockerfile.
    fn repository(dockerfile: &str, files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join("repo").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::create_dir_all(root.path().join("repo/docker/i")).unwrap();
        fs::write(root.path().join("repo/docker/i/Dockerfile"), dockerfile).unwrap();
        root
    }

    fn collect(root: &tempfile::TempDir, scheme: HashScheme) -> Result<Context, CollectError> {
        Context::collect(&root.path().join("repo").as_path().into(), Path::new("docker/i/"), &BTreeMap::new(), scheme)
    }

    #[test]
    fn refusals_name_the_file() {
        let root = repository("", &["docker/i/su"]);
        let su = root.path().join("repo/docker/i/su");
        fs::set_permissions(&su, fs::Permissions::from_mode(0o4755)).unwrap();
        let context = collect(&root, HashScheme::Tar).unwrap();
        let mut out = Vec::new();
        assert!(matches!(context.write_tar(&mut out), Err(CollectError::SetId { path }) if path == su));
        assert!(out.is_empty());
        assert!(collect(&root, HashScheme::Contents).unwrap().hash().is_ok());

        let none =
            Context::collect(&root.path().into(), Path::new("repo"), &BTreeMap::new(), HashScheme::Tar).unwrap_err();
        let expected =
            format!("{} has no Dockerfile; name a directory that has one", root.path().join("repo").display());
        assert_eq!(none.to_string(), expected);
        let outside = Context::collect(&su.as_path().into(), Path::new(".."), &BTreeMap::new(), HashScheme::Contents)
            .unwrap_err();
        assert!(matches!(outside, CollectError::OutsideRepository { .. }));
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let root = repository("FROM scratch\r\n", &["docker/i/b", "docker/i/a/b"]);
        for scheme in [HashScheme::Tar, HashScheme::Contents] {
            let context = collect(&root, scheme).unwrap();
            let (mut tar, mut gzip, mut again) = (Vec::new(), Vec::new(), Vec::new());
            let hash = context.write_tar(&mut tar).unwrap();
            assert_eq!(context.write_tar_gz(&mut gzip).unwrap(), hash);
            assert_eq!(collect(&root, scheme).unwrap().write_tar_gz(&mut again).unwrap(), hash);
            assert_eq!(context.hash().unwrap(), hash);
            assert_eq!(gzip, again);
            // No name, the fixed time, the default level, and no system.
            assert_eq!(gzip[..10], [0x1f, 0x8b, 8, 0, 0x80, 0xc1, 0x85, 0x56, 0, 0xff][..]);
            let mut unpacked = Vec::new();
            io::copy(&mut flate2::read::GzDecoder::new(gzip.as_slice()), &mut unpacked).unwrap();
            assert_eq!(unpacked, tar);
        }
    }
}
