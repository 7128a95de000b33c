//! Work that takes its time, on a thread of its own.

use tokio::task::spawn_blocking;

use super::CommandError;

/// Runs `work` on a thread of its own, so that signals are heard meanwhile. A panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
