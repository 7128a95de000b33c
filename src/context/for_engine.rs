//! Prepares a verified context for an engine: removes the files that `.dockerignore` names, and declares the arguments that the
//! `Dockerfile` uses. The hash is that of the unchanged context; the module `engine` sends the result.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use futures_util::Stream;
use tar::{Archive, EntryType};
use tokio_util::bytes::Bytes;

use super::BuiltBy;
use super::pieces::{Piece, PieceList, member};
use super::safety::clean_name;
use crate::context::tar_format::BLOCK;
use crate::dockerfile::base_images::{DockerfileImages, FromError};
use crate::dockerfile::declare::{declared, mentions_parent};
use crate::dockerfile::dockerignore::{Ignore, IgnoreError};
use crate::dockerfile::secret_mounts::{SecretMount, secret_mounts};
use crate::report::Hint;

/// The maximum size of text files, which people write.
const LARGEST_TEXT: u64 = 4 * 1024 * 1024;

const DOCKERFILE: &str = "Dockerfile";
/// The ignore files. If both exist, only the first one counts, as in BuildKit.
const IGNORE_FILES: [&str; 2] = ["Dockerfile.dockerignore", ".dockerignore"];

/// Why a context cannot be given to an engine.
#[derive(Debug, thiserror::Error)]
pub enum ForEngineError {
    /// A line of the ignore file is not a valid pattern.
    #[error("{file} in the context, {error}")]
    Ignore {
        /// Which of the two files.
        file: &'static str,
        /// The line.
        error: IgnoreError,
    },
    /// A file that is kept is a hard link to one that is left out.
    #[error(
        "{name} is a hard link to {target}, which {file} leaves out{}",
        Hint("make it a file of its own, or leave it out too")
    )]
    HardLink {
        /// The file.
        name: String,
        /// The target of the link.
        target: String,
        /// The ignore file.
        file: &'static str,
    },
    /// The `Dockerfile` has nothing to build from; some files without a `FROM` crash the daemon of Docker 20.10.
    #[error("the Dockerfile: {0}")]
    From(#[from] FromError),
    /// The file with the context cannot be read.
    #[error("cannot read the context again")]
    Read(#[from] io::Error),
}

/// A context, and the changes for the engine.
#[derive(Debug)]
pub struct ForEngine {
    path: PathBuf,
    /// In the order of the tar.
    members: Vec<Member>,
    /// Where the last member ends, and the length of the file.
    end: u64,
    length: u64,
    dockerfile: Vec<u8>,
    /// Read before lines are added.
    secret_mounts: Vec<SecretMount>,
    rules: Option<Rules>,
}

#[derive(Debug)]
struct Rules {
    file: &'static str,
    ignore: Ignore,
}

#[derive(Debug)]
struct Member {
    /// The normal form, without a `/` at its end.
    name: String,
    is_directory: bool,
    /// The range in the file, including all headers.
    from: u64,
    to: u64,
    /// The target of a hard link.
    link: Option<String>,
    /// What is sent instead of the member.
    replacement: Option<Vec<u8>>,
}

/// Files that are left out of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The ignore file.
    pub by: &'static str,
    /// The number of files.
    pub files: usize,
}

