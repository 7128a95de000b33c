//! Which of an engine's images come from a build: a decision about ids, parents and names alone. Nothing that a step prints has
//! a part in it; asking the engine and removing is for `clean`.
//!
//! The rule: an image comes from a build if it was not there when the build began, has no name that somebody else has
//! given, and is a step's image: its chain of parents ends at the base of one of the build's stages, and each image of the
//! chain is recorded as made by that stage's instruction of the same number. Ids that the engine has told at a stage's end
//! (`aux`) need no such proof, nor do their parents up to the stage's base.
//!
//! Two builds of the same instructions on the same base look alike. So where there are more such images than builds that can
//! have made them, and where such a build lives, none is taken, until it is clear again whose they are.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::made_by::is_made_by;

/// An image as an engine describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// The id of the image that it was made from, or the first digits of it; empty if there is none.
    pub parent: String,
    /// What made it, in the engine's words.
    pub made_by: String,
}

/// Where a stage begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// At an image, by its id; an empty id is that of `scratch`.
    Image(String),
    /// At the end of an earlier stage.
    Stage(usize),
    /// Nobody knows.
    Unknown,
}

/// A stage of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltStage {
    /// Where it begins.
    pub root: Root,
    /// Its instructions, what the base has kept with `ONBUILD` first.
    pub steps: Vec<String>,
}

/// What is known of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The name that it gives.
    pub tag: String,
    /// Its stages.
    pub stages: Vec<BuiltStage>,
    /// The ids of the images that were there before it.
    pub before: HashSet<String>,
    /// The images at the ends of stages, as the engine has told them: the stage and the id.
    pub told: Vec<(usize, String)>,
    /// The shells of its bases, to which commands may be given.
    pub shells: Vec<String>,
    /// How many builds of these instructions can have left something.
    pub runs: usize,
}

/// What comes from a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descent {
    /// The ids of its images, each behind that of its parent.
    pub ids: Vec<String>,
    /// The image of the last step of the last stage that was begun.
    pub last: Option<String>,
    /// The next step of the stage that was not finished, and the image that it works on (none: an empty one).
    pub next: Option<(String, String)>,
    /// The shells that its commands may be given to.
    pub shells: Vec<String>,
    /// Some of its images are only known by what made them.
    pub is_unproven: bool,
    /// Images may be this build's or somebody else's: nothing is removed that is in doubt.
    pub is_unclear: bool,
}

impl Build {
    /// Whether an image can be this build's at all.
    #[must_use]
    pub fn is_candidate(&self, image: &Candidate) -> bool {
        !self.before.contains(&image.id) && image.names.iter().all(|name| is_none(name) || is_named(name, &self.tag))
    }

    /// The images that come from this build; `images` are all that the engine has.
    #[must_use]
    pub fn descent(&self, images: &[Candidate]) -> Descent {
        let candidates: Vec<_> = images.iter().filter(|image| self.is_candidate(image)).collect();
        let mut ours: BTreeSet<&str> = BTreeSet::new();
        for (stage, id) in &self.told {
            let steps = self.stages.get(*stage).map_or(0, |stage| stage.steps.len());
            let mut at = id.as_str();
            for _ in 0..steps {
                let Some(image) = images.iter().find(|image| is_id(&image.id, at)) else { break };
                // What is built can be an image that was there, which an engine puts on top of steps that it restores.
                if self.is_candidate(image) {
                    ours.insert(&image.id);
                }
                at = &image.parent;
            }
        }
        let mut descent = Descent { shells: self.all_shells(), ..Descent::default() };
        let shells = descent.shells.clone();
        let proven_by_id = ours.len();
        // The ends of the stages so far, for those that begin there.
        let mut ends: Vec<Vec<&str>> = Vec::new();
        for (number, stage) in self.stages.iter().enumerate() {
            let told: Vec<_> = self.told.iter().filter(|(of, _)| *of == number).map(|(_, id)| id.as_str()).collect();
            let mut at: Vec<&str> = match &stage.root {
                Root::Image(id) => vec![id],
                Root::Stage(stage) => ends.get(*stage).cloned().unwrap_or_default(),
                Root::Unknown => Vec::new(),
            };
            if !told.is_empty() {
                descent.last = told.first().map(|&id| id.to_owned());
                ends.push(told);
                continue;
            }
            for (step, instruction) in stage.steps.iter().enumerate() {
                let made: Vec<_> = candidates
                    .iter()
                    .filter(|image| {
                        at.iter().any(|parent| is_child(image, parent))
                            && is_made_by(&image.made_by, instruction, &shells)
                    })
                    .map(|image| image.id.as_str())
                    .collect();
                let proven = |id: &&str| ours.contains(*id);
                let in_doubt = made.iter().filter(|id| !proven(id)).count();
                if in_doubt > self.like(number, step + 1) {
                    descent.is_unclear = true;
                    at.clear();
                    break;
                }
                if made.is_empty() {
                    let next = at.first().map(|at| (instruction.clone(), (*at).to_owned()));
                    if step > 0 || descent.next.is_none() {
                        descent.next = next;
                    }
                    at.clear();
                    break;
                }
                ours.extend(&made);
                descent.last = made.first().map(|&id| id.to_owned());
                at = made;
            }
            ends.push(at);
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

    /// How many images there can be after so many steps of a stage: one for each stage of each run that begins the same.
    fn like(&self, number: usize, steps: usize) -> usize {
        let this = &self.stages[number];
        let like = |stage: &&BuiltStage| stage.root == this.root && stage.steps.get(..steps) == this.steps.get(..steps);
        self.stages.iter().filter(like).count() * self.runs
    }
}

fn parents_first(ours: &BTreeSet<&str>, candidates: &[&Candidate]) -> Vec<String> {
    let parents: HashMap<&str, &str> = candidates.iter().map(|it| (it.id.as_str(), it.parent.as_str())).collect();
    let depth = |id: &str| {
        let mut at = id;
        // An engine that tells of a circle is not worth a hang.
        (0..ours.len())
            .take_while(|_| {
                let parent = parents.get(at).copied().unwrap_or_default();
                let next = ours.iter().find(|it| is_id(it, parent));
                next.is_some_and(|next| {
                    at = next;
                    true
                })
            })
            .count()
    };
    let mut ids: Vec<_> = ours.iter().map(|id| (depth(id), (*id).to_owned())).collect();
    ids.sort();
    ids.into_iter().map(|(_, id)| id).collect()
}

/// Whether an image was made from this one; an empty id is that of `scratch`.
fn is_child(image: &Candidate, parent: &str) -> bool {
    if parent.is_empty() { image.parent.is_empty() } else { is_id(parent, &image.parent) }
}

/// Whether this is an image's id, or the first digits of it, of which no two images have the same.
pub(in crate::engine) fn is_id(id: &str, told: &str) -> bool {
    let (id, told) = (id.trim_start_matches("sha256:"), told.trim_start_matches("sha256:"));
    id == told || (told.len() >= 12 && id.starts_with(told))
}

/// Docker before 25 gives nameless images the name `<none>:<none>`.
pub(in crate::engine) fn is_none(name: &str) -> bool {
    name == "<none>:<none>"
}

/// Whether a name is this one. Podman writes names out, with a registry: `localhost/` those of images that it loads,
/// `docker.io/library/` or `docker.io/` those that Docker's clients give.
pub(in crate::engine) fn is_named(name: &str, tag: &str) -> bool {
    name == tag
        || ["localhost/", "docker.io/library/", "docker.io/"].iter().any(|it| name.strip_prefix(it) == Some(tag))
}

#[cfg(test)]
mod tests;
