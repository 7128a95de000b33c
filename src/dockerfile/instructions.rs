//! The tokenizer of Dockerfiles: instructions, each with its place in the text; without comments and here-documents, with
//! continued lines joined, as BuildKit's parser does it. The other modules interpret the instructions.

use std::borrow::Cow;
use std::ops::Range;

use super::directives::Directives;
use super::here_documents::here_documents;
use super::words::{split, unquote};

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its keyword, in capitals.
    pub keyword: String,
    /// What follows, in one line.
    pub rest: String,
    /// The bytes of its lines in the text, here-documents and the last line's end included.
    pub range: Range<usize>,
    /// Whether here-documents follow it, and the last one has its end.
    pub has_here_documents: bool,
}

/// A parsed Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instructions {
    /// In order.
    pub all: Vec<Instruction>,
    /// The escape character, which also continues lines: `\` unless a directive sets `` ` ``.
    pub escape: char,
    /// The image of `# syntax=`.
    pub syntax: Option<String>,
}

/// The flags of an instruction, without quotes, and the words behind them as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments<'a> {
    pub(super) flags: Vec<String>,
    pub(super) words: Vec<&'a str>,
}

/// Parses a Dockerfile. This never fails: the engine refuses wrong ones.
#[must_use]
pub fn read(text: &[u8]) -> Instructions {
    let mut directives = Directives::default();
    let mut all = Vec::new();
    let mut lines = Lines::of(text);
    while let Some(line) = lines.next() {
        directives.read(&line.text);
        if line.is_left_out() {
            continue;
        }
        let start = line.range.start;
        let mut joined = String::new();
        let mut continues = join(&mut joined, line.text.trim_start(), directives.escape);
        while continues && let Some(line) = lines.next() {
            if !line.is_left_out() {
                continues = join(&mut joined, &line.text, directives.escape);
            }
        }
        let Some(mut instruction) = instruction(&joined) else { continue };
        if takes_here_documents(&instruction) {
            for document in here_documents(&joined) {
                // One that has no end takes the rest of the file; the engine refuses it.
                instruction.has_here_documents = loop {
                    match lines.next() {
                        Some(line) if document.ends_with(&line.text) => break true,
                        Some(_) => {}
                        None => break false,
                    }
                };
            }
        }
        instruction.range = start..lines.at;
        all.push(instruction);
    }
    Instructions { all, escape: directives.escape, syntax: directives.syntax }
}

impl Instructions {
    /// The instructions in the order of a build: behind a `FROM` of an earlier stage come the instructions of that stage's
    /// `ONBUILD` lines, and the `ONBUILD` lines themselves do nothing.
    #[must_use]
    pub fn executed(&self) -> Vec<Instruction> {
        struct Stage {
            name: Option<String>,
            triggers: Vec<Instruction>,
        }
        let mut stages: Vec<Stage> = Vec::new();
        let mut executed = Vec::new();
        for instruction in &self.all {
            match (instruction.keyword.as_str(), stages.last_mut()) {
                ("FROM", _) => {
                    let from = instruction.stage(self.escape);
                    executed.push(instruction.clone());
                    let base = stages.iter().rev().find(|stage| stage.name.is_some() && stage.name == from.base);
                    executed.extend(base.into_iter().flat_map(|stage| stage.triggers.clone()));
                    stages.push(Stage { name: from.name, triggers: Vec::new() });
                }
                ("ONBUILD", Some(stage)) => stage.triggers.extend(instruction.trigger()),
                _ => executed.push(instruction.clone()),
            }
        }
        executed
    }
}

/// The names in a `FROM`, in small letters.
pub(super) struct StageNames {
    pub(super) base: Option<String>,
    pub(super) name: Option<String>,
}

impl Instruction {
    pub(super) fn arguments(&self, escape: char) -> Arguments<'_> {
        let mut words = split(&self.rest, escape);
        let flags = words.iter().take_while(|word| word.starts_with("--")).count();
        let flags = words.drain(..flags).map(|flag| unquote(flag, escape)).collect();
        Arguments { flags, words }
    }

    /// Of a `FROM`.
    pub(super) fn stage(&self, escape: char) -> StageNames {
        let words = self.arguments(escape).words;
        let name = words.get(1).filter(|word| word.eq_ignore_ascii_case("AS")).and(words.get(2));
        let lower = |word: Option<&&str>| word.map(|word| word.to_lowercase());
        StageNames { base: lower(words.first()), name: lower(name) }
    }

    /// The number of its first line in the text that it was read from, from 1.
    pub(super) fn line_in(&self, text: &str) -> usize {
        1 + text.bytes().take(self.range.start).filter(|byte| *byte == b'\n').count()
    }

    /// The instruction inside an `ONBUILD`.
    pub(super) fn trigger(&self) -> Option<Self> {
        let trigger = (self.keyword == "ONBUILD").then(|| instruction(&self.rest))??;
        Some(Self { range: self.range.clone(), has_here_documents: self.has_here_documents, ..trigger })
    }
}