impl ForEngine {
    /// Reads a context, a plain tar in a file that must not change. `args` are the build's arguments.
    pub fn read(path: &Path, args: &BTreeMap<String, String>) -> Result<Self, ForEngineError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let (mut members, mut end) = (Vec::new(), 0);
        let (mut dockerfile, mut mounts, mut ignore_texts) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut archive = Archive::new(file);
        for entry in archive.entries_with_seek()? {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            if kind == EntryType::XGlobalHeader {
                // A part of the next member.
                continue;
            }
            let is_directory = kind == EntryType::Directory;
            let name = clean(&entry.path_bytes(), is_directory)?;
            let link = (kind == EntryType::Link).then(|| clean(&entry.link_name_bytes().unwrap_or_default(), false));
            let to = entry.raw_file_position() + entry.size().next_multiple_of(BLOCK);
            let mut found = Member { name, is_directory, from: end, to, link: link.transpose()?, replacement: None };
            end = to;
            let ignore_file = IGNORE_FILES.into_iter().find(|file| found.name == *file);
            let is_text = kind == EntryType::Regular && entry.size() <= LARGEST_TEXT;
            if is_text && (found.name == DOCKERFILE || ignore_file.is_some()) {
                let mut header = entry.header().clone();
                let mut text = Vec::new();
                entry.read_to_end(&mut text)?;
                if let Some(file) = ignore_file {
                    ignore_texts.insert(file, text);
                } else {
                    let readable = String::from_utf8_lossy(&text);
                    DockerfileImages::read(&readable, args).from_error.map_or(Ok(()), Err)?;
                    mounts = secret_mounts(&readable);
                    if let Some(changed) = declared(&text, args) {
                        header.set_path(DOCKERFILE)?;
                        found.replacement = Some(member(header, &changed));
                        text = changed;
                    }
                    dockerfile = text;
                }
            }
            members.push(found);
        }
        let mut rules = None;
        if let Some((file, text)) = IGNORE_FILES.into_iter().find_map(|file| Some((file, ignore_texts.get(file)?))) {
            let ignore = Ignore::parse(text).map_err(|error| ForEngineError::Ignore { file, error })?;
            rules = Some(Rules { file, ignore }).filter(|rules| !rules.ignore.is_empty());
        }
        let context = Self { path: path.to_owned(), members, end, length, dockerfile, secret_mounts: mounts, rules };
        context.check_links()?;
        Ok(context)
    }

    /// The text of the `Dockerfile` as the engine gets it.
    #[must_use]
    pub fn dockerfile(&self) -> String {
        String::from_utf8_lossy(&self.dockerfile).into_owned()
    }

    /// The secrets that the `Dockerfile` asks for.
    #[must_use]
    pub fn secret_mounts(&self) -> &[SecretMount] {
        &self.secret_mounts
    }

    /// Whether the `Dockerfile` refers to its parent image.
    #[must_use]
    pub fn mentions_parent(&self) -> bool {
        mentions_parent(&self.dockerfile)
    }

    /// The files that an ignore file leaves out, if there is one.
    #[must_use]
    pub fn left_out(&self) -> Option<LeftOut> {
        let by = self.rules.as_ref()?.file;
        let files = self.members.iter().filter(|member| !member.is_directory && self.is_listed(&member.name));
        Some(LeftOut { by, files: files.count() })
    }

    /// The tar as a stream of chunks.
    pub fn stream(&self, by: BuiltBy) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.pieces(by).stream(self.path.clone())
    }

    /// The exclude patterns for Podman: the list is never empty, so that no version looks for an ignore file.
    #[must_use]
    pub fn excludes(&self) -> [&'static str; 1] {
        [if self.is_listed(DOCKERFILE) { DOCKERFILE } else { "!Dockerfile" }]
    }

    fn is_listed(&self, name: &str) -> bool {
        // Patterns do not apply to the top directory.
        self.rules.as_ref().is_some_and(|rules| !name.is_empty() && rules.ignore.excludes(name))
    }

    fn check_links(&self) -> Result<(), ForEngineError> {
        let Some(Rules { file, .. }) = self.rules else { return Ok(()) };
        for Member { name, link, .. } in &self.members {
            if let Some(target) = link.as_ref().filter(|target| self.is_listed(target) && !self.is_listed(name)) {
                return Err(ForEngineError::HardLink { name: name.clone(), target: target.clone(), file });
            }
        }
        Ok(())
    }

    /// Whether a file is sent to this builder.
    fn is_sent(&self, name: &str, by: BuiltBy) -> bool {
        match (by, name) {
            // These are needed for the build.
            (_, DOCKERFILE) | (BuiltBy::Classic, ".dockerignore") => true,
            _ => !self.is_listed(name),
        }
    }

    fn pieces(&self, by: BuiltBy) -> PieceList {
        let is_sent: Vec<_> = self.members.iter().map(|member| self.is_sent(&member.name, by)).collect();
        // A directory that is listed is sent nevertheless if it contains a file that is sent.
        let mut needed = HashSet::new();
        for (member, _) in self.members.iter().zip(&is_sent).filter(|(_, is_sent)| **is_sent) {
            needed.extend(member.name.match_indices('/').map(|(slash, _)| &member.name[..slash]));
        }
        let mut pieces = PieceList::default();
        for (member, is_sent) in self.members.iter().zip(is_sent) {
            if is_sent || member.is_directory && needed.contains(member.name.as_str()) {
                let own = member.replacement.clone().map(Piece::Bytes);
                pieces.push(own.unwrap_or(Piece::Stretch(member.from, member.to)));
            }
        }
        pieces.push(Piece::Stretch(self.end, self.length));
        pieces
    }
}

