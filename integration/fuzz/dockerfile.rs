//! Dockerfiles under fuzz. The preprocessor: text without its syntax stays as it is, but for the line ends; and what it
//! has made is not changed by making it again. The tokenizer: its places in the text are those of the instructions, and
//! declaring arguments leaves all other instructions as they are.

use std::collections::BTreeMap;

use image_worker::dockerfile::base_images::DockerfileImages;
use image_worker::dockerfile::declare::declared;
use image_worker::dockerfile::dockerignore::Ignore;
use image_worker::dockerfile::instructions::{Instruction, read};
use image_worker::dockerfile::preprocess::{Dockerfile, RUN_TASK_SNIPPET};

use super::input::Input;

const NAMES: [&str; 6] = ["A", "B", "PY_3", "", "ü", "A-"];

pub(super) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let mut args = BTreeMap::new();
    for _ in 0..input.below(4) {
        let name = if input.flag() { input.text() } else { input.pick(&NAMES).to_owned() };
        args.insert(name, input.text());
    }
    let raw = input.rest();
    tokenized(raw, &args);
    if let Ok(ignore) = Ignore::parse(raw) {
        assert!(!ignore.is_empty() || !ignore.excludes("a/b"));
        let goes_on = raw.contains(&b'!') || !ignore.excludes("a") || ignore.excludes("a/b.md");
        assert!(goes_on, "what is in a directory that stays out stays out too");
    }
    // Values that name each other grow without end, as they do in taskgraph; they are the decision task's own.
    let definitions = raw.windows(6).filter(|window| window == b"# %ARG").count();
    if definitions > 3 && args.values().any(|value| value.contains(['$', '\\'])) {
        return;
    }
    let text = std::str::from_utf8(raw).map(universal);
    let lines = text.as_ref().map_or(usize::MAX, |text| text.split('\n').count());
    let done = match Dockerfile::process(raw, &args) {
        Ok(done) => done,
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "no such line: {error}");
            assert!(error.to_string().starts_with(&format!("line {}: ", error.line)));
            return;
        }
    };
    let text = text.expect("only UTF-8 is taken");
    let defines = text.split_inclusive('\n').any(|line| line.starts_with("# %ARG"));
    if !defines {
        // The lines that copy run-task are all that is added.
        let bare = |text: &str| text.replace(RUN_TASK_SNIPPET, "");
        assert_eq!(bare(&done.text), bare(&text), "without syntax only line ends change");
        let added = (done.text.len() - text.len()) / RUN_TASK_SNIPPET.len();
        assert_eq!(done.run_task.is_some(), added > 0);
        let requested = text.lines().filter(|line| line.starts_with("# %include")).count();
        assert_eq!(done.includes.len() + added, requested, "every include is reported");
    }
    let mut before = 0;
    for include in &done.includes {
        assert!(!include.path.starts_with('/') && include.path.trim() == include.path, "{include:?}");
        assert!(before < include.line && include.line <= lines, "{include:?}");
        before = include.line;
    }
    // A value that brings line ends of its own brings new lines too, which were not looked at.
    let is_changed_again = done.run_task.is_some() || done.text.contains("# %ARG");
    if args.values().any(|value| value.contains(['\r', '\n', '\\'])) || is_changed_again {
        return;
    }
    let again = Dockerfile::process(done.text.as_bytes(), &BTreeMap::new()).expect("what was made can be made again");
    assert_eq!(again.text, done.text);
    let paths = |dockerfile: &Dockerfile| dockerfile.includes.iter().map(|it| it.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&again), paths(&done));
}

fn tokenized(raw: &[u8], args: &BTreeMap<String, String>) {
    let text_of = |instruction: &Instruction| (instruction.keyword.clone(), instruction.rest.clone());
    let found = read(raw);
    // So that a part is read as it is in the whole.
    let alone = |part: &[u8]| read(&[format!("# escape={}\n", found.escape).as_bytes(), part].concat()).all;
    let mut end = if raw.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    for instruction in &found.all {
        let range = instruction.range.clone();
        assert!(end <= range.start && range.start < range.end && range.end <= raw.len(), "{instruction:?}");
        assert_eq!(alone(&raw[end..range.start]), [], "between instructions is none");
        let own: Vec<_> = alone(&raw[range.clone()]).iter().map(text_of).collect();
        assert_eq!(own, [text_of(instruction)], "an instruction's lines are the same alone");
        end = range.end;
    }
    assert_eq!(alone(&raw[end..]), [], "behind the last instruction is none");
    let lossy = String::from_utf8_lossy(raw);
    let _ = DockerfileImages::read(&lossy, args);
    if let Some(text) = declared(raw, args) {
        let with = read(&text);
        let added = with.all.len() - found.all.len();
        assert_eq!((with.escape, &with.syntax), (found.escape, &found.syntax));
        assert!(added > 0 && with.all[..added].iter().all(|it| it.keyword == "ARG" && args.contains_key(&it.rest)));
        let rest = |all: &[Instruction]| all.iter().map(text_of).collect::<Vec<_>>();
        assert_eq!(rest(&with.all[added..]), rest(&found.all), "all other instructions stay");
        assert_eq!(declared(&text, args), None, "once is enough");
    }
}

/// Python's universal newlines, letter by letter.
fn universal(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\r' {
            letters.next_if_eq(&'\n');
            out.push('\n');
        } else {
            out.push(letter);
        }
    }
    out
}
