//! Stopping: every stage of a job reacts to signals and the task's own time limit, and its duration is recorded. A stage is
//! cleaned up by dropping it, or by its caller.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::CommandError;
use super::metrics::{Stage, Stages};

/// How long before the task's limit the program stops by itself: time for the engine to end a step and for the worker to upload
/// its log. A short task reserves a tenth of its time.
const BEFORE_LIMIT: Duration = Duration::from_mins(1);

/// The reason of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// SIGHUP: the terminal is gone.
    HungUp,
    /// The task's limit is near.
    Deadline,
}

impl ShutdownReason {
    /// What to do about it.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Interrupted | Self::Terminated | Self::HungUp => "run the command again",
            Self::Deadline => {
                "another run would take as long: give the task a longer maxRunTime, and MAX_RUN_TIME the same"
            }
        }
    }
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "SIGINT",
            Self::Terminated => "SIGTERM",
            Self::HungUp => "SIGHUP",
            Self::Deadline => "MAX_RUN_TIME is nearly over",
        })
    }
}

/// Handles the signals and the limit, and records how long each stage takes. Clones share both.
#[derive(Clone, Debug)]
pub struct Shutdown {
    reason: watch::Receiver<Option<ShutdownReason>>,
    stages: Stages,
}

impl Shutdown {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on, and for the end of `max_run_time` seconds.
    ///
    /// Must be called within a tokio runtime.
    pub fn listen(max_run_time: Option<u64>) -> Result<Self, CommandError> {
        let no_signals = |error: std::io::Error| CommandError::Bug(format!("signals cannot be heard: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(no_signals)?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let reason = tokio::select! {
                _ = interrupt.recv() => ShutdownReason::Interrupted,
                _ = terminate.recv() => ShutdownReason::Terminated,
                _ = hang_up.recv() => ShutdownReason::HungUp,
                () = limit(max_run_time) => ShutdownReason::Deadline,
            };
            // There is no receiver any more when the job is over.
            let _ = sender.send(Some(reason));
            // Kept, so that later signals do not kill the program in the middle of its cleaning up.
            std::future::pending::<()>().await;
        });
        Ok(Self { reason: receiver, stages: Stages::default() })
    }

    /// Does one stage of a job, unless the program is stopped before its end: then the stage is dropped.
    pub async fn run_stage<T, E: Into<CommandError>>(
        &self,
        stage: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CommandError> {
        let mut receiver = self.reason.clone();
        let began = Instant::now();
        let stopped = async {
            match receiver.wait_for(Option::is_some).await {
                Ok(reason) => *reason,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = stopped => Err(match reason {
                Some(reason) => CommandError::Stopped { reason, stage },
                None => CommandError::Bug("stopped by nobody".to_owned()),
            }),
            result = work => {
                self.stages.add(stage, began);
                result.map_err(Into::into)
            }
        }
    }

    /// The stages that are over.
    #[must_use]
    pub fn stages(&self) -> Vec<Stage> {
        self.stages.so_far()
    }
}

async fn limit(max_run_time: Option<u64>) {
    match max_run_time.map(Duration::from_secs) {
        Some(limit) => tokio::time::sleep(limit.saturating_sub(BEFORE_LIMIT.min(limit / 10))).await,
        None => std::future::pending().await,
    }
}
