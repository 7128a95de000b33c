//! The syntax that taskgraph adds to Dockerfiles: `# %include PATH`, `# %include-run-task` and `# %ARG NAME`, parsed as in
//! Python. `collect` finds the included files, `substitute` has the rules of substitution.

use std::collections::BTreeMap;

pub use super::substitute::SubstituteError;
use super::substitute::Substitution;

use crate::report::Hint;

/// The text that taskgraph writes after a line `# %include-run-task`: the same in all of its releases, 1.0.0 to 24.5.1.
pub const RUN_TASK_SNIPPET: &str = "COPY run-task/run-task /usr/local/bin/run-task
COPY run-task/fetch-content /usr/local/bin/fetch-content
COPY run-task/robustcheckout.py /usr/local/mercurial/robustcheckout.py
COPY run-task/hgrc /etc/mercurial/hgrc.d/mozilla.rc
";

/// A Dockerfile for the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text: lines end with `\n`, `# %ARG` lines are gone, arguments are filled in.
    pub text: String,
    /// The files of the `# %include` lines, in order.
    pub includes: Vec<Include>,
    /// The number of the first `# %include-run-task` line, where there is one.
    pub run_task: Option<usize>,
}

/// One `# %include` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Its number, from 1.
    pub line: usize,
    /// The path as written, from the root of the repository; never absolute.
    pub path: String,
}

/// A line of a Dockerfile that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// The problem.
    pub problem: LineProblem,
}

/// A problem in a line of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// Not UTF-8.
    #[error("is not UTF-8{}", Hint("save the file as UTF-8"))]
    NotUtf8,
    /// `# %ARG NAME` without a value.
    #[error("`# %ARG {name}` needs an argument that was not given{}", Hint(format_args!("give {name}=VALUE")))]
    MissingArgument {
        /// The argument's name.
        name: String,
    },
    /// `# %ARG` of nothing.
    #[error("`{line}` names no argument{}", Hint("write `# %ARG NAME`"))]
    NamelessArgument {
        /// The line.
        line: String,
    },
    /// A given argument that cannot be substituted.
    #[error(transparent)]
    Argument(#[from] SubstituteError),
    /// `# %include /…`
    #[error("`# %include {path}` must not be absolute{}", Hint("write the path from the root of the repository"))]
    AbsoluteInclude {
        /// The path as written.
        path: String,
    },
    /// `# %include ../…`
    #[error("`# %include {path}` leaves the repository{}", Hint("only files inside it can be included"))]
    OutsideInclude {
        /// The path as written.
        path: String,
    },
    /// `# %include` of nothing.
    #[error("`# %include {path}` names nothing that exists in the repository{}", Hint("correct or remove the line"))]
    MissingInclude {
        /// The path as written.
        path: String,
    },
}

impl Dockerfile {
    /// Processes the bytes of a Dockerfile.
    pub fn process(raw: &[u8], args: &BTreeMap<String, String>) -> Result<Self, LineError> {
        let text = decode(raw)?;
        let mut dockerfile = Self { text: String::with_capacity(text.len()), includes: Vec::new(), run_task: None };
        let mut substitutions = Vec::new();
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            let at_line = |problem| LineError { line: number, problem };
            if line.starts_with("# %ARG") {
                // A definition is recognised before substitution, and is not itself a line of the result.
                substitutions.push(definition(line, args).map_err(at_line)?);
                continue;
            }
            let line = substitutions.iter().fold(line.to_owned(), |line, one: &Substitution| one.apply(&line));
            dockerfile.text.push_str(&line);
            // An include is recognised after substitution.
            if !line.starts_with("# %include") {
                continue;
            }
            if strip(&line) == "# %include-run-task" {
                dockerfile.text.push_str(RUN_TASK_SNIPPET);
                dockerfile.run_task.get_or_insert(number);
            } else {
                let path = included(&line).map_err(at_line)?.to_owned();
                dockerfile.includes.push(Include { line: number, path });
            }
        }
        Ok(dockerfile)
    }
}

/// UTF-8 and universal newlines: `\r\n` and a lone `\r` are line ends like `\n`.
fn decode(raw: &[u8]) -> Result<String, LineError> {
    let text = std::str::from_utf8(raw).map_err(|error| {
        let good = String::from_utf8_lossy(&raw[..error.valid_up_to()]);
        LineError { line: newlines(&good).matches('\n').count() + 1, problem: LineProblem::NotUtf8 }
    })?;
    Ok(newlines(text))
}

fn newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn definition(line: &str, args: &BTreeMap<String, String>) -> Result<Substitution, LineProblem> {
    let name = argument(line, "# %ARG ");
    let value = args.get(name).ok_or_else(|| match name {
        "" => LineProblem::NamelessArgument { line: strip(line).to_owned() },
        name => LineProblem::MissingArgument { name: name.to_owned() },
    })?;
    Ok(Substitution::new(name, value)?)
}

fn included(line: &str) -> Result<&str, LineProblem> {
    let path = argument(line, "# %include ");
    if path.starts_with('/') {
        return Err(LineProblem::AbsoluteInclude { path: path.to_owned() });
    }
    Ok(path)
}

/// The text behind the keyword. As in taskgraph, the character after it is ignored.
fn argument<'a>(line: &'a str, keyword: &str) -> &'a str {
    let start = line.char_indices().nth(keyword.len()).map_or(line.len(), |(at, _)| at);
    strip(&line[start..])
}

