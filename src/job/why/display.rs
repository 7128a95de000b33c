//! An explanation for a terminal. Everything from outside is escaped and cut; `--json` has all.

use std::fmt;

use super::compare::{ArgumentChange, Explanation, FileChange, FileChangeKind, FileFacts, ParentChange, SideHashes};
use super::side::Parent;
use crate::report::{Bytes, printable, shortened};

/// How many files are listed.
const MOST: usize = 100;

/// Longer lines of a diff, names and values are cut.
const LONGEST: usize = 200;

/// How many characters of a hash identify it.
const SHORT: usize = 12;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.same { "the hash has not changed" } else { "the hash has changed" };
        write!(f, "{}: {verdict}", self.image)?;
        for (word, side) in [("before", &self.before), ("after", &self.after)] {
            write_side(f, word, side)?;
        }
        for file in self.files.iter().take(MOST) {
            write_file(f, file)?;
        }
        if self.files.len() > MOST {
            write!(f, "\nand {} more files", self.files.len() - MOST)?;
        }
        for argument in &self.arguments {
            write_argument(f, argument)?;
        }
        if let Some(parent) = &self.parent {
            write_parent(f, parent)?;
        }
        if let Some(it) = &self.architecture {
            let [before, after] =
                [&it.before, &it.after].map(|arch| line(arch.as_deref().unwrap_or("amd64, by default")));
            write!(f, "\narchitecture: {after} (was {before})")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {}", line(note)))
    }
}

fn write_side(f: &mut fmt::Formatter<'_>, word: &str, side: &SideHashes) -> fmt::Result {
    let SideHashes { what, hash, context_hash, .. } = side;
    let hash = hash.map_or_else(|| "a hash that only the task graph knows".to_owned(), |hash| hash.to_string());
    write!(f, "\n  {word:<6}  {hash}, {}", line(what))?;
    if side.hash != Some(*context_hash) {
        write!(f, "; context {}", short(&context_hash.to_string()))?;
    }
    Ok(())
}

fn write_file(f: &mut fmt::Formatter<'_>, file: &FileChange) -> fmt::Result {
    let name = line(&file.name);
    let from = file.from.as_deref().map(|from| format!(", included from {}", line(from))).unwrap_or_default();
    match (file.change, &file.before, &file.after) {
        (FileChangeKind::Added, _, Some(after)) => write!(f, "\nadded: {name} ({}){from}", facts(after))?,
        (FileChangeKind::Removed, Some(before), _) => write!(f, "\nremoved: {name} ({}){from}", facts(before))?,
        (FileChangeKind::Mode, Some(before), Some(after)) => {
            write!(f, "\nmode: {name}, {} (was {}){from}", after.mode, before.mode)?;
        }
        (_, Some(before), Some(after)) => {
            write!(f, "\nchanged: {name} ({}; was {}){from}", facts(after), facts(before))?;
        }
        _ => {}
    }
    for text in file.diff.iter().flatten() {
        write!(f, "\n    {}", line(text))?;
    }
    if file.more > 0 {
        write!(f, "\n    … {} more lines", file.more)?;
    }
    Ok(())
}

fn facts(facts: &FileFacts) -> String {
    let FileFacts { kind, mode, size, target, .. } = facts;
    match (size, target) {
        (Some(size), _) => format!("{}, mode {mode}", Bytes(*size)),
        (None, Some(target)) => format!("a link to {}", line(target)),
        (None, None) => format!("a {kind}, mode {mode}"),
    }
}

fn write_argument(f: &mut fmt::Formatter<'_>, argument: &ArgumentChange) -> fmt::Result {
    let name = line(&argument.name);
    let value = |value: &str| line(&format!("{value:?}"));
    match (&argument.before, &argument.after) {
        (Some(before), Some(after)) => write!(f, "\nargument {name}: {} (was {})", value(after), value(before)),
        (None, Some(after)) => write!(f, "\nargument {name}: {} (new)", value(after)),
        (Some(before), None) => write!(f, "\nargument {name}: gone (was {})", value(before)),
        (None, None) => Ok(()),
    }
}

fn write_parent(f: &mut fmt::Formatter<'_>, change: &ParentChange) -> fmt::Result {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => write!(f, "\nparent {} (was {})", parent(after), parent(before))?,
        (None, Some(after)) => write!(f, "\nparent {} (new)", parent(after))?,
        (Some(before), None) => write!(f, "\nparent: none (was {})", parent(before))?,
        (None, None) => {}
    }
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return Ok(()) };
    match (&before.task_id, &after.task_id, &after.image) {
        (Some(one), Some(other), _) => write!(f, "; `image-worker why {one} {other}` says why"),
        (Some(task), None, Some(image)) => write!(f, "; `image-worker why {image} --task-id {task}` says why"),
        _ => Ok(()),
    }
}

fn parent(parent: &Parent) -> String {
    let image = parent.image.as_ref().map_or_else(|| "an image".to_owned(), ToString::to_string);
    let hash = parent.hash.map(|hash| format!(" of hash {}", short(&hash.to_string()))).unwrap_or_default();
    let task = parent.task_id.as_ref().map(|task| format!(", task {task}")).unwrap_or_default();
    format!("{image}{hash}{task}")
}

fn short(hash: &str) -> String {
    hash.chars().take(SHORT).collect()
}

/// A text from outside, in one line.
fn line(text: &str) -> String {
    printable(&shortened(text, LONGEST))
}
