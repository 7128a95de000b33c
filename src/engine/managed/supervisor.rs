//! The supervisor: a process between us and the service, which ends the service and all that it has started when we are gone,
//! however that came about, and removes its files. It is the program itself under a subcommand of its own.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper, set_parent_process_death_signal, wait,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use super::OURSELVES;
use super::folder::Folder;

/// The subcommand of the supervisor, which help does not show.
pub const SUPERVISOR: &str = "keep-engine";

/// What is given to Podman to end a RUN step and its container by itself: it takes less than a second.
const BY_ITSELF: Duration = Duration::from_secs(10);

/// What is given to processes that were killed, whose memory can be large and on a slow swap.
const KILLED: Duration = Duration::from_secs(10);

/// How long we wait for a signal that a child has ended before we look again: grandchildren become ours without one.
const LOOKING: Duration = Duration::from_millis(50);

/// What the supervisor, or what it starts, is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Run the service, where there is one, until stdin ends; then end all and remove the folder.
    Service {
        /// The engine's folder.
        folder: PathBuf,
        /// Whether it has a pid namespace of its own: everything ends with its first process.
        in_pid_namespace: bool,
        /// The service.
        command: Vec<OsString>,
    },
    /// Become a program that is told to end when its parent does.
    TiedTo {
        /// The parent.
        parent: u32,
        /// Whether it is not told, but killed.
        in_pid_namespace: bool,
        /// The program.
        command: Vec<OsString>,
    },
}

/// Why something may be left.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The system refuses what everybody may do.
    #[error("keeping the managed engine: {doing} failed")]
    System {
        /// What we did.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Processes do not end.
    #[error("processes of the managed engine do not end, not even killed: look at them with ps")]
    Undead,
}

/// Does it.
pub async fn supervise(keeping: Supervisor) -> Result<(), SupervisorError> {
    match keeping {
        Supervisor::TiedTo { parent, in_pid_namespace, command } => tied_to(parent, ending(in_pid_namespace), &command),
        Supervisor::Service { folder, in_pid_namespace, command } => {
            service(&Folder::at(&folder), in_pid_namespace, &command).await
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { doing, source }
}

/// Only comes back when the program cannot be run. Against the rare case that somebody kills the supervisor too.
fn tied_to(parent: u32, ending: Signal, command: &[OsString]) -> Result<(), SupervisorError> {
    let tied = set_parent_process_death_signal(Some(ending));
    tied.map_err(|error| failed("asking for a signal")(error.into()))?;
    // It may be gone already, and then no signal comes.
    let alive = getppid().is_some_and(|pid| u32::try_from(pid.as_raw_pid()) == Ok(parent));
    match command.split_first() {
        Some((program, arguments)) if alive => {
            Err(failed("starting podman")(Command::new(program).args(arguments).exec()))
        }
        _ => Ok(()),
    }
}

/// Podman told to end ends its steps, and unmounts what it has mounted. Apart it need not be asked, and `unshare` would not
/// pass it on.
fn ending(in_pid_namespace: bool) -> Signal {
    if in_pid_namespace { Signal::KILL } else { Signal::TERM }
}

async fn service(folder: &Folder, in_pid_namespace: bool, command: &[OsString]) -> Result<(), SupervisorError> {
    // What loses its parent becomes our child: nothing that the service starts can get away from us.
    set_child_subreaper(Some(getpid())).map_err(|error| failed("adopting processes")(error.into()))?;
    let mut group = ProcessGroup::new()?;
    if !command.is_empty() {
        let ourselves = getpid().as_raw_pid().to_string();
        let mut tied = Command::new(OURSELVES);
        let child = tied
            .args([SUPERVISOR, "--tied-to", &ourselves])
            .args(in_pid_namespace.then_some("--apart"))
            .arg("--")
            .args(command)
            .stdin(std::process::Stdio::null())
            .current_dir(folder.path());
        let child = child.spawn().map_err(failed("starting the service"))?;
        group.service = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        group.until_told().await?;
        group.end_service(ending(in_pid_namespace)).await;
    }
    group.end_all().await?;
    let removed = folder.remove();
    // Podman leaves a process behind that keeps its user namespace.
    group.end_all().await?;
    removed.map_err(failed("removing its files"))
}

/// The supervisor's children, its own and those that became its.
struct ProcessGroup {
    service: Option<Pid>,
    ended: tokio::signal::unix::Signal,
}

impl ProcessGroup {
    fn new() -> Result<Self, SupervisorError> {
        Ok(Self { service: None, ended: signal(SignalKind::child()).map_err(failed("hearing signals"))? })
    }

    /// Waits until whoever has started us is gone or wants the end, or the service has ended by itself.
    async fn until_told(&mut self) -> Result<(), SupervisorError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed("hearing signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("hearing signals"))?;
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().and_then(Receiver::from_owned_fd);
        let mut stdin = stdin.map_err(failed("hearing whoever has started us"))?;
        let mut nothing = [0; 1];
        let gone = stdin.read(&mut nothing);
        tokio::pin!(gone);
        while self.service.is_some() {
            tokio::select! {
                _ = &mut gone => break,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = self.ended.recv() => drop(self.reap()),
            }
        }
        Ok(())
    }

    /// Lets the service end.
    async fn end_service(&mut self, ending: Signal) {
        if let Some(service) = self.service {
            // It can have ended, which the next look tells.
            let _ = kill_process(service, ending);
        }
        let begun = Instant::now();
        while self.service.is_some() && begun.elapsed() < BY_ITSELF {
            let _ = tokio::time::timeout(LOOKING, self.ended.recv()).await;
            self.reap();
        }
    }

    /// Kills whoever is left. Children of a killed process become ours, and are next.
    async fn end_all(&mut self) -> Result<(), SupervisorError> {
        let begun = Instant::now();
        while self.reap() {
            if begun.elapsed() > KILLED {
                return Err(SupervisorError::Undead);
            }
            for child in children().map_err(failed("looking for processes"))? {
                let _ = kill_process(child, Signal::KILL);
            }
            let _ = tokio::time::timeout(LOOKING, self.ended.recv()).await;
        }
        Ok(())
    }

    /// Takes note of children that have ended. Whether there are others.
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

/// Our children, by their own word: kernels need not keep a list.
fn children() -> io::Result<Vec<Pid>> {
    let ourselves = getpid();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| parent_of(&entry.path()) == Some(ourselves.as_raw_pid())) {
            children.push(pid);
        }
    }
    Ok(children)
}

fn parent_of(process: &Path) -> Option<i32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses can have anything in it, further parentheses too.
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
