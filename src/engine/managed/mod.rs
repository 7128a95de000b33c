//! The managed engine: a private Podman service that the program starts itself, for machines without an engine and without
//! privileges. It ends with the job. A process of its own, [`supervisor`], runs and ends it, and outlives this one.

mod engine_dir;
mod libpod;
mod preflight;
mod probe;
mod supervisor;
mod system;

use crate::engine::connection::find::Probed;
use crate::engine::driver::PodmanEngine;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker;
use tracing::{debug, info, warn};

use super::build::pulling::Access;
use super::cleanup::tracker::ResourceTracker;
use super::connection::address::Address;
use super::connection::find;
use super::{Engine, EngineError, EngineInfo};
use super::{EngineConfig, Podman};
use crate::report::{ErrorChain, Hint};
use engine_dir::{Driver, EngineDir};

pub(super) use libpod::{BUILD, final_image_id};
pub use supervisor::{SUPERVISOR, Supervisor, SupervisorError, supervise};

/// The program itself: a path that needs no search, and stays right after an update.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Podman starts in 0.2 s; its first start on a slow disk has taken some seconds.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The time limit for the supervisor: 10 s for Podman to end by itself, 10 s for other processes, and the rest for the
/// removal of gigabytes of files.
const STOP_TIMEOUT: Duration = Duration::from_mins(2);

/// How often to check for things that send no event.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Why the managed engine cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// Podman is not installed.
    #[error(
        "--engine managed starts Podman, and there is no `podman` on PATH{}",
        Hint("install it (Debian: podman, crun, uidmap), or use the worker image")
    )]
    NoPodman,
    /// The system has no namespaces.
    #[error(
        "the managed engine runs on Linux only: start Docker Desktop or `podman machine` here, and name its socket in DOCKER_HOST where it is not found"
    )]
    NotLinux,
    /// A network that chroot isolation cannot provide.
    #[error(
        "RUN steps of the managed engine have this machine's network, so DOCKER_BUILD_NETWORK={} cannot be kept{}",
        .0,
        Hint("leave it out, or set it to host")
    )]
    Network(String),
    /// The service's directory cannot be created.
    #[error("cannot make the managed engine's directory {path}: choose another with --work-dir")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: std::io::Error,
    },
    /// A socket's path has at most 107 bytes.
    #[error(
        "the path of the managed engine's socket, {0}, is longer than the 107 bytes that systems take: choose a shorter --work-dir or --output"
    )]
    LongPath(PathBuf),
    /// The supervisor does not start.
    #[error("cannot start the managed engine's supervisor{}", Hint("look at the limits of processes and memory"))]
    Supervisor(#[source] std::io::Error),
    /// The service does not start, or cannot run a build.
    #[error("the managed engine does not work here: {hint}")]
    Unusable {
        /// What is missing, and how to get it.
        hint: String,
        /// The output of Podman.
        #[source]
        reply: PodmanReply,
    },
}

/// The output of Podman.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PodmanReply(String);

/// A running service. When it is dropped, the service ends, with everything that it has started and stored.
#[derive(Debug)]
pub(super) struct Managed {
    directory: PathBuf,
    supervisor: Mutex<Option<Child>>,
}

impl Engine {
    /// The engine of a job: one that answers; or, if none does or the settings request it, a managed one in the directory
    /// `place`, with this network for RUN steps.
    pub async fn connect_or_start(
        config: &EngineConfig,
        place: &Path,
        network: Option<&str>,
    ) -> Result<Self, EngineError> {
        if !config.is_managed() {
            match Self::connect(config).await {
                Err(EngineError::NoneAnswers { places, .. }) if config.may_be_managed() => {
                    info!("no engine answers ({}): starting one", super::error::list(&places));
                }
                Err(forbidden @ EngineError::Forbidden { .. }) if config.may_be_managed() => {
                    info!("{forbidden}; starting an engine");
                }
                found => return found,
            }
        }
        Ok(start(config, place, network).await?)
    }

    /// The Podman that a managed engine would be. Nothing is started: what shows only then is not found.
    pub fn managed_program(config: &EngineConfig) -> Result<&Path, EngineError> {
        Ok(startable(&config.podman)?)
    }

    /// Removes the engine that a killed run has left in the directory `place`. Returns whether it is gone.
    pub async fn remove_managed(config: &EngineConfig, place: &Path) -> bool {
        let directory = EngineDir::at(place);
        match start_supervisor(&config.podman, &directory, false, &[]) {
            Ok(started) => {
                let (directory, supervisor) = (directory.path().to_owned(), Mutex::new(Some(started.process)));
                Managed { directory, supervisor }.stop().await
            }
            Err(error) => {
                let why = ErrorChain(&error).innermost().to_string();
                warn!("the engine that a killed run has left in {} stays there: {why}", place.display());
                false
            }
        }
    }
}

/// The Podman that a managed engine is, if nothing is missing that is known before it starts.
fn startable(podman: &Podman) -> Result<&Path, ManagedError> {
    let missing = if cfg!(target_os = "linux") { ManagedError::NoPodman } else { ManagedError::NotLinux };
    let program = podman.program.as_deref().ok_or(missing)?;
    match preflight::preflight(&preflight::HostInfo::read(podman)) {
        Some(hint) => Err(ManagedError::Unusable { hint, reply: PodmanReply("nothing was started".to_owned()) }),
        None => Ok(program),
    }
}

