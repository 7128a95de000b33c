//! A history for a terminal: a line of sizes, and a table with a line for each push. `--json` has everything.

use super::change::{Cause, Change, PackageChanges};
use super::{History, Push};
use crate::report::{Bytes, counted, escaped, shortened};

/// The bars of a line of sizes, the lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The widest line of sizes; more pushes share a bar, which is that of the largest of them.
const WIDEST: usize = 60;

/// How many characters of a revision are shown: as Mercurial shortens it.
const SHORT_REVISION: usize = 12;

/// What stands for a number that is not known.
pub(super) const UNKNOWN: &str = "?";

/// The columns of the table.
pub(super) const COLUMNS: [&str; 8] =
    ["push (UTC)", "revision", "size", "difference", "layers", "packages", "seconds", "what changed"];

/// The columns with numbers, which are aligned to the right.
pub(super) const NUMBERS: std::ops::Range<usize> = 2..7;

impl History {
    /// The history for a terminal of this many columns. Where a line of the table would not fit, each push has two lines: the
    /// second has the revision, and what changed.
    #[must_use]
    pub fn text(&self, columns: Option<usize>) -> String {
        let sizes = self.sizes().map(|sizes| format!("{sizes}\n")).unwrap_or_default();
        let rows: Vec<_> =
            std::iter::once(COLUMNS.map(str::to_owned)).chain(self.pushes.iter().map(Push::row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
        let whole: usize = widths.iter().map(|width| width + 2).sum();
        let is_narrow = columns.is_some_and(|columns| whole > columns + 2);
        let mut text = format!("{}\n{sizes}", self.headline());
        for row in &rows {
            let is_below = |column: usize| is_narrow && !(NUMBERS.contains(&column) || column == 0);
            let cells = row.iter().zip(widths).enumerate().filter(|(column, _)| !is_below(*column));
            let cells = cells.map(|(column, (cell, width))| {
                if NUMBERS.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            text = format!("{text}\n{}", cells.collect::<Vec<_>>().join("  ").trim_end());
            let below = row.iter().enumerate().filter(|(column, cell)| is_below(*column) && !cell.is_empty());
            let below: Vec<_> = below.map(|(_, cell)| cell.as_str()).collect();
            if !below.is_empty() {
                text = format!("{text}\n    {}", below.join("  "));
            }
        }
        text
    }

    /// The image, and how much of its history this is.
    pub(super) fn headline(&self) -> String {
        let built = self.pushes.iter().filter(|push| push.built).count();
        let pushes = if self.pushes.len() == 1 { "1 push".to_owned() } else { format!("{} pushes", self.pushes.len()) };
        let more = if self.more { ", the newest of more" } else { "" };
        format!("{} for {}: {pushes}{more}, {built} of which built it", self.image, self.project)
    }

    /// A line of the sizes, the oldest push first; none where no size is known.
    fn sizes(&self) -> Option<String> {
        let sizes: Vec<_> = self.pushes.iter().rev().map(|push| push.build.size).collect();
        let (smallest, largest) = (sizes.iter().flatten().min()?, sizes.iter().flatten().max()?);
        let bounds = if smallest == largest {
            format!("all {}", Bytes(*largest))
        } else {
            format!("from {} to {}", Bytes(*smallest), Bytes(*largest))
        };
        Some(format!("sizes  {}  {bounds}", sparkline(&sizes)))
    }
}

/// A bar for each number, or for several where there are many; a space where none is known.
fn sparkline(numbers: &[Option<u64>]) -> String {
    let known = || numbers.iter().flatten().copied();
    let (Some(least), Some(most)) = (known().min(), known().max()) else { return String::new() };
    let bar = |number: u64| {
        let above = u128::from(number - least) * (BARS.len() - 1) as u128;
        let step = above.checked_div(u128::from(most - least)).unwrap_or(0);
        usize::try_from(step).ok().and_then(|step| BARS.get(step)).copied().unwrap_or(BARS[0])
    };
    let together = numbers.len().div_ceil(WIDEST).max(1);
    numbers.chunks(together).map(|some| some.iter().flatten().max().map_or(' ', |largest| bar(*largest))).collect()
}

impl Push {
    /// The cells of the table, escaped for a terminal.
    pub(super) fn row(&self) -> [String; COLUMNS.len()] {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
        let count = |count: Option<usize>| or_unknown(count.map(|count| count.to_string()));
        let facts = &self.build;
        // The revision of an image that is used again is not this push's.
        let revision = if self.built { or_unknown(facts.revision.as_deref().map(short)) } else { String::new() };
        let seconds = if self.built { or_unknown(facts.seconds.map(|it| format!("{it:.1}"))) } else { String::new() };
        let change = self.change.as_ref().filter(|change| change.cause != Cause::Reused);
        let difference = change.and_then(|change| change.size).map(difference).unwrap_or_default();
        [
            self.date.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            revision,
            or_unknown(facts.size.map(|size| Bytes(size).to_string())),
            difference,
            count(facts.layers),
            count(facts.packages),
            seconds,
            self.changed(),
        ]
    }

    /// What has changed since the push before, in words.
    fn changed(&self) -> String {
        let Some(change) = &self.change else { return "the first push".to_owned() };
        if change.cause == Cause::Reused {
            return change.cause.words().to_owned();
        }
        let Change { cause, layers, packages, .. } = change;
        let layers = layers.filter(|more| *more != 0).map(|more| format!("layers {more:+}"));
        let packages = packages.filter(|changes| *changes != PackageChanges::default());
        let packages = packages.map(|it| format!("packages +{} -{}, {} upgraded", it.added, it.removed, it.upgraded));
        let again = (!self.built).then(|| "an earlier image".to_owned());
        let words = std::iter::once(cause.words().to_owned()).chain(again).chain(layers).chain(packages);
        words.collect::<Vec<_>>().join("; ")
    }
}

/// Bytes with a sign.
fn difference(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    if bytes == 0 { "0 B".to_owned() } else { format!("{sign}{}", Bytes(bytes.unsigned_abs())) }
}

/// It comes from a task's definition.
fn short(revision: &str) -> String {
    escaped(&revision.chars().take(SHORT_REVISION).collect::<String>())
}

impl History {
    /// What is wrong with documents, a line each; documents that are missing are not wrong.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let noted = self.pushes.iter().filter(|push| push.built && !push.build.notes.is_empty());
        let note = |push: &Push| format!("task {}: {}", push.task_id, shortened(&push.build.notes.join("; "), 300));
        noted.map(note).collect()
    }

    /// How many builds lack documents, in words; none if none does.
    #[must_use]
    pub fn lacking(&self) -> Option<String> {
        let lacking = self.pushes.iter().filter(|push| push.built && !push.build.missing.is_empty()).count();
        let builds = counted(lacking, "build");
        (lacking > 0).then(|| format!("{builds} without some of the documents; --json names them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_sizes_goes_from_the_least_to_the_most() {
        assert_eq!(sparkline(&[Some(0), Some(50), None, Some(100)]), "▁▄ █");
        assert_eq!(sparkline(&[Some(7), Some(7)]), "▁▁");
        assert_eq!(sparkline(&[None, None]), "");
        assert_eq!(sparkline(&[Some(0), Some(u64::MAX)]), "▁█");
        let many: Vec<_> = (0..200).map(|number| Some(u64::from(number == 100))).collect();
        let line = sparkline(&many);
        assert_eq!((line.chars().count(), line.matches('█').count()), (50, 1), "{line}");
    }

    #[test]
    fn a_difference_has_its_sign() {
        assert_eq!([0, 1024, -1024].map(difference), ["0 B", "+1.00 KiB", "-1.00 KiB"]);
        assert_eq!(difference(i64::MIN), "-8.00 EiB");
    }
}
