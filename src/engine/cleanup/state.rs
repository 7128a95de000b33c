//! What a job has left in the engine, as it follows from the facts: of the job under way, or, from its records, of one whose
//! program was killed. Asking the engine and removing is for `clean`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descent::is_id;
use crate::dockerfile::stages::Stage;

/// Something about what is in an engine because of us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::engine) enum JournalEvent {
    /// A build begins.
    Build(StartedBuild),
    /// The engine has all of the context, or is about to, so many bytes: it goes on to the end of a step by itself.
    #[serde(rename = "given")]
    ContextSent(u64),
    /// The build has ended, and its images are these, each behind that of its parent.
    Ended(Vec<String>),
    /// An archive begins to go in, of an image with this tag.
    Load(String),
    /// The same, of an image that steps are taken from: its layers can be below those of what is built.
    Cache(String),
    /// That archive has these images of steps, by their ids, which were not there.
    Steps(Vec<String>),
    /// The engine has all of that archive, or is about to, so many bytes: from then on it goes on by itself.
    Sent(String, u64),
    /// The engine has answered.
    Loaded {
        /// The image's tag.
        tag: String,
        /// Whether the image was there before, without a name.
        was_nameless: bool,
        /// The image's id, if it was not there before.
        made: Option<String>,
    },
    /// This image is not ours to remove.
    Stays(String),
    /// A container with this name is about to be made.
    Container(String),
    /// What a killed run has left is being removed.
    Sweeps,
}

/// A build as it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct StartedBuild {
    /// The name that the image will have, which no other task gives.
    pub(in crate::engine) tag: String,
    /// Its stages; none where the builder makes no images of steps. What bases were there has its id for a name.
    pub(in crate::engine) stages: Vec<Stage>,
    /// The ids of its bases that were there, by their names: Podman knows an image's parent by that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::engine) bases: BTreeMap<String, String>,
    /// The ids of the images that the engine has.
    pub(in crate::engine) before: Vec<String>,
    /// How many earlier attempts have left images that nobody could tell yet.
    pub(in crate::engine) earlier: usize,
}

/// What has to be removed.
#[derive(Clone, Debug, Default)]
pub(super) struct CleanupState {
    /// The build that has begun and not ended.
    pub(in crate::engine) build: Option<StartedBuild>,
    /// The last build that has begun.
    pub(in crate::engine) begun: Option<StartedBuild>,
    /// How many bytes of context the engine has, if it has it: before that it begins no step.
    pub(in crate::engine) given: Option<u64>,
    /// The names of images that are built.
    tags: Vec<String>,
    /// The images of builds, each behind that of its parent.
    made: Vec<String>,
    /// The names of images that are loaded, which nobody else gives.
    loaded: Vec<String>,
    /// The ids of loaded images that were not there before: one loses its name while another is on top of it.
    loaded_ids: Vec<String>,
    /// The names of images that were loaded for their steps. What is built can be that very image, on top of others that we made.
    caches: Vec<String>,
    /// The images of such steps.
    steps: Vec<String>,
    /// The name of the image that is being loaded, and its bytes, when the engine has all of it.
    unpacking: Option<(String, u64)>,
    /// Whether an archive goes in at this moment.
    pub(super) is_loading: bool,
    /// Whether what a killed run has left is being removed at this moment.
    pub(super) sweeps: bool,
    /// Whether an image of these stays, and with it all below.
    keeps: bool,
    /// The names of containers that never run.
    pub(in crate::engine) containers: Vec<String>,
}

impl CleanupState {
    /// What follows from a run's facts.
    pub(in crate::engine) fn of(facts: Vec<JournalEvent>) -> Self {
        let mut left = Self::default();
        for fact in facts {
            left.add(fact);
        }
        left
    }

