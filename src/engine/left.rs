//! What a job has left in the engine, as it follows from the facts: of the job under way, or, from its journal, of one
//! whose program was killed. Pure thought; asking the engine and removing is for `clean`.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use bollard::models::ImageSummary;

use super::journal::{Fact, Found};
use super::stages::is_made_by;

/// How long the engine goes on with a step that nobody waits for any more, at most: it copies some gigabytes.
const GOES_ON: Duration = Duration::from_mins(5);

/// What has to be removed.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Where the engine is, when a journal says it.
    pub(super) engine: Option<String>,
    /// In the order in which they were made.
    traces: Vec<Trace>,
    /// Whether a build has begun and not ended.
    cut_short: bool,
    /// Whether the engine has the context: before that it begins no step.
    given: bool,
    /// The first instructions of the build's stages.
    firsts: Vec<String>,
    /// The image of the last step that the engine told of, and whether this build made it.
    last: Option<(String, bool)>,
    /// The instruction of the step that the engine is at.
    instruction: String,
    /// The ids of the images that the engine had before us.
    before: HashSet<String>,
    /// The name of the image that is being loaded, when the engine has all of it.
    unpacking: Option<String>,
    /// Whether an image of these stays, and with it all below.
    keeps: bool,
    /// The names of containers that never run.
    containers: Vec<String>,
    /// When the run that left this wrote its last word; nothing for our own.
    last_word: Option<SystemTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trace {
    /// The name of an image that is built.
    Tag(String),
    /// The name of an image that is loaded, which nobody else gives.
    Loaded(String),
    /// The name of an image that was loaded for its steps. What is built can be that very image, on top of others that we made.
    Cache(String),
    Image(String),
}

impl From<Found> for Left {
    fn from(journal: Found) -> Self {
        let mut left = Self { last_word: Some(journal.last_word), ..Self::default() };
        journal.facts.into_iter().for_each(|fact| left.add(fact));
        left
    }
}