fn clean(name: &[u8], is_directory: bool) -> io::Result<String> {
    // The intake has refused all other names.
    clean_name(name, is_directory).map(Cow::into_owned).map_err(|hazard| io::Error::other(hazard.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use futures_util::TryStreamExt as _;
    use tar::{Builder, Header};

    use super::*;

    const BUILDERS: [BuiltBy; 3] = [BuiltBy::Classic, BuiltBy::BuildKit, BuiltBy::Podman];

    struct Context {
        directory: tempfile::TempDir,
        bytes: Vec<u8>,
    }

    impl Context {
        /// From members `NAME`, `NAME/`, or `NAME -> NAME`, each with its content.
        fn new(members: &[(&str, &str)]) -> Self {
            let mut tar = Builder::new(Vec::new());
            for (name, content) in members {
                let (name, target) = name.split_once(" -> ").map_or((*name, None), |(name, to)| (name, Some(to)));
                let mut header = Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(content.len() as u64);
                if let Some(target) = target {
                    header.set_entry_type(EntryType::Link);
                    tar.append_link(&mut header, name, target).unwrap();
                    continue;
                }
                if name.ends_with('/') {
                    header.set_entry_type(EntryType::Directory);
                }
                tar.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
            let (directory, bytes) = (tempfile::tempdir().unwrap(), tar.into_inner().unwrap());
            std::fs::write(directory.path().join("context.tar"), &bytes).unwrap();
            Self { directory, bytes }
        }

        fn read(&self, args: &[(&str, &str)]) -> Result<ForEngine, ForEngineError> {
            let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            ForEngine::read(&self.directory.path().join("context.tar"), &args)
        }
    }

    async fn sent(context: &ForEngine, by: BuiltBy) -> Vec<u8> {
        context.stream(by).try_collect::<Vec<_>>().await.unwrap().concat()
    }

    async fn names(context: &ForEngine, by: BuiltBy) -> String {
        let mut archive = Archive::new(Cursor::new(sent(context, by).await));
        let name = |entry: io::Result<tar::Entry<'_, _>>| entry.unwrap().path().unwrap().display().to_string();
        archive.entries().unwrap().map(name).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_context_without_an_ignore_file_stays_as_it_is() {
        let context =
            Context::new(&[("A", "a"), ("./Dockerfile", "FROM a\n"), ("sub/", ""), ("sub/.dockerignore", "*")]);
        let read = context.read(&[("A", "x")]).unwrap();
        assert_eq!((read.dockerfile().as_str(), read.left_out()), ("FROM a\n", None));
        for by in BUILDERS {
            assert!(sent(&read, by).await == context.bytes);
        }
    }

    #[tokio::test]
    async fn arguments_are_declared_in_the_dockerfile_and_nothing_else_changes() {
        let context =
            |text: &str| Context::new(&[("A", "a"), ("Dockerfile", text), ("sub/Dockerfile", "FROM $V"), ("z", "z")]);
        // The additional line makes the second Dockerfile longer by a block.
        for text in ["FROM ${V}\n", &format!("FROM $V\n# {}\n", "x".repeat(500))] {
            let (before, expected) = (context(text), format!("ARG V\n{text}"));
            let read = before.read(&[("V", "1"), ("W", "1")]).unwrap();
            assert_eq!(read.dockerfile(), expected);
            let after = context(&expected).bytes;
            for by in BUILDERS {
                assert!(sent(&read, by).await == after);
            }
            assert!(matches!(before.read(&[]), Err(ForEngineError::From(_))), "nothing gives V a value");
        }
    }

    #[tokio::test]
    async fn listed_files_are_not_sent_but_for_what_the_builder_reads() {
        let long = "l".repeat(150);
        let members = [
            (".dockerignore", "**/.env\n.dockerignore\nDockerfile\nout\n!out/kept\nlll*\n"),
            (".env", "secret"),
            ("Dockerfile", "FROM a\n"),
            (&long, "long"),
            ("out/", ""),
            ("out/made", "made"),
            ("out/empty/", ""),
            ("out/kept", "kept"),
            ("sub/.env", "secret"),
            ("sub/a", "a"),
        ];
        let context = Context::new(&members);
        let read = context.read(&[]).unwrap();
        assert_eq!(read.left_out(), Some(LeftOut { by: ".dockerignore", files: 6 }));
        let rest = "Dockerfile out/ out/kept sub/a";
        assert_eq!(names(&read, BuiltBy::Classic).await, format!(".dockerignore {rest}"));
        assert_eq!(names(&read, BuiltBy::BuildKit).await, rest);
        assert_eq!((names(&read, BuiltBy::Podman).await.as_str(), read.excludes()), (rest, ["Dockerfile"]));
        let to_podman = String::from_utf8(sent(&read, BuiltBy::Podman).await).unwrap();
        assert!(!to_podman.contains("secret") && !to_podman.contains("long"));
    }

    #[tokio::test]
    async fn the_dockerfiles_own_ignore_file_comes_before_the_other() {
        let context = Context::new(&[
            ("Dockerfile", "FROM a\n"),
            ("Dockerfile.dockerignore", "a\n"),
            (".dockerignore", "b\n"),
            ("a", ""),
            ("b", ""),
        ]);
        let read = context.read(&[]).unwrap();
        assert_eq!(read.left_out(), Some(LeftOut { by: "Dockerfile.dockerignore", files: 1 }));
        for by in BUILDERS {
            assert_eq!(names(&read, by).await, "Dockerfile Dockerfile.dockerignore .dockerignore b");
        }
        assert_eq!(read.excludes(), ["!Dockerfile"]);
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let failed = |members: &[(&str, &str)]| Context::new(members).read(&[]).unwrap_err().to_string();
        assert_eq!(
            failed(&[("Dockerfile", "FROM a\n"), (".dockerignore", "a\n[b\n")]),
            ".dockerignore in the context, line 2: \"[b\" has a `[` without its `]`, or an empty range in it"
        );
        assert_eq!(
            failed(&[(".dockerignore", ".env"), (".env", "x"), ("Dockerfile", "FROM a"), ("copy -> .env", "")]),
            "copy is a hard link to .env, which .dockerignore leaves out; make it a file of its own, or leave it out too"
        );
        assert!(failed(&[("Dockerfile", "# a\nFROM $A")]).starts_with("the Dockerfile: line 2: `FROM $A` is empty, "));
    }
}
