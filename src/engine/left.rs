//! What a build has left in the engine, as it follows from the facts: of the build under way, or, from its journal, of one
//! whose program was killed. Pure thought; asking the engine and removing is for `clean`.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use bollard::models::ImageSummary;

use super::journal::{Fact, Found};

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
    /// The image of the last step that the engine told of, and whether this build made it.
    last: Option<(String, bool)>,
    /// The instruction of the step that the engine is at.
    instruction: String,
    /// The ids of the images that the engine had before us.
    before: HashSet<String>,
    /// When the run that left this was heard of for the last time, and how long ago that is; nothing for our own.
    last_word: Option<(SystemTime, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Trace {
    Tag(String),
    Image(String),
}

impl From<Found> for Left {
    fn from(journal: Found) -> Self {
        let mut left = Self { last_word: Some((journal.last_word, journal.silent_for)), ..Self::default() };
        journal.facts.into_iter().for_each(|fact| left.add(fact));
        left
    }
}

impl Left {
    pub(super) fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Engine(place) => self.engine = Some(place),
            Fact::Build { tag, before } => {
                // What an earlier build of this program made is not somebody else's.
                let before: Vec<_> = before.into_iter().filter(|id| !self.is_told(id)).collect();
                self.before.extend(before);
                self.traces.push(Trace::Tag(tag));
                (self.cut_short, self.instruction, self.last) = (true, String::new(), None);
            }
            Fact::Step(instruction) => self.instruction = instruction,
            Fact::Has(id) => self.last = Some((id, false)),
            Fact::Made(id) => {
                self.traces.push(Trace::Image(id.clone()));
                self.last = Some((id, true));
            }
            Fact::Ended => self.cut_short = false,
        }
    }

    /// Whether the engine may not have let go of it all yet, which takes it this long.
    pub(super) fn is_fresh(&self, letting_go: Duration) -> bool {
        self.cut_short && self.last_word.is_none_or(|(_, silent_for)| silent_for < letting_go)
    }

    /// The instruction of the step that the engine is at.
    pub(super) fn instruction(&self) -> &str {
        &self.instruction
    }

    /// Whether the engine is still making an image that it will not tell of: a step without a command (`COPY`) goes on
    /// after the build is cut short. One with a command is ended, unless it was about to end.
    pub(super) fn expects_more(&self) -> bool {
        self.cut_short
            && self.last.is_some()
            && !self.instruction.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("RUN "))
    }

    /// Whether this can be an image that nobody was told of: nameless, on top of the last one, and not there before. After
    /// a kill others had time for images like that: then it must be of that moment, too.
    pub(super) fn can_be_untold(&self, image: &ImageSummary) -> bool {
        // Docker before 25 gives nameless images the name `<none>:<none>`.
        let nameless = image.repo_tags.iter().all(|tag| tag == "<none>:<none>");
        self.cut_short
            && self.is_on_top(image)
            && nameless
            && self.is_in_time(image)
            && !self.before.contains(&image.id)
    }

    /// Whether such an image is of this build, by what its history says of its making. On top of what this build has
    /// made it is; on top of a base it can be of another build, which is under way.
    pub(super) fn is_untold(&self, made_by: &str) -> bool {
        self.last.as_ref().is_some_and(|(_, ours)| *ours) || is_made_by(made_by, &self.instruction)
    }

    /// What to remove, the youngest first: names and ids. `untold` is what the engine has besides, and `images` are those
    /// that it has now.
    pub(super) fn names(&self, untold: Vec<String>, images: &[ImageSummary]) -> Vec<String> {
        let told = self.traces.iter().rev().filter_map(|trace| match trace {
            Trace::Tag(tag) => (!self.is_taken(tag, images)).then_some(tag),
            // A command can print what looks like the engine's word about any image.
            Trace::Image(id) => self.before.iter().all(|before| !begins(before, id)).then_some(id),
        });
        untold.into_iter().chain(told.cloned()).collect()
    }

    /// Whether another start of the same task has taken a name for an image of its own since this run was killed.
    fn is_taken(&self, tag: &str, images: &[ImageSummary]) -> bool {
        // Podman puts the name of a registry that is none before it.
        let named = |image: &&ImageSummary| image.repo_tags.iter().any(|it| it.trim_start_matches("localhost/") == tag);
        let now = images.iter().find(named);
        let ours = |image: &ImageSummary| self.is_told(&image.id) || (self.is_on_top(image) && self.is_in_time(image));
        self.last_word.is_some() && now.is_some_and(|image| !ours(image))
    }

    fn is_told(&self, id: &str) -> bool {
        self.traces.iter().any(|trace| matches!(trace, Trace::Image(told) if begins(id, told)))
    }

    /// Whether an image is of the moment at which the program was killed; where it was not, any image is.
    fn is_in_time(&self, image: &ImageSummary) -> bool {
        self.last_word.is_none_or(|(last_word, _)| {
            let since =
                |moment: SystemTime| moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let created = u64::try_from(image.created).unwrap_or_default();
            (since(last_word)..=since(last_word + GOES_ON)).contains(&created)
        })
    }

    fn is_on_top(&self, image: &ImageSummary) -> bool {
        match &self.last {
            Some((base, _)) if base.is_empty() => image.parent_id.is_empty(),
            Some((last, _)) => begins(&image.parent_id, last),
            None => false,
        }
    }
}

