//! Runs long work on its own thread, so that the main thread can handle signals.

use std::panic::resume_unwind;

use tokio::task;

/// Starts `work` at once on a thread for blocking work; the future is done when it is. A panic in it propagates to the code that
/// awaits the future. Must be called within a tokio runtime.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let running = task::spawn_blocking(work);
    // It is never cancelled: it can only have panicked.
    async { running.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic())) }
}
