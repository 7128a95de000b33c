//! The engine that the program starts by itself: a private Podman service, for places without an engine and without
//! privileges. It ends with the job; keeping and ending it is a process of its own, [`supervisor`], which outlives us.

mod folder;
mod libpod;
mod preflight;
mod probe;
mod supervisor;

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
use crate::report::ErrorChain;
use folder::{Driver, Folder};

pub(super) use libpod::{BUILD, final_image_id};
pub use supervisor::{SUPERVISOR, Supervisor, SupervisorError, supervise};

/// The program itself. A path that needs no look-up, and is right after an update too.
const OURSELVES: &str = "/proc/self/exe";

/// Podman is up in 0.2 s; its first start on a slow disk has been seen to take some seconds.
const STARTING_MAY_TAKE: Duration = Duration::from_mins(1);

/// What the supervisor may take altogether: 10 s for Podman to end by itself, 10 s for the rest, and removing gigabytes of
/// files.
const ENDING_MAY_TAKE: Duration = Duration::from_mins(2);

/// How often we look whether something that has no event is there.
const LOOKING: Duration = Duration::from_millis(20);

/// Why there is no engine of our own.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// Podman is not installed.
    #[error(
        "--engine managed starts Podman, and there is no `podman` on PATH: install it (Debian: podman, crun, uidmap), or use the worker image"
    )]
    NoPodman,
    /// A network that chroot isolation cannot give.
    #[error(
        "RUN steps of the managed engine have this machine's network, so DOCKER_BUILD_NETWORK={0} cannot be kept: leave it out, or set it to host"
    )]
    Network(String),
    /// The service's folder cannot be made.
    #[error("cannot make the managed engine's folder {path}: choose another with --work-dir")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A socket's path has at most 107 bytes.
    #[error(
        "the path of the managed engine's socket, {0}, is longer than the 107 bytes that systems take: choose a shorter --work-dir or --output"
    )]
    LongPath(PathBuf),
    /// The program that keeps the service does not start.
    #[error("cannot start the managed engine's supervisor; look at the limits of processes and memory")]
    Supervisor(#[source] std::io::Error),
    /// The service does not come up, or cannot do what a build needs.
    #[error("the managed engine does not work here: {hint}")]
    Unusable {
        /// What is missing, and how to have it.
        hint: String,
        /// What Podman said.
        #[source]
        said: PodmanReply,
    },
}

/// What Podman said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PodmanReply(String);

/// A service of our own. Dropped, it ends, with all that it has started and stored.
#[derive(Debug)]
pub(super) struct Managed {
    folder: PathBuf,
    supervisor: Mutex<Option<Child>>,
}

impl Engine {
    /// The engine of a job: one that answers, or, where none does, or where this is asked for, one of our own in the folder
    /// `place`, for RUN steps with this network.
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

    /// Removes the engine that a killed run has left in the folder `place`. Whether it is gone.
    pub async fn remove_managed(config: &EngineConfig, place: &Path) -> bool {
        let folder = Folder::at(place);
        match begin(&config.podman, &folder, false, &[]) {
            Ok((supervisor, _)) => {
                Managed { folder: folder.path().to_owned(), supervisor: Mutex::new(Some(supervisor)) }.stop().await
            }
            Err(error) => {
                let why = ErrorChain(&error).innermost().to_string();
                warn!("the engine that a killed run has left in {} stays there: {why}", place.display());
                false
            }
        }
    }
}

async fn start(config: &EngineConfig, place: &Path, network: Option<&str>) -> Result<Engine, ManagedError> {
    let podman = &config.podman;
    let Some(program) = &podman.program else { return Err(ManagedError::NoPodman) };
    if let Some(network) = network.filter(|network| !["host", "default"].contains(network)) {
        return Err(ManagedError::Network(network.to_owned()));
    }
    let folder = Folder::at(place);
    if folder.socket().as_os_str().len() > folder::LONGEST_SOCKET {
        return Err(ManagedError::LongPath(folder.socket()));
    }
    let host = preflight::HostInfo::look(podman);
    if let Some(hint) = preflight::preflight(&host) {
        return Err(ManagedError::Unusable { hint, said: PodmanReply("nothing was started".to_owned()) });
    }
    let unshare = folder::unshare_command(podman);
    let mut said = String::new();
    for driver in Driver::ALL {
        folder.make(driver).map_err(|source| ManagedError::Folder { path: place.to_owned(), source })?;
        let service = unshare.iter().cloned().chain(folder.service(program, driver)).collect::<Vec<_>>();
        match try_service(podman, &folder, !unshare.is_empty(), &service).await? {
            Ok((managed, client, about)) => {
                let place = Address::of_socket(&folder.socket());
                info!(
                    "engine: {about}, our own at {place}; storage {driver}, RUN steps in a chroot on this machine's network"
                );
                let tracker = ResourceTracker::default();
                let managed = Some(managed.into());
                let access = Access::new(config, place.url());
                return Ok(Engine { client, access, place, tracker, driver: &PodmanEngine, about, managed });
            }
            Err(why) => {
                debug!("storage {driver} does not work here: {why}");
                said = why;
            }
        }
    }
    Err(ManagedError::Unusable { hint: preflight::hint(&host, &said), said: PodmanReply(said) })
}