impl Left {
    pub(super) fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Engine(place) => self.engine = Some(place),
            Fact::Build { tag, firsts, before } => {
                // What an earlier build of this program made is not somebody else's.
                let before: Vec<_> = before.into_iter().filter(|id| !self.is_told(id)).collect();
                self.before.extend(before);
                self.traces.push(Trace::Tag(tag));
                (self.cut_short, self.given, self.firsts) = (true, false, firsts);
                (self.instruction, self.last) = (String::new(), None);
            }
            Fact::Given => self.given = true,
            Fact::Step(instruction) => self.instruction = instruction,
            Fact::Has(id) => self.last = Some((id, false)),
            Fact::Made(id) => {
                if !self.is_known(&id) {
                    self.traces.push(Trace::Image(id.clone()));
                }
                self.last = Some((id, true));
            }
            Fact::Ended => self.cut_short = false,
            Fact::Load(tag) => self.traces.push(Trace::Loaded(tag)),
            Fact::Cache(tag) => self.traces.push(Trace::Cache(tag)),
            Fact::Sent(tag) => self.unpacking = Some(tag),
            Fact::Loaded { tag, was_nameless } => {
                self.unpacking = None;
                if was_nameless {
                    let (loaded, cache) = (Trace::Loaded(tag.clone()), Trace::Cache(tag));
                    self.traces.retain(|trace| *trace != loaded && *trace != cache);
                }
            }
            Fact::Stays(id) => {
                self.keeps = true;
                self.traces.retain(|trace| *trace != Trace::Image(id.clone()));
            }
            Fact::Container(name) => self.containers.push(name),
        }
    }

    /// The names of containers, which go before the images that they are of.
    pub(super) fn containers(&self) -> &[String] {
        &self.containers
    }

    /// The image of the last step that the engine told of.
    pub(super) fn last(&self) -> Option<&str> {
        // There is none of an empty base.
        self.last.as_ref().map(|(id, _)| id.as_str()).filter(|id| !id.is_empty())
    }

    /// Whether the engine goes on by itself until it has an image of this name.
    pub(super) fn is_unpacking(&self, name: &str) -> bool {
        self.unpacking.as_deref() == Some(name)
    }

    /// The instruction of the step that the engine is at.
    pub(super) fn instruction(&self) -> &str {
        &self.instruction
    }

    /// Whether a build has begun and not ended.
    pub(super) fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Whether the engine is still making an image that it will not tell of: a step without a command (`COPY`) goes on
    /// after the build is cut short. One with a command is ended, unless it was about to end.
    pub(super) fn expects_more(&self) -> bool {
        let command = self.instruction.get(..4).is_some_and(|word| word.trim_end().eq_ignore_ascii_case("RUN"));
        self.cut_short && self.given && !command
    }

    /// Whether the engine may be about to let go of what it uses now: of a build that was cut short, or of an image that a
    /// killed run was removing, which the engine goes on with by itself. Nobody knows how long ago the kill was, only when
    /// the program spoke last. What is below a kept image stays in use.
    pub(super) fn is_let_go_of(&self) -> bool {
        self.cut_short || (self.is_of_a_killed_run() && !self.keeps)
    }

    /// Whether this is of a run that was killed.
    pub(super) fn is_of_a_killed_run(&self) -> bool {
        self.last_word.is_some()
    }

    /// Whether what the engine is still at can be asked for later, too. A parent's name is taken again by the next start
    /// of the same task.
    pub(super) fn can_wait(&self) -> bool {
        self.expects_more() && !self.traces.iter().any(|trace| matches!(trace, Trace::Loaded(_) | Trace::Cache(_)))
    }

    /// Images of which only their history can tell whether they are of this build: those on top of a base, which can be of
    /// another build that is under way. After a kill others had time for more of these: then they must be of that moment.
    pub(super) fn unproven<'a>(&self, images: &'a [ImageSummary]) -> Vec<&'a str> {
        let told = self.last.as_ref().is_some_and(|(_, ours)| *ours);
        if told && self.firsts.len() < 2 {
            return Vec::new();
        }
        let strange: Vec<_> = self.strange(images).collect();
        // On top of another such image it is of whoever made that.
        let on_base = |image: &&&ImageSummary| {
            let on_strange = strange.iter().any(|it| it.id == image.parent_id);
            !on_strange && !self.is_told(&image.parent_id) && self.is_in_time(image)
        };
        strange.iter().filter(on_base).map(|image| image.id.as_str()).collect()
    }

    /// The images that nobody was told of, the youngest first: the engine is always a little ahead of what it tells.
    /// `made_by` is what the histories of the unproven say of their making.
    pub(super) fn untold(&self, images: &[ImageSummary], made_by: &BTreeMap<&str, String>) -> Vec<String> {
        let first = |id: &str| {
            let made_by = made_by.get(id);
            made_by.is_some_and(|made_by| self.firsts.iter().any(|first| is_made_by(made_by, first)))
        };
        let last = |parent: &str| matches!(&self.last, Some((last, true)) if begins(parent, last));
        let mut ours: Vec<String> = Vec::new();
        let mut strange: Vec<_> = self.strange(images).collect();
        loop {
            let is_ours =
                |image: &&ImageSummary| ours.contains(&image.parent_id) || last(&image.parent_id) || first(&image.id);
            let (found, rest): (Vec<_>, Vec<_>) = strange.into_iter().partition(is_ours);
            if found.is_empty() {
                ours.reverse();
                return ours;
            }
            ours.extend(found.into_iter().map(|image| image.id.clone()));
            strange = rest;
        }
    }

    /// The images that can be untold: without a name but ours, and neither told nor there before.
    fn strange<'a>(&self, images: &'a [ImageSummary]) -> impl Iterator<Item = &'a ImageSummary> {
        images.iter().filter(|image| {
            let nameless = is_nameless(image) || self.names_only(image);
            self.cut_short && nameless && !self.before.contains(&image.id) && !self.is_told(&image.id)
        })
    }

    /// Whether an image has this build's name and no other: the engine goes on to its end with the last step.
    fn names_only(&self, image: &ImageSummary) -> bool {
        let ours = |trace: &Trace| matches!(trace, Trace::Tag(tag) if is_named(image, tag));
        image.repo_tags.len() == 1 && self.traces.iter().any(ours)
    }

    /// What to remove, the youngest first: names and ids. `untold` is what the engine has besides, and `images` are those
    /// that it has now.
    pub(super) fn names(&self, untold: Vec<String>, images: &[ImageSummary]) -> Vec<String> {
        // A command can print what looks like the engine's word about any image.
        let is_ours = |id: &String| self.before.iter().all(|before| !begins(before, id));
        let steps = || {
            self.traces.iter().rev().filter_map(|trace| match trace {
                Trace::Image(id) => is_ours(id).then_some(id),
                Trace::Tag(_) | Trace::Loaded(_) | Trace::Cache(_) => None,
            })
        };
        // What was loaded is below all else: an image whose last name goes while another is on top of it stays without one.
        let is_loaded = |trace: &&Trace| matches!(trace, Trace::Loaded(_));
        let above = self.traces.iter().rev().filter(|trace| !is_loaded(trace));
        let told = above.chain(self.traces.iter().rev().filter(is_loaded)).flat_map(|trace| match trace {
            Trace::Tag(tag) => Vec::from_iter((!self.is_taken(tag, &untold, images)).then_some(tag)),
            Trace::Loaded(tag) => vec![tag],
            // Where each step was taken from it, it is what was built, and only without it the steps below can go.
            Trace::Cache(tag) => std::iter::once(tag).chain(steps()).collect(),
            Trace::Image(id) => Vec::from_iter(is_ours(id).then_some(id)),
        });
        let told: Vec<_> = told.cloned().collect();
        untold.into_iter().chain(told).collect()
    }

    /// Whether another start of the same task has taken a name for an image of its own since this run was killed.
    fn is_taken(&self, tag: &str, untold: &[String], images: &[ImageSummary]) -> bool {
        let named = images.iter().find(|image| is_named(image, tag));
        let ours = |image: &ImageSummary| self.is_told(&image.id) || untold.contains(&image.id);
        self.last_word.is_some() && named.is_some_and(|image| !ours(image))
    }

    fn is_told(&self, id: &str) -> bool {
        self.traces.iter().any(|trace| matches!(trace, Trace::Image(told) if begins(id, told)))
    }

    /// Whether an image is told of by this id, or by more or fewer digits of it.
    fn is_known(&self, id: &str) -> bool {
        self.traces.iter().any(|trace| matches!(trace, Trace::Image(told) if begins(id, told) || begins(told, id)))
    }

    /// Whether an image can be of the build, by its date; where the program was not killed, any image can.
    fn is_in_time(&self, image: &ImageSummary) -> bool {
        self.last_word.is_none_or(|last_word| {
            let end = (last_word + GOES_ON).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            image.created <= i64::try_from(end.as_secs()).unwrap_or(i64::MAX)
        })
    }
}

/// Docker before 25 gives nameless images the name `<none>:<none>`.
pub(super) fn is_nameless(image: &ImageSummary) -> bool {
    image.repo_tags.iter().all(|tag| tag == "<none>:<none>")
}

/// Whether an id begins like that: engines tell a few digits of it.
fn begins(id: &str, beginning: &str) -> bool {
    id == beginning || id.trim_start_matches("sha256:").starts_with(beginning)
}

/// Whether an image has this name. Podman writes names out, with a registry: `localhost/` those of images that it loads,
/// `docker.io/library/` or `docker.io/` those that Docker's clients give.
fn is_named(image: &ImageSummary, tag: &str) -> bool {
    image.repo_tags.iter().any(|name| {
        name == tag
            || ["localhost/", "docker.io/library/", "docker.io/"].iter().any(|it| name.strip_prefix(it) == Some(tag))
    })
}

#[cfg(test)]
mod tests;
