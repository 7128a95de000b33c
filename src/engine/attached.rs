//! A container in the foreground: it is created, attached to, started, and waited for. The caller has the terminal, and removes
//! the container.

use std::io;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerWaitResponse, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, ResizeContainerTTYOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::build::debug_image;
use super::build::failure::request_error;
use super::connection::messages::{AnswerError, byte_stream};
use super::{Engine, EngineError};

/// Keys that nobody types, for the engine to detach on: a container without a terminal would be left to nobody. Docker's own,
/// ctrl-P and ctrl-Q, would hold back each ctrl-P of a shell until the next key.
const NO_DETACHING: &str = "ctrl-%5E,ctrl-%40,ctrl-%5E,ctrl-%40";

/// The most bytes of output that are read at once.
const PIECE: usize = 64 * 1024;

/// The length of the header of a piece of output: which stream it is of, three zeros, the length.
const HEADER: usize = 8;

/// The default shell of an image, and of taskgraph's `load-task`, where the image has it.
const BEST_SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash; exec sh";

/// What a container is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The image: its name or its id.
    pub image: String,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Directories and volumes: `HOST_PATH:PATH`, `VOLUME:PATH`, with `:ro` for reading only.
    pub volumes: Vec<String>,
    /// The user, in place of the image's.
    pub user: Option<String>,
    /// Whether the container gets a terminal.
    pub tty: bool,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Its lines.
    pub rows: u16,
    /// Its characters in a line.
    pub columns: u16,
}

/// A container's streams.
pub struct Attached {
    /// What it gets on its standard input.
    pub input: AttachedInput,
    /// What it writes.
    pub output: AttachedOutput,
}

/// A container's standard input.
pub struct AttachedInput(WriteHalf<TokioIo<Upgraded>>);

/// Which stream a piece of output is of. A terminal has only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A container's output.
pub struct AttachedOutput {
    bytes: ReadHalf<TokioIo<Upgraded>>,
    tty: bool,
    stream: OutputStream,
    /// How many bytes of the current piece are still to come.
    left: usize,
    piece: Vec<u8>,
}

