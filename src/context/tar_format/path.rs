//! Paths in archives: their normal form, and the paths that links lead to. The readers decide which paths are allowed.

use std::borrow::Cow;

/// A path without empty parts and `.` parts: writers use `./a`, `/a`, `a` and `a/` for the same path.
#[must_use]
pub fn plain(path: &[u8]) -> Cow<'_, [u8]> {
    let is_part = |part: &&[u8]| !matches!(*part, b"" | b".");
    let parts = || path.split(|byte| *byte == b'/');
    if parts().all(|part| is_part(&part)) {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(parts().filter(is_part).collect::<Vec<_>>().join(&b'/'))
    }
}

/// The directory of a path; the top directory is empty.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The path that a link target leads to from a directory, computed from the text; `None` if it is outside the archive.
#[must_use]
pub fn resolve(directory: &str, path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, form) in
            [("a/b", "a/b"), ("./a//b/", "a/b"), ("/a", "a"), ("./", ""), (".", ""), ("", ""), ("a/../.b", "a/../.b")]
        {
            assert_eq!(*plain(path.as_bytes()), *form.as_bytes(), "{path}");
        }
        assert!(matches!(plain(b"a/b"), Cow::Borrowed(_)));
    }

    #[test]
    fn links_lead_to_paths_of_the_archive_or_nowhere() {
        for (name, target, end) in [
            ("a/b/l", "../c", Some("a/c")),
            ("a/l", "./c/", Some("a/c")),
            ("l", "a/../b", Some("b")),
            ("a/l", "..", Some("")),
            ("l", "../b", None),
            ("a/l", "../../b", None),
        ] {
            assert_eq!(resolve(parent(name), target).as_deref(), end, "{name} -> {target}");
        }
    }
}
