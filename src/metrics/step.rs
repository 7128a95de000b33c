//! The steps of an image's history in the words of a `Dockerfile`, whichever builder wrote them: the same step reads the same
//! in every build, so that images can be compared by it.

use std::sync::LazyLock;

use regex::Regex;

use crate::build_log::plain;
use crate::secrets::Secrets;

/// Longer steps are cut: enough to find them in the `Dockerfile`.
const LONGEST: usize = 160;

/// How builders write the shell that runs a step.
const SHELL: &str = "/bin/sh -c ";

/// The classic builder's and Podman's word for steps that run nothing.
const NOTHING_RUNS: &str = "#(nop) ";

/// What the classic builder and Podman copy, by the hash of it.
static COPIED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(file|dir|multi):[0-9a-f]{64}\b").ok());

/// The step that a history calls `created_by`, without values of build arguments and without secrets.
#[must_use]
pub fn step(created_by: &str, secrets: &Secrets) -> String {
    let one_line = created_by.split_whitespace().collect::<Vec<_>>().join(" ");
    let hidden = secrets.hide(&one_line).into_owned();
    let text = hidden.strip_suffix("# buildkit").unwrap_or(&hidden).trim();
    let (ran, text) = text.strip_prefix("RUN ").map_or((false, text), |text| (true, text));
    let text = without_arguments(text);
    let text = match (text.strip_prefix(SHELL), ran) {
        (Some(rest), false) => match rest.trim_start().strip_prefix(NOTHING_RUNS) {
            Some(rest) => rest.trim().to_owned(),
            None => format!("RUN {}", rest.trim()),
        },
        (Some(rest), true) => format!("RUN {}", rest.trim()),
        (None, true) => format!("RUN {text}"),
        (None, false) => text.to_owned(),
    };
    let text = COPIED.as_ref().map_or(text.clone(), |copied| copied.replace_all(&text, "$1").into_owned());
    let text = plain(&text);
    match text.char_indices().nth(LONGEST) {
        _ if text.is_empty() => "an unnamed step".to_owned(),
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// `|2 A=x B=y /bin/sh -c make` is `make` with two build arguments. Their values are nobody's business here.
fn without_arguments(text: &str) -> &str {
    let Some((count, rest)) = text.strip_prefix('|').and_then(|text| text.split_once(' ')) else { return text };
    let Ok(count) = count.parse::<usize>() else { return text };
    if let Some(at) = rest.find(SHELL) {
        return &rest[at..];
    }
    // Another shell: a value with a space in it leaves its end behind, which is ugly and no more.
    rest.splitn(count + 1, ' ').last().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builders_say_the_same_of_the_same_step() {
        let hash = "ab".repeat(32);
        let copied = format!("/bin/sh -c #(nop) COPY file:{hash} in /data ");
        let cases = [
            ("/bin/sh -c apt-get install -y curl", "RUN apt-get install -y curl"),
            ("RUN /bin/sh -c apt-get install -y curl # buildkit", "RUN apt-get install -y curl"),
            ("|2 A=x B=y z /bin/sh -c apt-get install -y curl", "RUN apt-get install -y curl"),
            ("RUN |1 A=x /bin/sh -c apt-get install -y curl # buildkit", "RUN apt-get install -y curl"),
            ("RUN |1 A=x /bin/bash -c make # buildkit", "RUN /bin/bash -c make"),
            (&copied, "COPY file in /data"),
            ("COPY data /data # buildkit", "COPY data /data"),
            ("/bin/sh -c #(nop) ADD dir:x in / ", "ADD dir:x in /"),
            ("", "an unnamed step"),
        ];
        for (created_by, expected) in cases {
            assert_eq!(step(created_by, &Secrets::default()), expected, "{created_by}");
        }
    }

    #[test]
    fn steps_are_short_and_say_no_secrets() {
        let arguments = [("TOKEN".to_owned(), "nobody-may-see".to_owned())].into();
        let secrets = Secrets::among(&arguments);
        assert_eq!(step("RUN /bin/sh -c curl nobody-may-see", &secrets), "RUN curl [hidden]");
        assert_eq!(step("|1 TOKEN=nobody-may-see /bin/sh -c true", &secrets), "RUN true");
        assert_eq!(step(&"ü".repeat(500), &secrets).chars().count(), LONGEST + 1);
        assert_eq!(step("/bin/sh -c echo \u{1b}[31mred\u{7}\nand on", &secrets), "RUN echo red and on");
    }
}
