//! `.dockerignore`: which files of a context a build leaves out, by the rules of moby's `patternmatcher` as BuildKit's client
//! applies them. `context` leaves the files out, and knows which of them an engine needs anyway.

use super::ignore_pattern::{Pattern, PatternProblem};

/// A line that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {pattern:?} {problem}")]
pub struct IgnoreError {
    /// Counted from 1.
    pub line: usize,
    /// The pattern.
    pub pattern: String,
    /// The problem.
    pub problem: PatternProblem,
}

/// The patterns of a `.dockerignore`.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// `!`: what matches is not left out.
    is_exception: bool,
}

impl Ignore {
    /// Reads a `.dockerignore`.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = String::from_utf8_lossy(text);
        let mut patterns = Vec::new();
        for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(&text).lines().enumerate() {
            let written = line.trim();
            if line.starts_with('#') || written.is_empty() {
                continue;
            }
            let (bare, is_exception) = written.strip_prefix('!').map_or((written, false), |bare| (bare.trim(), true));
            let failed = |problem| IgnoreError { line: index + 1, pattern: written.to_owned(), problem };
            if bare.is_empty() {
                return Err(failed(PatternProblem::Empty));
            }
            let cleaned = clean(bare);
            let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
            // moby does it once more, with the `!` and without the `/`.
            let relative = if is_exception { relative.to_owned() } else { clean(relative) };
            patterns.push(Rule { pattern: Pattern::new(&relative).map_err(failed)?, is_exception });
        }
        Ok(Self { patterns })
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path of the context stays out: the last rule that matches it decides. A rule matches too where it has matched
    /// a directory above.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        let mut matched = vec![false; self.patterns.len()];
        let mut is_out = false;
        let ends = path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]);
        for end in ends {
            is_out = false;
            for (Rule { pattern, is_exception }, above) in self.patterns.iter().zip(&mut matched) {
                // Patterns that would change nothing are not evaluated, and then do not hold for entries below either, as in
                // moby.
                *above |= *is_exception == is_out && pattern.matches(&path[..end]);
                if *above {
                    is_out = !is_exception;
                }
            }
        }
        is_out
    }
}

/// The shortest path of the same meaning, as Go's `filepath.Clean` has it.
fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            _ => parts.push(part),
        }
    }
    match (is_absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Those of these files that stay out.
    fn out(ignore: &str, files: &[&str]) -> Vec<String> {
        let ignore = Ignore::parse(ignore.as_bytes()).unwrap();
        files.iter().filter(|file| ignore.excludes(file)).map(|file| (*file).to_owned()).collect()
    }

    /// integration/context/dockerignore.rs compares such rules with what `docker build` does.
    #[test]
    fn the_last_rule_that_matches_decides() {
        let files = [".env", "a", "a.md", "b/.env", "b/a.md", "b/c/a.md", "b/c/d", "README.md", "Dockerfile"];
        for (ignore, expected) in [
            ("", &[][..]),
            (".env", &[".env"]),
            ("/.env", &[".env"]),
            ("**/.env", &[".env", "b/.env"]),
            ("*.md\n!README.md", &["a.md"]),
            ("!README.md\n*.md", &["a.md", "README.md"]),
            ("b", &["b/.env", "b/a.md", "b/c/a.md", "b/c/d"]),
            ("b/", &["b/.env", "b/a.md", "b/c/a.md", "b/c/d"]),
            ("./b//c/../c/", &["b/c/a.md", "b/c/d"]),
            ("b\n!b/c", &["b/.env", "b/a.md"]),
            ("b\n!b/c\nb/c/d", &["b/.env", "b/a.md", "b/c/d"]),
            ("*\n!b/c/d\n!a", &[".env", "a.md", "b/.env", "b/a.md", "b/c/a.md", "README.md", "Dockerfile"]),
            ("*\n!**/*.md", &[".env", "a", "b/.env", "b/c/d", "Dockerfile"]),
            ("*/*/*.md", &["b/c/a.md"]),
            ("*/a.md", &["b/a.md"]),
            ("b/**", &["b/.env", "b/a.md", "b/c/a.md", "b/c/d"]),
            ("b/**/d", &["b/c/d"]),
            ("**", &[".env", "a", "a.md", "b/.env", "b/a.md", "b/c/a.md", "b/c/d", "README.md", "Dockerfile"]),
            ("?", &["a", "b/.env", "b/a.md", "b/c/a.md", "b/c/d"]),
            ("[a-b]", &["a", "b/.env", "b/a.md", "b/c/a.md", "b/c/d"]),
            ("[^b]", &["a"]),
            ("\\.env", &[".env"]),
            ("  .env \t\n # a", &[".env"]),
            ("# a\n\n#.env\r\na\r\n", &["a"]),
            ("\u{feff}# a\n.env", &[".env"]),
            (".", &[]),
            ("/", &[]),
            ("..", &[]),
            ("../a", &[]),
            ("! b/c\nb/c", &["b/c/a.md", "b/c/d"]),
            ("b/c\n!b", &["b/c/a.md", "b/c/d"]),
        ] {
            assert_eq!(out(ignore, &files), expected, "{ignore:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_pattern_is_named() {
        let failed = |text: &str| Ignore::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(failed("a\n# b\n[a-\n"), "line 3: \"[a-\" has a `[` without its `]`, or an empty range in it");
        assert_eq!(failed("!"), "line 1: \"!\" names no file behind the `!`");
        assert_eq!(failed("! [z-a]"), "line 1: \"! [z-a]\" has a range that ends before it begins");
        assert_eq!(failed("a\\"), "line 1: \"a\\\\\" ends with a `\\`, which must have a letter behind it");
    }

    #[test]
    fn paths_are_cleaned_as_go_does_it() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b/..", "a"),
            ("a/..", "."),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn never_a_panic(text in "[]a!*?/\\\\.^\\[ #é\n-]{0,20}", path in "[a-b.é]{1,3}(/[a-b.]{1,2}){0,3}") {
            if let Ok(ignore) = Ignore::parse(text.as_bytes()) {
                let _ = ignore.excludes(&path);
            }
        }

        #[test]
        fn a_plain_name_is_itself_and_all_below(name in "[a-z.]*[a-z]/?[a-z]{1,3}") {
            let ignore = Ignore::parse(name.as_bytes()).unwrap();
            let below = format!("{name}/b");
            let beside = format!("{name}b");
            prop_assert!(ignore.excludes(&name) && ignore.excludes(&below) && !ignore.excludes(&beside));
        }
    }
}
