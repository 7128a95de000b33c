//! What has become larger since an earlier image, step by step. Steps are identified by their text: the same text is the same
//! step, and similar text at the same place a changed step.

use std::fmt;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::layers::{Layer, Layers};
use crate::engine::build_log::plain;
use crate::job::packages::PackageDifference;
use crate::report::Bytes;

/// The number of steps to report; the others change less.
const MOST: usize = 10;

/// The number of equal words at the beginning that identify a changed step: `RUN apt-get`, `COPY file`.
const TELLING_WORDS: usize = 2;

/// What the layers of an image below are together.
const BASE: &str = "the image that it is built from";

/// The difference in size between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The earlier image's bytes.
    pub before: u64,
    /// This one's.
    pub now: u64,
    /// The steps whose layers differ in size, those that differ most first.
    pub changes: Vec<Change>,
}

/// What has changed since the previous image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowthSince {
    /// The difference in size.
    pub growth: Growth,
    /// `the image of task …`
    pub whose: String,
    /// The packages that differ, where both images list theirs.
    pub packages: Option<PackageDifference>,
}

/// A step whose layers differ in size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its text; this image's, if it is in both.
    pub step: String,
    /// Bytes in the earlier image, if it was there.
    pub before: Option<u64>,
    /// Bytes in this image, if it is there.
    pub now: Option<u64>,
}

impl Growth {
    /// Of two sizes of which nothing more is known.
    #[must_use]
    pub fn in_all(before: u64, now: u64) -> Self {
        Self { before, now, changes: Vec::new() }
    }

    /// Step by step.
    #[must_use]
    pub fn between(before: &Layers, now: &Layers) -> Self {
        // Not every builder marks base layers: if only one did, all layers are compared as steps.
        let known = [before, now].iter().all(|it| it.layers.iter().any(|layer| layer.base));
        let [(base_before, old), (base_now, new)] = [before, now].map(|it| {
            let (base, steps): (Vec<_>, Vec<_>) = it.layers.iter().partition(|layer| known && layer.base);
            (base.iter().map(|layer| layer.size).sum(), steps)
        });
        let mut changes = vec![Change { step: BASE.to_owned(), before: Some(base_before), now: Some(base_now) }];
        for operation in operations(&old, &new, |layer| layer.step.clone()) {
            let (old, new) = (&old[operation.old_range()], &new[operation.new_range()]);
            if matches!(operation, DiffOp::Equal { .. }) {
                changes.extend(old.iter().zip(new).map(|(old, new)| Change::of(Some(old), Some(new))));
            } else {
                changes.extend(changed(old, new));
            }
        }
        changes.retain(|change| change.before != change.now);
        changes.sort_by_key(|change| std::cmp::Reverse(change.before.unwrap_or(0).abs_diff(change.now.unwrap_or(0))));
        Self { before: before.size, now: now.size, changes }
    }

    /// In one line, compared with `whose` image.
    #[must_use]
    pub fn headline(&self, whose: &str) -> String {
        match self.now.cmp(&self.before) {
            std::cmp::Ordering::Equal => format!("as large as {whose}"),
            std::cmp::Ordering::Greater => format!("{} larger than {whose}", Bytes(self.now - self.before)),
            std::cmp::Ordering::Less => format!("{} smaller than {whose}", Bytes(self.before - self.now)),
        }
    }

    /// The steps that differ most, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.changes.iter().take(MOST).map(ToString::to_string).collect();
        if self.changes.len() > MOST {
            lines.push(format!("and {} more steps", self.changes.len() - MOST));
        }
        lines
    }
}

/// Steps at the same place with different text.
fn changed(old: &[&Layer], new: &[&Layer]) -> Vec<Change> {
    let telling = |layer: &Layer| layer.step.split(' ').take(TELLING_WORDS).collect::<Vec<_>>().join(" ");
    let mut changes = Vec::new();
    for operation in operations(old, new, telling) {
        let (old, new) = (&old[operation.old_range()], &new[operation.new_range()]);
        if matches!(operation, DiffOp::Equal { .. }) {
            changes.extend(old.iter().zip(new).map(|(old, new)| Change::of(Some(old), Some(new))));
        } else {
            changes.extend(old.iter().map(|old| Change::of(Some(old), None)));
            changes.extend(new.iter().map(|new| Change::of(None, Some(new))));
        }
    }
    changes
}

fn operations(old: &[&Layer], new: &[&Layer], word: impl Fn(&Layer) -> String) -> Vec<DiffOp> {
    let words = |layers: &[&Layer]| layers.iter().map(|layer| word(layer)).collect::<Vec<_>>();
    capture_diff_slices(Algorithm::Myers, &words(old), &words(new))
}