    pub(in crate::engine) fn add(&mut self, fact: JournalEvent) {
        match fact {
            JournalEvent::Build(build) => {
                self.tags.push(build.tag.clone());
                self.begun = Some(build.clone());
                (self.build, self.given) = (Some(build), None);
            }
            JournalEvent::ContextSent(bytes) => self.given = Some(bytes),
            JournalEvent::Ended(made) => {
                self.made.extend(made);
                self.build = None;
            }
            JournalEvent::Load(tag) => {
                self.is_loading = true;
                self.loaded.push(tag);
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
                    self.loaded.retain(|loaded| *loaded != tag);
                    self.caches.retain(|cache| *cache != tag);
                }
            }
            JournalEvent::Stays(id) => {
                self.keeps = true;
                self.made.retain(|made| !is_id(made, &id));
            }
            JournalEvent::Container(name) => self.containers.push(name),
            JournalEvent::Sweeps => self.sweeps = true,
        }
    }

    /// How many bytes the engine unpacks by itself until it has an image of this name.
    pub(super) fn unpacks(&self, name: &str) -> Option<u64> {
        self.unpacking.as_ref().filter(|(unpacking, _)| unpacking == name).map(|(_, bytes)| *bytes)
    }

    /// Whether what is below an image that stays is still in use.
    pub(in crate::engine) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Whether it has loaded images that were not there.
    pub(super) fn has_loaded(&self) -> bool {
        !self.loaded_ids.is_empty()
    }

    /// The names that this run has given.
    pub(super) fn given_names(&self) -> impl Iterator<Item = &String> {
        self.tags.iter().chain(&self.loaded).chain(&self.caches)
    }

    /// What to remove, the youngest first: names and ids.
    pub(super) fn to_remove(&self) -> Vec<String> {
        let steps = || self.steps.iter().chain(&self.made).rev();
        // With a cache's name goes what was built, where each step was taken from it, and only then the steps below can go. What
        // was loaded is below all else: an image whose last name goes while another is on top of it stays without one.
        let names = self.tags.iter().rev().chain(steps());
        let cached = self.caches.iter().rev().chain(steps().filter(|_| !self.caches.is_empty()));
        names.chain(cached).chain(self.loaded.iter().rev()).chain(self.loaded_ids.iter().rev()).cloned().collect()
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
        let facts =
            vec![JournalEvent::Sent("base:parent".to_owned(), 9), load, build("a:1"), JournalEvent::ContextSent(9)];
        let mut left = CleanupState::of(facts);
        assert!(left.unpacks("base:parent") == Some(9) && left.given == Some(9) && left.build.is_some());
        left.add(JournalEvent::Loaded {
            tag: "base:parent".to_owned(),
            was_nameless: false,
            made: Some("parent".to_owned()),
        });
        left.add(JournalEvent::Ended(ids(&["one", "two"])));
        assert!(left.unpacks("base:parent").is_none() && left.build.is_none());
        assert_eq!(left.to_remove(), ["a:1", "two", "one", "base:parent", "parent"]);
        left.add(JournalEvent::Stays("two".to_owned()));
        left.add(JournalEvent::Loaded { tag: "base:parent".to_owned(), was_nameless: true, made: None });
        assert_eq!(left.to_remove(), ["a:1", "one", "parent"], "what is kept, and what was there without a name");
    }

    #[test]
    fn what_is_the_cache_itself_goes_before_the_steps_below_it_and_these_before_the_parent() {
        let cache = [JournalEvent::Cache("a:cache".to_owned()), JournalEvent::Steps(ids(&["step"]))];
        let left = CleanupState::of(vec![
            cache[0].clone(),
            cache[1].clone(),
            JournalEvent::Load("base:1".to_owned()),
            build("a:1"),
            JournalEvent::Ended(ids(&["one"])),
        ]);
        assert_eq!(left.to_remove(), ["a:1", "one", "step", "a:cache", "one", "step", "base:1"]);
        assert_eq!(left.given_names().count(), 3);
    }

    #[test]
    fn facts_survive_as_text() {
        let stages = crate::dockerfile::stages::read("FROM scratch\nRUN x\nFROM a\n", &BTreeMap::new());
        let begun = StartedBuild {
            tag: "a:1".to_owned(),
            stages,
            before: ids(&["sha256:00"]),
            earlier: 1,
            ..StartedBuild::default()
        };
        for fact in [
            JournalEvent::Build(begun),
            JournalEvent::ContextSent(1),
            JournalEvent::Ended(ids(&["one"])),
            JournalEvent::Steps(ids(&["a"])),
        ] {
            let text = serde_json::to_string(&fact).unwrap();
            assert_eq!(serde_json::from_str::<JournalEvent>(&text).unwrap(), fact);
        }
    }
}
