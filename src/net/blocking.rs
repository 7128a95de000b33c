//! Work that takes its time, on a thread of its own, so that signals are heard meanwhile.

use std::panic::resume_unwind;

use tokio::task;

/// Begins `work` at once on a thread for blocking work; the future is done when it is. A panic in it goes on where the future
/// is awaited. Must be called within a tokio runtime.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let running = task::spawn_blocking(work);
    // Nobody cancels it: it can only have panicked.
    async { running.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic())) }
}
