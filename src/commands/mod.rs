//! The verbs, one file each, and the only place that makes exit codes of errors (contract, section 8).

pub mod context;
pub mod hash;
mod leftovers;
pub mod run;
pub mod stop;

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::context::collect::CollectError;
use crate::context::intake::IntakeFault;
use crate::disk::NoRoom;
use crate::engine::EngineError;
use crate::fetch::FetchError;
use crate::image_archive::ArchiveError;
use crate::names::NameError;
use crate::publish::PublishError;
use crate::report::Report;
use crate::retry::{Another, Failure as _};
use crate::taskcluster::{CallError, CallFault};
use crate::transfer::TransferError;
use stop::Reason;

/// Why a verb did not do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The caller's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no context.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An image directory without a context.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The engine, or the build.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine's export is not the image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A Taskcluster service.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A transfer.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The disk.
    #[error("cannot write {}; is there room on the disk?", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk is too small for what is to come.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Somebody, or the clock, stopped the program.
    #[error("{reason} while {stage}; {}", reason.way_out())]
    Stopped {
        /// Who.
        reason: Reason,
        /// What it was doing.
        stage: &'static str,
    },
    /// A mistake of this program.
    #[error("in image-worker itself: {0}; please report it")]
    Bug(String),
}

impl Failed {
    /// The exit code, by which a task decides whether to try again.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Name(_) => USAGE,
            Self::Fetch(error) => fetch_code(error),
            Self::Collect(error) => collect_code(error),
            Self::Engine(EngineError::Build(_)) => BUILD,
            Self::Engine(
                EngineError::NoneAnswers { .. } | EngineError::Trouble { .. } | EngineError::Unfinished { .. },
            ) => WORLD,
            Self::Archive(_) | Self::Write { .. } | Self::NoRoom(_) => WORLD,
            Self::Publish(error) => match error {
                PublishError::Call(error) => call_code(error),
                PublishError::Transfer(error) => transfer_code(error),
                PublishError::ExpiresAfterTask { .. } => USAGE,
                PublishError::TooLarge { .. } => REFUSED,
                PublishError::NotIndexed { .. } | PublishError::ObjectNotCreated(_) => WORLD,
                PublishError::ReadBack { .. } | PublishError::StorageChanged | PublishError::Folder { .. } => WORLD,
            },
            Self::Call(error) => call_code(error),
            Self::Transfer(error) => transfer_code(error),
            Self::Stopped { reason, .. } => match reason {
                Reason::Interrupted => INTERRUPTED,
                Reason::Terminated => TERMINATED,
                Reason::HungUp => HUNG_UP,
                Reason::Deadline => WORLD,
            },
            Self::Bug(_) => BUG,
        }
    }

    /// The failure in one line, which begins with whose fault it is: the word for the exit code.
    #[must_use]
    pub fn line(&self) -> String {
        let category = match self.exit_code() {
            BUG => "bug",
            USAGE => CONFIGURATION,
            CONTEXT => "context",
            BUILD => "build",
            REFUSED => "refused",
            HUNG_UP | INTERRUPTED | TERMINATED => "stopped",
            // The only code that is left: a failure that nobody has caused.
            _ => "world",
        };
        format!("{category}: {self}")
    }

    /// Tells about the failure: the error line, its causes, and for a build its step's last lines.
    pub fn tell(&self, report: &Report) {
        report.failure(&self.line(), self);
        if let Self::Engine(EngineError::Build(failure)) = self {
            report.details("the step's last lines", &failure.last_lines);
            report.details("the engine says", &[failure.message.as_str()]);
        }
    }
}

/// How an error line begins that is about wrong usage or configuration.
pub const CONFIGURATION: &str = "configuration";

const BUG: u8 = 1;
const USAGE: u8 = 2;
const CONTEXT: u8 = 10;
const BUILD: u8 = 20;
const WORLD: u8 = 30;
const REFUSED: u8 = 31;
const HUNG_UP: u8 = 129;
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

fn call_code(error: &CallError) -> u8 {
    match error.fault {
        CallFault::Server | CallFault::Network | CallFault::Protocol => WORLD,
        CallFault::Gone | CallFault::Refused | CallFault::Conflict | CallFault::Invalid => REFUSED,
    }
}

fn transfer_code(error: &TransferError) -> u8 {
    match error {
        // 408 and 429 have been tried again.
        TransferError::Status { status, .. } if status.is_client_error() && error.another() == Another::IsUseless => {
            REFUSED
        }
        TransferError::Status { .. } | TransferError::Connection { .. } => WORLD,
        TransferError::Stalled { .. } | TransferError::NoLength { .. } => WORLD,
        TransferError::File { .. } | TransferError::Setup(_) => WORLD,
    }
}

fn fetch_code(error: &FetchError) -> u8 {
    match error {
        FetchError::Gone { .. } => CONTEXT,
        FetchError::Call(error) => call_code(error),
        FetchError::Transfer(error) => transfer_code(error),
        FetchError::Intake { error, .. } => match error.kind() {
            IntakeFault::Context => CONTEXT,
            IntakeFault::Source | IntakeFault::Output => WORLD,
            IntakeFault::Configuration => USAGE,
        },
        FetchError::Collect(error) => collect_code(error),
        FetchError::File { .. } | FetchError::NoRoom(_) => WORLD,
        FetchError::NoDeployment(_) => USAGE,
    }
}

fn collect_code(error: &CollectError) -> u8 {
    match error {
        CollectError::Write(_) => WORLD,
        CollectError::NoDockerfile { .. }
        | CollectError::OutsideRepository { .. }
        | CollectError::Dockerfile { .. }
        | CollectError::DanglingLink { .. }
        | CollectError::NotAFile { .. }
        | CollectError::SetId { .. }
        | CollectError::Changed { .. }
        | CollectError::Read { .. } => CONTEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_begins_with_whose_fault_it_is() {
        let stopped = |reason| Failed::Stopped { reason, stage: "building" }.line();
        assert_eq!(stopped(Reason::Terminated), "stopped: SIGTERM while building; start again to go on");
        assert!(stopped(Reason::Deadline).starts_with("world: MAX_RUN_TIME is nearly over while building; "));
        assert_eq!(Failed::Bug("x".to_owned()).line(), "bug: in image-worker itself: x; please report it");
        let none = EngineError::NoneAnswers { places: Vec::new() };
        assert!(Failed::Engine(none).line().starts_with("world: no engine answers"));
        let config = ConfigError::Combination("x".to_owned());
        assert!(Failed::Config(config).line().starts_with("configuration: "));
    }

    #[test]
    fn a_status_that_another_try_can_help_is_the_worlds_fault() {
        let code = |status: u16| {
            let url = "https://example.com/".parse().unwrap();
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            let (method, answer, retry_after) = ("PUT", String::new(), None);
            transfer_code(&TransferError::Status { method, url, status, answer, retry_after })
        };
        assert_eq!([403, 400, 408, 429, 500, 503].map(code), [REFUSED, REFUSED, WORLD, WORLD, WORLD, WORLD]);
    }
}
