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
    /// When the run that left this wrote its last word; nothing for our own.
    last_word: Option<SystemTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trace {
    /// The name of an image that is built.
    Tag(String),
    /// The name of an image that is loaded, which nobody else gives.
    Loaded(String),
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
                self.traces.push(Trace::Image(id.clone()));
                self.last = Some((id, true));
            }
            Fact::Ended => self.cut_short = false,
            Fact::Load(tag) => self.traces.push(Trace::Loaded(tag)),
            Fact::Sent(tag) => self.unpacking = Some(tag),
            Fact::Loaded { tag, was_nameless } => {
                self.unpacking = None;
                if was_nameless {
                    self.traces.retain(|trace| *trace != Trace::Loaded(tag.clone()));
                }
            }
            Fact::Stays(id) => self.traces.retain(|trace| *trace != Trace::Image(id.clone())),
        }
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

    /// Whether this is of a run that was killed.
    pub(super) fn is_of_a_killed_run(&self) -> bool {
        self.last_word.is_some()
    }

    /// Whether what the engine is still at can be asked for later, too. A parent's name is taken again by the next start
    /// of the same task.
    pub(super) fn can_wait(&self) -> bool {
        self.expects_more() && !self.traces.iter().any(|trace| matches!(trace, Trace::Loaded(_)))
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
        let told = self.traces.iter().rev().filter_map(|trace| match trace {
            Trace::Tag(tag) => (!self.is_taken(tag, &untold, images)).then_some(tag),
            // A command can print what looks like the engine's word about any image.
            Trace::Loaded(tag) => Some(tag),
            Trace::Image(id) => self.before.iter().all(|before| !begins(before, id)).then_some(id),
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

/// Whether an image has this name. Podman puts that of a registry that is none before it.
fn is_named(image: &ImageSummary, tag: &str) -> bool {
    image.repo_tags.iter().any(|name| name.trim_start_matches("localhost/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "builder:1234";

    fn facts() -> Vec<Fact> {
        let (base, step) = ("aaaaaaaaaaaa".to_owned(), "bbbbbbbbbbbb".to_owned());
        let before = vec![id("aaaaaaaaaaaa"), id("999999999999")];
        vec![
            Fact::Build { tag: TAG.to_owned(), firsts: vec!["COPY x /y".to_owned()], before },
            Fact::Given,
            Fact::Has(base),
            Fact::Made(step),
            Fact::Step("COPY a /b".to_owned()),
        ]
    }

    fn live() -> Left {
        let mut left = Left::default();
        for fact in facts() {
            left.add(fact);
        }
        left
    }

    /// What is left of a run that was killed at the second 1000.
    fn killed() -> Left {
        let last_word = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_900);
        Left::from(Found { facts: facts(), last_word })
    }

    fn id(beginning: &str) -> String {
        format!("sha256:{beginning:0<64}")
    }

    fn image(own: &str, parent: &str, created: i64, tags: &[&str]) -> ImageSummary {
        let repo_tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        ImageSummary { id: id(own), parent_id: id(parent), created, repo_tags, ..ImageSummary::default() }
    }

    #[test]
    fn images_that_were_there_before_are_not_removed_whatever_is_printed() {
        let mut left = live();
        left.add(Fact::Made("999999999999".to_owned()));
        left.add(Fact::Made(id("999999999999")));
        assert_eq!(left.names(vec!["cccc".to_owned()], &[]), ["cccc", "bbbbbbbbbbbb", TAG]);
    }

    #[test]
    fn a_loaded_image_goes_by_its_name_unless_it_was_there_without_one() {
        let parent = "base:parent-1";
        let load = [Fact::Load(parent.to_owned()), Fact::Sent(parent.to_owned())];
        let mut left = Left::from(Found { facts: load.into(), last_word: SystemTime::UNIX_EPOCH });
        let strange = [image("dd", "", 0, &[parent])];
        assert!(left.is_unpacking(parent) && !left.is_unpacking(TAG));
        assert_eq!(left.names(Vec::new(), &strange), [parent], "nobody else gives this name");
        for fact in facts() {
            left.add(fact);
        }
        assert_eq!(left.names(Vec::new(), &[]), ["bbbbbbbbbbbb", TAG, parent], "what is built of it goes first");
        let ended = |was_nameless| Fact::Loaded { tag: parent.to_owned(), was_nameless };
        left.add(ended(false));
        assert_eq!((left.is_unpacking(parent), left.names(Vec::new(), &[]).len()), (false, 3));
        left.add(ended(true));
        assert_eq!(left.names(Vec::new(), &[]), ["bbbbbbbbbbbb", TAG]);
    }

    #[test]
    fn what_is_kept_is_not_ours_any_more() {
        let mut left = live();
        assert_eq!(left.last(), Some("bbbbbbbbbbbb"));
        left.add(Fact::Stays("bbbbbbbbbbbb".to_owned()));
        assert_eq!(left.names(Vec::new(), &[]), [TAG]);
        left.add(Fact::Has(String::new()));
        assert_eq!(left.last(), None, "an empty base");
    }

    #[test]
    fn a_later_builds_list_does_not_protect_what_an_earlier_one_made() {
        let mut left = live();
        left.add(Fact::Ended);
        let before = [id("bbbbbbbbbbbb"), id("dddddddddddd")].to_vec();
        left.add(Fact::Build { tag: "second:1".to_owned(), firsts: Vec::new(), before });
        left.add(Fact::Made("dddddddddddd".to_owned()));
        assert_eq!(left.names(Vec::new(), &[]), ["second:1", "bbbbbbbbbbbb", TAG]);
    }

    fn untold(left: &Left, images: &[ImageSummary], made_by: &str) -> Vec<String> {
        let made_by = left.unproven(images).into_iter().map(|id| (id, made_by.to_owned())).collect();
        left.untold(images, &made_by)
    }

    const COPIED: &str = "/bin/sh -c #(nop) COPY file:dbdb6fad2bc656f1 in /y ";

    #[test]
    fn untold_images_are_nameless_and_on_top_of_the_last() {
        let mut left = live();
        assert!(left.expects_more());
        let images = [
            image("ee", "dd", 5, &["<none>:<none>"]),
            image("dd", "bbbbbbbbbbbb", 5, &[]),
            image("f1", "bbbbbbbbbbbb", 5, &["somebody:1"]),
            image("f2", "aaaaaaaaaaaa", 5, &[]),
            image("999999999999", "bbbbbbbbbbbb", 5, &[]),
            image("bbbbbbbbbbbb", "aaaaaaaaaaaa", 5, &[]),
        ];
        assert_eq!(untold(&left, &images, COPIED), [id("ee"), id("dd")], "the engine was two steps ahead");
        left.add(Fact::Step("RUN make".to_owned()));
        assert!(!left.expects_more(), "a command that is cut makes none");
        assert_eq!(untold(&left, &images, COPIED).len(), 2, "but it can have been at its end");
        left.add(Fact::Ended);
        assert_eq!(untold(&left, &images, COPIED), [""; 0]);
    }

    #[test]
    fn on_top_of_a_base_an_untold_image_is_of_a_first_instruction() {
        let mut left = live();
        let empty = ImageSummary { parent_id: String::new(), ..image("dd", "", 5, &[]) };
        for last in [String::new(), "aaaaaaaaaaaa".to_owned()] {
            left.add(Fact::Has(last));
            for first in [&empty, &image("dd", "aaaaaaaaaaaa", 5, &[])] {
                let images = [first.clone(), image("ee", "dd", 5, &[])];
                assert_eq!(left.unproven(&images), [id("dd")]);
                assert_eq!(untold(&left, &images, COPIED), [id("ee"), id("dd")]);
                assert_eq!(untold(&left, &images, "/bin/sh -c make"), [""; 0], "another build's");
            }
        }
    }

    #[test]
    fn after_a_kill_what_is_on_top_of_a_base_is_of_that_moment() {
        let mut left = killed();
        let count = |left: &Left, parent, created| untold(left, &[image("cc", parent, created, &[])], COPIED).len();
        assert_eq!(count(&left, "bbbbbbbbbbbb", 9999), 1, "on top of our own it is ours");
        left.add(Fact::Has("aaaaaaaaaaaa".to_owned()));
        assert_eq!([999, 1300, 1301].map(|created| count(&left, "aaaaaaaaaaaa", created)), [1, 1, 0]);
        let silent = Left { last: None, ..killed() };
        assert!(silent.expects_more() && !Left { given: false, ..silent }.expects_more());
    }

    #[test]
    fn after_a_kill_a_name_that_another_start_has_taken_stays() {
        let left = killed();
        let ours = [image("bbbbbbbbbbbb", "aaaaaaaaaaaa", 0, &[TAG])];
        let on_top = [image("cc", "bbbbbbbbbbbb", 1001, &["localhost/builder:1234"])];
        let untold = untold(&left, &on_top, "");
        let others = [image("dd", "aaaaaaaaaaaa", 0, &["other:1", TAG])];
        assert_eq!(left.names(Vec::new(), &ours), ["bbbbbbbbbbbb", TAG]);
        assert_eq!(
            left.names(untold, &on_top),
            [id("cc").as_str(), "bbbbbbbbbbbb", TAG],
            "the engine went on to the end"
        );
        assert_eq!(left.names(Vec::new(), &others), ["bbbbbbbbbbbb"]);
        assert_eq!(live().names(Vec::new(), &others), ["bbbbbbbbbbbb", TAG], "what we have named is ours");
    }
}
