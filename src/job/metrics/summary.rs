//! The numbers of a build in the log, for people: a few aligned lines, the last ones before the outcome.

use std::time::Duration;

use super::{Measured, Stage};
use crate::report::{Bytes, counted};

/// Shorter stages are reported together.
const SHORT: Duration = Duration::from_millis(100);

/// The lines.
#[must_use]
pub fn lines(measured: &Measured) -> Vec<String> {
    let Measured { image, layers, archive, context, .. } = measured;
    let packed = if measured.artifact.is_zstd() { format!(" ({} compressed)", Bytes(*archive)) } else { String::new() };
    let count = counted(layers.layers.len(), "layer");
    let mut lines =
        vec![format!("{image}: {}{packed} in {count}, from a context of {}", Bytes(layers.size), Bytes(*context))];
    let (short, long): (Vec<&Stage>, Vec<&Stage>) = measured.stages.iter().partition(|stage| stage.took < SHORT);
    let mut rows: Vec<_> = long.iter().map(|stage| (stage.name, stage.took)).collect();
    if !short.is_empty() {
        rows.push(("the rest", short.iter().map(|stage| stage.took).sum()));
    }
    rows.push(("in all", measured.took));
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, took) in rows {
        let cached = match measured.cached {
            Some((cached, of)) if name == "building" && cached > 0 => {
                format!(", {cached} of {of} steps from the cache")
            }
            _ => String::new(),
        };
        lines.push(format!("  {name:<widest$} {:>8.1} s{cached}", took.as_secs_f64()));
    }
    lines
}
