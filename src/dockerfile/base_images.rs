//! What an image is made of: the images that its Dockerfile names in `FROM`, `COPY --from` and `RUN --mount`.
//! Who builds those images, and which one is the parent, is for `parent`.

use std::collections::{BTreeMap, BTreeSet};

use super::declare::undeclared;
use super::instructions::{self, Arguments};
use super::words::expand;

/// What a Dockerfile is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The images that it names, in order. Its own stages and `scratch` are none.
    pub references: Vec<Reference>,
    /// A number in a `COPY --from` that no stage has which begins before it, and the instruction.
    pub missing_stage: Option<(String, String)>,
}

/// A place where a Dockerfile names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The instruction that needs it.
    pub by: By,
    /// As it stands there.
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

impl Recipe {
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
        let mut stages = BTreeSet::new();
        let mut begun: u64 = 0;
        for instruction in instructions.executed() {
            let Arguments { flags, words } = instruction.arguments(escape);
            match instruction.keyword.as_str() {
                "ARG" if begun == 0 => {
                    for word in words {
                        let (name, default) = word.split_once('=').map_or((word, None), |(n, d)| (n, Some(d)));
                        let own = args.get(name).cloned();
                        match own.or_else(|| expand(default?, &values, escape).text) {
                            Some(value) => drop(values.insert(name.to_owned(), value)),
                            // A default that nobody can know takes the place of an earlier one.
                            None if default.is_some() => drop(values.remove(name)),
                            None => {}
                        }
                    }
                }
                "FROM" => {
                    begun += 1;
                    if let Some(written) = words.first() {
                        let expanded = expand(written, &values, escape);
                        recipe.add(By::From, written, expanded.text, expanded.variables, &stages);
                    }
                    stages.extend(instruction.stage(escape).name);
                }
                "COPY" => {
                    recipe.add_flags(By::Copy, &flags, "--from=", &stages);
                    let from = flags.iter().find_map(|flag| flag.strip_prefix("--from="));
                    // The stage that it stands in is none to copy from.
                    if let Some(missing) =
                        from.filter(|it| it.parse::<u64>().is_ok_and(|stage| stage >= begun.saturating_sub(1)))
                    {
                        let shown = || (missing.to_owned(), format!("COPY {}", instruction.rest));
                        recipe.missing_stage.get_or_insert_with(shown);
                    }
                }
                "RUN" => recipe.add_flags(By::Mount, &flags, "--mount=", &stages),
                _ => {}
            }
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
                self.add(by, written, known.then(|| written.to_owned()), Vec::new(), stages);
            }
        }
    }

    fn add(&mut self, by: By, written: &str, image: Option<String>, variables: Vec<String>, stages: &BTreeSet<String>) {
        if image.as_ref().is_none_or(|image| image != "scratch" && !stages.contains(&image.to_lowercase())) {
            self.references.push(Reference { by, written: written.to_owned(), image, variables });
        }
    }
}

impl Reference {
    /// The name and the tag of an image without a registry: what could be an image of the same tree.
    #[must_use]
    pub fn plain(&self) -> Option<(&str, Option<&str>)> {
        let image = self.image.as_deref().filter(|image| !image.contains(['/', '@']))?;
        Some(image.split_once(':').map_or((image, None), |(name, tag)| (name, Some(tag))))
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
    fn told(text: &str, args: &[(&str, &str)]) -> Vec<String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let references = Recipe::read(text, &args).references.into_iter();
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
        assert_eq!(told(text, &[]), expected);
    }

    #[test]
    fn onbuild_names_images_where_a_stage_is_made_from_it() {
        let text = "FROM a AS one\nONBUILD COPY --from=tools / /\n";
        assert_eq!(told(text, &[]), ["FROM a = a"]);
        assert_eq!(told(&format!("{text}FROM one\n"), &[]), ["FROM a = a", "COPY --from=tools = tools"]);
    }

    #[test]
    fn a_stage_that_has_not_begun_is_missing() {
        let missing = |text: &str| Recipe::read(text, &BTreeMap::new()).missing_stage.map(|(stage, _)| stage);
        assert_eq!(missing("FROM a\nFROM b\nCOPY --from=0 /a /b\nFROM c\nCOPY --chown=1 --from=1 /a /b\n"), None);
        assert_eq!(missing("FROM a\nFROM b\nCOPY --from=1 /a /b\n").as_deref(), Some("1"));
        assert_eq!(missing("FROM a\nCOPY --from=7 /a /b\nCOPY --from=8 /a /b\n").as_deref(), Some("7"));
        assert_eq!(missing("FROM a\nCOPY --from=image7 /a /b\nCOPY --from=$X /a /b\nCOPY a --from=9\n"), None);
    }

    #[test]
    fn arguments_before_the_first_from_have_values() {
        let text = "ARG A=debian B=$A:12 C \"D=x\"\nARG E=\"$C-$A\"\nFROM $B\nARG F=f\nFROM $F\nFROM ${C:-none}$E\n";
        assert_eq!(told(text, &[]), ["FROM $B = debian:12B", "FROM $F = ?F", "FROM ${C:-none}$E = ?CE"]);
        assert_eq!(
            told(text, &[("A", "a"), ("C", "c"), ("F", "f")]),
            ["FROM $B = a:12B", "FROM $F = fF", "FROM ${C:-none}$E = cc-aCE"]
        );
        // Nobody declared it: it is declared on the way to the engine.
        assert_eq!(told("FROM node:$V\n", &[("V", "22")]), ["FROM node:$V = node:22V"]);
        assert_eq!(told("ARG I=node:$V\nFROM $I\n", &[("V", "22")]), ["FROM $I = node:22I"]);
        assert_eq!(told("FROM $G\n", &[]), ["FROM $G = ?G"]);
        // A later default comes before an earlier one.
        assert_eq!(told("ARG A=a\nARG A=b\nARG A\nFROM $A", &[]), ["FROM $A = bA"]);
        assert_eq!(told("ARG A=a\nARG A=$B\nFROM $A", &[]), ["FROM $A = ?A"]);
        assert_eq!(told("FROM", &[]), Vec::<String>::new());
    }

    #[test]
    fn an_image_without_a_registry_could_be_a_neighbour() {
        let plain = |image: &str| {
            let recipe = Recipe::read(&format!("FROM {image}"), &BTreeMap::new());
            recipe.references[0].plain().map(|(name, tag)| format!("{name} {tag:?}"))
        };
        assert_eq!(plain("builder").unwrap(), "builder None");
        assert_eq!(plain("builder:latest").unwrap(), "builder Some(\"latest\")");
        assert_eq!(plain("localhost:5000/builder"), None);
        assert_eq!(plain("builder@sha256:00"), None);
        assert_eq!(plain("$X"), None);
    }

    proptest! {
        #[test]
        fn never_a_panic(text in "((FROM|ARG|COPY|RUN|from)[ -~é]{0,20}\n|[ -~\\\\\n]{0,9}){0,9}") {
            let _ = Recipe::read(&text, &BTreeMap::new());
        }
    }
}
