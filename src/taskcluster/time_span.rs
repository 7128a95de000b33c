//! Spans of time as taskgraph writes them, `14 days` for example: in task definitions and in settings.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::net::NameError;
use crate::report::counted;

/// taskgraph's units in seconds, the short form last; a month has 30 days and a year 365.
const UNITS: [(&[&str], i64); 6] = [
    (&["years", "year", "y"], 365 * 24 * 3600),
    (&["months", "month", "mo"], 30 * 24 * 3600),
    (&["days", "day", "d"], 24 * 3600),
    (&["hours", "hour", "h"], 3600),
    (&["minutes", "minute", "min"], 60),
    (&["seconds", "second", "s"], 1),
];

/// A span of time in whole seconds, written as a number and a unit.
///
/// ```
/// use image_worker::taskcluster::TimeSpan;
///
/// let span: TimeSpan = "14d".parse()?;
/// assert_eq!(span.to_string(), "14 days");
/// # Ok::<(), image_worker::net::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(SignedDuration);

impl TimeSpan {
    /// The time that is this span later; the end of time where there is no such.
    #[must_use]
    pub fn after(self, time: Timestamp) -> Timestamp {
        time.checked_add(self.0).unwrap_or(Timestamp::MAX)
    }
}

impl FromStr for TimeSpan {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let seconds = || {
            let text = text.trim();
            let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            let (_, seconds) = UNITS.iter().find(|(names, _)| names.contains(&unit.trim()))?;
            number.parse::<i64>().ok()?.checked_mul(*seconds)
        };
        let wrong = || NameError::new(text, "a span of time", "expected a number and a unit, like 14d, 12h or 30min");
        seconds().map(|seconds| Self(SignedDuration::from_secs(seconds))).ok_or_else(wrong)
    }
}

/// In the largest unit below a month that says all of it.
impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_secs();
        let fits = |(_, seconds): &&(&[&str], i64)| total % seconds == 0;
        let (names, seconds) = UNITS[2..].iter().find(fits).unwrap_or(&UNITS[5]);
        let number = usize::try_from(total / seconds).unwrap_or(usize::MAX);
        f.write_str(&counted(number, names[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        let seconds = |text: &str| text.parse::<TimeSpan>().ok().map(|span| span.0.as_secs());
        let hours = ["1 year", "2mo", "3d", " 4 hours ", "0 seconds"].map(|text| seconds(text).map(|it| it / 3600));
        assert_eq!(hours, [8760, 1440, 72, 4, 0].map(Some));
        for wrong in ["x", "3 weeks", "", "14", "-1d", "1.5d", "d", "9223372036854775807y", "1d 2h"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        let error = "14".parse::<TimeSpan>().unwrap_err().to_string();
        assert!(error.starts_with("\"14\" is not a span of time: expected a number and a unit"), "{error}");
    }

    #[test]
    fn a_span_is_printed_in_its_largest_unit() {
        let printed = |text: &str| text.parse::<TimeSpan>().unwrap().to_string();
        let all = ["1 day", "48h", "1mo", "90min", "61s", "0d"].map(printed);
        assert_eq!(all, ["1 day", "2 days", "30 days", "90 minutes", "61 seconds", "0 days"]);
    }

    #[test]
    fn time_ends() {
        let day: TimeSpan = "1d".parse().unwrap();
        assert_eq!(day.after(Timestamp::UNIX_EPOCH).as_second(), 86_400);
        let forever: TimeSpan = "999999y".parse().unwrap();
        assert_eq!(forever.after(Timestamp::UNIX_EPOCH), Timestamp::MAX);
    }
}
