//! Counts the bytes of a transfer. The display shows them where there is one; elsewhere the log says from time to time how far
//! the transfer is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::info;

use super::display::{Total, TransferLine};
use super::units::{Bytes, Rate};

/// In a log without a terminal, a transfer reports its progress at most this often.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Counts transferred bytes and reports the progress. Clones count together.
#[derive(Clone, Debug)]
pub struct ProgressCounter(Arc<Transfer>);

#[derive(Debug)]
struct Transfer {
    what: String,
    total: Total,
    started: Instant,
    /// Shared with the display, which reads it when it draws.
    bytes: Arc<AtomicU64>,
    reported_at: Mutex<Instant>,
    /// `None` when the transfer is over, or without a display.
    line: Mutex<Option<TransferLine>>,
    is_shown: bool,
}

impl ProgressCounter {
    pub(super) fn new(what: &str, total: Total, show: impl FnOnce(&Arc<AtomicU64>) -> Option<TransferLine>) -> Self {
        let (bytes, started) = (Arc::default(), Instant::now());
        let line = show(&bytes);
        let is_shown = line.is_some();
        let (reported_at, line) = (Mutex::new(started), Mutex::new(line));
        Self(Arc::new(Transfer { what: what.to_owned(), total, started, bytes, reported_at, line, is_shown }))
    }

    /// Some more bytes have moved.
    pub fn add(&self, bytes: u64) {
        let transfer = &*self.0;
        let moved = transfer.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if transfer.is_shown {
            return;
        }
        let Ok(mut reported_at) = transfer.reported_at.lock() else { return };
        if reported_at.elapsed() >= HEARTBEAT {
            *reported_at = Instant::now();
            let of = match transfer.total {
                Total::Exactly(total) => format!(" of {}", Bytes(total)),
                Total::About(_) | Total::Unknown => String::new(),
            };
            info!("{}: {}{of}, {}", transfer.what, Bytes(moved), Rate(moved, transfer.started.elapsed()));
        }
    }

    /// The transfer is complete: reports bytes, time and rate. `done` is the action in the past tense.
    pub fn finish(&self, done: &str) {
        let transfer = &*self.0;
        if let Ok(mut line) = transfer.line.lock() {
            drop(line.take());
        }
        let (moved, took) = (transfer.bytes.load(Ordering::Relaxed), transfer.started.elapsed());
        // A rate over less than a tenth of a second is meaningless.
        let rate = if took.as_millis() < 100 { String::new() } else { format!(", {}", Rate(moved, took)) };
        info!("{done}: {} in {:.1} s{rate}", Bytes(moved), took.as_secs_f64());
    }
}
