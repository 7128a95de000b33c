//! The journal: what a job does to the engine, one line a fact, so that the start after a SIGKILL knows what was left.
//! What follows from the facts is for `clean`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

/// Something about what is in an engine because of us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fact {
    /// The journal is about the engine at this place.
    Engine(String),
    /// A build begins, of an image with this tag; the engine has these images.
    Build {
        /// The name that the image will have.
        tag: String,
        /// The first instructions of its stages.
        firsts: Vec<String>,
        /// The ids of all images.
        before: Vec<String>,
    },
    /// The engine has all of the context, or is about to: it goes on to the end of a step by itself.
    Given,
    /// The build is at the step of this instruction.
    Step(String),
    /// A step has this image, which was there before; no id is that of an empty base.
    Has(String),
    /// A step has made this image.
    Made(String),
    /// The build has ended.
    Ended,
    /// An archive begins to go in, of an image with this tag.
    Load(String),
    /// The same, of an image that steps are taken from: its layers can be below those of what is built.
    Cache(String),
    /// The engine has all of that archive, or is about to: from then on it goes on by itself.
    Sent(String),
    /// The engine has answered.
    Loaded {
        /// The image's tag.
        tag: String,
        /// Whether the image was there before, without a name.
        was_nameless: bool,
    },
    /// This image is not ours to remove.
    Stays(String),
    /// A container with this name is about to be made.
    Container(String),
}

/// Where facts are written, from the first on. What the page cache has got is there after a SIGKILL: nothing is forced
/// to the disk.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    place: String,
    file: Option<File>,
    /// Nothing more is written after a line that may be half.
    broken: bool,
}

impl Journal {
    /// A journal about the engine at `place`; the file is made for the first fact.
    pub(super) fn new(path: PathBuf, place: String) -> Self {
        Self { path, place, file: None, broken: false }
    }

    /// Writes a fact down. The build matters more: what cannot be written is said once.
    pub(super) fn write(&mut self, fact: &Fact) {
        if self.broken {
            return;
        }
        if let Err(error) = self.try_to_write(fact) {
            self.broken = true;
            let path = self.path.display();
            warn!("cannot write to {path}, so this build's images would outlive a SIGKILL: {error}");
        }
    }

    fn try_to_write(&mut self, fact: &Fact) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = File::options().append(true).create(true).open(&self.path)?;
                append(&mut file, &Fact::Engine(self.place.clone()))?;
                none.insert(file)
            }
        };
        append(file, fact)
    }

    /// Forgets all facts: nothing of ours is in the engine.
    pub(super) fn forget(&mut self) {
        (self.file, self.broken) = (None, false);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                debug!("cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

fn append(file: &mut File, fact: &Fact) -> io::Result<()> {
    let mut line = serde_json::to_vec(fact)?;
    line.push(b'\n');
    // In one call, which a SIGKILL does not cut.
    file.write_all(&line)
}

/// A journal that somebody has left.
#[derive(Debug)]
pub(super) struct Found {
    /// All facts that can be read: a full disk cuts the last line.
    pub(super) facts: Vec<Fact>,
    /// When the last was written.
    pub(super) last_word: SystemTime,
}

/// Reads a journal.
pub(super) fn read(path: &Path) -> io::Result<Found> {
    let text = std::fs::read(path)?;
    let facts = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let last_word = std::fs::metadata(path)?.modified()?;
    Ok(Found { facts, last_word })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::new(path.clone(), "unix:///engine.sock".to_owned());
        assert!(!path.exists(), "nothing was done yet");
        let facts = [
            Fact::Build {
                tag: "builder:1234".to_owned(),
                firsts: vec!["RUN x".to_owned()],
                before: vec!["sha256:00".to_owned()],
            },
            Fact::Given,
            Fact::Step("RUN make".to_owned()),
            Fact::Has("0123456789ab".to_owned()),
            Fact::Made("ab0123456789".to_owned()),
            Fact::Ended,
            Fact::Load("base:parent".to_owned()),
            Fact::Cache("base:cache".to_owned()),
            Fact::Sent("base:parent".to_owned()),
            Fact::Loaded { tag: "base:parent".to_owned(), was_nameless: true },
            Fact::Stays("ab0123456789".to_owned()),
            Fact::Container("image-worker-squash-ab".to_owned()),
        ];
        for fact in &facts {
            journal.write(fact);
        }
        // The disk is full in the middle of a line.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"made\":\"ab").unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found.facts[0], Fact::Engine("unix:///engine.sock".to_owned()));
        assert_eq!(found.facts[1..], facts);

        journal.forget();
        assert!(!path.exists());
        journal.write(&Fact::Ended);
        assert_eq!(read(&path).unwrap().facts.len(), 2, "a journal begins with its engine");
    }

    #[test]
    fn a_journal_that_cannot_be_written_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nosuch/journal");
        let mut journal = Journal::new(path.clone(), "unix:///engine.sock".to_owned());
        journal.write(&Fact::Ended);
        assert!(journal.broken && read(&path).is_err());
        journal.forget();
        assert!(!journal.broken, "the next build is written down again");
    }
}
