//! The engine, a program with the Docker Engine API: finds it, loads, builds, exports, and removes what a run has left in it.
//! bollard's types and the differences between engines stay inside this module.

mod build;
pub mod build_log;
mod buildkit;
mod cleanup;
mod config;
mod connection;
mod container;
mod containerd;
mod driver;
mod error;
mod export;
mod handle;
mod inspect;
mod load;
mod managed;
mod push;
mod sending;
mod storage;
mod target_arch;

pub use build::bases::{Base, Bases, shared_layers};
pub use build::build_output::read_answer;
pub use build::builder_choice::BuilderChoice;
pub use build::debug_image::DebugImage;
pub use build::failure::BuildFailure;
pub use build::fault::Fault;
pub use build::local_build::{LocalBuild, LocalImage};
pub use build::options::{BuildPlan, CacheFrom};
pub use build::secrets::{BuildSecrets, SecretSource, SecretSources};
pub use build::step_lines::{Step, Steps};
pub use build::steps::StepConfigs;
pub use build::task_build::{BuildOptions, Built};
pub use cleanup::after_kill::Waiting;
pub use cleanup::descent::{Build, BuiltStage, Candidate, Descent, Root};
pub use config::{BuildProxies, EngineChoice, EngineConfig, Podman};
pub use connection::address::CertificateError;
pub(crate) use connection::endpoint::engine_url;
pub use connection::endpoint::{DOCKER_SOCKET, EngineAddress, NamedBy, TlsFiles};
pub use connection::engine_info::EngineInfo;
pub use container::StoppedContainer;
pub use error::EngineError;
pub use handle::Engine;
pub use managed::{ManagedError, SUPERVISOR, Supervisor, SupervisorError, supervise};
pub use storage::{StorageError, Stored, StoredBlobs, StoredImage, StoredLayer};
pub use target_arch::TargetArch;
