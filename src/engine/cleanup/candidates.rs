//! Asking the engine for what `descent` decides by: its images, what they were made from and by, and the bases of a build.

use std::collections::{BTreeMap, HashSet};

use bollard::models::{ImageHistoryResponseItem, ImageInspect, ImageSummary};
use bollard::query_parameters::ListImagesOptions;
use tracing::warn;

use super::descent::{Build, BuiltStage, Candidate, Descent, Root, is_named};
use super::state::StartedBuild;
use super::waits::{RemovalError, SHORT_WAIT};
use crate::dockerfile::stages::{self, Base};
use crate::engine::Engine;
use crate::engine::driver::Histories;
use crate::net::retry::retry;

impl Engine {
    /// Writes down what is to be known of a build before it begins; without a `Dockerfile`, of one that makes no images of steps.
    pub(in crate::engine) async fn begin(
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
    pub(in crate::engine) async fn descent(
        &self,
        begun: &StartedBuild,
        told: &[String],
        runs: usize,
    ) -> Result<Descent, RemovalError> {
        let (stages, shells) = self.built_stages(begun).await?;
        let last = stages.len().saturating_sub(1);
        let told = told.iter().enumerate();
        let told =
            told.map(|(number, id)| (if self.driver.tells_each_stage() { number } else { last }, id.clone())).collect();
        let before = begun.before.iter().cloned().collect();
        let build = Build { tag: begun.tag.clone(), stages, before, told, shells, runs };
        let candidates = self.candidates(&build, &begun.bases).await?;
        Ok(build.descent(&candidates))
    }

    /// The images of a build's steps, also those that were there before it.
    pub(in crate::engine) async fn steps_of(&self, begun: &StartedBuild, told: &[String]) -> Vec<String> {
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
        let asked = if self.driver.lists_parents() {
            on_top_of_bases(&candidates, build)
        } else {
            candidates.iter().map(|image| image.id.clone()).collect()
        };
        let mut histories = Histories::new();
        for image in &mut candidates {
            if !build.is_candidate(image) || !asked.contains(&image.id) {
                continue;
            }
            let Some(history) = self.history(&image.id).await? else { continue };
            let newest = history.first().cloned().unwrap_or_default();
            if let Some(parent) = self.driver.parent_in_comment(&newest.comment) {
                // By the name that it had. Podman 5 removes a base from below what is made of it.
                let base = bases.iter().find(|(name, _)| is_named(parent, name)).map(|(_, id)| id);
                let named = || images.iter().find(|it| it.repo_tags.iter().any(|name| is_named(name, parent)));
                let known = base.cloned().or_else(|| named().map(|image| image.id.clone()));
                image.parent = known.unwrap_or_else(|| parent.to_owned());
            }
            image.made_by = newest.created_by;
            histories.insert(image.id.clone(), history.into_iter().map(|it| (it.created_by, it.created)).collect());
        }
        self.driver.find_parents(&mut candidates, &histories);
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
    pub(in crate::engine) async fn images(&self) -> Result<Vec<ImageSummary>, RemovalError> {
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
