//! Paths in archives: one form for each, and where links lead by their text. Which paths are allowed is for those who read.

use std::borrow::Cow;

/// A path without empty parts and parts `.`: writers have `./a`, `/a`, `a` and `a/` for the same.
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

/// The folder that a path lies in; the top one is empty.
#[must_use]
pub fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Where a path leads to from a folder, by its text; nowhere if that is outside of the archive.
#[must_use]
pub fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
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
            assert_eq!(resolve(folder(name), target).as_deref(), end, "{name} -> {target}");
        }
    }
}
