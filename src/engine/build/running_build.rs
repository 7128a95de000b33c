//! Stops a build and waits until the engine has ended it. A client that closes its connection does not learn when the engine
//! ends the current step, nor whether the engine makes an image of it. So only the sending half of the connection is closed:
//! the engine takes this for a disconnect, cancels the build, and still sends its reply when it is done.

use bollard::models::BuildInfo;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use crate::engine::connection::client::Closing;
use crate::engine::connection::messages::AnswerError;

/// How many messages of a reply may wait for the reader.
const MESSAGES: usize = 16;

/// A running build.
pub(in crate::engine) struct RunningBuild {
    /// The engine's reply. Dropping it before its end stops the build.
    pub(in crate::engine) answer: BoxStream<'static, Result<BuildInfo, AnswerError>>,
    /// Completes when the engine has ended the build.
    pub(in crate::engine) ended: oneshot::Receiver<()>,
}

/// Reads a reply to its end in the background, even if nobody uses it any more.
pub(in crate::engine) fn keep_reading(
    answer: impl Stream<Item = Result<BuildInfo, AnswerError>> + Send + 'static,
    closing: Closing,
) -> RunningBuild {
    let (messages, read) = mpsc::channel(MESSAGES);
    let (ends, ended) = oneshot::channel();
    tokio::spawn(async move {
        let mut answer = std::pin::pin!(answer);
        let mut is_stopped = false;
        loop {
            let message = tokio::select! {
                () = messages.closed(), if !is_stopped => {
                    is_stopped = true;
                    closing.close();
                    continue;
                }
                message = answer.next() => message,
            };
            let Some(message) = message else { break };
            // The receiver may have been dropped.
            let _ = messages.send(message).await;
        }
        let _ = ends.send(());
    });
    let answer = futures_util::stream::unfold(read, |mut read| async { Some((read.recv().await?, read)) });
    RunningBuild { answer: answer.boxed(), ended }
}