/// `str.strip()` of Python, where U+001C to U+001F are white space too.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn process(raw: &str, pairs: &[(&str, &str)]) -> (String, Vec<(usize, String)>) {
        let done = Dockerfile::process(raw.as_bytes(), &args(pairs)).unwrap();
        (done.text, done.includes.into_iter().map(|i| (i.line, i.path)).collect())
    }

    fn error_of(raw: &[u8], pairs: &[(&str, &str)]) -> String {
        Dockerfile::process(raw, &args(pairs)).unwrap_err().to_string()
    }

    #[test]
    fn newlines_are_universal_and_the_last_may_be_missing() {
        assert_eq!(process("a\r\nb\rc\n\r\r\nd\x0be\u{2028}f", &[]).0, "a\nb\nc\n\n\nd\x0be\u{2028}f");
        assert_eq!(process("", &[]).0, "");
        assert_eq!(process("\u{feff}# %include x", &[]), ("\u{feff}# %include x".into(), vec![]));
    }

    #[test]
    fn includes_stay_in_the_text() {
        let raw = "FROM x\n# %include  a b/ \t\n#%include c\n # %include d\n# %include\n# %includeXe\x1f";
        let (text, includes) = process(raw, &[]);
        assert_eq!(text, raw);
        assert_eq!(includes, [(2, "a b/".into()), (5, String::new()), (6, "e".into())]);
    }

    #[test]
    fn arguments_are_filled_into_later_lines() {
        let (text, includes) = process(
            "RUN $A\n# %ARG A\n# %ARG B\nFROM $A $B $AB\n# %include tools/$B.sh\n$A f\n# %ARG A\n",
            &[("A", "# %include $B"), ("B", "3.11")],
        );
        // A's value holds $B, which is replaced after it; and a line may become an include.
        assert_eq!(text, "RUN $A\nFROM # %include 3.11 3.11 $AB\n# %include tools/3.11.sh\n# %include 3.11 f\n");
        assert_eq!(includes, [(5, "tools/3.11.sh".into()), (6, "3.11 f".into())]);
    }

    #[test]
    fn the_lines_that_copy_run_task_follow_its_include() {
        let done = |raw: &str, pairs| Dockerfile::process(raw.as_bytes(), &args(pairs)).unwrap();
        let dockerfile = done("FROM x\r\n# %include-run-task \t\r\nRUN y\n", &[]);
        let text = format!("FROM x\n# %include-run-task \t\n{RUN_TASK_SNIPPET}RUN y\n");
        assert_eq!(dockerfile, Dockerfile { text, includes: Vec::new(), run_task: Some(2) });
        // After substitution, which does not touch the lines themselves; each time; the last line has no end.
        let dockerfile =
            done("# %ARG W\n# %ARG run\n# %include-$W\n# %include-run-task", &[("W", "run-task"), ("run", "")]);
        let twice = format!("# %include-run-task\n{RUN_TASK_SNIPPET}# %include-run-task{RUN_TASK_SNIPPET}");
        assert_eq!((dockerfile.text, dockerfile.run_task), (twice, Some(3)));
        for other in [" # %include-run-task\n", "# %include-run-tasks\n", "# %include  run-task\n"] {
            assert_eq!(done(other, &[]).run_task, None);
        }
        assert_eq!(process("# %include-run-tasks\n", &[]).1, [(1, "run-tasks".into())]);
    }

    #[test]
    fn an_argument_that_looks_like_a_definition_is_none() {
        assert_eq!(process("# %ARG A\n$A B\n", &[("A", "# %ARG")]).0, "# %ARG B\n");
    }

    #[test]
    fn refusals_name_the_line_and_the_thing() {
        let missing = "line 2: `# %ARG BASE` needs an argument that was not given; give BASE=VALUE";
        assert_eq!(error_of(b"FROM x\n# %ARG BASE\n", &[("OTHER", "")]), missing);
        for (unnamed, shown) in [("# %ARG", "# %ARG"), ("# %ARG \t\r\nX", "# %ARG"), ("# %ARGX\n", "# %ARGX")] {
            let expected = format!("line 1: `{shown}` names no argument; write `# %ARG NAME`");
            assert_eq!(error_of(unnamed.as_bytes(), &[("X", "")]), expected);
        }
        assert_eq!(error_of(b"a\rb\r\n\xff", &[]), "line 3: is not UTF-8; save the file as UTF-8");
        assert!(error_of(b"# %include /etc\n", &[]).starts_with("line 1: `# %include /etc` must not be absolute"));
        assert!(error_of(b"# %ARG A", &[("A", "\\")]).starts_with("line 1: the value of the argument A has \"\\\\\""));
    }

    proptest! {
        #[test]
        fn without_syntax_only_newlines_change(text in "([ -~é]{0,9}(\r|\n|\r\n)){0,9}") {
            prop_assume!(!text.contains("# %"));
            let (done, includes) = process(&text, &[("A", "b")]);
            prop_assert!(!done.contains('\r'));
            prop_assert_eq!(done.lines().count(), newlines(&text).lines().count());
            prop_assert!(includes.is_empty());
        }

        #[test]
        fn never_a_panic(raw in any::<Vec<u8>>(), tail in "(# %(ARG|include)[ -~é]{0,5}\n|[$]A[ -~]{0,3}\n){0,9}") {
            let raw = [raw, tail.into_bytes()].concat();
            let _ = Dockerfile::process(&raw, &args(&[("A", "b"), ("", "c")]));
        }
    }
}
