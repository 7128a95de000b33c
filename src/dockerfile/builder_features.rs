//! Features of a `Dockerfile` that the classic builder does not support, and those that an old BuildKit does not support either.
//! `choice` finds out whether the engine has BuildKit.

use crate::dockerfile::instructions::{self, Instruction};

/// A feature that only BuildKit supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A flag of an instruction: `RUN --mount`.
    Flag(String),
    /// `# syntax=…`, with the image that reads the `Dockerfile`.
    Syntax(String),
    /// A here-document: `RUN <<EOF`.
    HereDocument(String),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Syntax(image) => write!(f, "# syntax={image}"),
            Self::HereDocument(beginning) => write!(f, "the here-document of {beginning}"),
        }
    }
}

/// The flags that the classic builder refuses.
const FLAGS: [(&str, &[&str]); 3] = [
    ("RUN", &["--mount", "--network", "--security"]),
    ("COPY", &["--chmod", "--link", "--parents", "--exclude"]),
    ("ADD", &["--chmod", "--link", "--checksum", "--keep-git-dir", "--exclude"]),
];

/// The prefixes of variables in `FROM --platform` that only BuildKit sets.
const PLATFORM_VARIABLES: [&str; 4] = ["$BUILD", "${BUILD", "$TARGET", "${TARGET"];

/// The BuildKit features that a `Dockerfile` needs.
pub(crate) fn needs(dockerfile: &str) -> Vec<Need> {
    let instructions = instructions::read(dockerfile.as_bytes());
    let executed = instructions.executed();
    // A classic builder stores the text of an ONBUILD line, and reads the lines of its here-document as instructions.
    let kept = instructions.all.iter().filter_map(Instruction::trigger).filter_map(|trigger| here_document(&trigger));
    let needs = instructions.syntax.into_iter().map(Need::Syntax);
    let needs = needs.chain(executed.iter().flat_map(|it| needs_of(it, instructions.escape))).chain(kept);
    needs.fold(Vec::new(), |mut needs, need| {
        if !needs.contains(&need) {
            needs.push(need);
        }
        needs
    })
}

fn needs_of(instruction: &Instruction, escape: char) -> Vec<Need> {
    let keyword = &instruction.keyword;
    if keyword == "FROM" {
        // Only BuildKit gives these variables their values: BUILDPLATFORM, TARGETOS and the like.
        let is_set = |flag: &&String| PLATFORM_VARIABLES.iter().any(|variable| flag.contains(variable));
        let flags = instruction.arguments(escape).flags;
        let flag = flags.iter().filter(|flag| flag.starts_with("--platform=")).find(is_set);
        return flag.map(|flag| Need::Flag(format!("FROM {flag}"))).into_iter().collect();
    }
    let Some((_, known)) = FLAGS.iter().find(|(of, _)| of == keyword) else { return Vec::new() };
    let flags = instruction.arguments(escape).flags;
    let names = flags.iter().map(|flag| flag.split_once('=').map_or(flag.as_str(), |(name, _)| name));
    let flags = names.filter(|name| known.contains(name)).map(|name| Need::Flag(format!("{keyword} {name}")));
    flags.chain(here_document(instruction)).collect()
}

/// A here-document, at the beginning or with its end. Any other belongs to the shell: `RUN cat <<EOF` has always gone to the
/// shell.
fn here_document(Instruction { keyword, rest, has_here_documents, .. }: &Instruction) -> Option<Need> {
    let takes = FLAGS.iter().any(|(of, _)| of == keyword);
    let mut words = rest.split_whitespace().skip_while(|word| word.starts_with("--")).filter(|_| takes);
    let begins = |word: &&str| {
        let mark = word.trim_start_matches(|c: char| c.is_ascii_digit());
        mark.starts_with("<<") && !mark.starts_with("<<<")
    };
    let document = if *has_here_documents { words.find(begins) } else { words.next().filter(begins) };
    document.map(|document| Need::HereDocument(format!("{keyword} {document}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_classic_builder_knows_needs_nothing() {
        for dockerfile in [
            "FROM a\nCOPY --chown=1 --from=b a /b\nRUN make --mount=x\nADD a /a\n",
            "# a comment\n# syntax=docker/dockerfile:1\nFROM a",
            "FROM a\nRUN cat <<< x\nRUN cat <<EOF\nENV A=--mount",
            "ARG BASE\nFROM --platform=linux/amd64 $BASE",
            "FROM a\nONBUILD RUN --mount=type=cache x\n",
            "FROM a\n# RUN --mount=type=cache\nHEALTHCHECK --interval=1s CMD x\n",
            "",
        ] {
            assert_eq!(needs(dockerfile), [], "{dockerfile}");
        }
    }

    #[test]
    fn what_needs_buildkit_is_named() {
        let features = |text| needs(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(features("#Syntax = docker/dockerfile:1.4\n# escape=`\nFROM a"), ["# syntax=docker/dockerfile:1.4"]);
        assert_eq!(
            features("FROM a\nrun --network=none \\\n  --mount=type=secret,id=a x"),
            ["RUN --network", "RUN --mount"]
        );
        assert_eq!(features("FROM a\nCOPY --link --chmod=1 a /b\nADD --checksum=1 a /b").len(), 3);
        assert_eq!(
            features("FROM a\nRUN --mount=type=cache <<EOF\nx\nEOF\n"),
            ["RUN --mount", "the here-document of RUN <<EOF"]
        );
        assert_eq!(features("FROM a AS b\nONBUILD RUN --mount=type=cache x\nFROM b\n"), ["RUN --mount"]);
        assert_eq!(features("FROM a\nONBUILD RUN <<A\nx\nA\n"), ["the here-document of RUN <<A"]);
        // Behind the directives, and behind another escape character.
        assert_eq!(features("# escape=`\nFROM a\nRUN x \\\nRUN `\n --network=none x\n"), ["RUN --network"]);
        assert_eq!(features("FROM a\nCOPY <<\"A\" /x\nx\nA\n"), ["the here-document of COPY <<\"A\""]);
        // In the middle, if it has an end: the shell has none.
        assert_eq!(features("FROM a\nRUN cat 3<<A <<EOF >/f\nA\nx\nEOF\n"), ["the here-document of RUN 3<<A"]);
        assert_eq!(
            features("FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=linux/${TARGETARCH} a\n"),
            ["FROM --platform=$BUILDPLATFORM", "FROM --platform=linux/${TARGETARCH}"]
        );
    }
}