/// A service with this storage that answers and can build; or what it said.
async fn try_service(
    podman: &Podman,
    folder: &Folder,
    in_pid_namespace: bool,
    service: &[OsString],
) -> Result<Result<(Managed, Docker, EngineInfo), String>, ManagedError> {
    let (supervisor, mut log) = begin(podman, folder, in_pid_namespace, service)?;
    let managed = Managed { folder: folder.path().to_owned(), supervisor: Mutex::new(Some(supervisor)) };
    let place = Address::of_socket(&folder.socket());
    let works = match managed.answers(&folder.socket()).await {
        Ok((client, version)) => match probe::build(&place).await {
            Ok(()) => return Ok(Ok((managed, client, version))),
            Err(said) => Err(said),
        },
        Err(said) => Err(said),
    };
    managed.stop().await;
    let mut told = String::new();
    // Who has said nothing readable has said nothing.
    let _ = log.rewind().and_then(|()| log.read_to_string(&mut told));
    Ok(works.map_err(|said| preflight::relevant_lines(&told, &said)))
}

/// Starts the supervisor, which starts the service; gives the service's log too.
fn begin(
    podman: &Podman,
    folder: &Folder,
    in_pid_namespace: bool,
    service: &[OsString],
) -> Result<(Child, File), ManagedError> {
    let log = folder.log().map_err(|source| ManagedError::Folder { path: folder.path().to_owned(), source })?;
    let mut command = Command::new(OURSELVES);
    command.arg(supervisor::SUPERVISOR).arg("--folder").arg(folder.path());
    command.args(in_pid_namespace.then_some("--apart")).arg("--").args(service);
    // Nothing of a task's secrets: what RUN steps can see is not ours to choose.
    command.env_clear().envs(folder.environment(podman));
    let ours = |log: &File| log.try_clone().map(Stdio::from).map_err(ManagedError::Supervisor);
    command.stdin(Stdio::piped()).stdout(ours(&log)?).stderr(ours(&log)?);
    // A signal to our group, as from a terminal, is for us to hear: the service ends when we say so.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok((command.spawn().map_err(ManagedError::Supervisor)?, log))
}

impl Managed {
    /// Waits until the service answers.
    async fn answers(&self, socket: &Path) -> Result<(Docker, EngineInfo), String> {
        let begun = Instant::now();
        loop {
            if tokio::net::UnixStream::connect(socket).await.is_ok() {
                let probed = find::probe(&Address::of_socket(socket), super::EngineChoice::Managed).await;
                let Probed { client, about, .. } = probed.map_err(|refused| refused.why)?;
                return Ok((client, about));
            }
            if self.has_ended() {
                return Err(String::new());
            }
            if begun.elapsed() > STARTING_MAY_TAKE {
                return Err(format!("it did not come up within {} s", STARTING_MAY_TAKE.as_secs()));
            }
            tokio::time::sleep(LOOKING).await;
        }
    }

    /// Whether nobody keeps the service any more.
    pub(super) fn has_ended(&self) -> bool {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        supervisor.as_mut().is_none_or(|supervisor| !matches!(supervisor.try_wait(), Ok(None)))
    }

    /// Tells the supervisor to end the service, and all that it has started and stored. Whether nothing is left.
    pub(super) async fn stop(&self) -> bool {
        self.let_go();
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < ENDING_MAY_TAKE {
            tokio::time::sleep(LOOKING).await;
        }
        self.has_gone()
    }

    /// The supervisor ends when the pipe to it does, as it would if we were killed.
    fn let_go(&self) {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        drop(supervisor.as_mut().and_then(|supervisor| supervisor.stdin.take()));
    }

    fn has_gone(&self) -> bool {
        let ended = self.has_ended();
        let gone = ended && !self.folder.exists();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Told once, by whoever has waited.
        if supervisor.is_some() && !gone {
            let folder = self.folder.display();
            warn!("the managed engine has left something in {folder}: the next start there removes it");
        }
        gone
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        self.let_go();
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < ENDING_MAY_TAKE {
            std::thread::sleep(LOOKING);
        }
        self.has_gone();
    }
}
