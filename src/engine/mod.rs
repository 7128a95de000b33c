//! The engine: what answers the Docker Engine API. Finding it, loading, building, exporting, and leaving nothing behind;
//! bollard's types stop at this module's boundary, and so do the differences between engines.

mod address;
mod bases;
mod build;
pub mod build_log;
mod build_output;
mod builder_choice;
mod buildkit;
mod clean;
mod cleanup_state;
mod config;
mod connect;
mod connection;
mod container;
mod containerd;
mod debug_image;
mod descent;
mod endpoint;
mod engine_info;
mod export;
mod failure;
mod fault;
mod held;
mod inspect;
mod kin;
mod load;
mod local;
mod made_by;
mod managed;
mod messages;
mod options;
mod output;
mod platform;
mod pull_limit;
mod pulling;
mod push;
mod records;
mod secrets;
mod sending;
mod steps;
mod storage;
mod target_arch;
mod tracker;
mod witness;

use std::path::PathBuf;
use std::sync::Arc;

use bollard::Docker;

use address::Address;
pub use address::CertificateError;
pub use bases::{Base, Bases, shared_layers};
pub use build::{BuildOptions, Built};
pub use build_output::read_answer;
pub use builder_choice::BuilderChoice;
pub use clean::Waiting;
pub use config::{BuildProxies, EngineChoice, EngineConfig, Podman};
pub use container::StoppedContainer;
pub use debug_image::DebugImage;
pub use descent::{Build, BuiltStage, Candidate, Descent, Root};
pub(crate) use endpoint::engine_url;
pub use endpoint::{DOCKER_SOCKET, EngineAddress, NamedBy, TlsFiles};
pub use engine_info::EngineInfo;
pub use failure::BuildFailure;
pub use fault::Fault;
pub use local::{LocalBuild, LocalImage};
use managed::Managed;
pub use managed::{ManagedError, SUPERVISOR, Supervisor, SupervisorError, supervise};
pub use options::{BuildPlan, CacheFrom};
pub use output::{Step, Steps};
use pulling::Access;
pub use secrets::{BuildSecrets, SecretSource, SecretSources};
pub use steps::StepConfigs;
pub use storage::{StorageError, Stored, StoredBlobs, StoredImage, StoredLayer};
pub use target_arch::TargetArch;
use tracker::ResourceTracker;

/// What the engine, or what it was asked to build, did wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine was found.
    #[error("no engine answers; tried {}{named_by}; {}", list(.places), .named_by.hint())]
    NoneAnswers {
        /// Each place and what it said.
        places: Vec<(String, String)>,
        /// Who names the place, where it is one.
        named_by: NamedBy,
    },
    /// The certificates for TLS with the engine.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// One end does not trust the other, or the other end speaks no TLS.
    #[error(
        "no TLS with the engine at {place}{named_by}, and no context was sent: {why}; check the address, and ca.pem, cert.pem and key.pem in {}", folder.display()
    )]
    Untrusted {
        /// Where the engine should be.
        place: String,
        /// Who says so.
        named_by: NamedBy,
        /// What is wrong.
        why: String,
        /// Where the certificates are.
        folder: PathBuf,
    },
    /// There is an engine, and we may not use it.
    #[error(
        "no permission for {socket}: join the group {group}; in a task, payload.osGroups: [{group}] and the scope generic-worker:os-group:<provisionerId>/<workerType>/{group}"
    )]
    Forbidden {
        /// The engine's socket.
        socket: String,
        /// The group that may use it.
        group: String,
    },
    /// The engine did not do what it can do: it is gone, in trouble, or out of space.
    #[error("the engine failed while {doing}")]
    Request {
        /// What it was doing.
        doing: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine ended its answer without saying that it was done.
    #[error("the engine stopped answering while {doing}")]
    Unfinished {
        /// What it was doing.
        doing: String,
    },
    /// An image archive that the engine does not take.
    #[error("the engine refuses the image: {0}; `image-worker check` says who loads it")]
    ArchiveRefused(String),
    /// This engine cannot do what is asked for.
    #[error("{0}")]
    Refused(String),
    /// The image did not build; the failure says whose fault that is.
    #[error("{}", .0.summary())]
    Build(Box<BuildFailure>),
    /// The image is for another architecture than it should be.
    #[error(
        "{what} is for {found}, and must be for {wanted} (TARGET_ARCH, or `arch` in kind.yml): an image must be for the architecture of what it is built FROM"
    )]
    Architecture {
        /// The image, or its parent.
        what: &'static str,
        /// What was asked for.
        wanted: TargetArch,
        /// What came out.
        found: String,
    },
    /// An image that is nothing but configuration, which Docker makes and does not export.
    #[error(
        "the image has no layers, and such an image cannot be exported; add an instruction that makes a file, like COPY"
    )]
    NoLayers,
    /// No engine of our own can be had, or not such a one.
    #[error(transparent)]
    Managed(#[from] ManagedError),
    /// An engine of our own is gone before anybody can look into it.
    #[error("a managed engine keeps no image for {0}: name another with --engine")]
    KeepsNothing(&'static str),
}

fn list(places: &[(String, String)]) -> String {
    let said: Vec<_> = places.iter().map(|(place, said)| format!("{place} ({said})")).collect();
    said.join(", ")
}

/// The beginning of a text, so that what stands behind it in an error line has room too; the whole is told below.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A message without its middle, where it is longer: its end has the cause.
fn cut_middle(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - (most - most / 3)).collect();
    format!("{}{end}", cut(text, most / 3))
}

/// The kinds of engine that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Docker Engine.
    Docker,
    /// Podman's service.
    Podman,
}

/// An engine that answers.
#[derive(Clone)]
pub struct Engine {
    client: Docker,
    /// Where it answers.
    place: Address,
    /// What builds are given.
    access: Access,
    tracker: ResourceTracker,
    kind: Kind,
    about: EngineInfo,
    /// The service, where it is our own.
    managed: Option<Arc<Managed>>,
}
