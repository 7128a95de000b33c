//! The driver of Podman's service: the user's own, or the one that the program starts.

use std::path::Path;

use tracing::info;

use super::interface::{AbandonedBuild, BuilderRequest, EngineDriver, Histories};
use crate::context::BuiltBy;
use crate::engine::cleanup::descent::Candidate;
use crate::engine::connection::address::Address;
use crate::engine::connection::engine_info::numbers;
use crate::engine::storage::StorageKind;
use crate::engine::{BuilderChoice, EngineChoice, EngineError, EngineInfo};

/// The first Podman that supports here-documents.
const PODMAN_4_8: (u32, u32) = (4, 8);

/// What Podman 4.3 reports about an image that it could not pull, whatever the reason.
const PULL_FAILED: &str = ": no stage or image found with that name";

/// Podman's service.
#[derive(Debug)]
pub(in crate::engine) struct PodmanEngine;

impl EngineDriver for PodmanEngine {
    fn name(&self) -> &'static str {
        "Podman"
    }

    fn choice(&self) -> EngineChoice {
        EngineChoice::Podman
    }

    fn is_component(&self, name: &str) -> bool {
        name.contains("Podman")
    }

    fn sockets(&self, runtime_dir: Option<&Path>) -> Vec<String> {
        let rootless = runtime_dir.map(|dir| format!("unix://{}", dir.join("podman/podman.sock").display()));
        [rootless, Some("unix:///run/podman/podman.sock".to_owned())].into_iter().flatten().collect()
    }

    fn client_command<'a>(&self, place: &'a Address) -> Vec<&'a str> {
        vec!["podman", "--url", place.url()]
    }

    /// Podman closes them, and its builds break off with it.
    fn keeps_idle_connections(&self) -> bool {
        false
    }

    fn may_have_buildkit(&self) -> bool {
        false
    }

    fn builder(&self, request: &BuilderRequest) -> Result<BuiltBy, EngineError> {
        if request.has_secrets {
            return Err(EngineError::Refused("secrets need BuildKit, and this engine is Podman, whose socket would take them only as files in the context: build with Docker (--engine docker)".to_owned()));
        }
        let choice = request.choice;
        if choice != BuilderChoice::Auto {
            info!("Podman has one builder, which knows RUN --mount too: --builder {choice} changes nothing");
        }
        Ok(BuiltBy::Podman)
    }

    fn builder_for_other_platforms(&self) -> BuilderChoice {
        BuilderChoice::Auto
    }

    fn knows_here_documents(&self, about: &EngineInfo) -> bool {
        numbers(about.version.as_deref()).is_none_or(|version| version >= PODMAN_4_8)
    }

    fn takes_excludes(&self) -> bool {
        true
    }

    fn takes_cache_names(&self) -> bool {
        false
    }

    /// The archive of an image does not contain the images of its steps.
    fn needs_step_images(&self) -> bool {
        true
    }

    fn must_be_told_of_http(&self) -> bool {
        true
    }

    fn mixes_architectures(&self) -> bool {
        true
    }

    fn hides_why_a_pull_failed(&self, message: &str) -> bool {
        message.trim_end().ends_with(PULL_FAILED)
    }

    fn reports_each_stage(&self) -> bool {
        false
    }

    fn abandoned_build(&self) -> AbandonedBuild {
        AbandonedBuild::GoesOn
    }

    /// Podman's list only has layers, and some steps make none.
    fn lists_parents(&self) -> bool {
        false
    }

    fn parent_in_comment<'a>(&self, comment: &'a str) -> Option<&'a str> {
        comment.strip_prefix("FROM ")
    }

    /// Podman 5 reports no parent of an image that is made from one without layers: its history is that of its parent plus
    /// one step.
    fn find_parents(&self, candidates: &mut [Candidate], histories: &Histories) {
        for image in candidates.iter_mut().filter(|image| image.parent.is_empty()) {
            let Some([_, parent_history @ ..]) = histories.get(&image.id).map(Vec::as_slice) else { continue };
            if !parent_history.is_empty() {
                let parent = histories.iter().find(|(_, history)| history.as_slice() == parent_history);
                // Certainly not `scratch`.
                image.parent = parent.map_or_else(|| "unknown".to_owned(), |(id, _)| id.clone());
            }
        }
    }

    fn local_name(&self, name: &str) -> Option<String> {
        Some(format!("localhost/{name}"))
    }

    fn storage(&self, driver: String, _is_containerd: bool) -> StorageKind {
        StorageKind::Podman { driver }
    }

    fn makes_files_in_new_containers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineAddress;
    use crate::engine::build::buildkit_support::BuildKitSupport;

    #[test]
    fn podman_5_s_parents_without_layers_are_found_by_what_made_them() {
        let image = |id: &str, parent: &str| Candidate {
            id: id.to_owned(),
            names: Vec::new(),
            parent: parent.to_owned(),
            made_by: String::new(),
        };
        let step = |made_by: &str, created: i64| (made_by.to_owned(), created);
        let (label, copy, run) = (step("LABEL a=b", 1), step("COPY c in /c", 2), step("RUN d", 3));
        let histories = Histories::from([
            ("label".to_owned(), vec![label.clone()]),
            ("another".to_owned(), vec![step("LABEL a=b", 7)]),
            ("copy".to_owned(), vec![copy.clone(), label.clone()]),
            ("run".to_owned(), vec![run.clone(), copy.clone(), label]),
            ("foreign".to_owned(), vec![copy, step("LABEL e=f", 1)]),
        ]);
        let mut images = ["label", "another", "copy", "foreign", "gone"].map(|id| image(id, "")).to_vec();
        images.push(image("run", "told"));
        PodmanEngine.find_parents(&mut images, &histories);
        let parents: Vec<_> = images.iter().map(|image| image.parent.as_str()).collect();
        assert_eq!(parents, ["", "", "label", "unknown", "", "told"]);
    }

    #[test]
    fn secrets_are_refused() {
        let podman = |has_secrets| {
            let (choice, buildkit) = (BuilderChoice::BuildKit, BuildKitSupport::default());
            PodmanEngine.builder(&BuilderRequest { choice, buildkit: &buildkit, needs: &[], has_secrets })
        };
        assert_eq!(podman(false).unwrap(), BuiltBy::Podman);
        assert!(podman(true).unwrap_err().to_string().contains("this engine is Podman"));
    }

    #[test]
    fn its_client_is_told_where_it_is() {
        let place = Address::new(&EngineAddress::usual("unix:///run/podman/podman.sock")).unwrap();
        assert_eq!(PodmanEngine.client_command(&place), ["podman", "--url", "unix:///run/podman/podman.sock"]);
    }
}
