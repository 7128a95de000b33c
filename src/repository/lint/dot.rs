//! The images as a graph for Graphviz, which does the layout: `image-worker tree --dot | dot -Tsvg`.

use std::collections::BTreeSet;

use super::{Link, LintReport, Sort};

impl LintReport {
    /// The graph: an arrow leads from each image to those that are built from it. Wrong images and relations are red; images that
    /// are only copied from have dashed arrows; images from elsewhere have no box.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut lines =
            vec!["digraph images {".to_owned(), "  rankdir=LR;".to_owned(), "  node [shape=box];".to_owned()];
        for image in &self.images {
            let wrong = self.problems.iter().any(|problem| problem.image.as_ref() == Some(&image.name));
            let color = if wrong { ", color=red" } else { "" };
            let reference = image.reference.as_ref().filter(|_| image.kind == Some(Sort::Registry));
            let label = reference.map_or(image.name.to_string(), |reference| format!("{}\n{reference}", image.name));
            lines.push(format!("  {} [label={}{color}];", quoted(image.name.as_str()), quoted(&label)));
        }
        // No image's name has a slash: it cannot be one of them.
        let base = |base: &String| quoted(&format!("elsewhere/{base}"));
        let bases: BTreeSet<_> = self.images.iter().flat_map(|image| &image.bases).collect();
        lines.extend(bases.iter().map(|it| format!("  {} [label={}, shape=plaintext];", base(it), quoted(it))));
        for image in &self.images {
            let name = quoted(image.name.as_str());
            lines.extend(image.bases.iter().map(|it| format!("  {} -> {name};", base(it))));
            for relation in &image.from {
                let style = if relation.is_base || relation.link == Link::Parent { "solid" } else { "dashed" };
                let color = if relation.mismatch.is_some() { ", color=red" } else { "" };
                lines.push(format!("  {} -> {name} [style={style}{color}];", quoted(relation.image.as_str())));
            }
        }
        lines.push("}\n".to_owned());
        lines.join("\n")
    }
}

/// A string of the language DOT, in which `\n` is a line's end.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
