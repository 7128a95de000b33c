//! Compares an image's history with the instructions of a `Dockerfile`: which instruction made the image of a step. Docker
//! records the instruction with its variables replaced, Podman as it is written. `descent` draws the conclusions.

/// The shell that runs commands if the `Dockerfile` has no `SHELL`.
const DEFAULT_SHELL: &str = "/bin/sh -c";

/// Whether an instruction made this entry of an image's history: `COPY data /data` is recorded as
/// `/bin/sh -c #(nop) COPY file:… in /data`. Any value matches a variable. `shells` are the shells that may run the commands.
pub(super) fn is_made_by(made_by: &str, instruction: &str, shells: &[String]) -> bool {
    let (keyword, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let with_shells = |command: &str| {
        let shells = shells.iter().map(String::as_str).chain([DEFAULT_SHELL, ""]);
        let (written, joined) = (strip(command), list_words(command).map(|words| strip(&words)));
        let commands = shells.flat_map(|shell| [Some(&written), joined.as_ref()].map(|it| Some(strip(shell) + it?)));
        commands.flatten().collect::<Vec<_>>()
    };
    let Some((_, made)) = made_by.split_once("#(nop)") else {
        // A shell gets the variables as they are written.
        let (command, made) = (without_flags(rest), strip(made_by));
        let is_command = |expected: &String| {
            // Build arguments come first: `|1 A=b`.
            let is_whole = expected.starts_with(&strip(command)) && !command.starts_with('[');
            if made_by.starts_with('|') && !is_whole { made.ends_with(expected.as_str()) } else { made == *expected }
        };
        return keyword == "RUN" && !command.is_empty() && with_shells(command).iter().any(is_command);
    };
    let made = made.trim();
    let (made_keyword, made) = made.split_once(char::is_whitespace).unwrap_or((made, ""));
    made_keyword == keyword
        && match keyword {
            "COPY" | "ADD" => {
                let (to, made_to) = (rest.split_whitespace().last(), made.rsplit_once(" in ").map(|(_, to)| to));
                matches!((to, made_to), (Some(to), Some(made_to)) if is_same(to, made_to))
            }
            // Docker sorts ports and rewrites health checks, and Podman omits defaults.
            "EXPOSE" | "HEALTHCHECK" | "ARG" => true,
            "WORKDIR" => {
                let directory = rest.trim_matches('"').trim_end_matches('/');
                is_same(directory, made) || strip(made).ends_with(&format!("/{}", strip(directory)))
            }
            "CMD" | "ENTRYPOINT" => with_shells(rest).contains(&strip(made)) || is_same(rest, made),
            _ => is_same(rest, made),
        }
}

fn is_same(text: &str, made: &str) -> bool {
    let made = strip(made);
    made == strip(text) || (text.contains('$') && literals(text).iter().all(|part| made.contains(&strip(part))))
}

/// The text between the variables.
fn literals(written: &str) -> Vec<&str> {
    let mut pieces = written.split('$');
    let first = pieces.next();
    let after = pieces.map(|piece| match piece.strip_prefix('{') {
        Some(braced) => braced.split_once('}').map_or("", |(_, after)| after),
        None => piece.trim_start_matches(|it: char| it.is_ascii_alphanumeric() || it == '_'),
    });
    first.into_iter().chain(after).collect()
}

fn without_flags(rest: &str) -> &str {
    let mut rest = rest;
    while rest.starts_with("--") {
        rest = rest.split_once(char::is_whitespace).map_or("", |(_, after)| after.trim_start());
    }
    rest
}

/// The words of a JSON list, joined, if the command is one.
fn list_words(command: &str) -> Option<String> {
    serde_json::from_str::<Vec<String>>(command).ok().map(|words| words.join(" "))
}

/// Removes whitespace, quotes and list syntax: engines write lists, strings and assignments in several ways.
fn strip(text: &str) -> String {
    text.chars().filter(|it| !it.is_whitespace() && !"[],\"'\\=".contains(*it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_record_instructions_in_their_own_ways() {
        let shells = ["[\"/bin/bash\", \"-c\"]".to_owned()];
        // The records of Docker 20.10 and Podman 4.3.
        for (instruction, made_by) in [
            ("ARG A=1", "/bin/sh -c #(nop)  ARG A=1"),
            ("ENV X=$A Y=\"b c\"", "/bin/sh -c #(nop)  ENV X=7 Y=b c"),
            ("WORKDIR w", "/bin/sh -c #(nop) WORKDIR /q/w"),
            ("EXPOSE 90 80", "/bin/sh -c #(nop)  EXPOSE 80 90"),
            ("VOLUME [\"/a\",\"/b\"]", "/bin/sh -c #(nop)  VOLUME [/a /b]"),
            ("USER root", "/bin/sh -c #(nop)  USER root"),
            ("CMD echo hi", "/bin/sh -c #(nop)  CMD [\"/bin/sh\" \"-c\" \"echo hi\"]"),
            ("ENTRYPOINT [\"/x\",\"y\"]", "/bin/sh -c #(nop)  ENTRYPOINT [\"/x\" \"y\"]"),
            ("SHELL [\"/bin/bash\",\"-c\"]", "/bin/bash -c #(nop)  SHELL [/bin/bash -c]"),
            ("HEALTHCHECK CMD x y", "/bin/sh -c #(nop)  HEALTHCHECK &{[\"CMD-SHELL\" \"x y\"] \"5s\" \"0s\"}"),
            ("ONBUILD RUN foo", "/bin/sh -c #(nop)  ONBUILD RUN foo"),
            ("LABEL b=\"1 2\" a=x", "/bin/bash -c #(nop)  LABEL b=1 2 a=x"),
            ("RUN echo \"$A\" &&    true", "|1 A=7 /bin/bash -c echo \"$A\" &&    true"),
            ("RUN [\"/busybox\", \"sleep\", \"1\"]", "/busybox sleep 1"),
            ("RUN --network=none make", "/bin/sh -c make"),
            ("RUN [\"/x\", \"a\\nb\"]", "/x a\nb"),
            ("RUN [\"/x\", \"a\"]", "|1 A=7 /x a"),
            ("COPY --chown=1:2 a b ./", "/bin/bash -c #(nop) COPY --chown=1:2multi:0d62dca216ad in ./ "),
            ("ADD a ${X}z", "/bin/bash -c #(nop) ADD file:4c005c77aed1 in 7z "),
            ("ENV old style value", "/bin/bash -c #(nop)  ENV old=style value"),
            ("ARG A=1", "/bin/sh -c #(nop) ARG A"),
            ("ENV X=$A Y=\"b c\"", "/bin/sh -c #(nop) ENV X=$A Y=\"b c\""),
            ("RUN [\"/busybox\",\"sleep\",\"0\"]", "/bin/sh -c [\"/busybox\",\"sleep\",\"0\"]"),
        ] {
            assert!(is_made_by(made_by, instruction, &shells), "{instruction:?} {made_by:?}");
        }
        for (instruction, made_by) in [
            ("ADD a /b", "/bin/sh -c #(nop) COPY file:00 in /b "),
            ("COPY a /other", "/bin/sh -c #(nop) COPY file:00 in /b "),
            ("LABEL a=1", "/bin/sh -c #(nop)  LABEL a=2"),
            ("ENV PATH=$HOME/bin", "/bin/sh -c #(nop)  ENV PATH=/usr/sbin"),
            ("RUN make all", "/bin/sh -c make"),
            ("RUN make", "/bin/sh -c cmake"),
            ("RUN make", "/bin/sh -c echo make"),
            ("RUN make", "|1 A=7 /bin/sh -c cmake"),
            ("RUN make", "/bin/dash -c make"),
            ("CMD hi", "/bin/sh -c #(nop)  CMD [\"/bin/sh\" \"-c\" \"echo hi\"]"),
            ("WORKDIR w", "/bin/sh -c #(nop) WORKDIR /qw"),
            ("RUN", "/bin/sh -c make"),
            ("", "/bin/sh -c #(nop)  LABEL a=1"),
        ] {
            assert!(!is_made_by(made_by, instruction, &shells), "{instruction:?} {made_by:?}");
        }
    }
}
