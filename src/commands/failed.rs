//! Why a verb did not do what it is for, and the only place that makes exit codes of it (contract, section 8). What an
//! error says is its own room's word.

use std::io;
use std::path::PathBuf;

use super::prospect::Verdict;
use super::stop::Reason;
use super::whereabouts::Whereabouts;
use crate::config::ConfigError;
use crate::context::collect::CollectError;
use crate::context::intake::IntakeFault;
use crate::decision::DecisionError;
use crate::disk::NoRoom;
use crate::document::DocumentError;
use crate::engine::{EngineError, Kept};
use crate::fetch::FetchError;
use crate::graph::GraphError;
use crate::image_archive::{ArchiveError, RelayError};
use crate::loading::LoadError;
use crate::lookup::LookupError;
use crate::names::{HttpUrl, NameError, TaskId};
use crate::parent::ParentError;
use crate::publish::PublishError;
use crate::report::Report;
use crate::retry::{Another, Failure as _};
use crate::taskcluster::tasks::{Run, State};
use crate::taskcluster::{CallError, CallFault};
use crate::transfer::TransferError;
use crate::tree::TreeError;

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
    /// There is no parent.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// An image directory without a context.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// What a decision's image tasks should say.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// A text that is neither JSON nor YAML.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A task graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An image that a task of a graph names.
    #[error("task {task}, {place}: {error}")]
    Image {
        /// The task.
        task: String,
        /// The place in its definition.
        place: String,
        /// What is wrong with the image. Told in the same line; its causes follow.
        #[source]
        error: TreeError,
    },
    /// An image directory that somebody works in.
    #[error("{} changed while its image was decided about; stop what writes to it, and decide again", .0.display())]
    Changing(PathBuf),
    /// A file that cannot be read.
    #[error("cannot read {}; it must be there and readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A repository's images.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The engine, or the build.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An image that is nowhere.
    #[error("{0}")]
    NoImage(String),
    /// An image archive on this machine.
    #[error("{error} ({})", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why it is not loaded. Told in the same line; its causes follow.
        #[source]
        error: LoadError,
    },
    /// What was looked at is not as it should be.
    #[error("{what}")]
    Findings {
        /// In one line.
        what: String,
        /// All that was found, for stdout.
        answer: String,
    },
    /// The engine's export is not the image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Looking for images.
    #[error(transparent)]
    Lookup(#[from] LookupError),
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
    /// A task that nobody knows.
    #[error(
        "{deployment} knows no task {task}: is it the right id, and the right TASKCLUSTER_ROOT_URL? Expired tasks are forgotten"
    )]
    NoTask {
        /// The task.
        task: TaskId,
        /// Where it was looked for.
        deployment: HttpUrl,
    },
    /// The context of a task that is to be done again.
    #[error(
        "the task's context is gone: {context} {whereabouts}; check out {}, and give the image directory with --context DIR", tree.as_ref().map_or("the tree that it was made from".to_owned(), ToString::to_string)
    )]
    ContextGone {
        /// The artifact and its task.
        context: String,
        /// What is known of it.
        whereabouts: Whereabouts,
        /// The tree that the task says it comes from.
        tree: Option<HttpUrl>,
        /// How that came out.
        #[source]
        source: FetchError,
    },
    /// A task that a rerun does not help.
    #[error("task {task} is not to be rerun: {why}")]
    NoRerun {
        /// The task.
        task: TaskId,
        /// What is right instead.
        verdict: Verdict,
        /// Why.
        why: String,
    },
    /// A run that was followed, and did not complete.
    #[error(
        "run {} of task {task} ended: {}; why stands in its log: {log}", run.run_id, run.outcome()
    )]
    Run {
        /// The task.
        task: TaskId,
        /// The run.
        run: Box<Run>,
        /// Where its log is.
        log: String,
    },
    /// A build that failed, and left something to look at.
    #[error("{failed}")]
    Kept {
        /// The failure.
        failed: Box<Failed>,
        /// The last good step's image.
        kept: Box<Kept>,
    },
    /// Somebody, or the clock, stopped the program.
    #[error("{reason} while {stage}; {}", reason.way_out())]
    Stopped {
        /// Who.
        reason: Reason,
        /// What it was doing.
        stage: &'static str,
    },
    /// A mistake of this program.
    #[error("a bug in image-worker: {0}; please report it")]
    Bug(String),
}

