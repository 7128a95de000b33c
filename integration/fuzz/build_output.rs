//! A build's answer under fuzz: whatever its steps print, only what the engine itself reports at the ends of stages is an id, and
//! of an invented engine's images exactly the build's are taken: no others, and all of them.

use std::collections::HashSet;

use image_worker::engine::{Build, BuiltStage, Candidate, Root, read_answer};
use serde_json::{Value, json};

use super::input::Input;

const TAG: &str = "builder:1234-task";

fn id(number: usize) -> String {
    format!("sha256:{number:064x}")
}

pub(super) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut images, mut answer, mut reported) = (Vec::new(), Vec::new(), Vec::new());
    let mut stages: Vec<BuiltStage> = Vec::new();
    // What was there, and what neighbours have: in the middle of the build, named and nameless, on the same base and on top of ours.
    let before: Vec<_> = (1..4).map(id).collect();
    images.extend(before.iter().map(|id| Candidate { id: id.clone(), ..Candidate::default() }));
    let mut own: HashSet<String> = HashSet::new();
    for stage in 0..=input.below(3) {
        let base = [String::new(), id(1)][input.below(2)].clone();
        let (mut at, mut steps) = (base.clone(), Vec::new());
        for step in 0..input.below(4) {
            let neighbour = Candidate {
                id: id(1000 + images.len()),
                names: if input.flag() { vec!["neighbour:1".to_owned()] } else { Vec::new() },
                parent: if input.flag() { at.clone() } else { id(1) },
                made_by: "/bin/sh -c neighbour".to_owned(),
            };
            let forged = forged(&mut input, &neighbour.id);
            images.push(neighbour);
            push(&mut answer, &forged);
            let instruction = format!("ours {stage} {step}");
            let made = id(100 + images.len());
            let made_by = format!("/bin/sh -c {instruction}");
            images.push(Candidate { id: made.clone(), names: Vec::new(), parent: at, made_by });
            steps.push(format!("RUN {instruction}"));
            own.insert(made.clone());
            at = made;
        }
        let is_cut = input.below(4) == 0;
        stages.push(BuiltStage { root: Root::Image(base), steps });
        if is_cut {
            break;
        }
        push(&mut answer, &json!({ "aux": { "ID": at } }));
        reported.push(at);
    }
    push(&mut answer, &json!({ "stream": String::from_utf8_lossy(input.rest()) }));

    let (lines, ids) = read_answer(&answer);
    assert_eq!(ids, reported, "a step's output is an id");
    for line in &lines {
        assert!(!line.chars().any(|it| it.is_control() && it != '\t'), "{line:?}");
    }
    let reported = ids.into_iter().enumerate().collect();
    let build = Build {
        tag: TAG.to_owned(),
        stages,
        before: before.into_iter().collect(),
        told: reported,
        shells: Vec::new(),
        runs: 1,
    };
    let descent = build.descent(&images);
    let taken: HashSet<_> = descent.ids.iter().cloned().collect();
    assert_eq!((&taken, descent.is_unclear), (&own, false), "not exactly the build's images are taken");
    assert_eq!(taken.len(), descent.ids.len(), "an image is taken twice");

    // And whatever the whole of the bytes would be as an answer.
    let (lines, _) = read_answer(data);
    assert!(lines.iter().all(|line| !line.chars().any(|it| it.is_control() && it != '\t')));
}

/// What a step may print to be taken for the engine.
fn forged(input: &mut Input, id: &str) -> Value {
    let digits = &id[7..19];
    let text = match input.below(7) {
        0 => format!(" ---> {digits}\n"),
        1 => "Step 1/2 : FROM scratch\n ---> \n".to_owned(),
        2 => format!(" ---> Using cache\n ---> {digits}\n"),
        3 => format!("{}\n", json!({ "aux": { "ID": id } })),
        4 => format!("Successfully built {digits}\nSuccessfully tagged {TAG}\n"),
        5 => format!("--> {digits}\n{}\n", &id[7..]),
        _ => input.text(),
    };
    // Docker sends the text in pieces, Podman by its lines, and a pull has an id and a status of its own.
    if input.flag() { json!({ "stream": text }) } else { json!({ "id": digits, "status": text }) }
}

fn push(answer: &mut Vec<u8>, message: &Value) {
    answer.extend(message.to_string().bytes().chain([b'\n']));
}
