//! Retries: the only place that decides how often and how long to try. The type of a failure says whether another try can help.
//! Only this module uses the `backoff` crate.

use std::error::Error;
use std::future::Future;
use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tracing::{debug, warn};

use crate::report::{ErrorChain, split_hint};

/// Whether another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retryability {
    /// It would fail again.
    Permanent,
    /// It can succeed.
    Transient,
    /// It can succeed, but not before this time has passed (`Retry-After`).
    RetryAfter(Duration),
}

/// A failure that knows whether another try can help.
pub trait Failure: Error {
    /// Whether another try can help.
    fn retryability(&self) -> Retryability;
}

/// How often and how long to try.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The most attempts, the first included.
    pub attempts: u32,
    /// The pause after the first failure; each later pause is about twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// No try begins after this time.
    pub limit: Duration,
    /// Whether this is ordinary waiting, which is not logged.
    pub silent: bool,
}

/// The configured number and time limits of attempts, which override a policy's own. Each client carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The attempts for a call or a transfer, unless the policy decides.
    pub attempts: Option<u32>,
    /// How long one API call may take.
    pub call_timeout: Duration,
    /// How long a storage service may be silent.
    pub silence: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: None,
            // taskcluster-proxy keeps a request for up to 15 minutes while it retries a 5xx by itself, so that without our own
            // limit a permanent 500 looks like a hang. Real calls take well under a second.
            call_timeout: Duration::from_mins(1),
            // Generous, because some services prepare large objects before the first byte.
            silence: Duration::from_mins(2),
        }
    }
}

impl RetryConfig {
    /// A policy with the configured number of attempts.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Policy {
        Policy { attempts: self.attempts.unwrap_or(policy.attempts), ..policy }
    }
}

impl Policy {
    /// For API calls: short requests, several of them in a job. Six tries with pauses of 0.5 to 16 s outlast the
    /// restart of a service; more would hide a failure that a new run of the task could get around.
    pub const CALL: Self = Self {
        attempts: 6,
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(16),
        limit: Duration::from_mins(5),
        silent: false,
    };

    /// For transfers of whole files, each try of which can take minutes.
    pub const TRANSFER: Self = Self {
        attempts: 5,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(30),
        limit: Duration::from_hours(1),
        silent: false,
    };
}

/// Tries `operation` until it succeeds, fails in a way that another try cannot fix, or the policy is used up.
/// Every try calls `operation` again, so that it gets fresh writers and fresh hashers. `what` names the operation
/// The error of the last try is returned.
pub async fn retry<T, E, O, F>(what: &str, policy: Policy, mut operation: O) -> Result<T, E>
where
    E: Failure,
    O: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    let pauses = ExponentialBackoff {
        initial_interval: policy.first_pause,
        current_interval: policy.first_pause,
        max_interval: policy.longest_pause,
        max_elapsed_time: Some(policy.limit),
        multiplier: 2.0,
        ..ExponentialBackoff::default()
    };
    let mut attempts = 0;
    let started = Instant::now();
    let attempt = || {
        attempts += 1;
        let last = attempts >= policy.attempts;
        let attempt = operation();
        async move {
            // The crate would wait for as long as a server requests, even a day.
            let in_time = |pause| started.elapsed().saturating_add(pause) <= policy.limit;
            attempt.await.map_err(|error| match error.retryability() {
                Retryability::Transient if !last => backoff::Error::transient(error),
                Retryability::RetryAfter(pause) if !last && in_time(pause) => {
                    let left = policy.limit.saturating_sub(started.elapsed());
                    let pause = spread(pause, policy).min(left).max(pause);
                    backoff::Error::retry_after(error, pause)
                }
                Retryability::Permanent | Retryability::Transient | Retryability::RetryAfter(_) => {
                    backoff::Error::permanent(error)
                }
            })
        }
    };
    backoff::future::retry_notify(pauses, attempt, |error: E, pause: Duration| {
        if policy.silent {
            return debug!("{what}: {error}");
        }
        // `connection refused` is more precise than `no answer`.
        let innermost = error.source().map(|_| format!(" ({})", ErrorChain(&error).innermost())).unwrap_or_default();
        // What to do is for the case that no try helps.
        let (message, _) = split_hint(&error);
        warn!("{what} failed, trying again in {:.1} s: {message}{innermost}", pause.as_secs_f64());
    })
    .await
}

/// A pause that a server requests, and up to half as long again: all callers that it has given the same time would come back
/// at the same moment. Other pauses are random by themselves.
fn spread(pause: Duration, policy: Policy) -> Duration {
    let most = (pause.max(policy.first_pause) / 2).min(policy.longest_pause);
    // From nothing to twice the interval.
    let mut random = ExponentialBackoff {
        current_interval: most / 2,
        randomization_factor: 1.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    pause + random.next_backoff().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fmt;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Broken(Retryability, u32);

    impl Error for Broken {}

    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "broken in try {}", self.1)
        }
    }

    impl Failure for Broken {
        fn retryability(&self) -> Retryability {
            self.0
        }
    }

    const QUICK: Policy = Policy {
        attempts: 3,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        limit: Duration::from_mins(1),
        silent: true,
    };

    async fn try_with(failure: Retryability, good_from: u32) -> (Result<u32, Broken>, u32) {
        let attempts = Cell::new(0);
        let result = retry("the test", QUICK, || {
            attempts.set(attempts.get() + 1);
            let n = attempts.get();
            async move { if n >= good_from { Ok(n) } else { Err(Broken(failure, n)) } }
        })
        .await;
        (result, attempts.get())
    }

    #[tokio::test]
    async fn tries_again_only_where_that_can_help_and_not_for_ever() {
        assert_eq!(try_with(Retryability::Transient, 1).await, (Ok(1), 1));
        assert_eq!(try_with(Retryability::Transient, 3).await, (Ok(3), 3));
        assert_eq!(try_with(Retryability::Transient, 9).await, (Err(Broken(Retryability::Transient, 3)), 3));
        assert_eq!(try_with(Retryability::Permanent, 2).await, (Err(Broken(Retryability::Permanent, 1)), 1));
        let after = Retryability::RetryAfter(Duration::from_millis(3));
        assert_eq!(try_with(after, 2).await, (Ok(2), 2));
        // No wait is longer than the policy allows, even if the server requests it.
        let tomorrow = Retryability::RetryAfter(Duration::from_hours(24));
        assert_eq!(try_with(tomorrow, 2).await, (Err(Broken(tomorrow, 1)), 1));
    }

    #[test]
    fn a_pause_that_a_server_requests_is_not_the_same_for_all() {
        for (requested, most) in
            [(0, 250), (2000, 1000), (240_000, 16_000)].map(|it| (Duration::from_millis(it.0), it.1))
        {
            let longest = requested + Duration::from_millis(most) + Duration::from_nanos(1);
            let mut pauses: Vec<_> = (0..100).map(|_| spread(requested, Policy::CALL)).collect();
            assert!(pauses.iter().all(|pause| (requested..=longest).contains(pause)), "{requested:?}: {pauses:?}");
            pauses.sort();
            // A hundred random numbers in a row leave no half of the range empty.
            assert!(pauses[99] > pauses[0] + Duration::from_millis(most / 2), "{requested:?}: {pauses:?}");
        }
    }
}
