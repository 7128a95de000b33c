//! Asking the engine for what `descent` decides by: its images, what they were made from and by, and the bases of a build.

use std::collections::{BTreeMap, HashMap, HashSet};

use bollard::models::{ImageHistoryResponseItem, ImageInspect, ImageSummary};
use bollard::query_parameters::ListImagesOptions;
use tracing::warn;

use super::clean::waits::{RemovalError, SHORT_WAIT};
use super::cleanup_state::StartedBuild;
use super::descent::{Build, BuiltStage, Candidate, Descent, Root, is_named};
use super::{Engine, Kind};
use crate::dockerfile::stages::{self, Base};
use crate::net::retry::retry;

impl Engine {
    /// Writes down what is to be known of a build before it begins; without a `Dockerfile`, of one that makes no images of steps.
    pub(super) async fn begin(
        &self,
        tag: &str,
        dockerfile: Option<&str>,
        args: &BTreeMap<String, String>,
    ) -> StartedBuild {
        let unknown = self.tracker.build().map(|(begun, _)| begun);
        let mut begun = match dockerfile {
            Some(dockerfile) => self.begun(tag, dockerfile, args).await,
            None => StartedBuild { tag: tag.to_owned(), ..StartedBuild::default() },
        };
        // What an earlier attempt has made, and nobody could tell yet, can be told at the end of this one.
        if let Some(StartedBuild { before, earlier, .. }) = unknown {
            (begun.before, begun.earlier) = (before, earlier + 1);
        }
        self.tracker.build_begins(begun.clone()).await;
        self.wait_for_sweeps().await;
        // What was there before may be gone by now, and come again with this build, as it does from a cache.
        if let (Some(_), Ok(images)) = (dockerfile, self.images().await) {
            let there: HashSet<_> = images.iter().map(|image| image.id.as_str()).collect();
            let all = begun.before.len();
            begun.before.retain(|id| there.contains(id.as_str()));
            if begun.before.len() < all {
                self.tracker.build_begins(begun.clone()).await;
            }
        }
        begun
    }

    async fn begun(&self, tag: &str, dockerfile: &str, args: &BTreeMap<String, String>) -> StartedBuild {
        let (mut stages, mut bases) = (stages::read(dockerfile, args), BTreeMap::new());
        for stage in &mut stages {
            if let Base::Image(name) = &stage.base
                && let Ok(Some(id)) = self.base_image(name).await.map(|image| image?.id)
            {
                // By the next start it may have lost its name.
                bases.insert(name.clone(), id.clone());
                stage.base = Base::Image(id);
            }
        }
        let before = match self.images().await {
            Ok(images) => images.into_iter().map(|image| image.id).collect(),
            Err(error) => {
                // Who does not know what was there takes nothing for its own.
                warn!("the engine does not list its images, so what the build leaves in it stays there: {error}");
                stages.clear();
                Vec::new()
            }
        };
        StartedBuild { tag: tag.to_owned(), stages, bases, before, earlier: 0 }
    }

    /// The images that come from a build, of which the engine has told these. `runs` builds of the same can have made some.
    pub(super) async fn descent(
        &self,
        begun: &StartedBuild,
        told: &[String],
        runs: usize,
    ) -> Result<Descent, RemovalError> {
        let (stages, shells) = self.built_stages(begun).await?;
        let last = stages.len().saturating_sub(1);
        let told = told.iter().enumerate();
        // Podman tells the last one only.
        let told =
            told.map(|(number, id)| (if self.kind == Kind::Podman { last } else { number }, id.clone())).collect();
        let before = begun.before.iter().cloned().collect();
        let build = Build { tag: begun.tag.clone(), stages, before, told, shells, runs };
        let candidates = self.candidates(&build, &begun.bases).await?;
        Ok(build.descent(&candidates))
    }

    /// The images of a build's steps, also those that were there before it.
    pub(super) async fn steps_of(&self, begun: &StartedBuild, told: &[String]) -> Vec<String> {
        let everything = StartedBuild { before: Vec::new(), ..begun.clone() };
        self.descent(&everything, told, 1).await.map(|descent| descent.ids).unwrap_or_default()
    }

    async fn built_stages(&self, begun: &StartedBuild) -> Result<(Vec<BuiltStage>, Vec<String>), RemovalError> {
        let (mut stages, mut shells) = (Vec::new(), Vec::new());
        for stage in &begun.stages {
            let mut steps = Vec::new();
            let root = match &stage.base {
                Base::Scratch => Root::Image(String::new()),
                Base::Stage(stage) => Root::Stage(*stage),
                Base::Unknown => Root::Unknown,
                Base::Image(name) => match self.base_image(name).await.map_err(RemovalError::Engine)? {
                    Some(ImageInspect { id: Some(id), config, .. }) => {
                        let config = config.unwrap_or_default();
                        shells.extend(config.shell.map(|words| words.join(" ")));
                        steps.extend(config.on_build.unwrap_or_default());
                        Root::Image(id)
                    }
                    _ if begun.bases.values().any(|id| id == name) => Root::Image(name.clone()),
                    _ => Root::Unknown,
                },
            };
            steps.extend(stage.steps.iter().cloned());
            stages.push(BuiltStage { root, steps });
        }
        Ok((stages, shells))
    }

