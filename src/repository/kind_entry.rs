//! Adds an image to the text of a `kind.yml`. The rest of the text stays as it is, with its comments.

use crate::context::ImageName;

/// The indentation where no entry shows one: taskgraph's.
const USUAL_INDENTATION: usize = 4;

/// The entry of an image, in lines without indentation.
#[must_use]
pub fn entry(name: &ImageName, parent: Option<&ImageName>) -> Vec<String> {
    let parent = parent.map(|parent| format!("parent: {parent}"));
    std::iter::once(format!("{name}:")).chain([format!("symbol: I({name})")]).chain(parent).collect()
}

/// The text with an entry at the end of its `tasks`, or of its older `jobs`; none where these are not a block of their own.
#[must_use]
pub fn with_entry(text: &str, name: &ImageName, parent: Option<&ImageName>) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_start = |line: &&str| ["tasks:", "jobs:"].iter().any(|word| line.starts_with(word));
    let start = lines.iter().position(is_start)?;
    let (word, rest) = lines[start].split_once(':')?;
    let rest = rest.split('#').next().unwrap_or_default().trim();
    // `tasks: {}` is how taskgraph's own template begins.
    if !(rest.is_empty() || rest == "{}" || rest == "null") {
        return None;
    }
    let is_inside = |line: &&&str| line.starts_with(' ') && !line.trim().is_empty();
    let is_over = |line: &&str| !line.starts_with([' ', '#']) && !line.trim().is_empty();
    let body = &lines[start + 1..];
    let body = &body[..body.iter().position(is_over).unwrap_or(body.len())];
    let is_entry = |line: &&&str| is_inside(line) && !line.trim_start().starts_with('#');
    let indentation = body.iter().find(is_entry).map_or(USUAL_INDENTATION, |line| line.len() - line.trim_start().len());
    let end = start + 1 + body.iter().rposition(|line| is_inside(&line)).map_or(0, |last| last + 1);
    let [title, keys @ ..] = &*entry(name, parent) else { return None };
    let (outer, inner) = (" ".repeat(indentation), " ".repeat(indentation * 2));
    let added = std::iter::once(format!("{outer}{title}")).chain(keys.iter().map(|key| format!("{inner}{key}")));
    let mut all: Vec<String> = lines[..end].iter().map(ToString::to_string).collect();
    all[start] = if rest.is_empty() { all[start].clone() } else { format!("{word}:") };
    all.extend(added);
    all.extend(lines[end..].iter().map(ToString::to_string));
    Some(all.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> Option<String> {
        with_entry(text, &"new".parse().unwrap(), None)
    }

    #[test]
    fn the_entry_is_the_last_one_of_its_block_and_looks_like_its_neighbours() {
        let text = "---\nloader: x\ntasks:\n  # of Debian\n  a:\n    symbol: I(a)\n\n  b: {}\n\n# more\nother: 1\n";
        let expected = text.replace("  b: {}\n", "  b: {}\n  new:\n    symbol: I(new)\n");
        assert_eq!(added(text).unwrap(), expected);
        let parent = with_entry("tasks:\n    a: {}", &"new".parse().unwrap(), Some(&"a".parse().unwrap())).unwrap();
        assert_eq!(parent, "tasks:\n    a: {}\n    new:\n        symbol: I(new)\n        parent: a\n");
        assert_eq!(added("jobs: # old\n  a: {}\n").unwrap(), "jobs: # old\n  a: {}\n  new:\n    symbol: I(new)\n");
        for empty in ["tasks:\n", "tasks: {}\n"] {
            assert_eq!(added(empty).unwrap(), "tasks:\n    new:\n        symbol: I(new)\n");
        }
    }

    #[test]
    fn what_is_no_block_is_left_to_people() {
        for text in ["tasks: {a: {}}\n", "tasks-from: [other.yml]\n", ""] {
            assert_eq!(added(text), None, "{text}");
        }
    }
}
