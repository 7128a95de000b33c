//! Maps errors to exit codes and to the category words that error lines begin with (the README has the
//! table, "Exit codes"), and to what is printed of them. This is the only match of its kind; `process` prints.

use std::io::{self, ErrorKind};

use crate::config::ConfigError;
use crate::context::collect::CollectError;
use crate::context::for_engine::ForEngineError;
use crate::context::intake::IntakeFault;
use crate::decision::DecisionError;
use crate::decision::graph::GraphError;
use crate::decision::lookup::LookupError;
use crate::engine::{EngineError, Fault, ManagedError, SupervisorError};
use crate::image::ForwardError;
use crate::job::CommandError;
use crate::job::build_script::ScriptError;
use crate::job::doctor::DoctorProblem;
use crate::job::export::StorageProblem;
use crate::job::fetch::FetchError;
use crate::job::loading::LoadError;
use crate::job::parent::ParentError;
use crate::job::publish::PublishError;
use crate::job::push::PushProblem;
use crate::job::rerun_assessment::Verdict;
use crate::job::run_log::FailureWord;
use crate::job::secret_values::SecretProblem;
use crate::job::shutdown::ShutdownReason;
use crate::net::registry::RegistryError;
use crate::net::retry::{self, Retryability};
use crate::net::transfer::TransferError;
use crate::report::{ErrorChain, Failure, command_line};
use crate::repository::TreeError;
use crate::taskcluster::tasks::State;
use crate::taskcluster::{CallError, CallErrorKind};

/// The title of the last lines of a failed step. `run_log` finds them by it.
pub(super) const LAST_LINES: &str = "the step's last lines";

