//! Rust files as the rules read them: code without comments and without what stands in quotes. A reader of tokens, not
//! of the language; what macros make of them it does not know.

use regex::Regex;

use super::tree::{files, is, text};

/// A file of Rust.
pub(super) struct Source {
    /// From the repository's root.
    pub(super) path: String,
    code: String,
}

/// The Rust files below a directory.
pub(super) fn sources(directory: &str) -> Vec<Source> {
    let below = |path: &String| path.starts_with(&format!("{directory}/")) && is("rs", path);
    let found: Vec<_> =
        files().iter().filter(|path| below(path)).map(|path| Source::new(path, &text(path).unwrap())).collect();
    assert!(!found.is_empty(), "there is no Rust below {directory}/");
    found
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: code(text) }
    }

    /// The module directly below the crate's root that the file belongs to.
    pub(super) fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// The modules that the file names by `crate::`, with the line.
    pub(super) fn modules_used(&self) -> Vec<(usize, String)> {
        let one = Regex::new(r"\bcrate::(\w+|\{)").unwrap();
        let mut used = Vec::new();
        for found in one.captures_iter(&self.code) {
            let after = found.get(1).unwrap();
            let line = self.line(after.start());
            if after.as_str() == "{" {
                used.extend(group(&self.code[after.end()..]).into_iter().map(|module| (line, module)));
            } else {
                used.push((line, after.as_str().to_owned()));
            }
        }
        used
    }

    /// The module that the file is, `engine::build`; the crate's root is the empty one.
    pub(super) fn path_of_module(&self) -> String {
        let (_, below) = self.path.split_once("src/").unwrap_or(("", &self.path));
        let below = below.trim_end_matches(".rs");
        let below = below.strip_suffix("/mod").unwrap_or(below);
        if below == "lib" { String::new() } else { below.replace('/', "::") }
    }

    /// What the program imports, in full from the crate's root. Tests may import what they like.
    pub(super) fn imports(&self) -> Vec<String> {
        let (program, _) = self.code.split_once("#[cfg(test)]").unwrap_or((&self.code, ""));
        let one = Regex::new(r"\buse\s+((?:crate|super|self)\b[^;]*);").unwrap();
        let written = one.captures_iter(program).flat_map(|found| leaves(&found[1]));
        let own = self.path_of_module();
        let own: Vec<&str> = own.split("::").filter(|part| !part.is_empty()).collect();
        let in_full = |path: String| {
            let up = path.split("::").take_while(|part| *part == "super").count();
            let rest = path.split("::").filter(|part| !matches!(*part, "crate" | "self" | "super"));
            let above = if path.starts_with("crate") { &[][..] } else { &own[..own.len().saturating_sub(up)] };
            above.iter().copied().chain(rest).collect::<Vec<_>>().join("::")
        };
        written.map(in_full).collect()
    }

    /// The lines in whose code the pattern is found.
    pub(super) fn find(&self, pattern: &Regex) -> Vec<(usize, &str)> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(_, line)| pattern.is_match(line)).map(|(number, line)| (number + 1, line)).collect()
    }

    fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }
}

/// The paths of a tree of imports: `a::{b, c::{d, e}}` has three.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).trim().to_owned()];
    };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let parts = parts(inner).into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(&part)).map(|leaf| format!("{prefix}{leaf}")).collect()
}

/// The first names of a group `a::b, c::{d, e}}`, whose opening brace is gone.
fn group(code: &str) -> Vec<String> {
    let first = |path: &String| path.trim().split("::").next().unwrap_or_default().to_owned();
    parts(code).iter().map(first).filter(|name| !name.is_empty()).collect()
}

/// What stands between the commas of a group, up to the brace that closes it.
fn parts(code: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in code.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(character);
    }
    parts
}

/// The text with its comments and literals taken out; lines stay where they are.
fn code(text: &str) -> String {
    // In the order in which they are tried at each place; a lifetime is no literal.
    let token = Regex::new(concat!(
        r"(?s)//[^\n]*|/\*.*?\*/",
        r###"|\bb?r"[^"]*"|\bb?r#".*?"#|\bb?r##".*?"##"###,
        r##"|"(?:[^"\\]|\\.)*""##,
        r"|'(?:[^'\\\n]|\\[^u\n]|\\u\{\w+\}|\\x\w\w)'",
    ))
    .unwrap();
    let lines = |found: &regex::Captures| "\n".repeat(found[0].matches('\n').count());
    token.replace_all(text, lines).into_owned()
}
