//! What follows from the facts, without an engine: what is ours, what was there before, what came of a kill. How an engine
//! behaves is for the integration tests.

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
fn what_is_the_cache_itself_goes_before_the_steps_below_it_and_these_before_the_parent() {
    let (cache, parent) = ("builder:cache-1", "base:parent-1");
    let mut left = Left::default();
    for fact in [Fact::Cache(cache.to_owned()), Fact::Made(id("cc")), Fact::Load(parent.to_owned())] {
        left.add(fact);
    }
    let firsts = Vec::new();
    left.add(Fact::Build { tag: TAG.to_owned(), firsts, before: vec![id("cc"), id("dd")] });
    // The second is what was loaded for its steps; of the first the engine tells a few digits.
    for told in ["cc", "dd", "ee"] {
        left.add(Fact::Made(told.to_owned()));
    }
    let steps = ["ee".to_owned(), id("cc")];
    let names =
        [&steps[..1], &[TAG.to_owned()], &steps[1..], &[cache.to_owned()], &steps, &[parent.to_owned()]].concat();
    assert_eq!(left.names(Vec::new(), &[]), names);
    assert!(!left.can_wait(), "the next start of the task takes the name again");
    left.add(Fact::Loaded { tag: cache.to_owned(), was_nameless: true });
    assert!(!left.names(Vec::new(), &[]).contains(&cache.to_owned()));
}

#[test]
fn a_removal_that_a_kill_has_cut_goes_on_in_the_engine() {
    for (mut left, goes_on) in [(live(), false), (killed(), true)] {
        assert!(left.is_let_go_of(), "a build is cut short");
        left.add(Fact::Ended);
        assert_eq!(left.is_let_go_of(), goes_on);
        left.add(Fact::Stays("bbbbbbbbbbbb".to_owned()));
        assert!(!left.is_let_go_of(), "what is below a kept image stays in use");
    }
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
    assert_eq!(left.names(untold, &on_top), [id("cc").as_str(), "bbbbbbbbbbbb", TAG], "the engine went on to the end");
    assert_eq!(left.names(Vec::new(), &others), ["bbbbbbbbbbbb"]);
    assert_eq!(live().names(Vec::new(), &others), ["bbbbbbbbbbbb", TAG], "what we have named is ours");
}
