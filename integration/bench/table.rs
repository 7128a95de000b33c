//! Tables of a benchmark: ratios of pairs that were measured in turns, and figures, each beside its target. Where tables
//! stand is the document's.

use std::fmt::Write as _;

use super::measure::Cost;

/// A group of rows that are measured together.
pub(super) struct Section {
    /// What was measured, and how.
    pub(super) words: String,
    pub(super) tables: Vec<Table>,
}

/// A table, and the numbers in it, so that tests can check that they are possible.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    numbers: Vec<f64>,
}

/// Which way a ratio is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Ours in times of theirs: less is better.
    Share,
    /// Theirs in times of ours: more is better.
    Speed,
}

/// The most memory that a command of ours may have, in MiB.
const MEMORY: f64 = 48.0;

/// What a command of ours writes to disk, and may write.
#[derive(Clone, Copy)]
pub(super) struct Writes {
    /// The bytes that it makes.
    of: u64,
    /// Bytes that it has to write besides.
    besides: u64,
    /// The most, in times of what it makes.
    most: f64,
}

impl Writes {
    /// A file of so many bytes, once.
    pub(super) fn once(of: u64) -> Self {
        Self { of, besides: 0, most: 1.02 }
    }

    /// The context, of so many bytes, and of what is made only some hundred bytes for each file.
    pub(super) fn only(besides: u64, of: u64) -> Self {
        Self { of, besides, most: 0.05 }
    }
}

impl Table {
    /// A table of ratios.
    pub(super) fn ratios(way: Way) -> Self {
        let ratio = if way == Way::Share { "ours ÷ theirs" } else { "theirs ÷ ours" };
        let head = vec!["ours", "theirs", "ours, s", "theirs, s", ratio, "least", "most", "target", ""];
        Self { head, rows: Vec::new(), numbers: Vec::new() }
    }

    /// Adds a row: seconds of ours and theirs, round for round. The seconds are medians, and so is the ratio, of the rounds'.
    pub(super) fn ratio(&mut self, (ours, theirs): (&str, &str), pairs: &[(f64, f64)], target: Option<f64>) {
        let way = if self.head[4] == "ours ÷ theirs" { Way::Share } else { Way::Speed };
        let ratio = |(ours, theirs): &(f64, f64)| if way == Way::Share { ours / theirs } else { theirs / ours };
        let ratios = spread(pairs.iter().map(ratio));
        let seconds = [spread(pairs.iter().map(|pair| pair.0)), spread(pairs.iter().map(|pair| pair.1))];
        let hit = target.map(|target| if way == Way::Share { ratios[1] <= target } else { ratios[1] >= target });
        let sign = if way == Way::Share { "≤" } else { "≥" };
        let mut row = vec![ours.to_owned(), theirs.to_owned()];
        row.extend(seconds.map(|seconds| number(seconds[1])));
        row.extend([format!("**{}**", number(ratios[1])), number(ratios[0]), number(ratios[2])]);
        row.extend([target.map_or_else(String::new, |target| format!("{sign} {target}")), verdict(hit).to_owned()]);
        self.rows.push(row);
        self.numbers.extend(ratios.into_iter().chain(seconds.into_iter().flatten()));
    }

    /// A table of what our commands took beside time.
    pub(super) fn costs() -> Self {
        let head = vec!["command", "peak memory", "target", "", "written, in sizes of what it makes", "target", ""];
        Self { head, rows: Vec::new(), numbers: Vec::new() }
    }

    /// Adds what a command took, the worst of all rounds.
    pub(super) fn cost(&mut self, command: &str, costs: &[Cost], writes: Option<Writes>) {
        let worst = |figure: fn(&Cost) -> u64| wide(costs.iter().map(figure).max().unwrap_or_default());
        let memory = worst(|cost| cost.kib) / 1024.0;
        let mut row = vec![command.to_owned(), format!("{memory:.1} MiB"), format!("≤ {MEMORY} MiB")];
        row.push(verdict(Some(memory <= MEMORY)).to_owned());
        self.numbers.push(memory);
        if let Some(Writes { of, besides, most }) = writes {
            let share = (worst(|cost| cost.written) - wide(besides)).max(0.0) / wide(of);
            row.extend([format!("{share:.3}"), format!("≤ {most}"), verdict(Some(share <= most)).to_owned()]);
        } else {
            row.extend(["–", "", ""].map(str::to_owned));
        }
        self.rows.push(row);
    }

    /// A table of figures of which less is better.
    pub(super) fn figures() -> Self {
        Self { head: vec!["figure", "measured", "target", ""], rows: Vec::new(), numbers: Vec::new() }
    }

    /// Adds a figure.
    pub(super) fn figure(&mut self, what: &str, measured: f64, unit: &str, target: f64) {
        let hit = verdict(Some(measured <= target));
        let cells = [what, &format!("{} {unit}", number(measured)), &format!("≤ {target} {unit}"), hit];
        self.rows.push(cells.map(str::to_owned).into());
        self.numbers.push(measured);
    }

    /// Asserts that there is something, and that all of it can be.
    pub(super) fn assert_sane(&self) {
        assert!(!self.rows.is_empty(), "a table without rows");
        let sane = |number: &f64| number.is_finite() && *number > 0.0;
        assert!(self.numbers.len() >= self.rows.len() && self.numbers.iter().all(sane), "{:?}", self.numbers);
        assert!(self.rows.iter().all(|row| row.len() == self.head.len()), "{:?}", self.rows);
    }

    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let head: Vec<_> = self.head.iter().map(|cell| (*cell).to_owned()).collect();
        let rule: Vec<_> = head.iter().map(|_| "---".to_owned()).collect();
        let mut text = format!("{}\n{}\n", line(&head), line(&rule));
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row));
        }
        text
    }
}

/// Least, median and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("a round");
    let (low, high) = (values[last / 2], values[last.div_ceil(2)]);
    [values[0], f64::midpoint(low, high), values[last]]
}

fn verdict(hit: Option<bool>) -> &'static str {
    match hit {
        Some(true) => "hit",
        Some(false) => "**miss**",
        None => "",
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// A count as a number to divide; nothing here is so large that it would be rounded.
#[expect(clippy::cast_precision_loss, reason = "bytes of images: far below 2^52")]
pub(super) fn wide(count: u64) -> f64 {
    count as f64
}

#[test]
fn a_ratio_is_that_of_the_rounds_and_not_of_the_medians() {
    let mut table = Table::ratios(Way::Share);
    table.ratio(("ours", "theirs"), &[(1.0, 2.0), (9.0, 3.0), (4.0, 4.0)], Some(1.05));
    let expected = "| ours | theirs | 4.00 | 3.00 | **1.00** | 0.50 | 3.00 | ≤ 1.05 | hit |";
    assert_eq!(table.markdown().lines().nth(2), Some(expected));
    let mut table = Table::ratios(Way::Speed);
    table.ratio(("ours", "theirs"), &[(1.0, 1.5)], Some(1.8));
    assert_eq!(table.markdown().lines().nth(2).unwrap().rsplit(" | ").next(), Some("**miss** |"));
}