impl Change {
    fn of(before: Option<&Layer>, now: Option<&Layer>) -> Self {
        // The earlier image's text is from outside.
        let step = now.or(before).map(|layer| plain(&layer.step)).unwrap_or_default();
        Self { step, before: before.map(|layer| layer.size), now: now.map(|layer| layer.size) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, now) = (self.before.unwrap_or(0), self.now.unwrap_or(0));
        let sign = if now < before { '-' } else { '+' };
        let difference = format!("{sign}{}", Bytes(now.abs_diff(before)));
        write!(f, "{difference:>12}  {}: ", self.step)?;
        match (self.before, self.now) {
            (Some(before), Some(now)) => write!(f, "{} (was {})", Bytes(now), Bytes(before)),
            (None, Some(now)) => write!(f, "{} (new)", Bytes(now)),
            (Some(before), None) => write!(f, "gone (was {})", Bytes(before)),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn image(base: &[u64], steps: &[(&str, u64)]) -> Layers {
        let layer = |step: &str, size: u64, base| {
            let (diff_id, step) = (format!("sha256:{step}{size}"), step.to_owned());
            Layer { diff_id, size: size * MIB, offset: None, step, base }
        };
        let below = base.iter().map(|size| layer("ADD file in /", *size, true));
        let layers: Vec<_> = below.chain(steps.iter().map(|(step, size)| layer(step, *size, false))).collect();
        Layers { image_id: "sha256:0".to_owned(), size: layers.iter().map(|layer| layer.size).sum(), layers }
    }

    fn describe(before: &Layers, now: &Layers) -> Vec<String> {
        Growth::between(before, now).lines().iter().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn the_step_that_grew_is_found_and_the_others_are_not_told() {
        let before = image(&[100], &[("RUN apt-get install curl", 10), ("COPY file in /x", 5)]);
        let now = image(&[100], &[("RUN apt-get install curl", 210), ("COPY file in /x", 5)]);
        let growth = Growth::between(&before, &now);
        assert_eq!(growth.headline("task X"), "200.00 MiB larger than task X");
        assert_eq!(growth.lines(), [" +200.00 MiB  RUN apt-get install curl: 210.00 MiB (was 10.00 MiB)"]);
        assert_eq!(Growth::between(&now, &before).headline("task X"), "200.00 MiB smaller than task X");
        assert_eq!(Growth::between(&now, &now).headline("task X"), "as large as task X");
        assert_eq!(Growth::between(&now, &now).lines(), [""; 0]);
    }

    #[test]
    fn a_changed_step_is_the_same_one_and_another_command_is_not() {
        let before = image(&[], &[("RUN apt-get install curl", 10), ("RUN make", 3), ("COPY file in /x", 5)]);
        let steps = [
            ("COPY file in /first", 1),
            ("RUN apt-get install curl git", 70),
            ("RUN ninja", 4),
            ("COPY file in /x", 5),
        ];
        let now = image(&[], &steps);
        let expected = [
            "+60.00 MiB  RUN apt-get install curl git: 70.00 MiB (was 10.00 MiB)",
            "+4.00 MiB  RUN ninja: 4.00 MiB (new)",
            "-3.00 MiB  RUN make: gone (was 3.00 MiB)",
            "+1.00 MiB  COPY file in /first: 1.00 MiB (new)",
        ];
        assert_eq!(describe(&before, &now), expected);
    }

    #[test]
    fn layers_below_are_one_and_long_lists_are_cut() {
        let before = image(&[100, 20], &[]);
        let now = image(&[90, 20, 5], &[]);
        assert_eq!(
            describe(&before, &now),
            ["-5.00 MiB  the image that it is built from: 115.00 MiB (was 120.00 MiB)"]
        );
        let unknown = image(&[], &[("ADD file in /", 100), ("ADD file in /", 20)]);
        assert_eq!(describe(&unknown, &before), [""; 0], "where only one says what is below, layers are compared");
        let steps: Vec<_> = (1..=14).map(|number| (format!("RUN step-{number}"), number)).collect();
        let steps: Vec<_> = steps.iter().map(|(step, size)| (step.as_str(), *size)).collect();
        let lines = describe(&image(&[], &[]), &image(&[], &steps));
        assert_eq!((lines.len(), lines[0].as_str()), (11, "+14.00 MiB  RUN step-14: 14.00 MiB (new)"));
        assert_eq!(lines[10], "and 4 more steps");
    }

    #[test]
    fn words_of_an_earlier_image_command_no_terminal() {
        let before = image(&[], &[("RUN \u{1b}[2Kx", 3)]);
        assert_eq!(describe(&before, &image(&[], &[])), ["-3.00 MiB  RUN x: gone (was 3.00 MiB)"]);
    }
}