impl Failed {
    /// The exit code, by which a task decides whether to try again.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Name(_) | Self::NoTask { .. } => USAGE,
            Self::ContextGone { .. } => CONTEXT,
            Self::NoRerun { verdict: Verdict::NewDecisionTask, .. } => CONTEXT,
            Self::NoRerun { .. } => REFUSED,
            // What made it fail stands in its log only; mostly it is the build.
            Self::Run { run, .. } => {
                if run.state == State::Failed {
                    BUILD
                } else {
                    WORLD
                }
            }
            Self::Kept { failed, .. } => failed.exit_code(),
            Self::Fetch(error) => fetch_code(error),
            Self::Parent(ParentError::Gone { .. }) => CONTEXT,
            Self::Parent(ParentError::Load { error, .. }) => load_code(error),
            Self::Parent(ParentError::Call(error)) => call_code(error),
            Self::Collect(error) => collect_code(error),
            Self::Changing(_) | Self::Findings { .. } | Self::NoImage(_) => CONTEXT,
            Self::Load { error, .. } => load_code(error),
            Self::Decision(_) | Self::Document(_) | Self::Read { .. } => USAGE,
            Self::Graph(error) => match error {
                GraphError::Unresolved { .. } | GraphError::Definition { .. } => BUG,
                GraphError::NoForm { .. } | GraphError::Mixed { .. } | GraphError::Shape { .. } => USAGE,
                GraphError::Dangling { .. } | GraphError::Template { .. } | GraphError::Outside { .. } => USAGE,
                GraphError::Taken { .. } | GraphError::Cycle(_) => USAGE,
            },
            Self::Tree(error) | Self::Image { error, .. } => tree_code(error),
            Self::Engine(error) => engine_code(error),
            Self::Archive(_) | Self::Write { .. } | Self::NoRoom(_) => WORLD,
            Self::Publish(error) => match error {
                PublishError::Call(error) => call_code(error),
                PublishError::Lookup(error) => lookup_code(error),
                PublishError::Transfer(error) => transfer_code(error),
                PublishError::ExpiresAfterTask { .. } | PublishError::Owner { .. } => USAGE,
                PublishError::TooLarge { .. } => REFUSED,
                PublishError::NotIndexed { .. } | PublishError::ObjectNotCreated(_) => WORLD,
                PublishError::ReadBack { .. } | PublishError::StorageChanged | PublishError::Folder { .. } => WORLD,
            },
            Self::Lookup(error) => lookup_code(error),
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

    /// Tells about the failure: the error line, its causes, and for a build its step's last lines.
    pub fn tell(&self, report: &Report) {
        if let Self::Kept { failed, kept } = self {
            failed.tell(report);
            report.details("a shell after the last good step", &[command_line(&kept.open)]);
            report.details("afterwards, to remove it", &[command_line(&kept.remove)]);
            return;
        }
        report.failure(&self.to_string(), self);
        if let Self::Engine(EngineError::Build(failure)) = self {
            report.details("the step's last lines", &failure.last_lines);
            report.details("the engine says", &[failure.message.as_str()]);
        }
    }
}

/// A command as it is typed.
fn command_line(words: &[String]) -> String {
    let is_plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@".contains(&b));
    let quoted = words
        .iter()
        .map(|word| if is_plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) });
    quoted.collect::<Vec<_>>().join(" ")
}

const BUG: u8 = 1;
const USAGE: u8 = 2;
const CONTEXT: u8 = 10;
const BUILD: u8 = 20;
const WORLD: u8 = 30;
const REFUSED: u8 = 31;
const HUNG_UP: u8 = 129;
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::Build(_) => BUILD,
        EngineError::NoneAnswers { .. } | EngineError::Trouble { .. } | EngineError::Unfinished { .. } => WORLD,
    }
}

/// An image that is not what it should be counts like a context that is not: another run gets the same bytes.
fn load_code(error: &LoadError) -> u8 {
    match error {
        LoadError::Archive(RelayError::Write(_)) => WORLD,
        LoadError::Archive(RelayError::Read(_) | RelayError::Digest { .. } | RelayError::Content(_)) => CONTEXT,
        LoadError::Transfer(error) => transfer_code(error),
        LoadError::Engine(error) => engine_code(error),
        LoadError::OtherImage { .. } | LoadError::NoRoom(_) | LoadError::File { .. } => WORLD,
    }
}

fn call_code(error: &CallError) -> u8 {
    match error.fault {
        CallFault::Server | CallFault::Network | CallFault::Protocol => WORLD,
        CallFault::Gone | CallFault::Refused | CallFault::Conflict | CallFault::Invalid => REFUSED,
    }
}

fn lookup_code(error: &LookupError) -> u8 {
    match error {
        LookupError::Name(_) => USAGE,
        LookupError::Call(error) => call_code(error),
        LookupError::Storage { .. } => WORLD,
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

fn tree_code(error: &TreeError) -> u8 {
    match error {
        TreeError::Context(error) => collect_code(error),
        TreeError::OfChild { error, .. } => tree_code(error),
        TreeError::NoImagesRoot { .. } | TreeError::TwoImagesRoots { .. } | TreeError::Read { .. } => USAGE,
        TreeError::Yaml { .. } | TreeError::KindShape { .. } | TreeError::Kind { .. } => USAGE,
        TreeError::Unknown { .. } | TreeError::NoDockerfile { .. } | TreeError::NotInKind { .. } => USAGE,
        TreeError::Parent { .. } | TreeError::Cycle { .. } | TreeError::Registry { .. } => USAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
