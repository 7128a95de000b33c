//! The name of an image, which is that of its directory, and paths inside a repository.

use crate::net::checked_text;

checked_text!(
    /// The name of an image: the name of its directory, one component of a docker repository name and of
    /// an index namespace at once.
    ImageName,
    "an image name",
    "expected lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`, at most 128 characters",
    is_image_name
);

checked_text!(
    /// A path inside a repository, relative, with `/` between its parts: `testing/docker/builder`.
    RepoPath,
    "a path inside a repository",
    "expected a relative path without empty, `.` or `..` parts",
    is_repo_path
);

impl RepoPath {
    /// The last part of the path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        last_part(&self.0)
    }
}

pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_image_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joins = |run: &str| run == "." || run == "_" || run == "__" || run.bytes().all(|b| b == b'-');
    text.len() <= 128
        && text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(joins)
}

pub(crate) fn is_repo_path(text: &str) -> bool {
    text.split('/').all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accepts;

    #[test]
    fn image_names() {
        accepts::<ImageName>(
            &["builder", "gcc-4.4", "a", "a__b", "a--b", "debian12-amd64", "0"],
            &["", "Builder", "a/b", "a:b", "-a", "a-", "a..b", "a___b", "a._b", "ü", "a b", &"a".repeat(129)],
        );
    }
}
