//! The images drawn for a terminal: each below the one that it is built from, its data in columns, and the problems in lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Diagnostic, ImageReport, Link, LintReport, Relation, Sort};
use crate::context::ImageName;
use crate::report::Bytes;

/// The number of digits that distinguish a hash from the others of a tree.
const DIGITS: usize = 12;

const HEADINGS: [&str; COLUMNS] = ["IMAGE", "KIND", "CONTEXT", "FILES", "SIZE", "MADE OF, KNOWN AS"];
const COLUMNS: usize = 6;
/// The columns of numbers, which end in line.
const NUMBERS: [usize; 2] = [3, 4];

impl fmt::Display for LintReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pushed = self.images.iter().filter(|image| image.kind == Some(Sort::Registry)).count();
        let (place, images) = (&self.images_dir, counted(self.images.len(), "image"));
        writeln!(f, "{place}: {images}, {pushed} of a registry")?;
        if !self.images.is_empty() {
            writeln!(f)?;
            write_table(f, &self.rows())?;
        }
        write_list(f, "problem", &self.problems)?;
        write_list(f, "hint", &self.hints)
    }
}

impl LintReport {
    /// A line for each image, each once and below its main base.
    fn rows(&self) -> Vec<[String; COLUMNS]> {
        let images: BTreeMap<_, _> = self.images.iter().map(|image| (&image.name, image)).collect();
        let mut children: BTreeMap<&ImageName, Vec<&ImageReport>> = BTreeMap::new();
        let mut roots = Vec::new();
        for image in &self.images {
            match image.main().filter(|base| base.image != image.name && images.contains_key(&base.image)) {
                Some(base) => children.entry(&base.image).or_default().push(image),
                None => roots.push(image),
            }
        }
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        let mut drawn = BTreeSet::new();
        // The images of a cycle have no root: the first one in the order of the names is used instead.
        for root in roots.into_iter().chain(&self.images) {
            // Not recursive: there may be any number of generations. Each item has the branches to its left, and whether it is
            // the last below its base.
            let mut next = vec![(root, String::new(), None)];
            while let Some((image, left, last)) = next.pop() {
                if !drawn.insert(&image.name) {
                    continue;
                }
                let (branch, space) = match last {
                    None => ("", ""),
                    Some(true) => ("└── ", "    "),
                    Some(false) => ("├── ", "│   "),
                };
                rows.push(self.row(image, &format!("{left}{branch}")));
                let below = children.get(&image.name).into_iter().flatten().filter(|it| !drawn.contains(&it.name));
                let below: Vec<_> = below.rev().enumerate().collect();
                next.extend(below.into_iter().map(|(at, child)| (*child, format!("{left}{space}"), Some(at == 0))));
            }
        }
        rows
    }

    fn row(&self, image: &ImageReport, branch: &str) -> [String; COLUMNS] {
        let wrong = self.problems.iter().any(|problem| problem.image.as_ref() == Some(&image.name));
        let kind = match image.kind {
            Some(Sort::Task) => "task",
            Some(Sort::Registry) => "registry",
            None => "-",
        };
        let hash = image.context_hash.map(|hash| hash.to_string());
        [
            format!("{branch}{}{}", image.name, if wrong { " (!)" } else { "" }),
            kind.to_owned(),
            hash.map_or("-".to_owned(), |hash| hash.chars().take(DIGITS).collect()),
            image.files.map_or("-".to_owned(), |files| files.to_string()),
            image.size.map_or("-".to_owned(), |size| Bytes(size).to_string()),
            image.about(),
        ]
    }
}

impl ImageReport {
    /// The image above this one in a drawing: its task parent, else the base of its last stage.
    pub(super) fn main(&self) -> Option<&Relation> {
        let parent = self.from.iter().find(|relation| relation.link == Link::Parent);
        let base = || self.from.iter().rev().find(|relation| relation.is_base);
        parent.or_else(base).or(self.from.first())
    }

    /// Data that the tree does not show: other images that it is made from, and its name in a registry.
    fn about(&self) -> String {
        let main = self.main();
        let others = self.from.iter().filter(|relation| Some(*relation) != main);
        let mut about: Vec<_> = others.map(|relation| relation.instruction.clone()).collect();
        about.extend(self.bases.iter().map(|base| format!("from {base}")));
        let reference = self.reference.iter().filter(|_| self.kind == Some(Sort::Registry));
        about.extend(reference.map(|reference| format!("is {reference}")));
        about.join(", ")
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, rows: &[[String; COLUMNS]]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if NUMBERS.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn write_list(f: &mut fmt::Formatter<'_>, what: &str, findings: &[Diagnostic]) -> fmt::Result {
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{}:", counted(findings.len(), what))?;
    findings.iter().try_for_each(|finding| writeln!(f, "- {}", finding.message))
}

pub(super) fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
