//! The time of a push, in the two notations that tasks use. `plan` derives the rank from it.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::net::NameError;
use crate::report::text_serde;

/// The time of a push, in UTC, to the second: what the `pushdate` route and the rank of an index entry are made of.
///
/// ```
/// use image_worker::taskcluster::PushDate;
///
/// let push: PushDate = "20151209123456".parse()?;
/// assert_eq!(push.epoch_seconds(), 1_449_664_496);
/// assert_eq!(push.route_tail(), "2015.12-09-123456");
/// # Ok::<(), image_worker::net::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushDate(DateTime);

text_serde!(PushDate);

/// `{year}.{month}-{day}-{pushtime}`
const ROUTE_TAIL: &str = "%Y.%m-%d-%H%M%S";

impl PushDate {
    /// Seconds since 1970-01-01T00:00:00Z: the rank of the push's index entries.
    #[must_use]
    pub fn epoch_seconds(self) -> i64 {
        self.0.to_zoned(TimeZone::UTC).map_or(0, |zoned: Zoned| zoned.timestamp().as_second())
    }

    /// `{year}.{month}-{day}-{pushtime}`, the tail of the `pushdate` route; pushtime is `HHMMSS`.
    #[must_use]
    pub fn route_tail(self) -> String {
        self.0.strftime(ROUTE_TAIL).to_string()
    }

    /// Reads the tail of a `pushdate` route.
    #[must_use]
    pub fn of_route_tail(tail: &str) -> Option<Self> {
        let date = DateTime::strptime(ROUTE_TAIL, tail).ok()?;
        // In one form only, so that a route and its push are the same.
        Self::checked(date).filter(|push| push.route_tail() == tail)
    }

    /// The index stores ranks as 32 bit integers, and answers 500 to a larger one. A push before 1970 or in milliseconds is a
    /// mistake in the task, and better reported here.
    fn checked(date: DateTime) -> Option<Self> {
        Some(Self(date)).filter(|push| (0..=i64::from(i32::MAX)).contains(&push.epoch_seconds()))
    }
}

impl fmt::Display for PushDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y%m%d%H%M%S"))
    }
}

impl FromStr for PushDate {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || {
            NameError::new(
                text,
                "a push date",
                "expected YYYYMMDDHHMMSS in UTC, or seconds since 1970 (up to 2038-01-19, the index's largest rank)",
            )
        };
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let date = if text.len() == 14 {
            DateTime::strptime("%Y%m%d%H%M%S", text).map_err(|_| error())?
        } else {
            let seconds: i64 = text.parse().map_err(|_| error())?;
            let stamp = Timestamp::from_second(seconds).map_err(|_| error())?;
            stamp.to_zoned(TimeZone::UTC).datetime()
        };
        Self::checked(date).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accepts;

    #[test]
    fn push_dates_have_two_notations() {
        let a: PushDate = "20151209123456".parse().unwrap();
        let b: PushDate = "1449664496".parse().unwrap();
        assert_eq!(a, b);
        assert_eq!(a.epoch_seconds(), 1_449_664_496);
        assert_eq!(a.route_tail(), "2015.12-09-123456");
        assert_eq!(b.to_string(), "20151209123456");
        assert_eq!(PushDate::of_route_tail("2015.12-09-123456"), Some(a));
        for wrong in ["2015.12-9-123456", "2015.13-09-123456", "2100.01-01-000000", "latest", ""] {
            assert_eq!(PushDate::of_route_tail(wrong), None, "{wrong}");
        }
        accepts::<PushDate>(
            &["0", "2147483647"],
            &["", "-1", "1449664496000", "2147483648", "20151309123456", "2015-12-09"],
        );
    }
}
