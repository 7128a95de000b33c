//! `check FILE`: which programs can load an image archive, and what differs between two archives. `image_archive` defines the
//! problems and the differences.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::{Answer, CommandContext};
use crate::config::settings::SettingGroup;
use crate::image::compare::Comparison;
use crate::image::disk::ensure_space;
use crate::image::{self, Checked};
use crate::job::{CommandError, unpack};
use crate::report::{self, Bytes};

const HELP: &str = "\
Says who can load an image archive, plain or packed with gzip, zstd, xz or bzip2: manifest and configuration agree, every
layer is the one that the configuration names, and plain; one name, the same in `repositories`; no member that is unsafe,
or that readers differ about. Prints all problems, each with who breaks on it, and who loads it. The exit code is 10 if
there is a problem.

With --compare it says what differs between two images, of any form and packing: configuration, names, layers, and in layers
file by file, with the likely causes. The exit code is 10 if they differ; --json has all that is cut here.";

pub(super) const SETTINGS: &[SettingGroup] = &[];

/// Say who can load an image archive, and what is wrong with it
#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(long_about = HELP)]
pub struct Args {
    /// The image archive
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say instead what differs between the images of both archives
    #[arg(long, value_name = "OTHER")]
    compare: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self, context: &CommandContext) -> Result<Answer, CommandError> {
        let findings = match &self.compare {
            None => {
                let verdict = check(&self.file)?;
                Findings {
                    answer: context.answer(&verdict.checked, &verdict.to_string())?,
                    fault: verdict.fault(),
                    hint: "each problem says who breaks on it",
                }
            }
            Some(other) => {
                let comparison = compare(&self.file, other, &context.environment.temporary)?;
                let answer = context.answer(&comparison, &comparison.to_string())?;
                let (file, other) = (self.file.display(), other.display());
                let what = || format!("{file} and {other} are not the same image: {}", comparison.summary());
                Findings { answer, fault: (!comparison.identical).then(what), hint: "" }
            }
        };
        let Some(what) = findings.fault else { return Ok(findings.answer) };
        (context.print)(&findings.answer.text)?;
        Err(CommandError::Diagnostics { what, hint: findings.hint })
    }
}

/// What was found, with a one-line summary of the problems.
struct Findings {
    answer: Answer,
    fault: Option<String>,
    /// What to do about it.
    hint: &'static str,
}

/// The size of reads from disk, large enough that system calls do not count.
const READ_BUFFER: usize = 256 * 1024;

/// The findings for one archive.
#[derive(Debug)]
struct Verdict {
    /// The archive.
    file: PathBuf,
    /// The findings.
    checked: Checked,
}

impl Verdict {
    /// The problems in one line; none if there are none.
    fn fault(&self) -> Option<String> {
        let file = self.file.display();
        let what = match self.checked.problems.as_slice() {
            [] => return None,
            [one] => plain(&one.problem),
            [first, more @ ..] => format!("{}; and {} more", plain(&first.problem), more.len()),
        };
        Some(format!("{file} is not as it should be: {what}"))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, checked } = self;
        for problem in &checked.problems {
            writeln!(f, "- {}: {}", plain(&problem.problem), problem.breaks)?;
        }
        let image = checked.image_id.map_or("no image".to_owned(), |id| id.to_string());
        let names = if checked.tags.is_empty() { "no name".to_owned() } else { plain(&checked.tags.join(", ")) };
        let (packing, size, layers) = (checked.packing, Bytes(checked.size), checked.layers);
        writeln!(f, "{}: {image}, {names}, {layers} layers, {packing}, {size}", file.display())?;
        let takers: Vec<_> = checked.consumers.iter().filter(|it| it.cannot.is_none()).map(|it| it.name).collect();
        for consumer in &checked.consumers {
            if let Some(why) = &consumer.cannot {
                writeln!(f, "- {} cannot load it: {}", consumer.name, plain(why))?;
            }
        }
        match takers.as_slice() {
            [] => f.write_str("nobody can load it"),
            takers => write!(f, "can load it: {}", takers.join(", ")),
        }
    }
}

/// Escapes text from an archive: it could contain terminal control sequences.
fn plain(text: &str) -> String {
    report::printable(text)
}

/// Checks an archive.
fn check(file: &Path) -> Result<Verdict, CommandError> {
    let unreadable = |source| CommandError::Read { path: file.to_owned(), source };
    let archive = File::open(file).map_err(unreadable)?;
    let checked = image::check(BufReader::with_capacity(READ_BUFFER, archive)).map_err(unreadable)?;
    Ok(Verdict { file: file.to_owned(), checked })
}

/// The differences between the images of two archives, of any form and compression. They are unpacked into `directory`.
fn compare(file: &Path, other: &Path, directory: &Path) -> Result<Comparison, CommandError> {
    let mut size = 0;
    for path in [file, other] {
        let unreadable = |source| CommandError::Read { path: path.to_owned(), source };
        size += std::fs::metadata(path).map_err(unreadable)?.len();
    }
    // A lower limit: compressed data grows.
    ensure_space("comparing the two images", directory, size)?;
    let (a, b) = (unpack::archive(file, directory)?, unpack::archive(other, directory)?);
    Ok(Comparison::of(&a, &b)?)
}
