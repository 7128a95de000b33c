//! Build arguments that a `FROM` uses without an `ARG` line. `image_builder` fills them in, engines only declared ones, so the
//! line is inserted for the engine. `context::for_engine` makes the engine's other changes.

use std::collections::{BTreeMap, BTreeSet};

use super::instructions::{self, Instruction, Instructions};
use super::words::{Expanded, expand, split};

/// The build argument by which a `Dockerfile` reads the name of its parent, as `image_builder` calls it.
pub const PARENT_ARG: &str = "DOCKER_IMAGE_PARENT";

/// The text of a Dockerfile for the engine, with these arguments of the build; none if it needs no change.
///
/// A given argument has its value at each `ARG` of that name: declaring it before the first `FROM` changes nothing in the stages.
#[must_use]
pub fn declared(text: &[u8], given: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let instructions = instructions::read(text);
    // Before all others, as they may use it too: `ARG IMAGE=node:$VERSION`.
    let at = instructions.all.first()?.range.start;
    let lines: Vec<_> = undeclared(&instructions, given).into_iter().map(|name| format!("ARG {name}\n")).collect();
    (!lines.is_empty()).then(|| [&text[..at], lines.concat().as_bytes(), &text[at..]].concat())
}

/// Whether a Dockerfile uses its parent at all.
#[must_use]
pub fn mentions_parent(text: &[u8]) -> bool {
    text.windows(PARENT_ARG.len()).any(|window| window == PARENT_ARG.as_bytes())
}

/// The given arguments that some `FROM` uses, itself or through the default of another argument, and that are not declared
/// before the first `FROM`.
pub(super) fn undeclared<'a>(instructions: &Instructions, given: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let escape = instructions.escape;
    let variables = |word: &str| expand(word, &BTreeMap::new(), escape).variables;
    let is_from = |instruction: &&Instruction| instruction.keyword == "FROM";
    let mut used: BTreeSet<String> = BTreeSet::new();
    for from in instructions.all.iter().filter(is_from) {
        let arguments = from.arguments(escape);
        used.extend(arguments.flags.iter().flat_map(|flag| variables(flag)));
        used.extend(arguments.words.first().into_iter().flat_map(|word| variables(word)));
    }
    let global = instructions.all.iter().take_while(|instruction| !is_from(instruction));
    let global: Vec<_> = global.filter(|it| it.keyword == "ARG").flat_map(|it| split(&it.rest, escape)).collect();
    let mut declared = BTreeSet::new();
    // A default uses only what precedes it.
    for word in global.into_iter().rev() {
        let (name, default) = word.split_once('=').unwrap_or((word, ""));
        declared.insert(name);
        if used.contains(name) {
            used.extend(variables(default));
        }
    }
    let names = given.keys().map(String::as_str);
    names.filter(|name| used.contains(*name) && !declared.contains(name)).collect()
}

/// A recorded word of an `ARG` before the first `FROM`.
pub(super) struct Declared<'a> {
    /// The argument.
    pub(super) name: &'a str,
    /// Its default, if it has one.
    pub(super) default: Option<Expanded>,
    /// Whether its value is known: a given one, or the default's.
    pub(super) is_known: bool,
}

