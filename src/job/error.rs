//! The errors of all subcommands. `cli` maps them to exit codes and prints them.

use std::io;
use std::path::PathBuf;

use super::artifact_status::ArtifactStatus;
use super::build_script::ScriptError;
use super::doctor::DoctorProblem;
use super::export::StorageProblem;
use super::fetch::FetchError;
use super::loading::LoadError;
use super::parent::ParentError;
use super::publish::PublishError;
use super::push::PushProblem;
use super::rerun_assessment::Verdict;
use super::scopes::MissingScopes;
use super::secret_values::SecretProblem;
use super::shutdown::ShutdownReason;
use crate::config::ConfigError;
use crate::context::collect::CollectError;
use crate::context::{ContextHash, ImageName};
use crate::decision::DecisionError;
use crate::decision::graph::GraphError;
use crate::decision::lookup::LookupError;
use crate::dockerfile::PARENT_ARG;
use crate::engine::{DebugImage, EngineError, SupervisorError};
use crate::image::ArchiveError;
use crate::image::compare::CompareError;
use crate::image::disk::InsufficientSpace;
use crate::image::layer::LayerError;
use crate::image::sbom::SbomError;
use crate::net::registry::RegistryError;
use crate::net::transfer::TransferError;
use crate::net::{HttpUrl, NameError};
use crate::report::Hint;
use crate::repository::TreeError;
use crate::repository::document::DocumentError;
use crate::taskcluster::tasks::Run;
use crate::taskcluster::{CallError, TaskId};

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
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
    /// The definitions of a decision's image tasks.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// An image whose files cannot be listed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An image whose packages cannot be listed.
    #[error(transparent)]
    Packages(#[from] SbomError),
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
        /// The problem of the image. The same line has it; its causes follow.
        #[source]
        error: TreeError,
    },
    /// An image directory that is being changed.
    #[error("{} changes while its image is made{}", .0.display(), Hint("stop what writes to it, and start again"))]
    Changing(PathBuf),
    /// An image whose parent must exist before it.
    #[error(
        "the image {image} is built from {parent}, and the engine has no {tag}{}",
        Hint("build that too, with --with-parents")
    )]
    NoParent {
        /// The image.
        image: ImageName,
        /// Its parent.
        parent: ImageName,
        /// The parent's tag.
        tag: String,
    },
    /// A parent of an unknown tree.
    #[error(
        "the Dockerfile in {}: `{instruction}` {}{}",
        directory.display(),
        parent.as_ref().map_or("names no image".to_owned(), |parent| format!("is {parent}, which another task builds, and nobody says here where it is")),
        Hint(format_args!("call from the checkout that the directory is an image of (--root), or name the parent: --arg {PARENT_ARG}=IMAGE{}, or PARENT_TASK_ID", parent.as_ref().map_or(String::new(), |parent| format!(" (docker.io/library/{parent} if a registry's is meant)"))))
    )]
    ParentElsewhere {
        /// The image directory.
        directory: PathBuf,
        /// The instruction that needs the parent.
        instruction: String,
        /// The parent, where the Dockerfile names one.
        parent: Option<String>,
    },
    /// A parent that CI has not built.
    #[error(
        "the index has no image of the parent {parent} for hash {hash} ({projects}){}",
        Hint("push, so that CI builds it, or build it here: --parent build")
    )]
    NotIndexed {
        /// The parent.
        parent: ImageName,
        /// The hash in its `.hash.` route.
        hash: ContextHash,
        /// The places of the search, in words.
        projects: String,
    },
    /// An image directory's own script.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A file that cannot be read.
    #[error("cannot read {}{}", path.display(), Hint("it must be there and readable"))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A repository's images.
    #[error("{}{}", .0, Hint(tree_hint(.0)))]
    Tree(#[from] TreeError),
    /// The checked item has problems, which the answer lists.
    #[error("{what} has {}; first, {first}", if *count == 1 { "1 problem".to_owned() } else { format!("{count} problems") })]
    Problems {
        /// The checked item.
        what: String,
        /// How many.
        count: usize,
        /// The first one.
        first: String,
    },
    /// The engine, or the build.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The job lacks scopes.
    #[error(transparent)]
    Scopes(#[from] MissingScopes),
    /// A secret of the build.
    #[error(transparent)]
    Secret(#[from] SecretProblem),
    /// The supervisor of a managed engine failed.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// An image that is nowhere.
    #[error("{what}{}", Hint(.hint))]
    NoImage {
        /// The image, and where it was looked for.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// Neither a file on this machine nor an image of the checkout.
    #[error(
        "{typed} is no file here, and so an image of the checkout: {error}{}",
        Hint("name a file that is there, or an image by --task-id, --index or --local")
    )]
    NoSuchFile {
        /// The argument.
        typed: String,
        /// Why it is no image. The same line has it; its causes follow.
        #[source]
        error: Box<CommandError>,
    },
    /// An image archive on this machine.
    #[error("{error} ({}){}", path.display(), Hint(archive_hint(.error)))]
    Load {
        /// The file.
        path: PathBuf,
        /// Why it is not loaded. The same line has it; its causes follow.
        #[source]
        error: LoadError,
    },
    /// The checked item is wrong; the answer has all details.
    #[error("{what}{}", Hint(.hint))]
    Diagnostics {
        /// What is wrong.
        what: String,
        /// What to do; may be empty.
        hint: &'static str,
    },
    /// Two images that cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The engine's export is not the image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The engine's storage, from which the image was to be read.
    #[error(transparent)]
    Storage(#[from] StorageProblem),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An image that is not pushed.
    #[error(transparent)]
    Push(#[from] PushProblem),
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
    /// A file that cannot be written, or a disk that is full.
    #[error("cannot write {}{}{}", path.display(), write_problem(source).0, Hint(write_problem(source).1))]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk has not enough space.
    #[error(transparent)]
    InsufficientSpace(#[from] InsufficientSpace),
    /// An unknown task.
    #[error(
        "{deployment} knows no task {task}{}",
        Hint("is it the right id, and the right TASKCLUSTER_ROOT_URL? Expired tasks are forgotten")
    )]
    NoTask {
        /// The task.
        task: TaskId,
        /// The place of the search.
        deployment: HttpUrl,
    },
    /// The context of a task whose job is to be repeated.
    #[error(
        "the task's context is gone: {context} {whereabouts}{}",
        Hint(format_args!("check out {}, and give the image directory with --context DIR", tree.as_ref().map_or("the tree that it was made from".to_owned(), ToString::to_string)))
    )]
    ContextGone {
        /// The artifact and its task.
        context: String,
        /// Its known status.
        whereabouts: ArtifactStatus,
        /// The tree that the task's definition names.
        tree: Option<HttpUrl>,
        /// How that came out.
        #[source]
        source: FetchError,
    },
    /// The context of a build that is to be compared.
    #[error(
        "the context of {build} is gone: {context} {whereabouts}{}",
        Hint(format_args!("compare with a newer build (--task-id), or compare the lists of two checkouts (image-worker context NAME --list){}", tree.as_ref().map_or(String::new(), |tree| format!("; that build's tree is {tree}"))))
    )]
    NoContext {
        /// The build.
        build: String,
        /// The artifact and its task.
        context: String,
        /// Its known status.
        whereabouts: ArtifactStatus,
        /// The tree that the task's definition names.
        tree: Option<HttpUrl>,
        /// How that came out.
        #[source]
        source: FetchError,
    },
    /// A task that a rerun does not help.
    #[error("rerunning task {task} cannot work: {why}")]
    NoRerun {
        /// The task.
        task: TaskId,
        /// The correct alternative.
        verdict: Verdict,
        /// Why.
        why: String,
    },
    /// A run that was followed, and did not complete.
    #[error(
        "run {} of task {task} ended: {}{}",
        run.run_id,
        run.outcome(),
        Hint(format_args!("why stands in its log: {log}"))
    )]
    Run {
        /// The task.
        task: TaskId,
        /// The run.
        run: Box<Run>,
        /// Where its log is.
        log: String,
    },
    /// One of several images that were built at once.
    #[error("{image}: {error}")]
    OneOfSeveral {
        /// The image.
        image: ImageName,
        /// Why it was not built. The same line has it; its causes follow.
        #[source]
        error: Box<CommandError>,
    },
    /// A failed build whose last good step was kept for inspection.
    #[error("{failed}")]
    DebugImage {
        /// The failure.
        failed: Box<CommandError>,
        /// The last good step's image.
        kept: Box<DebugImage>,
    },
    /// The streams of a container in the foreground.
    #[error("the streams between the container and this process broke off")]
    Console(#[source] io::Error),
    /// A signal or the time limit stopped the program.
    #[error("{reason} while {stage}{}", Hint(reason.hint()))]
    Stopped {
        /// The reason.
        reason: ShutdownReason,
        /// The interrupted stage.
        stage: &'static str,
    },
    /// What a check of `doctor` found.
    #[error(transparent)]
    Doctor(#[from] DoctorProblem),
    /// Problems that `doctor` found; the answer has them all.
    #[error("{}{first}", if *count == 1 { String::new() } else { format!("{count} problems; the first: ") })]
    Unfit {
        /// How many.
        count: usize,
        /// The first one, which the exit code is of.
        first: Box<CommandError>,
    },
    /// A mistake of this program.
    #[error("in image-worker itself: {}{}", .0, Hint("please report it"))]
    Bug(String),
}

impl CommandError {
    /// An image that the engine at hand does not have.
    pub(super) fn not_in_engine(name: &str) -> Self {
        let what = format!("the engine has no image {name}");
        Self::NoImage { what, hint: "load or build it first, or name another" }
    }
}

/// What to do about a name that nothing has, and that is like no other.
fn tree_hint(error: &TreeError) -> &'static str {
    match error {
        TreeError::Unknown { nearest, .. } if nearest.is_empty() => "`image-worker tree` lists the images",
        _ => "",
    }
}

/// What to do about an archive that is wrong.
fn archive_hint(error: &LoadError) -> &'static str {
    if matches!(error, LoadError::Archive(_)) { "`image-worker check` says all that is wrong with it" } else { "" }
}

/// Why a file cannot be written, and what to do about it.
fn write_problem(error: &io::Error) -> (&'static str, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => (": no such directory", "make it, or name another place"),
        io::ErrorKind::NotADirectory => (": a part of the path is no directory", "name another place"),
        io::ErrorKind::IsADirectory => (": it is a directory", "name a file"),
        io::ErrorKind::PermissionDenied => (": permission denied", "name another place"),
        io::ErrorKind::ReadOnlyFilesystem => (": the file system is read-only", "name another place"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (": no space left on the disk", "make room"),
        _ => ("", ""),
    }
}
