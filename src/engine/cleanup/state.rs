//! What a job has left in the engine: a state that follows from journal events, of the current job or of a killed one.
//! `clean` queries the engine and removes the resources.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descent::is_id;
use crate::dockerfile::stages::Stage;

/// Something that this program does in an engine, or learns about its own resources there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::engine) enum JournalEvent {
    /// A build starts.
    Build(StartedBuild),
    /// The engine has the whole context, or is about to get its last piece; the value is its size in bytes. From here on the
    /// engine continues to the end of a step by itself.
    #[serde(rename = "given")]
    ContextSent(u64),
    /// The build has ended and has made these images, parents first.
    Ended(Vec<String>),
    /// The upload of an archive starts; the image gets this tag.
    Load(String),
    /// The same for an image that serves as a build cache: its layers can be below those of the built image.
    Cache(String),
    /// The ids of the step images in that archive that the engine did not have before.
    Steps(Vec<String>),
    /// The engine has the whole archive, or is about to get its last piece; the value is its size in bytes. From here on the
    /// engine unpacks it by itself.
    Sent(String, u64),
    /// The engine has loaded the archive.
    Loaded {
        /// The image's tag.
        tag: String,
        /// Whether the engine had the image before, without a name.
        was_nameless: bool,
        /// The id of the image, if the engine did not have it before.
        made: Option<String>,
    },
    /// This image must not be removed.
    Stays(String),
    /// A container with this name is about to be created.
    Container(String),
    /// The removal of a killed run's resources is in progress.
    Sweeps,
}

/// A build, as recorded at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct StartedBuild {
    /// The name that the image gets. No other task uses it.
    pub(in crate::engine) tag: String,
    /// Its stages; empty if the builder makes no step images. Base images that the engine already has are given by id.
    pub(in crate::engine) stages: Vec<Stage>,
    /// The ids of its base images that the engine already has, by name: Podman records an image's parent by that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::engine) bases: BTreeMap<String, String>,
    /// The ids of all images that the engine has.
    pub(in crate::engine) before: Vec<String>,
    /// How many earlier attempts have left images that could not be identified yet.
    pub(in crate::engine) earlier: usize,
}

/// The resources to remove.
#[derive(Clone, Debug, Default)]
pub(super) struct CleanupState {
    /// The build that has started and not ended.
    pub(in crate::engine) build: Option<StartedBuild>,
    /// The build that started last.
    pub(in crate::engine) latest_build: Option<StartedBuild>,
    /// The size of the context in bytes, if the engine has all of it. The engine starts no step before that.
    pub(in crate::engine) context_bytes: Option<u64>,
    /// The names of built images.
    tags: Vec<String>,
    /// The images of builds, parents first.
    build_images: Vec<String>,
    /// The names of loaded images. No other task uses these names.
    loaded_names: Vec<String>,
    /// The ids of loaded images that were not there before: such an image loses its name but stays while another image is on
    /// top of it.
    loaded_ids: Vec<String>,
    /// The names of images that were loaded as a cache. The built image can be that very image, on top of others that we
    /// made.
    caches: Vec<String>,
    /// The step images of such a cache.
    steps: Vec<String>,
    /// The name of the image that the engine is loading, and the size of its archive, once the engine has all of it.
    unpacking: Option<(String, u64)>,
    /// Whether an upload of an archive is in progress.
    pub(super) is_loading: bool,
    /// Whether the removal of a killed run's resources is in progress.
    pub(super) is_removing: bool,
    /// Whether one of these images stays, and with it all images below it.
    has_kept_image: bool,
    /// The names of containers that never run.
    pub(in crate::engine) containers: Vec<String>,
}