    /// All images, with what made those that can be of a build.
    async fn candidates(
        &self,
        build: &Build,
        bases: &BTreeMap<String, String>,
    ) -> Result<Vec<Candidate>, RemovalError> {
        let images = self.images().await?;
        let mut candidates: Vec<_> = images.iter().map(candidate).collect();
        let asked = match self.kind {
            Kind::Docker => on_top_of_bases(&candidates, build),
            Kind::Podman => candidates.iter().map(|image| image.id.clone()).collect(),
        };
        let mut histories = HashMap::new();
        for image in &mut candidates {
            if !build.is_candidate(image) || !asked.contains(&image.id) {
                continue;
            }
            let Some(history) = self.history(&image.id).await? else { continue };
            let newest = history.first().cloned().unwrap_or_default();
            if let (Kind::Podman, Some(parent)) = (self.kind, newest.comment.strip_prefix("FROM ")) {
                // Its list knows layers only, and some steps make none.
                // By the name that it had. Podman 5 removes a base from below what is made of it.
                let base = bases.iter().find(|(name, _)| is_named(parent, name)).map(|(_, id)| id);
                let named = || images.iter().find(|it| it.repo_tags.iter().any(|name| is_named(name, parent)));
                let known = base.cloned().or_else(|| named().map(|image| image.id.clone()));
                image.parent = known.unwrap_or_else(|| parent.to_owned());
            }
            image.made_by = newest.created_by;
            histories.insert(image.id.clone(), history.into_iter().map(|it| (it.created_by, it.created)).collect());
        }
        if self.kind == Kind::Podman {
            find_parents(&mut candidates, &histories);
        }
        Ok(candidates)
    }

    /// What made an image, in the engine's words, the newest first; none if it is gone.
    async fn history(&self, id: &str) -> Result<Option<Vec<ImageHistoryResponseItem>>, RemovalError> {
        let asking = || async { self.client.image_history(id).await.map_err(RemovalError::Engine) };
        match retry("looking at an image", SHORT_WAIT, asking).await {
            Ok(history) => Ok(Some(history)),
            // Another build's, which has removed it since it was listed.
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All images that the engine has.
    pub(super) async fn images(&self) -> Result<Vec<ImageSummary>, RemovalError> {
        retry("listing the images", SHORT_WAIT, || async {
            let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
            self.client.list_images(Some(options)).await.map_err(RemovalError::Listing)
        })
        .await
    }
}

fn candidate(image: &ImageSummary) -> Candidate {
    let (id, names, parent) = (image.id.clone(), image.repo_tags.clone(), image.parent_id.clone());
    Candidate { id, names, parent, made_by: String::new() }
}

/// What made an image, and when, the newest first.
type History = Vec<(String, i64)>;

/// Podman 5 tells no parent of an image that is made of one without layers: it has what made that, and one step more.
fn find_parents(candidates: &mut [Candidate], histories: &HashMap<String, History>) {
    for image in candidates.iter_mut().filter(|image| image.parent.is_empty()) {
        let Some([_, below @ ..]) = histories.get(&image.id).map(Vec::as_slice) else { continue };
        if !below.is_empty() {
            let parent = histories.iter().find(|(_, history)| history.as_slice() == below);
            // Not `scratch` in any case.
            image.parent = parent.map_or_else(|| "unknown".to_owned(), |(id, _)| id.clone());
        }
    }
}

/// The ids of images that can be a build's, on top of its bases.
fn on_top_of_bases(images: &[Candidate], build: &Build) -> HashSet<String> {
    let roots = build.stages.iter().filter_map(|stage| match &stage.root {
        Root::Image(id) => Some(id.as_str()),
        Root::Stage(_) | Root::Unknown => None,
    });
    let mut below: HashSet<&str> = roots.collect();
    let mut found = HashSet::new();
    loop {
        let is_new = |image: &&Candidate| below.contains(image.parent.as_str()) && build.is_candidate(image);
        let new: Vec<_> = images.iter().filter(is_new).filter(|image| !found.contains(&image.id)).collect();
        if new.is_empty() {
            return found;
        }
        found.extend(new.iter().map(|image| image.id.clone()));
        below.extend(new.iter().map(|image| image.id.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let histories = HashMap::from([
            ("label".to_owned(), vec![label.clone()]),
            ("another".to_owned(), vec![step("LABEL a=b", 7)]),
            ("copy".to_owned(), vec![copy.clone(), label.clone()]),
            ("run".to_owned(), vec![run.clone(), copy.clone(), label]),
            ("foreign".to_owned(), vec![copy, step("LABEL e=f", 1)]),
        ]);
        let mut images = ["label", "another", "copy", "foreign", "gone"].map(|id| image(id, "")).to_vec();
        images.push(image("run", "told"));
        find_parents(&mut images, &histories);
        let parents: Vec<_> = images.iter().map(|image| image.parent.as_str()).collect();
        assert_eq!(parents, ["", "", "label", "unknown", "", "told"]);
    }
}
