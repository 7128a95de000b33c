//! The steps of an image's history as instructions of a `Dockerfile`, independent of the builder: the same step has the same text
//! in every build, so that images can be compared by it.

use std::sync::LazyLock;

use regex::Regex;

use crate::engine::build_log::plain;
use crate::report::{secrets, shortened};

/// Longer steps are cut: enough to find them in the `Dockerfile`.
const LONGEST: usize = 160;

/// The prefix of the classic builder and Podman for steps that run nothing; a shell precedes it.
const NOTHING_RUNS: &str = "#(nop) ";

/// What the classic builder and Podman copy, by the hash of it.
static COPIED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(file|dir|multi):[0-9a-f]{64}\b").ok());

/// The shell that runs a step: `/bin/sh -c `, `/bin/bash -o pipefail -ec `, `/bin/busybox sh -c `.
static SHELL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:^| )/\S+(?: [0-9A-Za-z_-]+){0,4}? -[a-z]*c ").ok());

/// The step that a history calls `created_by`, without values of build arguments and without secrets.
#[must_use]
pub fn step(created_by: &str) -> String {
    let one_line = created_by.split_whitespace().collect::<Vec<_>>().join(" ");
    let hidden = secrets::hide(&one_line).into_owned();
    let text = hidden.strip_suffix("# buildkit").unwrap_or(&hidden).trim();
    let text = match text.split_once(NOTHING_RUNS) {
        Some((shell, instruction)) if shell.starts_with('/') => instruction.trim().to_owned(),
        _ => ran(text).map_or_else(|| text.to_owned(), |command| format!("RUN {}", command.trim())),
    };
    let text = COPIED.as_ref().map_or_else(|| text.clone(), |copied| copied.replace_all(&text, "$1").into_owned());
    let text = plain(&text);
    if text.is_empty() { "an unnamed step".to_owned() } else { shortened(&text, LONGEST) }
}

/// The command of a step that runs one, without its shell. `|2 A=x B=y /bin/sh -c make` is `make` with two build arguments, whose
/// values are left out because they can be private.
fn ran(text: &str) -> Option<&str> {
    let command = text.strip_prefix("RUN ").or_else(|| text.starts_with(['|', '/']).then_some(text))?;
    let arguments = command.strip_prefix('|').and_then(|rest| rest.split_once(' '));
    let arguments = arguments.and_then(|(count, rest)| Some((count.parse::<usize>().ok()?, rest)));
    let shell = SHELL.as_ref().and_then(|shell| shell.find(command));
    match (arguments, shell) {
        (Some(_), Some(shell)) => Some(&command[shell.end()..]),
        (None, Some(shell)) if shell.start() == 0 => Some(&command[shell.end()..]),
        // No shell: a value with a space in it leaves its end behind, which is ugly and no more.
        (Some((count, rest)), None) => rest.splitn(count + 1, ' ').last(),
        (None, _) => Some(command),
    }
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
            ("RUN |1 A=http://x/ /bin/bash -o pipefail -ec make /x # buildkit", "RUN make /x"),
            ("/bin/busybox sh -c ls /bin/sh -c ls", "RUN ls /bin/sh -c ls"),
            ("/bin/busybox sh -c #(nop) CMD [\"/bin/sh\"]", "CMD [\"/bin/sh\"]"),
            ("RUN /busybox sleep 1 # buildkit", "RUN /busybox sleep 1"),
            ("/busybox sleep 1", "RUN /busybox sleep 1"),
            ("|1 A=x make all", "RUN make all"),
            (&copied, "COPY file in /data"),
            ("COPY data /data # buildkit", "COPY data /data"),
            ("/bin/sh -c #(nop) ADD dir:x in / ", "ADD dir:x in /"),
            ("", "an unnamed step"),
        ];
        for (created_by, expected) in cases {
            assert_eq!(step(created_by), expected, "{created_by}");
        }
    }

    #[test]
    fn steps_are_short_and_say_no_secrets() {
        secrets::add("nobody-may-see");
        assert_eq!(step("RUN /bin/sh -c curl nobody-may-see"), "RUN curl [hidden]");
        assert_eq!(step("|1 TOKEN=nobody-may-see /bin/sh -c true"), "RUN true");
        assert_eq!(step(&"ü".repeat(500)).chars().count(), LONGEST + 1);
        assert_eq!(step("/bin/sh -c echo \u{1b}[31mred\u{7}\nand on"), "RUN echo red and on");
    }
}