impl CommandError {
    /// The exit code, by which a task decides whether to retry.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Name(_) | Self::NoTask { .. } => USAGE,
            Self::ContextGone { .. } | Self::NoContext { .. } => CONTEXT,
            Self::NoRerun { verdict: Verdict::NewDecisionTask, .. } => CONTEXT,
            Self::NoRerun { .. } => REFUSED,
            // Only its log has the cause; usually it is the build.
            Self::Run { run, .. } => {
                if run.state == State::Failed {
                    BUILD
                } else {
                    INFRA
                }
            }
            Self::DebugImage { failed: error, .. }
            | Self::NoSuchFile { error, .. }
            | Self::OneOfSeveral { error, .. } => error.exit_code(),
            Self::Unfit { first, .. } => first.exit_code(),
            // What every signed call would be answered with.
            Self::Doctor(DoctorProblem::Clock { .. } | DoctorProblem::Expired { .. }) => REFUSED,
            Self::Doctor(DoctorProblem::Late { .. }) => INFRA,
            Self::Fetch(error) => fetch_code(error),
            Self::Parent(ParentError::Gone { .. }) => CONTEXT,
            Self::Parent(ParentError::Load { error, .. }) => load_code(error),
            Self::Parent(ParentError::Call(error)) => call_code(error),
            Self::Collect(error) => collect_code(error),
            Self::Changing(_)
            | Self::Problems { .. }
            | Self::Diagnostics { .. }
            | Self::Compare(_)
            | Self::Layer(_)
            | Self::Packages(_)
            | Self::NoImage { .. } => CONTEXT,
            Self::Load { error, .. } => load_code(error),
            Self::Decision(DecisionError::Tree(error)) => tree_code(error),
            Self::Decision(_) | Self::Document(_) | Self::Read { .. } => USAGE,
            Self::Graph(error) => match error {
                GraphError::Unresolved { .. } => BUG,
                // An error of the template.
                GraphError::Definition { .. } | GraphError::NoPackage { .. } => USAGE,
                GraphError::NoForm { .. } | GraphError::Mixed { .. } | GraphError::Malformed { .. } => USAGE,
                GraphError::Dangling { .. } | GraphError::Template { .. } | GraphError::Outside { .. } => USAGE,
                GraphError::Taken { .. } | GraphError::Cycle(_) => USAGE,
            },
            Self::Tree(error) | Self::Image { error, .. } => tree_code(error),
            Self::Engine(error) => engine_code(error),
            Self::Scopes(_) => REFUSED,
            Self::Secret(
                SecretProblem::Unreadable { .. } | SecretProblem::TooLarge { .. } | SecretProblem::NotGiven { .. },
            ) => USAGE,
            Self::Supervisor(SupervisorError::System { .. } | SupervisorError::Undead) => INFRA,
            Self::NoParent { .. } | Self::ParentElsewhere { .. } | Self::NotIndexed { .. } => USAGE,
            Self::Script(ScriptError::Run { .. } | ScriptError::Failed { .. } | ScriptError::NoImage { .. }) => BUILD,
            Self::Registry(error) => registry_code(error),
            Self::Push(PushProblem::NoVersion { .. } | PushProblem::NotBuilt { .. }) => USAGE,
            Self::Push(PushProblem::Taken { .. }) => REFUSED,
            Self::Push(PushProblem::NotThere { .. }) => INFRA,
            Self::Storage(StorageProblem::Unreadable(_)) => USAGE,
            Self::Storage(StorageProblem::Damaged(_)) => INFRA,
            Self::Write { source, .. } => write_code(source),
            Self::Archive(_) | Self::InsufficientSpace(_) | Self::Console(_) => INFRA,
            Self::Publish(error) => publish_code(error),
            Self::Lookup(error) => lookup_code(error),
            Self::Call(error) => call_code(error),
            Self::Transfer(error) => transfer_code(error),
            Self::Stopped { reason, .. } => match reason {
                ShutdownReason::Interrupted => INTERRUPTED,
                ShutdownReason::Terminated => TERMINATED,
                ShutdownReason::HungUp => HUNG_UP,
                ShutdownReason::Deadline => TOO_SLOW,
            },
            Self::Bug(_) => BUG,
        }
    }

    /// Whose fault it is, by the exit code.
    fn category(&self) -> FailureWord {
        match self.exit_code() {
            BUG => FailureWord::Bug,
            USAGE => FailureWord::Configuration,
            CONTEXT => FailureWord::Context,
            BUILD => FailureWord::Build,
            REFUSED => FailureWord::Refused,
            TOO_SLOW | HUNG_UP | INTERRUPTED | TERMINATED => FailureWord::Stopped,
            // The only code left: a failure without a known cause.
            _ => FailureWord::Infra,
        }
    }

    /// The failure in one line. The line begins with the category word of the exit code.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}: {self}", self.category())
    }

    /// The failure for those who read it: with its causes, and the lines that belong to it, of a build those of its step.
    #[must_use]
    pub fn failure(&self) -> Failure {
        if let Self::DebugImage { failed, kept } = self {
            return failed
                .failure()
                .with_details("a shell after the last good step", &[command_line(&kept.open)])
                .with_details("afterwards, to remove it", &[command_line(&kept.remove)]);
        }
        let failure = Failure::of(&self.category().to_string(), self.exit_code(), self);
        match if let Self::OneOfSeveral { error, .. } = self { error } else { self } {
            Self::Config(ConfigError::Several(problems)) => {
                let lines: Vec<_> = problems.iter().map(|problem| ErrorChain(problem).to_string()).collect();
                failure.with_details("what each setting is for, and what is wrong with it", &lines)
            }
            Self::Scopes(missing) => {
                failure.with_details("missing scopes, and the calls that need them", &missing.lines())
            }
            Self::Engine(EngineError::Build(build)) => failure
                .with_details(LAST_LINES, &build.last_lines)
                .with_details("the engine says", &[build.message.as_str()]),
            _ => failure,
        }
    }
}

/// A command line that cannot be parsed. It has no error of ours.
pub(super) fn usage(message: &str, hint: &str) -> (Failure, u8) {
    (Failure::new(&FailureWord::Configuration.to_string(), USAGE, message, hint), USAGE)
}

const BUG: u8 = 1;
const USAGE: u8 = 2;
const CONTEXT: u8 = 10;
const BUILD: u8 = 20;
const INFRA: u8 = 30;
const REFUSED: u8 = 31;
/// The task's definition does not retry it: another run would take as long.
const TOO_SLOW: u8 = 32;
const HUNG_UP: u8 = 129;
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// A path that cannot be written is the caller's mistake; a full or failing disk is not.
fn write_code(error: &io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => USAGE,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => USAGE,
        _ => INFRA,
    }
}

fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::Build(failure) => match failure.fault {
            // Another run would find the same name and refuse it too.
            Fault::Dockerfile | Fault::Missing | Fault::Denied => BUILD,
            Fault::Registry | Fault::Engine | Fault::Transient => INFRA,
        },
        EngineError::Architecture { .. } => BUILD,
        EngineError::Forbidden { .. } | EngineError::Untrusted { .. } => REFUSED,
        EngineError::Certificates(_) => USAGE,
        EngineError::NoLayers => BUILD,
        EngineError::Refused(_) => USAGE,
        EngineError::ArchiveRefused(_) => CONTEXT,
        EngineError::NoneAnswers { .. } | EngineError::Request { .. } | EngineError::Unfinished { .. } => INFRA,
        EngineError::Managed(
            ManagedError::NoPodman | ManagedError::NotLinux | ManagedError::Network(_) | ManagedError::LongPath(_),
        ) => USAGE,
        EngineError::Managed(
            ManagedError::Directory { .. } | ManagedError::Supervisor(_) | ManagedError::Unusable { .. },
        ) => INFRA,
        EngineError::KeepsNothing(_) => USAGE,
    }
}

/// A wrong image counts like a wrong context: another run gets the same bytes.
fn load_code(error: &LoadError) -> u8 {
    match error {
        LoadError::Archive(ForwardError::Write(_)) => INFRA,
        LoadError::Archive(ForwardError::Read(_) | ForwardError::Digest { .. } | ForwardError::Content(_)) => CONTEXT,
        LoadError::Transfer(error) => transfer_code(error),
        LoadError::Engine(error) => engine_code(error),
        LoadError::OtherImage { .. } | LoadError::InsufficientSpace(_) | LoadError::File { .. } => INFRA,
        LoadError::Write { source, .. } => write_code(source),
    }
}

fn registry_code(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Name { .. } | RegistryError::Unreadable { .. } => USAGE,
        RegistryError::Credentials { .. } | RegistryError::IdentityToken { .. } => USAGE,
        RegistryError::Unauthorized { .. } | RegistryError::Answer { .. } if error.is_refusal() => REFUSED,
        RegistryError::Unauthorized { .. } | RegistryError::Answer { .. } => INFRA,
    }
}

fn call_code(error: &CallError) -> u8 {
    match error.kind {
        CallErrorKind::Server | CallErrorKind::Network | CallErrorKind::Protocol => INFRA,
        CallErrorKind::Gone | CallErrorKind::Refused | CallErrorKind::Conflict | CallErrorKind::Invalid => REFUSED,
    }
}

fn lookup_code(error: &LookupError) -> u8 {
    match error {
        LookupError::Name(_) => USAGE,
        LookupError::Call(error) => call_code(error),
        LookupError::Storage { .. } => INFRA,
    }
}

fn transfer_code(error: &TransferError) -> u8 {
    match error {
        // 408 and 429 were retried before.
        TransferError::Status { status, .. }
            if status.is_client_error() && retry::Failure::retryability(error) == Retryability::Permanent =>
        {
            REFUSED
        }
        TransferError::Status { .. } | TransferError::Connection { .. } | TransferError::Cut { .. } => INFRA,
        TransferError::Stalled { .. } | TransferError::NoLength { .. } => INFRA,
        TransferError::File { .. } | TransferError::Write { .. } => INFRA,
        TransferError::Packed { .. } | TransferError::Setup(_) => INFRA,
    }
}

fn publish_code(error: &PublishError) -> u8 {
    match error {
        PublishError::Call(error) => call_code(error),
        PublishError::Lookup(error) => lookup_code(error),
        PublishError::Transfer(error) => transfer_code(error),
        PublishError::ExpiresAfterTask { .. } | PublishError::Owner { .. } => USAGE,
        PublishError::InUse { .. } | PublishError::NoDirectory { .. } => USAGE,
        PublishError::TooLarge { .. } | PublishError::Over { .. } => REFUSED,
        // Retries would end long before the index recovers.
        PublishError::KeptByExpired { .. } => REFUSED,
        PublishError::NotIndexed { .. } => INFRA,
        PublishError::ObjectNotCreated(_) | PublishError::ObjectLeft { .. } => INFRA,
        PublishError::ReadBack { .. } | PublishError::StorageChanged => INFRA,
        PublishError::Directory { .. } | PublishError::Archive(_) => INFRA,
    }
}

