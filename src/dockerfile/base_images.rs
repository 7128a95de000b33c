//! The base images of a Dockerfile: the images in its `FROM`, `COPY --from` and `RUN --mount`. `parent` decides which one is the
//! parent, and what builds the others.

use std::collections::{BTreeMap, BTreeSet};

use super::declare::{Declared, declare, undeclared};
use super::instructions::{self, Arguments, Instruction};
use super::plain_name::PlainName;
use super::words::{Expanded, expand};
use crate::net::registry::parse_reference;
use crate::report::Hint;

/// Arguments that BuildKit and Podman set by themselves.
const PLATFORM_ARGS: [&str; 8] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETPLATFORM",
    "TARGETVARIANT",
];

/// The base images of a Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerfileImages {
    /// The images that it names, in order, without its own stages and `scratch`.
    pub references: Vec<Reference>,
    /// A number in a `COPY --from` that no stage has which begins before it, and the instruction. Podman reads it in `ADD` too.
    pub missing_stage: Option<(String, String)>,
    /// The first `FROM` that gives an engine nothing to build from.
    pub from_error: Option<FromError>,
}

/// A `FROM` that gives an engine nothing to build from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FromError {
    /// Its line, from 1; none where there is no `FROM`.
    pub line: Option<usize>,
    /// The problem.
    pub problem: FromProblem,
}

/// The problem of a `FROM`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FromProblem {
    /// There is none.
    #[error("there is no FROM{}", Hint("write `FROM IMAGE`, or `FROM scratch`"))]
    Missing,
    /// `FROM` of nothing.
    #[error("`{instruction}` names no image{}", Hint("write `FROM IMAGE`, or `FROM scratch`"))]
    Bare {
        /// The instruction.
        instruction: String,
    },
    /// `FROM $NAME`, and the variable has no value.
    #[error(
        "`{instruction}` is empty, as nothing gives {variable} a value{}",
        Hint(format_args!("write `ARG {variable}=IMAGE` before the first FROM, or give a build argument"))
    )]
    Empty {
        /// The instruction.
        instruction: String,
        /// The first variable that it names.
        variable: String,
    },
    /// What no engine takes for the name of an image.
    #[error(
        "`{instruction}` is {image:?}, which is no image reference{}",
        Hint("write one there, or in the build argument")
    )]
    NoReference {
        /// The instruction.
        instruction: String,
        /// The image that it names.
        image: String,
    },
}

/// The lines of the `FROM` instructions, from 1.
#[must_use]
pub fn from_lines(text: &str) -> Vec<usize> {
    let all = instructions::read(text.as_bytes()).all;
    all.iter().filter(|it| it.keyword == "FROM").map(|it| it.line_in(text)).collect()
}

/// A place where a Dockerfile names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The instruction that needs it.
    pub by: By,
    /// Its text in the Dockerfile.
    pub written: String,
    /// The image, in docker's notation; none where it hangs on a variable without a value.
    pub image: Option<String>,
    /// The variables that it hangs on.
    pub variables: Vec<String>,
}

/// The instructions that name images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `FROM IMAGE`
    From,
    /// `COPY --from=IMAGE`
    Copy,
    /// `RUN --mount=from=IMAGE`
    Mount,
}

