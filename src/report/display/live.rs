//! The display of this process's stderr: draws it when something happens, and as time goes on. All that is written to the
//! terminal goes through one lock, each time in one piece, so that nothing is torn apart.

use std::io::{self, Write as _};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::screen::{Id, Screen};
use super::steps::{BuildEvent, StepEnd};
use super::transfer::{Total, Transfer};
use crate::report::terminal::size;

/// How often the display is drawn where nothing but the time changes: its times have tenths of a second.
const TICK: Duration = Duration::from_millis(100);

/// The display. Clones show the same.
#[derive(Clone, Debug)]
pub(in crate::report) struct Display(Arc<Mutex<Shown>>);

#[derive(Debug)]
struct Shown {
    screen: Screen,
    /// Whether a thread draws it as time goes on.
    ticks: bool,
}

impl Shown {
    fn paint(&mut self, above: &[u8]) {
        let bytes = self.screen.paint(size(), above, Instant::now());
        // A terminal that is closed is no reason to fail the job.
        let _ = io::stderr().lock().write_all(&bytes);
    }
}

impl Display {
    pub(in crate::report) fn new(color: bool) -> Self {
        Self(Arc::new(Mutex::new(Shown { screen: Screen::new(color), ticks: false })))
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines above the display.
    pub(in crate::report) fn write_above(&self, lines: &[u8]) {
        self.shown().paint(lines);
    }

    /// The same for a thread that panics, perhaps while it draws: then the lines come below the display.
    pub(in crate::report) fn write_above_if_free(&self, lines: &[u8]) {
        match self.0.try_lock() {
            Ok(mut shown) => shown.paint(lines),
            Err(TryLockError::Poisoned(shown)) => shown.into_inner().paint(lines),
            Err(TryLockError::WouldBlock) => drop(io::stderr().lock().write_all(lines)),
        }
    }

    /// Removes the display from the terminal while `write` writes to it. `write` must not log.
    pub(in crate::report) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut shown = self.shown();
        let erased = shown.screen.erase(size());
        let _ = io::stderr().lock().write_all(&erased);
        let written = write();
        shown.paint(b"");
        written
    }

    /// Removes the display for good; log lines still come.
    pub(in crate::report) fn close(&self) {
        let mut shown = self.shown();
        shown.screen.close();
        shown.paint(b"");
    }

    /// Shows a transfer whose bytes are counted in `bytes`.
    pub(in crate::report) fn transfer(&self, what: &str, total: Total, bytes: &Arc<AtomicU64>) -> TransferLine {
        let mut shown = self.shown();
        let id = shown.screen.add_transfer(Transfer::new(what, total, Arc::clone(bytes), Instant::now()));
        shown.paint(b"");
        self.tick(&mut shown);
        TransferLine { display: self.clone(), id }
    }

    /// Shows the steps of a build. `name` tells them apart from those of other builds.
    pub(in crate::report) fn build(&self, name: Option<&str>) -> BuildSteps {
        let id = self.shown().screen.next_id();
        BuildSteps { display: self.clone(), id, name: name.map(|name| format!("{name} ")).unwrap_or_default() }
    }

    /// Draws the display as time goes on, until it is empty.
    fn tick(&self, shown: &mut Shown) {
        if shown.ticks || shown.screen.is_empty() {
            return;
        }
        let display = Arc::downgrade(&self.0);
        let ticking = thread::Builder::new().name("display".to_owned()).spawn(move || {
            loop {
                thread::sleep(TICK);
                let Some(display) = display.upgrade().map(Display) else { return };
                let mut shown = display.shown();
                if shown.screen.is_empty() {
                    shown.ticks = false;
                    return;
                }
                shown.paint(b"");
            }
        });
        // Without a thread the display changes only when something happens.
        shown.ticks = ticking.is_ok();
    }
}

/// A transfer on the display, which goes with this value.
#[derive(Debug)]
pub(in crate::report) struct TransferLine {
    display: Display,
    id: Id,
}

impl Drop for TransferLine {
    fn drop(&mut self) {
        let mut shown = self.display.shown();
        shown.screen.remove_transfer(self.id);
        shown.paint(b"");
    }
}

/// The steps of one build on the display. Those that still run when this value goes are canceled.
#[derive(Debug)]
pub struct BuildSteps {
    display: Display,
    id: Id,
    /// What the titles of its steps begin with.
    name: String,
}

impl BuildSteps {
    /// Shows what happens in the build.
    pub fn update(&self, event: BuildEvent) {
        let event = match event {
            BuildEvent::Started { step, title } => BuildEvent::Started { step, title: format!("{}{title}", self.name) },
            event => event,
        };
        // These can be many; the next tick shows them.
        let is_soon_enough = matches!(event, BuildEvent::Printed { .. } | BuildEvent::Transferred { .. });
        let mut shown = self.display.shown();
        let above = shown.screen.update(self.id, event, size(), Instant::now());
        if !is_soon_enough || !above.is_empty() {
            shown.paint(above.as_bytes());
        }
        self.display.tick(&mut shown);
    }
}

impl Drop for BuildSteps {
    fn drop(&mut self) {
        self.update(BuildEvent::Over(StepEnd::Canceled));
    }
}
