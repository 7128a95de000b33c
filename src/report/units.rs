//! Amounts of bytes for people.

use std::fmt;
use std::time::Duration;

/// A number of bytes for people: `1.50 MiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Some((shift, unit)) = (1..).zip(units).take_while(|(shift, _)| self.0 >> (10 * shift) > 0).last() else {
            return write!(f, "{} B", self.0);
        };
        let size = 1_u128 << (10 * shift);
        let hundredths = (u128::from(self.0) * 100 + size / 2) / size;
        write!(f, "{}.{:02} {unit}", hundredths / 100, hundredths % 100)
    }
}

/// So many bytes in this time, as bytes a second.
pub(super) struct Rate(pub(super) u64, pub(super) Duration);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole milliseconds are as exact as a rate for people needs to be, and u64 holds them.
        let millis = u64::try_from(self.1.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = u128::from(self.0) * 1000 / u128::from(millis);
        write!(f, "{}/s", Bytes(u64::try_from(per_second).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_572_864, "1.50 MiB"),
            (5 << 30, "5.00 GiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Rate(1_048_576, Duration::from_millis(500)).to_string(), "2.00 MiB/s");
        assert_eq!(Rate(1, Duration::ZERO).to_string(), "1000 B/s");
    }
}