impl DockerfileImages {
    /// Reads the text of a Dockerfile. `args` are the build's arguments: they come before the defaults of `ARG` lines, and a
    /// `FROM` may use them without such a line (see `declare`).
    #[must_use]
    pub fn read(text: &str, args: &BTreeMap<String, String>) -> Self {
        let instructions = instructions::read(text.as_bytes());
        let escape = instructions.escape;
        let mut recipe = Self::default();
        // Only the arguments before the first FROM have a value in a FROM.
        let mut values: BTreeMap<_, _> =
            undeclared(&instructions, args).into_iter().map(|name| (name.to_owned(), args[name].clone())).collect();
        // Those whose value only the engine knows.
        let mut unknown: BTreeSet<_> = PLATFORM_ARGS.map(str::to_owned).into();
        let mut stages = BTreeSet::new();
        let mut stage_count = 0;
        for instruction in instructions.executed() {
            let Arguments { flags, words } = instruction.arguments(escape);
            match instruction.keyword.as_str() {
                "ARG" if stage_count == 0 => {
                    for word in words {
                        let Declared { name, default, is_known } = declare(word, args, &mut values, escape);
                        if !is_known && default.as_ref().is_some_and(|it| hangs_on(it, &unknown)) {
                            unknown.insert(name.to_owned());
                        } else if is_known || default.is_some() {
                            unknown.remove(name);
                        }
                    }
                }
                "FROM" => {
                    stage_count += 1;
                    let written = words.first().copied().unwrap_or_default();
                    let expanded = expand(written, &values, escape);
                    if recipe.from_error.is_none() && !hangs_on(&expanded, &unknown) {
                        let problem = from_problem(&instruction, written, &expanded, &stages);
                        let line = Some(instruction.line_in(text));
                        recipe.from_error = problem.map(|problem| FromError { line, problem });
                    }
                    if !written.is_empty() {
                        let (written, image) = (written.to_owned(), expanded.text);
                        let reference = Reference { by: By::From, written, image, variables: expanded.variables };
                        recipe.add(reference, &stages);
                    }
                    stages.extend(instruction.stage(escape).name);
                }
                keyword @ ("COPY" | "ADD") => {
                    if keyword == "COPY" {
                        recipe.add_flags(By::Copy, &flags, "--from=", &stages);
                    }
                    let from = flags.iter().find_map(|flag| flag.strip_prefix("--from="));
                    // COPY cannot use its own stage.
                    let comes_before = |stage: i64| (0..stage_count - 1).contains(&stage);
                    if let Some(missing) = from.filter(|it| it.parse().is_ok_and(|stage| !comes_before(stage))) {
                        let shown = || (missing.to_owned(), format!("{keyword} {}", instruction.rest));
                        recipe.missing_stage.get_or_insert_with(shown);
                    }
                }
                "RUN" => recipe.add_flags(By::Mount, &flags, "--mount=", &stages),
                _ => {}
            }
        }
        if stage_count == 0 {
            recipe.from_error = Some(FromError { line: None, problem: FromProblem::Missing });
        }
        // What another frontend reads need not be a Dockerfile.
        if instructions.syntax.is_some_and(|image| !image.contains("dockerfile")) {
            (recipe.from_error, recipe.missing_stage) = (None, None);
        }
        recipe
    }

    /// Adds what flags name. The engines expand no variables there.
    fn add_flags(&mut self, by: By, flags: &[String], flag: &str, stages: &BTreeSet<String>) {
        for value in flags.iter().filter_map(|word| word.strip_prefix(flag)) {
            let written = match by {
                By::Mount => value.split(',').find_map(|part| part.strip_prefix("from=")),
                By::From | By::Copy => Some(value),
            };
            // A number is a stage.
            if let Some(written) = written.filter(|it| !it.bytes().all(|b| b.is_ascii_digit())) {
                let known = !written.contains('$');
                let (written, image) = (written.to_owned(), known.then(|| written.to_owned()));
                self.add(Reference { by, written, image, variables: Vec::new() }, stages);
            }
        }
    }

    fn add(&mut self, reference: Reference, stages: &BTreeSet<String>) {
        let is_image = |image: &String| image != "scratch" && !stages.contains(&image.to_lowercase());
        if reference.image.as_ref().is_none_or(is_image) {
            self.references.push(reference);
        }
    }
}

/// Whether only the engine knows the value of a word.
fn hangs_on(expanded: &Expanded, unknown: &BTreeSet<String>) -> bool {
    expanded.for_engine.is_none() || expanded.variables.iter().any(|variable| unknown.contains(variable))
}

fn from_problem(
    instruction: &Instruction,
    written: &str,
    expanded: &Expanded,
    stages: &BTreeSet<String>,
) -> Option<FromProblem> {
    let image = expanded.for_engine.clone().unwrap_or_default();
    let shown = format!("FROM {written}");
    match expanded.variables.first().cloned() {
        Some(variable) if image.is_empty() => Some(FromProblem::Empty { instruction: shown, variable }),
        None if image.is_empty() => {
            Some(FromProblem::Bare { instruction: format!("FROM {}", instruction.rest).trim_end().to_owned() })
        }
        _ if stages.contains(&image.to_lowercase()) || parse_reference(&image).is_some() => None,
        _ => Some(FromProblem::NoReference { instruction: shown, image }),
    }
}