/// Whether this, from an image's history, was made of this instruction: `/bin/sh -c #(nop) COPY file:… in /data` of
/// `COPY data /data`. Where variables make it read otherwise, it is taken for another's.
fn is_made_by(made_by: &str, instruction: &str) -> bool {
    // As engines write lists and texts in several ways.
    let bare = |text: &str| text.chars().filter(|it| !it.is_whitespace() && !"[],\"".contains(*it)).collect::<String>();
    let (word, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let Some((_, made)) = made_by.split_once("#(nop)") else {
        return word.eq_ignore_ascii_case("RUN") && !rest.is_empty() && bare(made_by).ends_with(&bare(rest));
    };
    let (made_word, made) = made.trim().split_once(char::is_whitespace).unwrap_or((made, ""));
    let same = if matches!(made_word, "COPY" | "ADD") {
        let (to, made_to) = (rest.split_whitespace().last(), made.rsplit_once(" in ").map(|(_, to)| to));
        to.map(bare) == made_to.map(bare)
    } else {
        bare(rest) == bare(made)
    };
    made_word.eq_ignore_ascii_case(word) && same
}

/// Whether an id begins like that: engines tell a few digits of it.
fn begins(id: &str, beginning: &str) -> bool {
    id == beginning || id.trim_start_matches("sha256:").starts_with(beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "builder:1234";

    fn facts() -> Vec<Fact> {
        let (base, step) = ("aaaaaaaaaaaa".to_owned(), "bbbbbbbbbbbb".to_owned());
        let before = vec![id("aaaaaaaaaaaa"), id("999999999999")];
        vec![
            Fact::Build { tag: TAG.to_owned(), before },
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
        Left::from(Found { facts: facts(), last_word, silent_for: Duration::from_mins(1) })
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
    fn a_later_builds_list_does_not_protect_what_an_earlier_one_made() {
        let mut left = live();
        left.add(Fact::Ended);
        let before = [id("bbbbbbbbbbbb"), id("dddddddddddd")].to_vec();
        left.add(Fact::Build { tag: "second:1".to_owned(), before });
        left.add(Fact::Made("dddddddddddd".to_owned()));
        assert_eq!(left.names(Vec::new(), &[]), ["second:1", "bbbbbbbbbbbb", TAG]);
    }

    #[test]
    fn the_untold_image_is_nameless_and_on_top_of_the_last() {
        let mut left = live();
        assert!(left.expects_more());
        assert!(left.can_be_untold(&image("cc", "bbbbbbbbbbbb", 5, &[])));
        assert!(left.can_be_untold(&image("cc", "bbbbbbbbbbbb", 5, &["<none>:<none>"])));
        assert!(!left.can_be_untold(&image("cc", "bbbbbbbbbbbb", 5, &["somebody:1"])));
        assert!(!left.can_be_untold(&image("cc", "aaaaaaaaaaaa", 5, &[])));
        assert!(!left.can_be_untold(&image("999999999999", "bbbbbbbbbbbb", 5, &[])));
        left.add(Fact::Step("RUN make".to_owned()));
        assert!(!left.expects_more(), "a command that is cut makes none");
        assert!(left.can_be_untold(&image("cc", "bbbbbbbbbbbb", 5, &[])), "but it can have been at its end");
        left.add(Fact::Ended);
        assert!(!left.can_be_untold(&image("cc", "bbbbbbbbbbbb", 5, &[])));
    }

    #[test]
    fn on_top_of_a_base_the_untold_image_is_of_the_same_instruction() {
        let mut left = live();
        let copied = "/bin/sh -c #(nop) COPY file:dbdb6fad2bc656f1 in /b ";
        assert!(left.is_untold("anything") && left.is_untold(copied), "on top of our own");
        left.add(Fact::Has(String::new()));
        assert!(left.can_be_untold(&ImageSummary { parent_id: String::new(), ..image("cc", "", 5, &[]) }));
        assert!(!left.can_be_untold(&image("cc", "aaaaaaaaaaaa", 5, &[])), "not on top of an empty base");
        assert!(left.is_untold(copied) && !left.is_untold("anything"));
        for (instruction, made_by, same) in [
            ("COPY a b /x/", "/bin/sh -c #(nop) COPY multi:00 in /x/ ", true),
            ("COPY [\"a\", \"/b c\"]", "/bin/sh -c #(nop) COPY file:00 in /b c ", false),
            ("ADD a /b", copied, false),
            ("COPY a /other", copied, false),
            ("LABEL a=1", "/bin/sh -c #(nop)  LABEL a=1", true),
            ("LABEL a=1", "/bin/sh -c #(nop)  LABEL a=2", false),
            ("SHELL [\"/x\", \"-c\"]", "/x -c #(nop)  SHELL [/x -c]", true),
            ("RUN [\"/busybox\", \"sleep\", \"1\"]", "/busybox sleep 1", true),
            ("RUN make all", "|1 A=b /bin/sh -c make all", true),
            ("RUN make all", "/bin/sh -c make", false),
            ("RUN", "/bin/sh -c make", false),
            ("", "/bin/sh -c #(nop)  LABEL a=1", false),
        ] {
            assert_eq!(is_made_by(made_by, instruction), same, "{instruction:?} {made_by:?}");
        }
    }

    #[test]
    fn after_a_kill_the_untold_image_is_of_that_moment() {
        let left = killed();
        let untold = |created| left.can_be_untold(&image("cc", "bbbbbbbbbbbb", created, &[]));
        assert_eq!([999, 1000, 1300, 1301].map(untold), [false, true, true, false]);
        assert!(left.is_fresh(Duration::from_secs(61)) && !left.is_fresh(Duration::from_mins(1)));
        assert!(live().is_fresh(Duration::ZERO));
    }

    #[test]
    fn after_a_kill_a_name_that_another_start_has_taken_stays() {
        let left = killed();
        let ours = [image("bbbbbbbbbbbb", "aaaaaaaaaaaa", 0, &[TAG])];
        let on_top = [image("cc", "bbbbbbbbbbbb", 1001, &["localhost/builder:1234"])];
        let others = [image("dd", "aaaaaaaaaaaa", 0, &["other:1", TAG])];
        assert_eq!(left.names(Vec::new(), &ours), ["bbbbbbbbbbbb", TAG]);
        assert_eq!(left.names(Vec::new(), &on_top), ["bbbbbbbbbbbb", TAG]);
        assert_eq!(left.names(Vec::new(), &others), ["bbbbbbbbbbbb"]);
        assert_eq!(live().names(Vec::new(), &others), ["bbbbbbbbbbbb", TAG], "what we have named is ours");
    }
}
