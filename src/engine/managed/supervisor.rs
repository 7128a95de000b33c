//! The supervisor: a process between the program and the service. When the program is gone, for whatever reason, it ends the
//! service and everything that the service has started, and removes its files. It is the program itself under a subcommand of
//! its own; `managed` starts it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process, wait};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use super::OWN_PROGRAM;
use super::engine_dir::EngineDir;
use super::system::{adopt_orphans, end_with_parent};

use crate::report::Hint;

/// The subcommand of the supervisor, which help does not show.
pub const SUPERVISOR: &str = "keep-engine";

/// The time limit for Podman to end a RUN step and its container by itself: it takes less than a second.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for killed processes to disappear: their memory can be large and on a slow swap.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for a signal that a child has ended before the next check: grandchildren become our children without a
/// signal.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The task of the supervisor, or of the process that it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Runs the service, if there is one, until the standard input ends; then ends all processes and removes the directory.
    Service {
        /// The engine's directory.
        folder: PathBuf,
        /// Whether the service has a pid namespace of its own, in which everything ends with the first process.
        in_pid_namespace: bool,
        /// The service's command line.
        command: Vec<OsString>,
    },
    /// Becomes a program that gets a signal when its parent ends.
    TiedTo {
        /// The parent's process id.
        parent: u32,
        /// Whether the signal is SIGKILL and not SIGTERM.
        in_pid_namespace: bool,
        /// The program's command line.
        command: Vec<OsString>,
    },
}

/// Why processes or files of the engine may remain.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The system refuses an operation that every user may do.
    #[error("keeping the managed engine: {doing} failed")]
    System {
        /// The operation.
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Processes do not end.
    #[error("processes of the managed engine do not end, not even killed{}", Hint("look at them with ps"))]
    Undead,
}

/// Runs the supervisor, or the process that it starts.
pub async fn supervise(supervisor: Supervisor) -> Result<(), SupervisorError> {
    match supervisor {
        Supervisor::TiedTo { parent, in_pid_namespace, command } => {
            exec_tied_to_parent(parent, stop_signal(in_pid_namespace), &command)
        }
        Supervisor::Service { folder, in_pid_namespace, command } => {
            service(&EngineDir::at(&folder), in_pid_namespace, &command).await
        }
    }
}

fn system_error(doing: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { doing, source }
}

/// Returns only if the program cannot be run. The signal covers the rare case that somebody kills the supervisor too.
fn exec_tied_to_parent(parent: u32, stop_signal: Signal, command: &[OsString]) -> Result<(), SupervisorError> {
    end_with_parent(stop_signal).map_err(system_error("asking for a signal"))?;
    // The parent may be gone already, and then no signal comes.
    let alive = getppid().is_some_and(|pid| u32::try_from(pid.as_raw_pid()) == Ok(parent));
    match command.split_first() {
        Some((program, arguments)) if alive => {
            Err(system_error("starting podman")(Command::new(program).args(arguments).exec()))
        }
        _ => Ok(()),
    }
}

/// With SIGTERM, Podman ends its steps and unmounts what it has mounted. In its own pid namespace that is not needed, and
/// `unshare` would not forward the signal.
fn stop_signal(in_pid_namespace: bool) -> Signal {
    if in_pid_namespace { Signal::KILL } else { Signal::TERM }
}

async fn service(directory: &EngineDir, in_pid_namespace: bool, command: &[OsString]) -> Result<(), SupervisorError> {
    adopt_orphans().map_err(system_error("adopting processes"))?;
    let mut group = ProcessGroup::new()?;
    if !command.is_empty() {
        let own_pid = getpid().as_raw_pid().to_string();
        let mut command_line = Command::new(OWN_PROGRAM);
        let child = command_line
            .args([SUPERVISOR, "--tied-to", &own_pid])
            .args(in_pid_namespace.then_some("--apart"))
            .arg("--")
            .args(command)
            .stdin(std::process::Stdio::null())
            .current_dir(directory.path());
        let child = child.spawn().map_err(system_error("starting the service"))?;
        group.service = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        group.wait_for_stop().await?;
        group.end_service(stop_signal(in_pid_namespace)).await;
    }
    group.end_all().await?;
    let result = directory.remove();
    // Podman leaves a process behind that keeps its user namespace.
    group.end_all().await?;
    result.map_err(system_error("removing its files"))
}

/// The supervisor's children: those that it has started and those that it has adopted.
struct ProcessGroup {
    service: Option<Pid>,
    child_ended: tokio::signal::unix::Signal,
}

impl ProcessGroup {
    fn new() -> Result<Self, SupervisorError> {
        Ok(Self { service: None, child_ended: signal(SignalKind::child()).map_err(system_error("hearing signals"))? })
    }

    /// Waits until the program that has started us is gone or requests the end, or the service has ended by itself.
    async fn wait_for_stop(&mut self) -> Result<(), SupervisorError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(system_error("hearing signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system_error("hearing signals"))?;
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().and_then(Receiver::from_owned_fd);
        let mut stdin = stdin.map_err(system_error("hearing whoever has started us"))?;
        let mut buffer = [0; 1];
        let parent_gone = stdin.read(&mut buffer);
        tokio::pin!(parent_gone);
        while self.service.is_some() {
            tokio::select! {
                _ = &mut parent_gone => break,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = self.child_ended.recv() => drop(self.reap()),
            }
        }
        Ok(())
    }

    /// Sends the signal to the service, and waits until it ends.
    async fn end_service(&mut self, stop_signal: Signal) {
        if let Some(service) = self.service {
            // The service may have ended already; `reap` notices that.
            let _ = kill_process(service, stop_signal);
        }
        let start = Instant::now();
        while self.service.is_some() && start.elapsed() < STOP_TIMEOUT {
            let _ = tokio::time::timeout(POLL_INTERVAL, self.child_ended.recv()).await;
            self.reap();
        }
    }

    /// Kills all remaining processes. The children of a killed process become our children, and are killed next.
    async fn end_all(&mut self) -> Result<(), SupervisorError> {
        let start = Instant::now();
        while self.reap() {
            if start.elapsed() > KILL_TIMEOUT {
                return Err(SupervisorError::Undead);
            }
            for child in children().map_err(system_error("looking for processes"))? {
                let _ = kill_process(child, Signal::KILL);
            }
            let _ = tokio::time::timeout(POLL_INTERVAL, self.child_ended.recv()).await;
        }
        Ok(())
    }

    /// Reaps children that have ended. Returns whether there are others.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => {
                    if self.service == Some(pid) {
                        self.service = None;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Our children, found by the parent that each process has: kernels need not keep a list of children.
fn children() -> io::Result<Vec<Pid>> {
    let own_pid = getpid();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| parent_of(&entry.path()) == Some(own_pid.as_raw_pid())) {
            children.push(pid);
        }
    }
    Ok(children)
}

fn parent_of(process: &Path) -> Option<i32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses can contain anything, also more parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = children().unwrap().iter().any(|pid| u32::try_from(pid.as_raw_pid()) == Ok(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
