//! The stages of a Dockerfile: the base of each and its steps, for a builder that makes an image of each step. `engine` finds
//! such images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::declare::{declare, undeclared};
use super::instructions::{self, Instruction};
use super::words::expand;

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its base.
    pub base: Base,
    /// Its instructions, `KEYWORD rest`, each in one line; those from an earlier stage's `ONBUILD` come first.
    pub steps: Vec<String>,
}

/// The base of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Nothing: `FROM scratch`.
    Scratch,
    /// An earlier stage, counted from 0.
    Stage(usize),
    /// An image, by a name or an id.
    Image(String),
    /// An image whose name depends on a variable without a known value.
    Unknown,
}

/// Reads the stages of a Dockerfile. `args` are the build's arguments.
#[must_use]
pub fn read(text: &str, args: &BTreeMap<String, String>) -> Vec<Stage> {
    let instructions = instructions::read(text.as_bytes());
    let escape = instructions.escape;
    let given = undeclared(&instructions, args);
    let mut values: BTreeMap<_, _> = given.into_iter().map(|name| (name.to_owned(), args[name].clone())).collect();
    let mut stages: Vec<Stage> = Vec::new();
    let mut names: Vec<Option<String>> = Vec::new();
    let mut triggers: Vec<Vec<Instruction>> = Vec::new();
    let step = |it: &Instruction| format!("{} {}", it.keyword, it.rest);
    for instruction in &instructions.all {
        match (instruction.keyword.as_str(), stages.last_mut()) {
            ("FROM", _) => {
                let written = instruction.arguments(escape).words.first().copied().unwrap_or_default();
                let image = expand(written, &values, escape).text;
                let lower = image.as_deref().map(str::to_lowercase);
                let earlier = names.iter().rposition(|name| name.is_some() && *name == lower);
                let base = match (image, earlier) {
                    (_, Some(stage)) => Base::Stage(stage),
                    (Some(image), None) if image == "scratch" => Base::Scratch,
                    (Some(image), None) => Base::Image(image),
                    (None, None) => Base::Unknown,
                };
                let steps = earlier.into_iter().flat_map(|stage| &triggers[stage]).map(step).collect();
                stages.push(Stage { base, steps });
                names.push(instruction.stage(escape).name);
                triggers.push(Vec::new());
            }
            ("ARG", None) => {
                for word in instruction.arguments(escape).words {
                    declare(word, args, &mut values, escape);
                }
            }
            (_, Some(stage)) => {
                stage.steps.push(step(instruction));
                if let (Some(trigger), Some(kept)) = (instruction.trigger(), triggers.last_mut()) {
                    kept.push(trigger);
                }
            }
            (_, None) => {}
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_base_and_its_steps() {
        let dockerfile = "# syntax\nARG A=debian:12\nFROM $A AS one\n\n# about\nENV A \\\n# between\n  b\nONBUILD RUN make\n\
                          from scratch\nCOPY --from=one /a /b\nFROM One\nRUN x\\\n\n y\nFROM $NOSUCH\nFROM $B\n";
        let args = BTreeMap::from([("B".to_owned(), "base:1".to_owned())]);
        let stage = |base, steps: &[&str]| Stage { base, steps: steps.iter().map(|&step| step.to_owned()).collect() };
        let stages = [
            stage(Base::Image("debian:12".to_owned()), &["ENV A   b", "ONBUILD RUN make"]),
            stage(Base::Scratch, &["COPY --from=one /a /b"]),
            stage(Base::Stage(0), &["RUN make", "RUN x y"]),
            stage(Base::Unknown, &[]),
            stage(Base::Image("base:1".to_owned()), &[]),
        ];
        assert_eq!(read(dockerfile, &args), stages);
        assert_eq!(read("ü", &args), []);
    }
}
