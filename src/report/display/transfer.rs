//! Transfers of bytes: how far they are, and how fast they were in the last seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cells::{plain, spread};
use crate::report::units::{Bytes, Rate};

/// The rate is that of this time: long enough to be readable, and short enough to show a transfer that stands still.
const WINDOW: Duration = Duration::from_secs(5);

/// How far apart two samples are at least, so that their number is limited.
const BETWEEN: Duration = Duration::from_millis(100);

/// The number of bytes of a whole transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Total {
    /// So many.
    Exactly(u64),
    /// About so many: the end is not known before it is there.
    About(u64),
    /// Not known.
    Unknown,
}

/// A running transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    what: String,
    total: Total,
    started: Instant,
    /// What is transferred is counted by whoever transfers it.
    bytes: Arc<AtomicU64>,
    rate: RecentRate,
}

impl Transfer {
    pub(super) fn new(what: &str, total: Total, bytes: Arc<AtomicU64>, started: Instant) -> Self {
        Self { what: plain(what), total, started, bytes, rate: RecentRate::default() }
    }

    pub(super) fn line(&mut self, columns: usize, now: Instant) -> String {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let amount = amount(bytes, self.total, self.rate.at(now, bytes).as_deref());
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        spread(&format!(" => {}", self.what), &format!("{amount}  {seconds:.1}s"), columns)
    }
}

/// `41%  12.30 MiB / 30.00 MiB  4.10 MiB/s`, as far as it is known.
pub(super) fn amount(bytes: u64, total: Total, rate: Option<&str>) -> String {
    let percent = |total: u64| (u128::from(bytes) * 100).checked_div(total.into()).unwrap_or_default();
    let amount = match total {
        Total::Exactly(total) => {
            format!("{}%  {} / {}", percent(total).min(100), Bytes(bytes), Bytes(total))
        }
        Total::About(total) => {
            format!("about {}%  {} / {}", percent(total).min(99), Bytes(bytes), Bytes(total))
        }
        Total::Unknown => Bytes(bytes).to_string(),
    };
    rate.map_or_else(|| amount.clone(), |rate| format!("{amount}  {rate}"))
}

/// How many bytes there were in the last seconds.
#[derive(Debug, Default)]
pub(super) struct RecentRate(VecDeque<(Instant, u64)>);

impl RecentRate {
    /// The rate now that there are so many bytes. `None` as long as nobody can know.
    pub(super) fn at(&mut self, now: Instant, bytes: u64) -> Option<String> {
        let Self(samples) = self;
        if samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= BETWEEN) {
            samples.push_back((now, bytes));
        }
        // The oldest is from the beginning of the window, or just before it.
        while samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            samples.pop_front();
        }
        let (since, before) = samples.front()?;
        let time = now.saturating_duration_since(*since);
        (time >= BETWEEN).then(|| Rate(bytes.saturating_sub(*before), time).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (start, mut rate) = (Instant::now(), RecentRate::default());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        assert_eq!(rate.at(start, 0), None);
        // 10 MiB a second for 20 seconds.
        for tenth in 1..=200 {
            assert_eq!(rate.at(at(tenth), tenth << 20).as_deref(), Some("10.00 MiB/s"), "{tenth}");
        }
        assert!(rate.0.len() <= 52, "{}", rate.0.len());
        // It stands still, which shows within the window.
        let still: Vec<_> = (201..=250).filter_map(|tenth| rate.at(at(tenth), 200 << 20)).collect();
        assert_eq!((still[24].as_str(), still[49].as_str()), ("5.00 MiB/s", "0 B/s"));
    }

    #[test]
    fn a_percentage_is_shown_where_the_size_is_known() {
        assert_eq!(amount(1 << 20, Total::Exactly(4 << 20), None), "25%  1.00 MiB / 4.00 MiB");
        assert_eq!(amount(5, Total::Exactly(0), None), "0%  5 B / 0 B");
        assert_eq!(amount(1 << 20, Total::Unknown, Some("1 B/s")), "1.00 MiB  1 B/s");
        // An estimate that was too low is never said to be done.
        assert_eq!(amount(5 << 20, Total::About(4 << 20), None), "about 99%  5.00 MiB / 4.00 MiB");
    }
}
