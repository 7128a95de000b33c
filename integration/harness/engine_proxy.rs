//! The real engine behind a socket of the test's own, which answers one kind of request in its place: what an engine that
//! misbehaves does to the program.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::harness::engine_place;

/// A socket in front of the engine.
pub(crate) struct EngineProxy {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl EngineProxy {
    /// Requests whose path begins with `path` are for `answer`, all others for the engine.
    pub(crate) fn start(
        path: &'static str,
        answer: impl Fn(&mut UnixStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with_first(path, usize::MAX, answer)
    }

    /// The same, but only the first `times` of such requests are for `answer`.
    pub(crate) fn start_with_first(
        path: &'static str,
        times: usize,
        answer: impl Fn(&mut UnixStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let directory = TempDir::with_prefix("engine-proxy-").unwrap();
        let listener = UnixListener::bind(directory.path().join("sock")).unwrap();
        let proxy = Self { directory, requests: Arc::default() };
        let (requests, answer) = (Arc::clone(&proxy.requests), Arc::new(answer));
        // It runs until the test's process ends; it gets no more requests once its socket's name is gone.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                // Programs that close the connection are a part of the tests.
                std::thread::spawn(move || drop(serve(client, path, times, &requests, &*answer)));
            }
        });
        proxy
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn place(&self) -> String {
        format!("unix://{}", self.directory.path().join("sock").display())
    }

    /// How many requests were not the engine's.
    pub(crate) fn answered(&self) -> usize {
        self.requests().len()
    }

    /// The paths of these requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut client: UnixStream,
    path: &str,
    times: usize,
    all: &Mutex<Vec<String>>,
    answer: &dyn Fn(&mut UnixStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut head = head(&mut client)?;
    let request = String::from_utf8_lossy(&head).into_owned();
    let own = request.split(' ').nth(1).filter(|target| target.starts_with(path));
    if let Some(own) = own.filter(|_| all.lock().unwrap().len() < times) {
        all.lock().unwrap().push(own.to_owned());
        // What is sent is read to its end, as by an engine; only then does the answer begin.
        if request.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            read_chunks(&mut client)?;
        }
        return answer(&mut client);
    }
    let place = engine_place().unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    let mut engine = UnixStream::connect(Path::new(place.trim_start_matches("unix://")))?;
    // So that the next request makes a connection of its own and is looked at too.
    if !request.to_ascii_lowercase().contains("\r\nupgrade:") {
        head.truncate(head.len() - b"\r\n".len());
        head.extend_from_slice(b"Connection: close\r\n\r\n");
    }
    engine.write_all(&head)?;
    let (mut from, mut to) = (client.try_clone()?, engine.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    io::copy(&mut engine, &mut client)?;
    client.shutdown(Shutdown::Both)
}

fn head(client: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// A chunk ends with a line break, and the last one is empty.
fn read_chunks(client: &mut UnixStream) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).map_err(io::Error::other)?;
        client.read_exact(&mut vec![0; length + 2])?;
        if length == 0 {
            return Ok(());
        }
    }
}