/// The instruction in a joined line, without its place.
fn instruction(joined: &str) -> Option<Instruction> {
    let joined = joined.trim();
    let (keyword, rest) = joined.split_once(['\t', '\x0b', '\x0c', '\r', ' ']).unwrap_or((joined, ""));
    let (keyword, rest) = (keyword.to_ascii_uppercase(), rest.trim().to_owned());
    (!keyword.is_empty()).then_some(Instruction { keyword, rest, range: 0..0, has_here_documents: false })
}

fn takes_here_documents(instruction: &Instruction) -> bool {
    match instruction.keyword.as_str() {
        "RUN" | "COPY" | "ADD" => true,
        _ => {
            instruction.trigger().is_some_and(|trigger| trigger.keyword != "ONBUILD" && takes_here_documents(&trigger))
        }
    }
}

/// Adds a line, without the character at its end that continues it. Whether there is one.
fn join(joined: &mut String, line: &str, escape: char) -> bool {
    let start = line.trim_end_matches([' ', '\t']).strip_suffix(escape).filter(|start| !start.ends_with(escape));
    joined.push_str(start.unwrap_or(line));
    start.is_some()
}

struct Line<'a> {
    /// Without its end, and without a byte order mark before it.
    text: Cow<'a, str>,
    range: Range<usize>,
}

impl Line<'_> {
    /// Whether it is empty or a comment, which is left out also inside of an instruction.
    fn is_left_out(&self) -> bool {
        let text = self.text.trim_start();
        text.is_empty() || text.starts_with('#')
    }
}

