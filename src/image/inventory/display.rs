//! Prints the inventory for a terminal.

use std::fmt::{self, Display, Formatter};

use super::{Configuration, Inventory, WastedBy};
use crate::report::{Bytes, counted, escaped, shortened};

/// The maximum length of a printed step.
const LONGEST_STEP: usize = 90;

impl Display for Inventory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "an image without a name".to_owned() } else { self.names.join(", ") };
        writeln!(f, "{}: {}", escaped(&names), self.image_id)?;
        let (size, files) = (Bytes(self.size), counted(self.files, "file"));
        let (platform, layers) = (escaped(&self.configuration.platform), counted(self.layers.len(), "layer"));
        writeln!(f, "{platform}, {size} in {layers}, {files}")?;
        write!(f, "{}", self.configuration)?;
        if let Some(packages) = &self.packages {
            let unread = packages.unread.iter().map(|path| format!("; {path} is there, and not read"));
            let managers: Vec<_> = packages.managers.iter().map(|(name, count)| format!("{count} of {name}")).collect();
            let managers = if managers.is_empty() { String::new() } else { format!(": {}", managers.join(", ")) };
            writeln!(f, "{}{managers}{}", counted(packages.count, "package"), unread.collect::<String>())?;
        }
        writeln!(f, "\nLAYER        SIZE  SHARE      WASTED    FILES  STEP")?;
        for (number, layer) in self.layers.iter().enumerate() {
            let (size, share) = (Bytes(layer.size).to_string(), percent(layer.size, self.size));
            let (wasted, step) = (Bytes(layer.wasted).to_string(), shortened(&escaped(&layer.step), LONGEST_STEP));
            writeln!(f, "{:>5} {size:>11} {share:>5}% {wasted:>11} {:>8}  {step}", number + 1, layer.files)?;
        }
        sized(f, "Largest files", self.largest_files.iter().map(|it| (it.size, escaped(&it.path))))?;
        sized(f, "Largest directories", self.largest_directories.iter().map(|it| (it.size, escaped(&it.path))))?;
        let wasted = &self.wasted;
        write!(f, "\nWasted: {}; {}% of all bytes in files are visible", Bytes(wasted.bytes), wasted.efficiency)?;
        for path in &wasted.paths {
            let by = match path.by {
                WastedBy::Overwritten => "overwritten",
                WastedBy::Deleted => "deleted",
            };
            write!(
                f,
                "\n{:>12}  {}, {by} in layer {}",
                Bytes(path.bytes).to_string(),
                escaped(&path.path),
                path.layer
            )?;
        }
        Ok(())
    }
}

impl Display for Configuration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words = |words: &[String]| (!words.is_empty()).then(|| words.join(" "));
        let lines = [
            ("created", self.created.clone()),
            ("user", self.user.clone()),
            ("working directory", self.working_dir.clone()),
            ("entry point", words(&self.entrypoint)),
            ("command", words(&self.command)),
            ("variables", words(&self.variables)),
            ("exposed ports", words(&self.exposed_ports)),
            ("labels", words(&self.labels)),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                writeln!(f, "{name}: {}", shortened(&escaped(&value), 2 * LONGEST_STEP))?;
            }
        }
        Ok(())
    }
}

/// A part of a whole in percent, rounded down.
fn percent(part: u64, whole: u64) -> u128 {
    (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or_default()
}

fn sized(f: &mut Formatter<'_>, title: &str, paths: impl Iterator<Item = (u64, String)>) -> fmt::Result {
    writeln!(f, "\n{title}")?;
    for (size, path) in paths {
        writeln!(f, "{:>12}  {path}", Bytes(size).to_string())?;
    }
    Ok(())
}
