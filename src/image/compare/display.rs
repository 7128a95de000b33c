//! Prints a comparison for people: it shortens values, and limits the number of files of a layer. The JSON output contains
//! everything.

use std::fmt;

use super::files::{Aspect, FileDifference};
use super::{Comparison, LayerPair, Side};
use crate::report::{counted, escaped, shortened};

/// How many differences of a layer, and of the configuration, are shown.
const MOST: usize = 25;
/// Longer values are shortened.
const LONGEST: usize = 120;
/// How many characters of a digest identify it.
const SHORT: usize = 12;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_side(f, "A", &self.a)?;
        write_side(f, "B", &self.b)?;
        if self.identical {
            return write!(f, "they are the same image");
        }
        if self.a.tags != self.b.tags {
            writeln!(f, "\nnames: {} | {}", words(&self.a.tags.join(", ")), words(&self.b.tags.join(", ")))?;
        }
        if !self.configuration.is_empty() {
            writeln!(f, "\nconfiguration:")?;
        }
        for it in self.configuration.iter().take(MOST) {
            let value = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), words);
            writeln!(f, "  {}: {} | {}", words(&it.what), value(&it.a), value(&it.b))?;
        }
        rest(f, self.configuration.len())?;
        for layer in self.layers.iter().filter(|layer| !layer.identical) {
            write_layer(f, layer)?;
        }
        if !self.causes.is_empty() {
            writeln!(f, "\nlikely causes, and ways out:")?;
        }
        for cause in &self.causes {
            writeln!(f, "- {}, at {}: {}", words(&cause.finding), counted(cause.places, "place"), cause.hint)?;
        }
        write!(f, "\n{}", self.summary())
    }
}

impl Comparison {
    /// A one-line summary of the differences.
    #[must_use]
    pub fn summary(&self) -> String {
        if self.identical {
            return "they are the same image".to_owned();
        }
        let same = self.layers.iter().filter(|layer| layer.identical).count();
        let files: usize = self.layers.iter().map(|layer| layer.files.len()).sum();
        let (keys, all) = (self.configuration.len(), self.layers.len());
        let names = if self.a.tags == self.b.tags { "" } else { "other names, " };
        format!("they differ: {names}{keys} values of the configuration, {} of {all} layers, {files} files", all - same)
    }
}

fn write_side(f: &mut fmt::Formatter<'_>, name: &str, side: &Side) -> fmt::Result {
    let tags = if side.tags.is_empty() { "no name".to_owned() } else { words(&side.tags.join(", ")) };
    writeln!(f, "{name}: {}, {tags}, {} layers", side.image_id, side.layers)
}

fn write_layer(f: &mut fmt::Formatter<'_>, layer: &LayerPair) -> fmt::Result {
    let step = layer.made_by.as_deref().map(|step| format!(", made by {}", words(step))).unwrap_or_default();
    match (layer.a, layer.b) {
        (Some((number, id)), None) => writeln!(f, "\nlayer {number} is only in A: {id}{step}"),
        (None, Some((number, id))) => writeln!(f, "\nlayer {number} is only in B: {id}{step}"),
        (Some((one, a)), Some((other, b))) => {
            let number = if one == other { one.to_string() } else { format!("{one} of A, {other} of B") };
            writeln!(f, "\nlayer {number} differs: {} | {}{step}", short(&a), short(&b))?;
            for file in layer.files.iter().take(MOST) {
                write_file(f, file)?;
            }
            rest(f, layer.files.len())?;
            layer.order.as_ref().map_or(Ok(()), |path| writeln!(f, "  in another order, from {} on", words(path)))
        }
        (None, None) => Ok(()),
    }
}

fn rest(f: &mut fmt::Formatter<'_>, all: usize) -> fmt::Result {
    if all > MOST { writeln!(f, "  and {} more; --json has all", all - MOST) } else { Ok(()) }
}

fn write_file(f: &mut fmt::Formatter<'_>, file: &FileDifference) -> fmt::Result {
    let aspects: Vec<_> = file.aspects.iter().map(describe_aspect).collect();
    writeln!(f, "  {}: {}", words(&file.path), aspects.join("; "))?;
    for line in file.aspects.iter().flat_map(lines) {
        writeln!(f, "      {}", words(line))?;
    }
    Ok(())
}

fn lines(aspect: &Aspect) -> &[String] {
    if let Aspect::Content(_, _, lines) = aspect { lines } else { &[] }
}

fn describe_aspect(aspect: &Aspect) -> String {
    let both = |what: &str, a: &str, b: &str| format!("{what} {} | {}", words(a), words(b));
    match aspect {
        Aspect::OnlyInA => "only in A".to_owned(),
        Aspect::OnlyInB => "only in B".to_owned(),
        Aspect::Kind(a, b) => both("is a", a, b),
        Aspect::Mode(a, b) => both("mode", a, b),
        Aspect::Owner(a, b) => both("owner", a, b),
        Aspect::Time(a, b) => both("time", a, b),
        Aspect::Size(a, b) => format!("{a} | {b} bytes"),
        Aspect::Link(a, b) => both("leads to", a, b),
        Aspect::Device(a, b) => both("device", a, b),
        Aspect::Xattrs(a, b) => both("attributes", a, b),
        Aspect::Content(a, b, _) => format!("content {} | {}", short(a), short(b)),
        Aspect::Header => "its header is written in another way".to_owned(),
    }
}

fn short(digest: &impl ToString) -> String {
    digest.to_string().chars().take(SHORT).collect()
}

/// Escapes and shortens text from an image: it can be anything, and must not control the terminal.
fn words(text: &str) -> String {
    shortened(&escaped(text), LONGEST)
}
