//! A container in the foreground, with this process's terminal: what is typed goes to the container as it is, ctrl-C included.
//! Without a terminal its streams are those of this process. It is removed however it ends.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::CommandError;
use super::shutdown::Shutdown;
use crate::engine::{Attached, AttachedInput, AttachedOutput, ContainerSpec, Engine, OutputStream, TerminalSize};

/// How much is read of the standard input at once, in bytes.
const PIECE: usize = 8 * 1024;

/// How many pieces of input may wait for the container.
const WAITING: usize = 4;

/// Where the container's output goes.
#[derive(Clone, Copy)]
pub struct Console {
    /// Whether somebody sits at a terminal, to type and to read.
    pub is_terminal: bool,
    /// Writes to one of this process's streams.
    pub write: fn(OutputStream, &[u8]) -> io::Result<()>,
}

/// Runs a container and removes it. Returns its exit code. No other start of the program uses `name`.
pub async fn run(
    engine: &Engine,
    name: &str,
    spec: &ContainerSpec,
    console: Console,
    stop: &Shutdown,
) -> Result<u8, CommandError> {
    // Not within the stage: a request that is dropped may make a container that nobody removes.
    engine.create_container(name, spec).await?;
    let outcome = stop.run_stage("the container runs", attached(engine, name, spec.tty, console)).await;
    if !engine.remove_container(name).await {
        warn!("the engine still has the container {name}; remove it there");
    }
    outcome
}

/// Starts the container, and passes the streams on until it ends.
async fn attached(engine: &Engine, name: &str, tty: bool, console: Console) -> Result<u8, CommandError> {
    let Attached { input, output } = engine.attach(name, tty).await?;
    engine.start_container(name).await?;
    let raw = if tty { RawTerminal::enter() } else { None };
    tokio::select! {
        is_read = copy_output(output, console) => if !is_read? {
            return Ok(0);
        },
        never = copy_input(input) => match never {},
        never = follow_size(engine, name, tty) => match never {},
    }
    drop(raw);
    let code = engine.exit_code(name).await?;
    if code != 0 {
        info!("the container ended with exit code {code}");
    }
    // Engines report what does not fit into a process's exit code only for containers that could not run.
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Writes the container's output until its end. Returns whether somebody reads it to its end: `| head` does not, and is no error.
async fn copy_output(mut output: AttachedOutput, console: Console) -> Result<bool, CommandError> {
    loop {
        let Some((stream, bytes)) = output.next().await.map_err(CommandError::Console)? else { return Ok(true) };
        match (console.write)(stream, bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written.map_err(CommandError::Console)?,
        }
    }
}

/// Sends the standard input to the container, to its end. Never returns: the container decides when it is over.
async fn copy_input(mut input: AttachedInput) -> Infallible {
    let mut pieces = read_stdin();
    while let Some(piece) = pieces.recv().await {
        // A container that does not read, or has ended, is no error of the input.
        if input.write(&piece).await.is_err() {
            return std::future::pending().await;
        }
    }
    let _ = input.end().await;
    std::future::pending().await
}

/// What is read from the standard input. The thread ends with the process: a read of a terminal cannot be interrupted.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = [0; PIECE];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read @ 1..) if sender.blocking_send(buffer[..read].to_vec()).is_ok() => {}
                _ => return,
            }
        }
    });
    receiver
}

/// Gives the container's terminal the size of this one, now and whenever it changes.
async fn follow_size(engine: &Engine, name: &str, tty: bool) -> Infallible {
    let changes = signal(SignalKind::window_change()).ok().filter(|_| tty);
    let Some(mut changes) = changes else { return std::future::pending().await };
    loop {
        if let Ok(size) = tcgetwinsize(io::stdin())
            && size.ws_row > 0
        {
            // A container that has just ended has no terminal.
            let _ = engine.resize_terminal(name, TerminalSize { rows: size.ws_row, columns: size.ws_col }).await;
        }
        changes.recv().await;
    }
}

/// The terminal without its own interpretation of keys, until this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // There is nobody to tell of a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
