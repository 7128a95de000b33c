//! A build that is stopped and followed to its end. Whoever closes a connection does not learn when the engine has ended the step
//! that it was at, nor whether it has made an image of it. So the connection is closed in one direction only: the engine
//! takes that for the end of its client, cancels the build, and still answers when it is done.

use bollard::models::BuildInfo;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use crate::engine::connection::client::Closing;
use crate::engine::connection::messages::AnswerError;

/// How many messages of an answer may wait for whoever reads it.
const MESSAGES: usize = 16;

/// A build under way.
pub(in crate::engine) struct Held {
    /// What the engine answers. Who drops it before its end stops the build.
    pub(in crate::engine) answer: BoxStream<'static, Result<BuildInfo, AnswerError>>,
    /// Ends when the engine has ended the build.
    pub(in crate::engine) ended: oneshot::Receiver<()>,
}

/// Follows an answer to its end, whether or not somebody reads it.
pub(in crate::engine) fn hold(
    answer: impl Stream<Item = Result<BuildInfo, AnswerError>> + Send + 'static,
    closing: Closing,
) -> Held {
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
            // Nobody may read it any more.
            let _ = messages.send(message).await;
        }
        let _ = ends.send(());
    });
    let answer = futures_util::stream::unfold(read, |mut read| async { Some((read.recv().await?, read)) });
    Held { answer: answer.boxed(), ended }
}