fn fetch_code(error: &FetchError) -> u8 {
    match error {
        FetchError::Gone { .. } => CONTEXT,
        FetchError::Call(error) => call_code(error),
        FetchError::Transfer(error) => transfer_code(error),
        FetchError::Intake { error, .. } => match error.kind() {
            IntakeFault::Context => CONTEXT,
            IntakeFault::Source | IntakeFault::Output => INFRA,
            IntakeFault::Configuration => USAGE,
        },
        FetchError::Collect(error) => collect_code(error),
        FetchError::ForEngine(ForEngineError::Ignore { .. } | ForEngineError::HardLink { .. }) => CONTEXT,
        FetchError::ForEngine(ForEngineError::From(_)) => BUILD,
        FetchError::ForEngine(ForEngineError::Read(_)) => INFRA,
        FetchError::File { .. } | FetchError::InsufficientSpace(_) => INFRA,
        FetchError::NoDeployment(_) => USAGE,
    }
}

fn collect_code(error: &CollectError) -> u8 {
    match error {
        CollectError::Write(_) => INFRA,
        CollectError::RunTask { .. } | CollectError::NoRoot { .. } => USAGE,
        CollectError::NoDirectory { .. } | CollectError::NoDockerfile { .. } => USAGE,
        CollectError::OutsideRepository { .. }
        | CollectError::Dockerfile { .. }
        | CollectError::DanglingLink { .. }
        | CollectError::NotAFile { .. }
        | CollectError::SetId { .. }
        | CollectError::Changed { .. }
        | CollectError::Refused { .. }
        | CollectError::Read { .. } => CONTEXT,
    }
}

fn tree_code(error: &TreeError) -> u8 {
    match error {
        TreeError::Context(error) => collect_code(error),
        TreeError::OfChild { error, .. } => tree_code(error),
        TreeError::Revision(_) => USAGE,
        TreeError::NoImagesRoot { .. } | TreeError::TwoImagesRoots { .. } | TreeError::Read { .. } => USAGE,
        TreeError::Yaml(_) | TreeError::Name { .. } | TreeError::KindShape { .. } | TreeError::Kind { .. } => USAGE,
        TreeError::Unknown { .. } | TreeError::NoDockerfile { .. } | TreeError::NotInKind { .. } => USAGE,
        TreeError::Elsewhere { .. } | TreeError::SeveralImages { .. } | TreeError::NotOfTree { .. } => USAGE,
        TreeError::Exists { .. } => USAGE,
        TreeError::Parent { .. } | TreeError::Cycle { .. } | TreeError::Registry { .. } => USAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NamedBy;

    #[test]
    fn a_failure_begins_with_whose_fault_it_is() {
        let stopped = |reason| CommandError::Stopped { reason, stage: "building" }.line();
        assert_eq!(stopped(ShutdownReason::Terminated), "stopped: SIGTERM while building; run the command again");
        assert!(stopped(ShutdownReason::Deadline).starts_with("stopped: MAX_RUN_TIME is nearly over while building; "));
        assert_eq!(CommandError::Stopped { reason: ShutdownReason::Deadline, stage: "building" }.exit_code(), 32);
        assert_eq!(CommandError::Bug("x".to_owned()).line(), "bug: in image-worker itself: x; please report it");
        let none = EngineError::NoneAnswers { places: Vec::new(), named_by: NamedBy::Usual };
        assert!(CommandError::Engine(none).line().starts_with("infra: no engine answers"));
        let config = ConfigError::Combination("x".to_owned());
        assert!(CommandError::Config(config).line().starts_with("configuration: "));
    }

    #[test]
    fn a_status_that_another_try_can_help_is_infrastructures_fault() {
        let code = |status: u16| {
            let url = "https://example.com/".parse().unwrap();
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            let (method, answer, retry_after) = ("PUT", String::new(), None);
            transfer_code(&TransferError::Status { method, url, status, answer, retry_after })
        };
        assert_eq!([403, 400, 408, 429, 500, 503].map(code), [REFUSED, REFUSED, INFRA, INFRA, INFRA, INFRA]);
    }
}