async fn start(config: &EngineConfig, place: &Path, network: Option<&str>) -> Result<Engine, ManagedError> {
    let podman = &config.podman;
    let program = startable(podman)?;
    if let Some(network) = network.filter(|network| !["host", "default"].contains(network)) {
        return Err(ManagedError::Network(network.to_owned()));
    }
    let directory = EngineDir::at(place);
    if directory.socket().as_os_str().len() > engine_dir::MAX_SOCKET_PATH {
        return Err(ManagedError::LongPath(directory.socket()));
    }
    let host = preflight::HostInfo::read(podman);
    let unshare = engine_dir::unshare_command(podman);
    let mut reply = String::new();
    for driver in Driver::ALL {
        directory.make(driver).map_err(|source| ManagedError::Directory { path: place.to_owned(), source })?;
        let service = unshare.iter().cloned().chain(directory.service(program, driver)).collect::<Vec<_>>();
        match try_service(podman, &directory, !unshare.is_empty(), &service).await {
            Ok(RunningService { managed, client, about }) => {
                let place = Address::of_socket(&directory.socket());
                info!(
                    "engine: {about}, our own at {place}; storage {driver}, RUN steps in a chroot on this machine's network"
                );
                let tracker = ResourceTracker::default();
                let managed = Some(managed.into());
                let access = Access::new(config, place.url());
                return Ok(Engine { client, access, place, tracker, driver: &PodmanEngine, about, managed });
            }
            Err(ServiceError::Unusable(why)) => {
                debug!("storage {driver} does not work here: {why}");
                reply = why;
            }
            Err(ServiceError::NotStarted(error)) => return Err(error),
        }
    }
    Err(ManagedError::Unusable { hint: preflight::hint(&host, &reply), reply: PodmanReply(reply) })
}

/// A service that answers, and can build.
struct RunningService {
    managed: Managed,
    client: Docker,
    about: EngineInfo,
}

/// Why there is no service with a storage.
enum ServiceError {
    /// It does not work: its output. Another storage may work.
    Unusable(String),
    /// The supervisor does not start.
    NotStarted(ManagedError),
}

/// Starts a service with this storage.
async fn try_service(
    podman: &Podman,
    directory: &EngineDir,
    in_pid_namespace: bool,
    service: &[OsString],
) -> Result<RunningService, ServiceError> {
    let started = start_supervisor(podman, directory, in_pid_namespace, service);
    let StartedSupervisor { process, mut log } = started.map_err(ServiceError::NotStarted)?;
    let managed = Managed { directory: directory.path().to_owned(), supervisor: Mutex::new(Some(process)) };
    let place = Address::of_socket(&directory.socket());
    let reply = match managed.wait_for_answer(&directory.socket()).await {
        Ok(Probed { client, about, .. }) => match probe::build(&place).await {
            Ok(()) => return Ok(RunningService { managed, client, about }),
            Err(reply) => reply,
        },
        Err(reply) => reply,
    };
    managed.stop().await;
    let mut log_text = String::new();
    // A log that cannot be read adds nothing.
    let _ = log.rewind().and_then(|()| log.read_to_string(&mut log_text));
    Err(ServiceError::Unusable(preflight::relevant_lines(&log_text, &reply)))
}

/// A supervisor that has been started.
struct StartedSupervisor {
    process: Child,
    /// The output of the service.
    log: File,
}

/// Starts the supervisor, which starts the service.
fn start_supervisor(
    podman: &Podman,
    directory: &EngineDir,
    in_pid_namespace: bool,
    service: &[OsString],
) -> Result<StartedSupervisor, ManagedError> {
    let log =
        directory.log().map_err(|source| ManagedError::Directory { path: directory.path().to_owned(), source })?;
    let mut command = Command::new(OWN_PROGRAM);
    command.arg(supervisor::SUPERVISOR).arg("--folder").arg(directory.path());
    command.args(in_pid_namespace.then_some("--apart")).arg("--").args(service);
    // The task's secrets must not reach RUN steps, and we cannot control what these see of the service's environment.
    command.env_clear().envs(directory.environment(podman));
    let ours = |log: &File| log.try_clone().map(Stdio::from).map_err(ManagedError::Supervisor);
    command.stdin(Stdio::piped()).stdout(ours(&log)?).stderr(ours(&log)?);
    // A signal to our process group, as from a terminal, is only for this process: it ends the service itself.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(StartedSupervisor { process: command.spawn().map_err(ManagedError::Supervisor)?, log })
}

impl Managed {
    /// Waits until the service answers.
    async fn wait_for_answer(&self, socket: &Path) -> Result<Probed, String> {
        let start = Instant::now();
        loop {
            if tokio::net::UnixStream::connect(socket).await.is_ok() {
                let probed = find::probe(&Address::of_socket(socket), super::EngineChoice::Managed).await;
                return probed.map_err(|refused| refused.why);
            }
            if self.has_ended() {
                return Err(String::new());
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(format!("it did not come up within {} s", START_TIMEOUT.as_secs()));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether the supervisor has ended.
    pub(super) fn has_ended(&self) -> bool {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        supervisor.as_mut().is_none_or(|supervisor| !matches!(supervisor.try_wait(), Ok(None)))
    }

    /// Ends the service, with everything that it has started and stored. Returns whether nothing is left.
    pub(super) async fn stop(&self) -> bool {
        self.close_pipe();
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < STOP_TIMEOUT {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.check_removed()
    }

    /// Closes the pipe to the supervisor, which makes it end, as it would if this process were killed.
    fn close_pipe(&self) {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        drop(supervisor.as_mut().and_then(|supervisor| supervisor.stdin.take()));
    }

    fn check_removed(&self) -> bool {
        let ended = self.has_ended();
        let gone = ended && !self.directory.exists();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only one of the waiting callers logs this.
        if supervisor.is_some() && !gone {
            let directory = self.directory.display();
            warn!("the managed engine has left something in {directory}: the next start there removes it");
        }
        gone
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        self.close_pipe();
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < STOP_TIMEOUT {
            std::thread::sleep(POLL_INTERVAL);
        }
        self.check_removed();
    }
}
