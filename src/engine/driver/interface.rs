//! The questions that the engines answer differently.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::context::for_engine::BuiltBy;
use crate::dockerfile::builder_features::Need;
use crate::engine::build::buildkit_support::BuildKitSupport;
use crate::engine::cleanup::descent::Candidate;
use crate::engine::connection::address::Address;
use crate::engine::storage::StorageKind;
use crate::engine::{BuilderChoice, EngineChoice, EngineError, EngineInfo};

/// What becomes of a build when its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum AbandonedBuild {
    /// The engine ends the step that it is at, and says when it has.
    EndsItsStep,
    /// It goes on to the next step with a command, and says nothing.
    GoesOn,
}

/// What decides which builder is asked.
pub(in crate::engine) struct BuilderRequest<'a> {
    pub(in crate::engine) choice: BuilderChoice,
    pub(in crate::engine) buildkit: &'a BuildKitSupport,
    /// What the classic builder does not know of what the `Dockerfile` says.
    pub(in crate::engine) needs: &'a [Need],
    pub(in crate::engine) has_secrets: bool,
}

/// What made images, and when, by the images' ids; the newest step first.
pub(in crate::engine) type Histories = HashMap<String, Vec<(String, i64)>>;

/// A kind of engine.
pub(in crate::engine) trait EngineDriver: fmt::Debug + Send + Sync {
    /// Its name, for the log and the provenance.
    fn name(&self) -> &'static str;

    /// The value of `--engine` that takes it alone.
    fn choice(&self) -> EngineChoice;

    /// Whether a component of an engine's version, by its name, says that the engine is one of this kind.
    fn is_component(&self, name: &str) -> bool;

    /// Its usual sockets, as URLs; `runtime_dir` is `XDG_RUNTIME_DIR`.
    fn sockets(&self, runtime_dir: Option<&Path>) -> Vec<String>;

    /// The command of its client for the engine at a place, for people to type.
    fn client_command<'a>(&self, place: &'a Address) -> Vec<&'a str>;

    /// Whether it keeps a connection that nothing goes over. Such a connection ends with the engine, and tells of it.
    fn keeps_idle_connections(&self) -> bool;

    /// Whether it can have BuildKit and containerd's image store: what it has of these is asked for then.
    fn may_have_buildkit(&self) -> bool;

    /// Which of its builders builds.
    fn builder(&self, request: &BuilderRequest) -> Result<BuiltBy, EngineError>;

    /// The builder for another platform than the engine's, where nobody has chosen one.
    fn builder_for_other_platforms(&self) -> BuilderChoice;

    /// Whether its own builder knows here-documents without a `# syntax=` line.
    fn knows_here_documents(&self, about: &EngineInfo) -> bool;

    /// Whether it takes the rules of an ignore file in its own parameter `excludes`, instead of the files of the context.
    fn takes_excludes(&self) -> bool;

    /// Whether it takes the names of images for `cachefrom`. One that does not takes steps from whatever it has.
    fn takes_cache_names(&self) -> bool;

    /// Whether it takes a step only from an image of its own.
    fn needs_step_images(&self) -> bool;

    /// Whether it must be told to speak HTTP with a registry on its own machine.
    fn must_be_told_of_http(&self) -> bool;

    /// Whether it takes steps behind `FROM scratch` from its cache whatever architecture they are for.
    fn mixes_architectures(&self) -> bool;

    /// Whether this says no more than that an image could not be pulled.
    fn hides_why_a_pull_failed(&self, message: &str) -> bool;

    /// Whether it tells the image at the end of each stage, or of the last one only.
    fn tells_each_stage(&self) -> bool;

    /// What becomes of a build when nobody waits for it.
    fn abandoned_build(&self) -> AbandonedBuild;

    /// Whether its list of images has the parent of each.
    fn lists_parents(&self) -> bool;

    /// The name of the parent in the comment of an image's newest step, where the list has it not.
    fn parent_in_comment<'a>(&self, comment: &'a str) -> Option<&'a str>;

    /// Fills in parents that neither the list nor comments have.
    fn find_parents(&self, candidates: &mut [Candidate], histories: &Histories);

    /// The name that it gives by itself to an image that was loaded or built as `name`, which begins with no registry.
    fn local_name(&self, name: &str) -> Option<String>;

    /// How it keeps images on its disk; `driver` is its storage driver.
    fn storage(&self, driver: String, is_containerd: bool) -> StorageKind;

    /// Whether it puts files of its own into a container when it makes one, and not when it starts one.
    fn makes_files_in_new_containers(&self) -> bool;
}