impl CleanupState {
    /// The state after the events of a run.
    pub(in crate::engine) fn of(events: Vec<JournalEvent>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.add(event);
        }
        state
    }

    pub(in crate::engine) fn add(&mut self, event: JournalEvent) {
        match event {
            JournalEvent::Build(build) => {
                self.tags.push(build.tag.clone());
                self.latest_build = Some(build.clone());
                (self.build, self.context_bytes) = (Some(build), None);
            }
            JournalEvent::ContextSent(bytes) => self.context_bytes = Some(bytes),
            JournalEvent::Ended(made) => {
                self.build_images.extend(made);
                self.build = None;
            }
            JournalEvent::Load(tag) => {
                self.is_loading = true;
                self.loaded_names.push(tag);
            }
            JournalEvent::Cache(tag) => {
                self.is_loading = true;
                self.caches.push(tag);
            }
            JournalEvent::Steps(ids) => self.steps.extend(ids),
            JournalEvent::Sent(tag, bytes) => self.unpacking = Some((tag, bytes)),
            JournalEvent::Loaded { tag, was_nameless, made } => {
                (self.unpacking, self.is_loading) = (None, false);
                self.loaded_ids.extend(made);
                if was_nameless {
                    self.loaded_names.retain(|name| *name != tag);
                    self.caches.retain(|name| *name != tag);
                }
            }
            JournalEvent::Stays(id) => {
                self.has_kept_image = true;
                self.build_images.retain(|image| !is_id(image, &id));
            }
            JournalEvent::Container(name) => self.containers.push(name),
            JournalEvent::Sweeps => self.is_removing = true,
        }
    }

    /// The size of the archive that the engine unpacks by itself into an image of this name.
    pub(super) fn unpacks(&self, name: &str) -> Option<u64> {
        self.unpacking.as_ref().filter(|(unpacking, _)| unpacking == name).map(|(_, bytes)| *bytes)
    }

    /// Whether an image stays, so that the images below it are in use.
    pub(in crate::engine) fn has_kept_image(&self) -> bool {
        self.has_kept_image
    }

    /// Whether it has loaded images that were not there before.
    pub(super) fn has_loaded(&self) -> bool {
        !self.loaded_ids.is_empty()
    }

    /// The names that this run has given to images.
    pub(super) fn own_names(&self) -> impl Iterator<Item = &String> {
        self.tags.iter().chain(&self.loaded_names).chain(&self.caches)
    }

    /// What to remove, youngest first: names and ids.
    pub(super) fn to_remove(&self) -> Vec<String> {
        let steps = || self.steps.iter().chain(&self.build_images).rev();
        // Removing a cache's name also removes the built image if each of its steps came from the cache; only then can the
        // steps below be removed. Loaded images are below everything else: an image that loses its last name while another is
        // on top of it stays without a name.
        let names = self.tags.iter().rev().chain(steps());
        let cached = self.caches.iter().rev().chain(steps().filter(|_| !self.caches.is_empty()));
        names.chain(cached).chain(self.loaded_names.iter().rev()).chain(self.loaded_ids.iter().rev()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(tag: &str) -> JournalEvent {
        JournalEvent::Build(StartedBuild { tag: tag.to_owned(), ..StartedBuild::default() })
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    #[test]
    fn the_youngest_goes_first_and_a_parent_last() {
        let load = JournalEvent::Load("base:parent".to_owned());
        let events =
            vec![JournalEvent::Sent("base:parent".to_owned(), 9), load, build("a:1"), JournalEvent::ContextSent(9)];
        let mut state = CleanupState::of(events);
        assert!(state.unpacks("base:parent") == Some(9) && state.context_bytes == Some(9) && state.build.is_some());
        state.add(JournalEvent::Loaded {
            tag: "base:parent".to_owned(),
            was_nameless: false,
            made: Some("parent".to_owned()),
        });
        state.add(JournalEvent::Ended(ids(&["one", "two"])));
        assert!(state.unpacks("base:parent").is_none() && state.build.is_none());
        assert_eq!(state.to_remove(), ["a:1", "two", "one", "base:parent", "parent"]);
        state.add(JournalEvent::Stays("two".to_owned()));
        state.add(JournalEvent::Loaded { tag: "base:parent".to_owned(), was_nameless: true, made: None });
        assert_eq!(state.to_remove(), ["a:1", "one", "parent"], "what is kept, and what was there without a name");
    }

    #[test]
    fn what_is_the_cache_itself_goes_before_the_steps_below_it_and_these_before_the_parent() {
        let cache = [JournalEvent::Cache("a:cache".to_owned()), JournalEvent::Steps(ids(&["step"]))];
        let state = CleanupState::of(vec![
            cache[0].clone(),
            cache[1].clone(),
            JournalEvent::Load("base:1".to_owned()),
            build("a:1"),
            JournalEvent::Ended(ids(&["one"])),
        ]);
        assert_eq!(state.to_remove(), ["a:1", "one", "step", "a:cache", "one", "step", "base:1"]);
        assert_eq!(state.own_names().count(), 3);
    }

    #[test]
    fn facts_survive_as_text() {
        let stages = crate::dockerfile::stages::read("FROM scratch\nRUN x\nFROM a\n", &BTreeMap::new());
        let started = StartedBuild {
            tag: "a:1".to_owned(),
            stages,
            before: ids(&["sha256:00"]),
            earlier: 1,
            ..StartedBuild::default()
        };
        for event in [
            JournalEvent::Build(started),
            JournalEvent::ContextSent(1),
            JournalEvent::Ended(ids(&["one"])),
            JournalEvent::Steps(ids(&["a"])),
        ] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<JournalEvent>(&text).unwrap(), event);
        }
    }
}