/// Records a word of an `ARG` before the first `FROM`: `NAME`, or `NAME=DEFAULT`. An unknowable default replaces an earlier one.
pub(super) fn declare<'a>(
    word: &'a str,
    args: &BTreeMap<String, String>,
    values: &mut BTreeMap<String, String>,
    escape: char,
) -> Declared<'a> {
    let (name, default) = word.split_once('=').map_or((word, None), |(name, default)| (name, Some(default)));
    let default = default.map(|default| expand(default, values, escape));
    let value = args.get(name).cloned().or_else(|| default.as_ref()?.text.clone());
    let is_known = value.is_some();
    match value {
        Some(value) => drop(values.insert(name.to_owned(), value)),
        None if default.is_some() => drop(values.remove(name)),
        None => {}
    }
    Declared { name, default, is_known }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With values for these arguments.
    fn with(text: &str, given: &[&str]) -> Option<String> {
        let given = given.iter().map(|name| ((*name).to_owned(), "value".to_owned())).collect();
        declared(text.as_bytes(), &given).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_parent_is_declared_where_that_is_missing() {
        let of_parent = "ARG DOCKER_IMAGE_PARENT\n";
        for (before, after) in [
            ("", "FROM $DOCKER_IMAGE_PARENT\n"),
            ("# syntax=x\n\n", "  from ${DOCKER_IMAGE_PARENT:-a}\nFROM b\n"),
            ("", "FROM a\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("", "ARG OTHER=1 \\\n  MORE\r\nFROM $DOCKER_IMAGE_PARENT"),
            ("\u{feff}", "FROM $DOCKER_IMAGE_PARENT\n"),
            ("# ARG DOCKER_IMAGE_PARENT\n", "FROM $DOCKER_IMAGE_PARENT\n"),
            ("", "ARG DOCKER_IMAGE_PARENTS\nFROM $DOCKER_IMAGE_PARENT\n"),
            // Of the stage, not of its FROM.
            ("", "FROM $DOCKER_IMAGE_PARENT\nARG DOCKER_IMAGE_PARENT\n"),
            // Neither is a continuation.
            ("", "ARG NOTE=`x`\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("# escape=`\n", "ARG DIR=C:\\\nFROM $DOCKER_IMAGE_PARENT\n"),
            ("", "ARG NOTE=`\nARG OTHER=`\nFROM $DOCKER_IMAGE_PARENT\n"),
        ] {
            let (text, expected) = (format!("{before}{after}"), format!("{before}{of_parent}{after}"));
            assert_eq!(with(&text, &["DOCKER_IMAGE_PARENT", "OTHER"]), Some(expected), "{text:?}");
            assert_eq!(with(&text, &[]), None, "nobody gave it: {text:?}");
        }
        for text in [
            "ARG DOCKER_IMAGE_PARENT\nFROM $DOCKER_IMAGE_PARENT\n",
            "arg DOCKER_IMAGE_PARENT=base:1\nFROM $DOCKER_IMAGE_PARENT\n",
            "ARG OTHER \\\n# comment\n  DOCKER_IMAGE_PARENT\nFROM $DOCKER_IMAGE_PARENT\n",
            "# escape=`\nARG OTHER `\n DOCKER_IMAGE_PARENT\nFROM $DOCKER_IMAGE_PARENT\n",
            "FROM a\nRUN echo $DOCKER_IMAGE_PARENT\n",
            "no from\n",
            "",
        ] {
            assert_eq!(with(text, &["DOCKER_IMAGE_PARENT"]), None, "{text:?}");
        }
        assert!(mentions_parent(b"FROM a\nARG DOCKER_IMAGE_PARENT\n") && !mentions_parent(b"FROM a\n"));
    }

    #[test]
    fn other_arguments_are_declared_where_a_from_uses_them() {
        for (text, given, lines) in [
            ("FROM node:$V\n", &["V", "W"][..], "ARG V\n"),
            (
                "FROM $A/${B:-$C}:1\nFROM --platform=$P x AS $N\n",
                &["A", "B", "C", "N", "P"],
                "ARG A\nARG B\nARG C\nARG P\n",
            ),
            // Through a default; also where that is a default's default.
            ("ARG I=node:$V\nFROM $I\n", &["V"], "ARG V\n"),
            ("ARG T=$V\nARG I=node:$T\nFROM $I\n", &["I", "T", "V"], "ARG V\n"),
            ("ARG I=node:$V\nARG O=$W\nFROM $O\n", &["V", "W"], "ARG W\n"),
            ("ARG V=1 W\nFROM node:$V$W\n", &["V", "W"], ""),
            ("FROM a\\$V '$V'\n", &["V"], ""),
            ("FROM a\nARG V\nRUN x $V\nCOPY --from=$V a b\n", &["V"], ""),
        ] {
            let expected = (!lines.is_empty()).then(|| format!("{lines}{text}"));
            assert_eq!(with(text, given), expected, "{text:?}");
        }
    }
}
