//! Queries the engine for the input of `descent`: its images, their parents and histories, and the base images of a build.

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

/// The stages of a build, with what the engine adds to them.
struct BuiltStages {
    stages: Vec<BuiltStage>,
    /// The default shells of the base images.
    shells: Vec<String>,
}

impl Engine {
    /// Records a build before it starts. Without a `Dockerfile` the builder makes no step images.
    pub(in crate::engine) async fn begin(
        &self,
        tag: &str,
        dockerfile: Option<&str>,
        args: &BTreeMap<String, String>,
    ) -> StartedBuild {
        let unresolved = self.tracker.build().map(|build| build.started);
        let mut started = match dockerfile {
            Some(dockerfile) => self.describe_build(tag, dockerfile, args).await,
            None => StartedBuild { tag: tag.to_owned(), ..StartedBuild::default() },
        };
        // The images of an earlier attempt that could not be identified yet can be identified at the end of this one.
        if let Some(StartedBuild { before, earlier, .. }) = unresolved {
            (started.before, started.earlier) = (before, earlier + 1);
        }
        self.tracker.build_begins(started.clone()).await;
        self.wait_for_other_cleanups().await;
        // Images from the list may have been removed since, and a cache can make them again in this build.
        if let (Some(_), Ok(images)) = (dockerfile, self.images().await) {
            let present: HashSet<_> = images.iter().map(|image| image.id.as_str()).collect();
            let count = started.before.len();
            started.before.retain(|id| present.contains(id.as_str()));
            if started.before.len() < count {
                self.tracker.build_begins(started.clone()).await;
            }
        }
        started
    }

    async fn describe_build(&self, tag: &str, dockerfile: &str, args: &BTreeMap<String, String>) -> StartedBuild {
        let (mut stages, mut bases) = (stages::read(dockerfile, args), BTreeMap::new());
        for stage in &mut stages {
            if let Base::Image(name) = &stage.base
                && let Ok(Some(id)) = self.base_image(name).await.map(|image| image?.id)
            {
                // By the next start the image may have lost its name.
                bases.insert(name.clone(), id.clone());
                stage.base = Base::Image(id);
            }
        }
        let before = match self.images().await {
            Ok(images) => images.into_iter().map(|image| image.id).collect(),
            Err(error) => {
                // Without a list of the images before the build, no image counts as its own.
                warn!("the engine does not list its images, so what the build leaves in it stays there: {error}");
                stages.clear();
                Vec::new()
            }
        };
        StartedBuild { tag: tag.to_owned(), stages, bases, before, earlier: 0 }
    }

    /// The images that come from a build, of which the engine has reported these ids. `runs` is the number of builds with the
    /// same steps that can have made some.
    pub(in crate::engine) async fn descent(
        &self,
        started: &StartedBuild,
        reported: &[String],
        runs: usize,
    ) -> Result<Descent, RemovalError> {
        let BuiltStages { stages, shells } = self.built_stages(started).await?;
        let last = stages.len().saturating_sub(1);
        let stage_of = |number| if self.driver.reports_each_stage() { number } else { last };
        let told = reported.iter().enumerate().map(|(number, id)| (stage_of(number), id.clone())).collect();
        let before = started.before.iter().cloned().collect();
        let build = Build { tag: started.tag.clone(), stages, before, told, shells, runs };
        let candidates = self.candidates(&build, &started.bases).await?;
        Ok(build.descent(&candidates))
    }

    /// The images of a build's steps, including those that were there before it.
    pub(in crate::engine) async fn steps_of(&self, started: &StartedBuild, reported: &[String]) -> Vec<String> {
        let everything = StartedBuild { before: Vec::new(), ..started.clone() };
        self.descent(&everything, reported, 1).await.map(|descent| descent.ids).unwrap_or_default()
    }

    async fn built_stages(&self, started: &StartedBuild) -> Result<BuiltStages, RemovalError> {
        let (mut stages, mut shells) = (Vec::new(), Vec::new());
        for stage in &started.stages {
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
                    _ if started.bases.values().any(|id| id == name) => Root::Image(name.clone()),
                    _ => Root::Unknown,
                },
            };
            steps.extend(stage.steps.iter().cloned());
            stages.push(BuiltStage { root, steps });
        }
        Ok(BuiltStages { stages, shells })
    }

    /// All images, with the history of those that can belong to the build.
    async fn candidates(
        &self,
        build: &Build,
        bases: &BTreeMap<String, String>,
    ) -> Result<Vec<Candidate>, RemovalError> {
        let images = self.images().await?;
        let mut candidates: Vec<_> = images.iter().map(candidate).collect();
        let possible = if self.driver.lists_parents() {
            on_top_of_bases(&candidates, build)
        } else {
            candidates.iter().map(|image| image.id.clone()).collect()
        };
        let mut histories = Histories::new();
        for image in &mut candidates {
            if !build.is_candidate(image) || !possible.contains(&image.id) {
                continue;
            }
            let Some(history) = self.history(&image.id).await? else { continue };
            let newest = history.first().cloned().unwrap_or_default();
            if let Some(parent) = self.driver.parent_in_comment(&newest.comment) {
                // By the name that the parent had then: Podman 5 removes a base image from below the images that are made of
                // it.
                let base = bases.iter().find(|(name, _)| is_named(parent, name)).map(|(_, id)| id);
                let with_name = || images.iter().find(|it| it.repo_tags.iter().any(|name| is_named(name, parent)));
                let parent_id = base.cloned().or_else(|| with_name().map(|image| image.id.clone()));
                image.parent = parent_id.unwrap_or_else(|| parent.to_owned());
            }
            image.made_by = newest.created_by;
            histories.insert(image.id.clone(), history.into_iter().map(|it| (it.created_by, it.created)).collect());
        }
        self.driver.find_parents(&mut candidates, &histories);
        Ok(candidates)
    }

    /// The history of an image as the engine reports it, newest first; `None` if the image is gone.
    async fn history(&self, id: &str) -> Result<Option<Vec<ImageHistoryResponseItem>>, RemovalError> {
        let request = || async { self.client.image_history(id).await.map_err(RemovalError::Engine) };
        match retry("looking at an image", SHORT_WAIT, request).await {
            Ok(history) => Ok(Some(history)),
            // An image of another build, removed since the list was made.
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All images that the engine has, those of steps too.
    pub(in crate::engine) async fn images(&self) -> Result<Vec<ImageSummary>, RemovalError> {
        self.list_images(true).await
    }

    /// The images that the engine has, with or without those of steps. Engines fail for a moment while others remove images.
    pub(in crate::engine) async fn list_images(&self, all: bool) -> Result<Vec<ImageSummary>, RemovalError> {
        retry("listing the images", SHORT_WAIT, || async {
            let options = ListImagesOptions { all, ..ListImagesOptions::default() };
            self.client.list_images(Some(options)).await.map_err(RemovalError::Listing)
        })
        .await
    }
}

fn candidate(image: &ImageSummary) -> Candidate {
    let (id, names, parent) = (image.id.clone(), image.repo_tags.clone(), image.parent_id.clone());
    Candidate { id, names, parent, made_by: String::new() }
}

/// The ids of images on top of the build's bases that can belong to it.
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