impl Reference {
    /// The name of an image without a registry: what could be an image of the same tree.
    #[must_use]
    pub fn plain(&self) -> Option<PlainName<'_>> {
        PlainName::of(self.image.as_deref()?)
    }

    /// The instruction, as far as it names the image.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.by {
            By::From => format!("FROM {}", self.written),
            By::Copy => format!("COPY --from={}", self.written),
            By::Mount => format!("RUN --mount=from={}", self.written),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Instruction, image as far as it is known, variables.
    fn describe(text: &str, args: &[(&str, &str)]) -> Vec<String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let references = DockerfileImages::read(text, &args).references.into_iter();
        let one =
            |it: Reference| format!("{} = {}", it.shown(), it.image.as_deref().unwrap_or("?")) + &it.variables.concat();
        references.map(one).collect()
    }

    #[test]
    fn images_are_named_in_three_places() {
        let text = "\
            from --platform=linux/amd64 debian:12 As Base\n\
            FROM base\n\
            FROM quay.io/mozilla/builder@sha256:00 AS last\n\
            FROM scratch\n\
            COPY --from=BASE /a /b\n\
            COPY --chown=1:1 --from=busybox:1 /a --from=no\n\
            COPY --from=0 /a /b\n\
            COPY --from=$X /a /b\n\
            RUN --mount=type=bind,from=tools,target=/t --mount=type=cache,target=/c --mount=from=last make --mount=from=no\n";
        let expected = [
            "FROM debian:12 = debian:12",
            "FROM quay.io/mozilla/builder@sha256:00 = quay.io/mozilla/builder@sha256:00",
            "COPY --from=busybox:1 = busybox:1",
            "COPY --from=$X = ?",
            "RUN --mount=from=tools = tools",
        ];
        assert_eq!(describe(text, &[]), expected);
    }

    #[test]
    fn onbuild_names_images_where_a_stage_is_made_from_it() {
        let text = "FROM a AS one\nONBUILD COPY --from=tools / /\n";
        assert_eq!(describe(text, &[]), ["FROM a = a"]);
        assert_eq!(describe(&format!("{text}FROM one\n"), &[]), ["FROM a = a", "COPY --from=tools = tools"]);
    }

    #[test]
    fn a_stage_that_has_not_begun_is_missing() {
        let missing = |text: &str| DockerfileImages::read(text, &BTreeMap::new()).missing_stage.map(|(stage, _)| stage);
        assert_eq!(missing("FROM a\nFROM b\nCOPY --from=0 /a /b\nFROM c\nCOPY --chown=1 --from=1 /a /b\n"), None);
        assert_eq!(missing("FROM a\nFROM b\nCOPY --from=1 /a /b\n").as_deref(), Some("1"));
        assert_eq!(missing("FROM a\nCOPY --from=7 /a /b\nCOPY --from=8 /a /b\n").as_deref(), Some("7"));
        for none in ["COPY --from=-1 /a /b", "COPY --from=+1 /a /b", "ADD --from=7 /a /b"] {
            let recipe = DockerfileImages::read(&format!("FROM a\n{none}\n"), &BTreeMap::new());
            assert_eq!(recipe.missing_stage.unwrap().1, none);
        }
        assert_eq!(missing("FROM a\nCOPY --from=image7 /a /b\nCOPY --from=$X /a /b\nCOPY a --from=9\n"), None);
    }

    #[test]
    fn arguments_before_the_first_from_have_values() {
        let text = "ARG A=debian B=$A:12 C \"D=x\"\nARG E=\"$C-$A\"\nFROM $B\nARG F=f\nFROM $F\nFROM ${C:-none}$E\n";
        assert_eq!(describe(text, &[]), ["FROM $B = debian:12B", "FROM $F = ?F", "FROM ${C:-none}$E = ?CE"]);
        assert_eq!(
            describe(text, &[("A", "a"), ("C", "c"), ("F", "f")]),
            ["FROM $B = a:12B", "FROM $F = fF", "FROM ${C:-none}$E = cc-aCE"]
        );
        // No ARG declares it: it is declared for the engine.
        assert_eq!(describe("FROM node:$V\n", &[("V", "22")]), ["FROM node:$V = node:22V"]);
        assert_eq!(describe("ARG I=node:$V\nFROM $I\n", &[("V", "22")]), ["FROM $I = node:22I"]);
        assert_eq!(describe("FROM $G\n", &[]), ["FROM $G = ?G"]);
        // A later default wins over an earlier one.
        assert_eq!(describe("ARG A=a\nARG A=b\nARG A\nFROM $A", &[]), ["FROM $A = bA"]);
        assert_eq!(describe("ARG A=a\nARG A=$B\nFROM $A", &[]), ["FROM $A = ?A"]);
        assert_eq!(describe("FROM", &[]), Vec::<String>::new());
    }

    #[test]
    fn a_from_names_an_image() {
        let error = |text: &str| {
            let args = [("GIVEN", "debian:12"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            DockerfileImages::read(text, &args.into()).from_error.map(|error| error.to_string())
        };
        let advice = "write `FROM IMAGE`, or `FROM scratch`";
        for text in ["", "# FROM a\n", "ARG A\nRUN <<EOF\nFROM a\nEOF\n"] {
            assert_eq!(error(text), Some(format!("there is no FROM; {advice}")), "{text:?}");
        }
        for (text, line, shown) in [
            ("FROM", 1, "FROM"),
            ("FROM a\n\n from --platform=x \\\n\n", 3, "FROM --platform=x"),
            ("FROM ''\n", 1, "FROM ''"),
        ] {
            assert_eq!(error(text), Some(format!("line {line}: `{shown}` names no image; {advice}")), "{text:?}");
        }
        for (text, line, shown) in [
            ("FROM $A", 1, "$A"),
            ("ARG A\nFROM ${A}\n", 2, "${A}"),
            ("ARG A=$B\nFROM $A\n", 2, "$A"),
            ("FROM a\nARG A=b\nFROM $A\n", 3, "$A"),
            ("# escape=`\nARG A `\n B\n\nFROM ${A:-}\n", 5, "${A:-}"),
        ] {
            let expected = format!(
                "line {line}: `FROM {shown}` is empty, as nothing gives A a value; write `ARG A=IMAGE` before the first \
                 FROM, or give a build argument"
            );
            assert_eq!(error(text), Some(expected), "{text:?}");
        }
        assert!(error("FROM $EMPTY").unwrap().starts_with("line 1: `FROM $EMPTY` is empty"));
        for (text, image) in
            [("FROM node:$V\n", "node:"), ("FROM a AS B\nFROM Debian\n", "Debian"), ("FROM \"a b\"", "a b")]
        {
            assert!(error(text).unwrap().contains(&format!("is {image:?}, which is no image reference")), "{text}");
        }
        for fine in [
            "FROM $GIVEN\nFROM a/b$NOTHING\n",
            "ARG A=$GIVEN\nFROM $A AS Base\nFROM base\nFROM ${NONE:-Base}\n",
            "FROM scratch\nFROM localhost:5000/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
            // Values that only the engine knows.
            "FROM --platform=$BUILDPLATFORM $TARGETARCH\nFROM a-${TARGETVARIANT}\n",
            "ARG A=$TARGETARCH B=${A#x}\nFROM $A\nFROM $B\nFROM ${A/x/y}\n",
            "# syntax=example.com/other\nimages: [a]\n",
            "ONBUILD COPY a b\nFROM a\n",
        ] {
            assert_eq!(error(fine), None, "{fine}");
        }
        assert!(error("# syntax=docker/dockerfile:1\nRUN a\n").is_some());
        assert_eq!(from_lines("# a\nFROM a\nRUN x \\\n y\nfrom b"), [2, 5]);
    }

    #[test]
    fn an_image_without_a_registry_could_be_a_neighbour() {
        let plain = |image: &str| {
            let recipe = DockerfileImages::read(&format!("FROM {image}"), &BTreeMap::new());
            recipe.references[0].plain().map(|plain| plain.name.to_owned())
        };
        assert_eq!(plain("builder:latest").unwrap(), "builder");
        assert_eq!(plain("localhost:5000/builder"), None);
        assert_eq!(plain("$X"), None);
    }

    proptest! {
        #[test]
        fn never_a_panic(text in "((FROM|ARG|COPY|RUN|from)[ -~é]{0,20}\n|[ -~\\\\\n]{0,9}){0,9}") {
            let _ = DockerfileImages::read(&text, &BTreeMap::new());
        }
    }
}
