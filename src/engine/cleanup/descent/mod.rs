//! Decides which images of an engine come from a build, from ids, parents, names and histories alone. The output of a step
//! never matters. `candidates` queries the engine, `clean` removes the images.
//!
//! The rule: an image comes from a build if it was not there when the build started, has no name that somebody else has
//! given, and is the image of a step: its chain of parents ends at the base of one of the build's stages, and each image of
//! the chain is recorded as made by the instruction of that stage with the same number. Ids that the engine has reported at a
//! stage's end (`aux`) need no such proof, and neither do their parents up to the stage's base.
//!
//! Two builds of the same instructions on the same base look alike. So if there are more such images than builds that can
//! have made them, and if another such build is running, none is taken until it is clear again whose they are.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::made_by::is_made_by;

/// An image as an engine describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// The id of its parent image, or the first digits of it; empty if it has no parent.
    pub parent: String,
    /// The instruction that made it, as the engine records it.
    pub made_by: String,
}

/// The base of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// An image, by its id; an empty id stands for `scratch`.
    Image(String),
    /// The end of an earlier stage.
    Stage(usize),
    /// Unknown.
    Unknown,
}

/// A stage of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltStage {
    /// Its base.
    pub root: Root,
    /// Its instructions, after those that the base image has recorded with `ONBUILD`.
    pub steps: Vec<String>,
}

/// A build as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The name that it gives to its image.
    pub tag: String,
    /// Its stages.
    pub stages: Vec<BuiltStage>,
    /// The ids of the images that were there before the build.
    pub before: HashSet<String>,
    /// The images at the ends of stages, as the engine has reported them: the number of the stage and the id.
    pub told: Vec<(usize, String)>,
    /// The shells of its base images, which may run the commands.
    pub shells: Vec<String>,
    /// How many builds of these instructions can have left images.
    pub runs: usize,
}

/// The images that come from a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descent {
    /// Their ids, parents first.
    pub ids: Vec<String>,
    /// The image of the last step of the last stage that has started.
    pub last: Option<String>,
    /// The next step of the unfinished stage, and the image that it works on (an empty id: none).
    pub next: Option<(String, String)>,
    /// The shells that may run its commands.
    pub shells: Vec<String>,
    /// Whether only the history identifies some of the images.
    pub is_unproven: bool,
    /// Whether images may belong to somebody else's build: no ambiguous image is removed.
    pub is_unclear: bool,
}

impl Build {
    /// Whether an image can belong to this build at all.
    #[must_use]
    pub fn is_candidate(&self, image: &Candidate) -> bool {
        !self.before.contains(&image.id) && image.names.iter().all(|name| is_none(name) || is_named(name, &self.tag))
    }

