//! The interface to an engine driver: one method for each difference between the engines.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::context::BuiltBy;
use crate::dockerfile::builder_features::Need;
use crate::engine::build::buildkit_support::BuildKitSupport;
use crate::engine::cleanup::descent::Candidate;
use crate::engine::connection::address::Address;
use crate::engine::storage::StorageKind;
use crate::engine::{BuilderChoice, EngineChoice, EngineError, EngineInfo};

/// What happens to a build when its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum AbandonedBuild {
    /// The engine ends the current step, and sends the end of its answer then.
    EndsItsStep,
    /// The engine continues up to the next step with a command, without a sign of that.
    GoesOn,
}

/// What determines the builder.
pub(in crate::engine) struct BuilderRequest<'a> {
    pub(in crate::engine) choice: BuilderChoice,
    pub(in crate::engine) buildkit: &'a BuildKitSupport,
    /// The features of the `Dockerfile` that the classic builder does not support.
    pub(in crate::engine) needs: &'a [Need],
    pub(in crate::engine) has_secrets: bool,
}

/// The instruction and creation time of each layer, newest first, by image id.
pub(in crate::engine) type Histories = HashMap<String, Vec<(String, i64)>>;

/// A kind of engine.
pub(in crate::engine) trait EngineDriver: fmt::Debug + Send + Sync {
    /// The name for the log and the provenance.
    fn name(&self) -> &'static str;

    /// The value of `--engine` that selects only this engine.
    fn choice(&self) -> EngineChoice;

    /// Whether a component of this name in an engine's version means that the engine is of this kind.
    fn is_component(&self, name: &str) -> bool;

    /// The default sockets, as URLs; `runtime_dir` is `XDG_RUNTIME_DIR`.
    fn sockets(&self, runtime_dir: Option<&Path>) -> Vec<String>;

    /// The command line of its client for the engine at this address, for people to type.
    fn client_command<'a>(&self, place: &'a Address) -> Vec<&'a str>;

    /// Whether the engine keeps an idle connection open. Such a connection closes when the engine ends, and so reports that.
    fn keeps_idle_connections(&self) -> bool;

    /// Whether the engine can have BuildKit and containerd's image store, and so must be queried for them.
    fn may_have_buildkit(&self) -> bool;

    /// Which of the engine's builders builds.
    fn builder(&self, request: &BuilderRequest) -> Result<BuiltBy, EngineError>;

    /// The default builder for another platform than the engine's.
    fn builder_for_other_platforms(&self) -> BuilderChoice;

    /// Whether the engine's own builder supports here-documents without a `# syntax=` line.
    fn knows_here_documents(&self, about: &EngineInfo) -> bool;

    /// Whether the engine takes the rules of an ignore file in its own parameter `excludes`, in place of the files of the
    /// context.
    fn takes_excludes(&self) -> bool;

    /// Whether `cachefrom` accepts image names. An engine that does not accept them takes steps from any image that it has.
    fn takes_cache_names(&self) -> bool;

    /// Whether a step can only come from the cache as an image of its own.
    fn needs_step_images(&self) -> bool;

    /// Whether the engine needs an explicit setting to use HTTP with a registry on its own machine.
    fn must_be_told_of_http(&self) -> bool;

    /// Whether the cache ignores the architecture of steps that follow `FROM scratch`.
    fn mixes_architectures(&self) -> bool;

    /// Whether this error message only says that an image could not be pulled, and not why.
    fn hides_why_a_pull_failed(&self, message: &str) -> bool;

    /// Whether the engine reports the image at the end of each stage, or only that of the last stage.
    fn reports_each_stage(&self) -> bool;

    /// What happens to a build when its client is gone.
    fn abandoned_build(&self) -> AbandonedBuild;

    /// Whether the engine's list of images has the parent of each.
    fn lists_parents(&self) -> bool;

    /// The name of the parent in the comment of an image's newest layer, for an engine whose list has no parents.
    fn parent_in_comment<'a>(&self, comment: &'a str) -> Option<&'a str>;

    /// Fills in parents that neither the list nor the comments have.
    fn find_parents(&self, candidates: &mut [Candidate], histories: &Histories);

    /// The name that the engine itself gives to an image that was loaded or built as `name`, if `name` has no registry.
    fn local_name(&self, name: &str) -> Option<String>;

    /// How the engine stores images; `driver` is its storage driver.
    fn storage(&self, driver: String, is_containerd: bool) -> StorageKind;

    /// Whether the engine puts files of its own into a container when it creates the container, and not when it starts it.
    fn makes_files_in_new_containers(&self) -> bool;
}
