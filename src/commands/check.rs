//! `check FILE`: whether every consumer can load an image archive. What is wrong with one is `image_archive`'s word.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::Failed;
use crate::image_archive::{self, Checked};
use crate::report::Bytes;

/// Read from disk at this size, so that system calls do not count.
const READ_BUFFER: usize = 256 * 1024;

/// What was found, and where.
#[derive(Debug)]
pub struct Verdict {
    /// The archive.
    pub file: PathBuf,
    /// What was found.
    pub checked: Checked,
}

impl Verdict {
    /// In one line, what is wrong; nothing, if nothing is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let file = self.file.display();
        let what = match self.checked.problems.as_slice() {
            [] => return None,
            [one] => plain(&one.problem),
            [first, more @ ..] => format!("{}; and {} more", plain(&first.problem), more.len()),
        };
        Some(format!(
            "{file} is not an archive that every consumer can load: {what}; each problem says who breaks on it"
        ))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, checked } = self;
        for problem in &checked.problems {
            writeln!(f, "- {}: {}", plain(&problem.problem), problem.breaks)?;
        }
        let verdict = match checked.problems.len() {
            0 => "every consumer can load it".to_owned(),
            1 => "not every consumer can load it: 1 problem".to_owned(),
            many => format!("not every consumer can load it: {many} problems"),
        };
        let image = checked.image_id.as_deref().unwrap_or("no image");
        let names = if checked.tags.is_empty() { "no name".to_owned() } else { plain(&checked.tags.join(", ")) };
        let (packing, size, layers) = (checked.packing, Bytes(checked.size), checked.layers);
        writeln!(f, "{}: {image}, {names}, {layers} layers, {packing}, {size}", file.display())?;
        write!(f, "{verdict}")
    }
}

/// What an archive says of itself can be anything, and the terminal is not its to command.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Looks at an archive.
pub fn check(file: &Path) -> Result<Verdict, Failed> {
    let unreadable = |source| Failed::Read { path: file.to_owned(), source };
    let archive = File::open(file).map_err(unreadable)?;
    let checked = image_archive::check(BufReader::with_capacity(READ_BUFFER, archive)).map_err(unreadable)?;
    Ok(Verdict { file: file.to_owned(), checked })
}