    /// The images that come from this build; `images` are all images of the engine.
    #[must_use]
    pub fn descent(&self, images: &[Candidate]) -> Descent {
        let candidates: Vec<_> = images.iter().filter(|image| self.is_candidate(image)).collect();
        let mut ours: BTreeSet<&str> = BTreeSet::new();
        for (stage, id) in &self.told {
            let steps = self.stages.get(*stage).map_or(0, |stage| stage.steps.len());
            let mut current = id.as_str();
            for _ in 0..steps {
                let Some(image) = images.iter().find(|image| is_id(&image.id, current)) else { break };
                // A build can result in an image that was there before: an engine puts it on top of steps that it restores.
                if self.is_candidate(image) {
                    ours.insert(&image.id);
                }
                current = &image.parent;
            }
        }
        let mut descent = Descent { shells: self.all_shells(), ..Descent::default() };
        let shells = descent.shells.clone();
        let proven_by_id = ours.len();
        // The ends of the stages so far, for the stages that start there.
        let mut ends: Vec<Vec<&str>> = Vec::new();
        for (number, stage) in self.stages.iter().enumerate() {
            let ids: Vec<_> = self.told.iter().filter(|(of, _)| *of == number).map(|(_, id)| id.as_str()).collect();
            let mut parents: Vec<&str> = match &stage.root {
                Root::Image(id) => vec![id],
                Root::Stage(stage) => ends.get(*stage).cloned().unwrap_or_default(),
                Root::Unknown => Vec::new(),
            };
            if !ids.is_empty() {
                descent.last = ids.first().map(|&id| id.to_owned());
                ends.push(ids);
                continue;
            }
            for (step, instruction) in stage.steps.iter().enumerate() {
                let children: Vec<_> = candidates
                    .iter()
                    .filter(|image| {
                        parents.iter().any(|parent| is_child(image, parent))
                            && is_made_by(&image.made_by, instruction, &shells)
                    })
                    .map(|image| image.id.as_str())
                    .collect();
                let is_proven = |id: &&str| ours.contains(*id);
                let ambiguous = children.iter().filter(|id| !is_proven(id)).count();
                if ambiguous > self.possible_images(number, step + 1) {
                    descent.is_unclear = true;
                    parents.clear();
                    break;
                }
                if children.is_empty() {
                    let next = parents.first().map(|parent| (instruction.clone(), (*parent).to_owned()));
                    if step > 0 || descent.next.is_none() {
                        descent.next = next;
                    }
                    parents.clear();
                    break;
                }
                ours.extend(&children);
                descent.last = children.first().map(|&id| id.to_owned());
                parents = children;
            }
            ends.push(parents);
        }
        descent.is_unproven = ours.len() > proven_by_id;
        descent.ids = parents_first(&ours, &candidates);
        descent
    }

    fn all_shells(&self) -> Vec<String> {
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        let own = steps.filter_map(|step| step.strip_prefix("SHELL ")).map(str::to_owned);
        self.shells.iter().cloned().chain(own).collect()
    }

    /// How many images there can be after this many steps of a stage: one for each stage of each run that starts the same
    /// way.
    fn possible_images(&self, number: usize, steps: usize) -> usize {
        let this = &self.stages[number];
        let same = |stage: &&BuiltStage| stage.root == this.root && stage.steps.get(..steps) == this.steps.get(..steps);
        self.stages.iter().filter(same).count() * self.runs
    }
}

fn parents_first(ours: &BTreeSet<&str>, candidates: &[&Candidate]) -> Vec<String> {
    let parents: HashMap<&str, &str> = candidates.iter().map(|it| (it.id.as_str(), it.parent.as_str())).collect();
    let depth = |id: &str| {
        let mut current = id;
        // A cycle in the engine's data must not cause an endless loop.
        (0..ours.len())
            .take_while(|_| {
                let parent = parents.get(current).copied().unwrap_or_default();
                let next = ours.iter().find(|it| is_id(it, parent));
                next.is_some_and(|next| {
                    current = next;
                    true
                })
            })
            .count()
    };
    let mut ids: Vec<_> = ours.iter().map(|id| (depth(id), (*id).to_owned())).collect();
    ids.sort();
    ids.into_iter().map(|(_, id)| id).collect()
}

/// Whether an image was made from this one; an empty id stands for `scratch`.
fn is_child(image: &Candidate, parent: &str) -> bool {
    if parent.is_empty() { image.parent.is_empty() } else { is_id(parent, &image.parent) }
}

/// Whether `reported` is an image's id, or its first digits: at least 12, which no two images share.
pub(in crate::engine) fn is_id(id: &str, reported: &str) -> bool {
    let (id, reported) = (id.trim_start_matches("sha256:"), reported.trim_start_matches("sha256:"));
    id == reported || (reported.len() >= 12 && id.starts_with(reported))
}

/// Docker before 25 gives images without a name the name `<none>:<none>`.
pub(in crate::engine) fn is_none(name: &str) -> bool {
    name == "<none>:<none>"
}

/// Whether a name stands for this tag. Podman adds a registry: `localhost/` for images that it loads, `docker.io/library/` or
/// `docker.io/` for names that Docker's clients give.
pub(in crate::engine) fn is_named(name: &str, tag: &str) -> bool {
    name == tag
        || ["localhost/", "docker.io/library/", "docker.io/"].iter().any(|it| name.strip_prefix(it) == Some(tag))
}

#[cfg(test)]
mod tests;
