//! Detects that an engine has stopped and was started again. If systemd listens in its place (`dockerd -H fd://`), the next
//! request starts it again, so that it always answers. A connection from before the restart shows the difference.

use http_body_util::{BodyExt as _, Empty};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;

use super::address::Address;
use super::client::{Closing, RawConnection, connect, request};
use super::find::PING_TIMEOUT;
use crate::engine::driver::EngineDriver;

/// An idle connection to the engine. `None` if such a connection cannot show a restart.
pub(in crate::engine) struct RestartDetector(Option<SendRequest<Empty<Bytes>>>);

impl RestartDetector {
    /// Opens the connection.
    pub(in crate::engine) async fn of(driver: &dyn EngineDriver, place: &Address) -> Self {
        if !driver.keeps_idle_connections() {
            return Self(None);
        }
        let Ok(RawConnection { mut sender, .. }) = connect(place, &Closing::default()).await else { return Self(None) };
        let answers = answers(&mut sender).await;
        Self(answers.then_some(sender))
    }

    /// Whether the engine from the beginning has stopped.
    pub(in crate::engine) async fn has_restarted(self) -> bool {
        match self.0 {
            Some(mut sender) => !answers(&mut sender).await,
            None => false,
        }
    }
}

/// Whether the engine answers a ping over this connection.
async fn answers(sender: &mut SendRequest<Empty<Bytes>>) -> bool {
    let ping = async {
        sender.ready().await.ok()?;
        let ping = request(Method::GET, "/_ping", &[], Empty::new()).ok()?;
        // The whole reply is read, so that the connection can be used again.
        sender.send_request(ping).await.ok()?.into_body().collect().await.ok()
    };
    tokio::time::timeout(PING_TIMEOUT, ping).await.is_ok_and(|answer| answer.is_some())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::engine::EngineAddress;
    use crate::engine::driver::{DockerEngine, PodmanEngine};

    /// An engine that answers this number of pings on one connection, and then ends.
    async fn engine(pings: usize) -> Address {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("tcp://{}", listener.local_addr().unwrap());
        let place = Address::new(&EngineAddress::usual(place)).unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            for _ in 0..pings {
                assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
            }
        });
        place
    }

    #[tokio::test]
    async fn an_engine_that_ends_is_told_from_one_that_stays() {
        for (pings, ended) in [(0, false), (1, true), (2, false)] {
            let place = engine(pings).await;
            assert_eq!(RestartDetector::of(&DockerEngine, &place).await.has_restarted().await, ended, "{pings}");
        }
        assert!(!RestartDetector::of(&PodmanEngine, &engine(1).await).await.has_restarted().await);
    }
}