struct Lines<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, at: if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 } }
    }

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let range = self.at..self.at + length;
        self.at = range.end;
        let mut line = &rest[..length];
        while let [before @ .., b'\r' | b'\n'] = line {
            line = before;
        }
        Some(Line { text: String::from_utf8_lossy(line), range })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        read(text.as_bytes()).all.into_iter().map(|it| format!("{}|{}", it.keyword, it.rest)).collect()
    }

    #[test]
    fn what_a_text_says() {
        for (text, instructions) in [
            ("", &[][..]),
            ("# only\n \n\\\n", &[]),
            // Letters, white space, line ends, the byte order mark.
            ("  from  a:1   AS b ", &["FROM|a:1   AS b"]),
            ("\u{feff}FROM a\n", &["FROM|a"]),
            ("\u{feff}# escape=`\nRUN a `\n b", &["RUN|a  b"]),
            ("# c\r\nFROM a\r\nRUN x \\\r\n  y\r\n\r\nCMD", &["FROM|a", "RUN|x   y", "CMD|"]),
            ("RUN\ta\nENV\n", &["RUN|a", "ENV|"]),
            // Continued lines, with comments and empty lines between.
            ("RUN x \\\n# a comment \\\n\n  # another\n  && y \\ \t\n && z\nCMD a", &["RUN|x   && y  && z", "CMD|a"]),
            ("RUN a \\", &["RUN|a"]),
            ("\\\nRUN a", &["RUN|a"]),
            ("RU\\\nN a", &["RUN|a"]),
            ("# c \\\nRUN a", &["RUN|a"]),
            ("RUN w\\\\\nCMD a", &["RUN|w\\\\", "CMD|a"]),
            ("RUN a \\ b\nCMD a", &["RUN|a \\ b", "CMD|a"]),
            // Only the escape character continues a line.
            ("ARG NOTE=`x`\nFROM $DOCKER_IMAGE_PARENT", &["ARG|NOTE=`x`", "FROM|$DOCKER_IMAGE_PARENT"]),
            ("# escape=`\nARG DIR=C:\\\nFROM a", &["ARG|DIR=C:\\", "FROM|a"]),
            ("# escape=`\nRUN a \\\nRUN b `\n c", &["RUN|a \\", "RUN|b  c"]),
            ("# syntax=docker/dockerfile:1\n# Escape = `\nRUN b `\n c", &["RUN|b  c"]),
            ("# a comment\n# escape=`\nRUN b `\nCMD c", &["RUN|b `", "CMD|c"]),
            ("\n# escape=`\nRUN b `\nCMD c", &["RUN|b `", "CMD|c"]),
            // Here-documents.
            ("RUN <<EOF\nFROM no\nEOF\nFROM a", &["RUN|<<EOF", "FROM|a"]),
            ("RUN <<EOF\r\nFROM no\r\nEOF\r\nFROM a", &["RUN|<<EOF", "FROM|a"]),
            ("run \\\n  <<EOF\nFROM no \\\nEOF\nFROM a", &["RUN|<<EOF", "FROM|a"]),
            (
                "COPY <<-\"a.b\" <<'C' /x/\nFROM no\n\ta.b\n FROM no\n C\nC\nADD <<d /y\nd\nFROM a",
                &["COPY|<<-\"a.b\" <<'C' /x/", "ADD|<<d /y", "FROM|a"],
            ),
            ("ONBUILD RUN <<EOF\nFROM no\nEOF\nFROM a", &["ONBUILD|RUN <<EOF", "FROM|a"]),
            ("# escape=`\nRUN <<E\\'F\nFROM no\nE'F\nFROM a", &["RUN|<<E\\'F", "FROM|a"]),
            ("RUN <<EOF\nFROM no", &["RUN|<<EOF"]),
            ("RUN cat <<< x\nFROM a", &["RUN|cat <<< x", "FROM|a"]),
            ("RUN [\"cat\", \"<<EOF\"]\nFROM a", &["RUN|[\"cat\", \"<<EOF\"]", "FROM|a"]),
            (
                "ENV A=<<EOF\nFROM a\nONBUILD ENV A=<<EOF\nCMD",
                &["ENV|A=<<EOF", "FROM|a", "ONBUILD|ENV A=<<EOF", "CMD|"],
            ),
        ] {
            assert_eq!(found(text), instructions, "{text:?}");
        }
    }

    #[test]
    fn each_instruction_has_its_lines() {
        let text =
            "\u{feff}# escape=`\r\n\n  arg A=1\r\n# about\nRUN x `\n\n# in it\n y\nCOPY <<A <<B /\na\nA\nb\nB\n\nCMD ü";
        let lines: Vec<_> = read(text.as_bytes()).all.into_iter().map(|it| &text[it.range]).collect();
        assert_eq!(lines, ["  arg A=1\r\n", "RUN x `\n\n# in it\n y\n", "COPY <<A <<B /\na\nA\nb\nB\n", "CMD ü"]);
        // The places count bytes, in any encoding.
        let instructions = read(b"# \xff\xfe\nRUN \xff\nCMD a").all;
        assert_eq!(instructions.iter().map(|it| it.range.clone()).collect::<Vec<_>>(), [5..11, 11..16]);
    }

    #[test]
    fn flags_stand_before_words() {
        let arguments = |rest: &str| {
            let instruction = instruction(&format!("COPY {rest}")).unwrap();
            let Arguments { flags, words } = instruction.arguments('\\');
            format!("{} | {}", flags.join(" "), words.join(" "))
        };
        assert_eq!(arguments("--a --b=\"c d\",'e' f --g \"h i\""), "--a --b=c d,e | f --g \"h i\"");
        assert_eq!(arguments("a"), " | a");
        assert_eq!(arguments("--a"), "--a | ");
    }

    #[test]
    fn what_onbuild_keeps_is_done_in_the_stages_that_are_made_from_it() {
        let executed = |text: &str| {
            let executed = read(text.as_bytes()).executed();
            executed.iter().map(|it| format!("{} {}", it.keyword, it.rest)).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            executed(
                "FROM a As one\nonbuild copy --from=x / /\nONBUILD RUN y\nRUN z\nFROM ONE AS two\nRUN w\nFROM two\n"
            ),
            "FROM a As one, RUN z, FROM ONE AS two, COPY --from=x / /, RUN y, RUN w, FROM two"
        );
        assert_eq!(executed("ONBUILD RUN x\nFROM a\nONBUILD\nFROM b"), "ONBUILD RUN x, FROM a, FROM b");
    }

    proptest! {
        #[test]
        fn instructions_are_in_order_and_apart(text in "(FROM|RUN|#|\\\\|`|<<A|A|[ \t]|\r?\n|ONBUILD|é){0,30}") {
            let mut end = 0;
            for instruction in read(text.as_bytes()).all {
                prop_assert!(end <= instruction.range.start && instruction.range.start < instruction.range.end);
                end = instruction.range.end;
            }
            prop_assert!(end <= text.len());
        }
    }
}
