//! Tests of `descent` with simulated engines: our builds and those of others side by side, with arbitrary output, and an
//! engine whose state is a little ahead of what it reports. The integration tests cover real engines.

use proptest::prelude::*;

use super::*;

const TAG: &str = "builder:1234-task";

fn id(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn image(number: usize, parent: &str, made_by: &str, names: &[&str]) -> Candidate {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Candidate { id: id(number), names, parent: parent.to_owned(), made_by: made_by.to_owned() }
}

fn step(word: &str) -> (String, String) {
    (format!("RUN {word}"), format!("/bin/sh -c {word}"))
}

/// A build of `RUN a`, `RUN b` on image 1, which was there before, as was image 2.
fn build(reported: Vec<(usize, String)>) -> Build {
    let stages = vec![BuiltStage { root: Root::Image(id(1)), steps: ["a", "b"].map(|word| step(word).0).into() }];
    let before = HashSet::from([id(1), id(2)]);
    Build { tag: TAG.to_owned(), stages, before, told: reported, shells: Vec::new(), runs: 1 }
}

#[test]
fn a_step_is_nameless_new_and_on_its_base() {
    let a = step("a").1;
    let ours = [image(10, &id(1), &a, &["<none>:<none>"]), image(11, &id(10), &step("b").1, &[])];
    let foreign = [
        image(20, &id(1), &a, &["somebody:1"]),
        image(2, &id(1), &a, &[]),
        image(21, &id(2), &a, &[]),
        image(22, &id(1), &step("x").1, &[]),
        image(23, &id(10), &step("x").1, &[]),
        image(24, "", &a, &[]),
    ];
    let descent = build(Vec::new()).descent(&[&ours[..], &foreign].concat());
    assert_eq!(descent.ids, [id(10), id(11)]);
    assert_eq!((descent.last, descent.next, descent.is_unclear), (Some(id(11)), None, false));
    // Another user has named a step, and builds on it.
    let named = [image(10, &id(1), &a, &["somebody:1"]), ours[1].clone()];
    assert_eq!(build(Vec::new()).descent(&named).ids, [""; 0]);
}

#[test]
fn what_was_told_needs_no_proof_down_to_its_base_and_not_below() {
    // The images below the base are new too: the base was loaded while the build started.
    let images = [
        image(30, "", "", &[]),
        image(31, &id(30), "what nobody understands", &[]),
        image(32, &id(31), "nor this", &[TAG]),
    ];
    let descent = build(vec![(0, id(32))]).descent(&images);
    assert_eq!(descent.ids, [id(31), id(32)]);
    assert_eq!(descent.last, Some(id(32)));
    let digits = Candidate { parent: id(31)[7..19].to_owned(), ..images[2].clone() };
    assert_eq!(build(vec![(0, id(32))]).descent(&[images[1].clone(), digits]).ids.len(), 2);
}

#[test]
fn what_was_told_can_have_been_there_on_top_of_steps_that_were_not() {
    let images = [image(10, &id(1), &step("a").1, &[]), image(2, &id(10), &step("b").1, &["cache:1"])];
    assert_eq!(build(vec![(0, id(2))]).descent(&images).ids, [id(10)]);
}

#[test]
fn who_builds_the_same_makes_it_unclear() {
    let a = step("a").1;
    let twins = [image(10, &id(1), &a, &[]), image(11, &id(1), &a, &[])];
    let descent = build(Vec::new()).descent(&twins);
    assert_eq!((descent.ids.len(), descent.is_unclear), (0, true));
    let two = Build { runs: 2, ..build(Vec::new()) };
    assert_eq!(two.descent(&twins).ids.len(), 2, "two dead runs have made two");
    let stage = &build(Vec::new()).stages[0];
    let same = Build { stages: vec![stage.clone(), stage.clone()], ..build(Vec::new()) };
    assert_eq!(same.descent(&twins).ids.len(), 2, "two stages of the same steps too");
}

#[test]
fn stages_begin_where_others_end_and_the_next_step_is_known() {
    let mut build = build(Vec::new());
    build.stages.push(BuiltStage { root: Root::Stage(0), steps: vec![step("c").0, step("d").0] });
    build.stages.push(BuiltStage { root: Root::Unknown, steps: vec![step("a").0] });
    let mut images = vec![
        image(12, &id(11), &step("c").1, &[]),
        image(11, &id(10), &step("b").1, &[]),
        image(10, &id(1), &step("a").1, &[]),
    ];
    let descent = build.descent(&images);
    assert_eq!(descent.ids, [id(10), id(11), id(12)]);
    assert_eq!(descent.next, Some((step("d").0, id(12))));
    images.remove(0);
    assert_eq!(build.descent(&images).next, Some((step("c").0, id(11))));
    build.stages[0].root = Root::Image(String::new());
    images = vec![image(10, "", &step("a").1, &[])];
    assert_eq!(build.descent(&images).ids, [id(10)], "of nothing");
}

/// A build in a simulated engine.
#[derive(Clone, Debug)]
struct SimulatedBuild {
    /// The base, and the words of its steps.
    stages: Vec<(usize, Vec<u8>)>,
    /// How many of the steps are done.
    done: usize,
    /// Which of its images have a name.
    named: Vec<bool>,
}

fn simulated_build() -> impl Strategy<Value = SimulatedBuild> {
    let stage = (0..3_usize, prop::collection::vec(0..4_u8, 0..4));
    let stages = prop::collection::vec(stage, 1..4);
    (stages, 0..12_usize, prop::collection::vec(any::<bool>(), 12)).prop_map(|(stages, done, named)| SimulatedBuild {
        stages,
        done,
        named,
    })
}

/// Builds; returns the images, and the ids at the ends of the stages that are done.
fn run(build: &SimulatedBuild, owner: usize, names: bool) -> (Vec<Candidate>, Vec<(usize, String)>) {
    let (mut images, mut reported, mut remaining) = (Vec::new(), Vec::new(), build.done);
    for (number, (base, words)) in build.stages.iter().enumerate() {
        let mut at = if *base == 0 { String::new() } else { id(*base) };
        for word in words {
            if remaining == 0 {
                return (images, reported);
            }
            remaining -= 1;
            let serial = 1000 * owner + images.len();
            let name: &[&str] = if names && build.named[images.len() % 12] { &["somebody:1"] } else { &[] };
            images.push(image(serial, &at, &step(&word.to_string()).1, name));
            at = id(serial);
        }
        reported.push((number, at));
    }
    (images, reported)
}

fn described(build: &SimulatedBuild, reported: Vec<(usize, String)>) -> Build {
    let root = |base: usize| Root::Image(if base == 0 { String::new() } else { id(base) });
    let stages = build.stages.iter().map(|(base, words)| BuiltStage {
        root: root(*base),
        steps: words.iter().map(|word| step(&word.to_string()).0).collect(),
    });
    Build {
        tag: TAG.to_owned(),
        stages: stages.collect(),
        before: (1..9).map(id).collect(),
        told: reported,
        shells: Vec::new(),
        runs: 1,
    }
}

/// Whether somebody else's steps start like ours, on the same base: such images have no sign of whose they are.
fn looks_alike(ours: &SimulatedBuild, other: &SimulatedBuild) -> bool {
    let first = |(base, words): &(usize, Vec<u8>)| words.first().map(|word| (*base, *word));
    ours.stages.iter().filter_map(first).any(|it| other.stages.iter().filter_map(first).any(|other| other == it))
}

proptest! {
    #[test]
    fn nothing_of_others_is_taken_and_all_of_a_build_that_ended(
        ours in simulated_build(),
        others in prop::collection::vec(simulated_build(), 0..4),
    ) {
        let (images, reported) = run(&ours, 1, false);
        let own: HashSet<_> = images.iter().map(|image| image.id.clone()).collect();
        let is_whole = reported.len() == ours.stages.len();
        let mut all: Vec<_> = (1..9).map(|number| image(number, "", "", &[])).chain(images).collect();
        let mut is_alike = false;
        for (number, other) in others.iter().enumerate() {
            is_alike |= looks_alike(&ours, other);
            all.extend(run(other, number + 2, true).0);
        }
        let build = described(&ours, reported);
        let descent = build.descent(&all);
        let taken: HashSet<_> = descent.ids.iter().cloned().collect();
        prop_assert!(taken.iter().all(|id| !build.before.contains(id)));
        let named: Vec<_> = all.iter().filter(|image| !image.names.is_empty()).map(|image| &image.id).collect();
        prop_assert!(named.iter().all(|id| !taken.contains(*id)), "a name that we have not given");
        // Other runs of the same build can be distinguished only if the engine has reported our ids; otherwise they are
        // ambiguous.
        if is_whole || !is_alike {
            prop_assert!(taken.is_subset(&own), "{:?} of others", taken.difference(&own));
            prop_assert!(descent.is_unclear || taken == own, "{:?} stays", own.difference(&taken));
        }
        if is_whole {
            prop_assert!(taken == own && !descent.is_unclear);
        }
        for (at, id) in descent.ids.iter().enumerate() {
            let parent = &all.iter().find(|image| image.id == *id).unwrap().parent;
            prop_assert!(!descent.ids[at..].contains(parent), "a parent behind its child");
        }
    }

    /// As many images as builds of the same steps have made are ambiguous, whatever is known of them.
    #[test]
    fn of_two_that_build_the_same_nothing_in_doubt_is_taken(mut ours in simulated_build(), done in 0..12_usize) {
        ours.stages.truncate(1);
        let (mine, _) = run(&ours, 1, false);
        let (theirs, _) = run(&SimulatedBuild { done, ..ours.clone() }, 2, false);
        let both = mine.len().min(theirs.len());
        let all: Vec<_> = mine.iter().chain(&theirs).cloned().collect();
        let taken = described(&ours, Vec::new()).descent(&all);
        if both > 0 {
            prop_assert!(taken.is_unclear && taken.ids.is_empty());
        }
    }
}