impl AttachedInput {
    /// Sends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Ends the input. The output goes on.
    pub async fn end(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

impl AttachedOutput {
    /// The next bytes; none at the end of the output. A call that is dropped loses bytes.
    pub async fn next(&mut self) -> io::Result<Option<(OutputStream, &[u8])>> {
        while !self.tty && self.left == 0 {
            let mut header = [0; HEADER];
            if !read_whole(&mut self.bytes, &mut header).await? {
                return Ok(None);
            }
            let [stream, _, _, _, length @ ..] = header;
            self.stream = if stream == 2 { OutputStream::Stderr } else { OutputStream::Stdout };
            self.left = u32::from_be_bytes(length) as usize;
        }
        let length = if self.tty { PIECE } else { self.left.min(PIECE) };
        self.piece.resize(length, 0);
        let read = self.bytes.read(&mut self.piece).await?;
        if read == 0 {
            return if self.left == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        self.left = self.left.saturating_sub(read);
        Ok(Some((self.stream, &self.piece[..read])))
    }
}

/// Fills `buffer`; false at the end of the stream.
async fn read_whole(bytes: &mut (impl AsyncReadExt + Unpin), buffer: &mut [u8]) -> io::Result<bool> {
    match bytes.read(buffer).await? {
        0 => Ok(false),
        read => bytes.read_exact(&mut buffer[read..]).await.map(|_| true),
    }
}

impl Engine {
    /// Creates a container with this name, and does not start it.
    pub async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let body = ContainerCreateBody {
            image: Some(spec.image.clone()),
            entrypoint: spec.entrypoint.clone(),
            // An own entry point has no use for the image's command.
            cmd: spec.command.clone().or(spec.entrypoint.as_ref().map(|_| Vec::new())),
            env: Some(spec.env.clone()),
            user: spec.user.clone(),
            tty: Some(spec.tty),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(HostConfig { binds: Some(spec.volumes.clone()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let created = self.client.create_container(Some(options), body).await;
        created.map(drop).map_err(|error| failure("making the container", error))
    }

    /// Attaches to a container that is not started yet, so that nothing of its output is lost.
    pub async fn attach(&self, container: &str, tty: bool) -> Result<Attached, EngineError> {
        let path =
            format!("/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys={NO_DETACHING}");
        // Podman prepares the container now, and reports what it lacks.
        let stream = byte_stream(&self.place, &path).await.map_err(|error| match error {
            AnswerError::Status { status, message } => refusal("preparing the container", status, message),
            error => request_error("attaching to the container", error),
        })?;
        let (bytes, input) = tokio::io::split(TokioIo::new(stream));
        let output = AttachedOutput { bytes, tty, stream: OutputStream::Stdout, left: 0, piece: Vec::new() };
        Ok(Attached { input: AttachedInput(input), output })
    }

    /// Starts a container.
    pub async fn start_container(&self, container: &str) -> Result<(), EngineError> {
        let started = self.client.start_container(container, None::<StartContainerOptions>).await;
        started.map_err(|error| failure("starting the container", error))
    }

    /// Tells a container how large its terminal is.
    pub async fn resize_terminal(&self, container: &str, size: TerminalSize) -> Result<(), EngineError> {
        let options = ResizeContainerTTYOptions { h: size.rows.into(), w: size.columns.into() };
        let resized = self.client.resize_container_tty(container, options).await;
        resized.map_err(|error| request_error("resizing the container's terminal", error))
    }

    /// Waits until a started container has ended. Returns its exit code.
    pub async fn exit_code(&self, container: &str) -> Result<i64, EngineError> {
        const DOING: &str = "waiting for the container";
        let mut answers = Box::pin(self.client.wait_container(container, None::<WaitContainerOptions>));
        match answers.next().await {
            Some(Ok(ContainerWaitResponse { status_code, .. })) => Ok(status_code),
            // bollard's form of every code but 0.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(request_error(DOING, error)),
            None => Err(EngineError::Unfinished { doing: DOING.to_owned() }),
        }
    }

    /// The command of an interactive shell in an image: bash where the image has it, or the shell that its RUN steps have.
    pub async fn shell_command(&self, image: &str) -> Result<Vec<String>, EngineError> {
        let shell = self.shell_of(image).await.map_err(|error| request_error("looking at the image", error))?;
        let shell = debug_image::shell(shell);
        if shell == [debug_image::USUAL_SHELL] {
            return Ok([debug_image::USUAL_SHELL, "-c", BEST_SHELL].map(str::to_owned).to_vec());
        }
        Ok(shell)
    }
}

fn failure(doing: &str, error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => refusal(doing, status_code, message),
        error => request_error(doing, error),
    }
}

/// What the engine refuses is the caller's mistake: an image or a program that is not there, a volume that cannot be.
fn refusal(doing: &str, status: u16, message: String) -> EngineError {
    match status {
        400 | 404 | 409 => EngineError::Refused(format!("the engine refuses, while {doing}: {}", message.trim())),
        _ => request_error(doing, AnswerError::Status { status, message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_ends_within_a_header_is_broken() {
        let mut buffer = [0; HEADER];
        assert!(!read_whole(&mut &b""[..], &mut buffer).await.unwrap());
        assert!(read_whole(&mut &b"\x02\0\0\0\0\0\0\x07"[..], &mut buffer).await.unwrap());
        assert_eq!(buffer, [2, 0, 0, 0, 0, 0, 0, 7]);
        let error = read_whole(&mut &b"\x01\0"[..], &mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_not_there_is_the_callers_mistake() {
        let refused = |status| refusal("making the container", status, "no such image: x\n".to_owned());
        let expected = "the engine refuses, while making the container: no such image: x";
        assert!(matches!(refused(404), EngineError::Refused(why) if why == expected));
        assert!(matches!(refused(500), EngineError::Request { .. }));
    }
}
