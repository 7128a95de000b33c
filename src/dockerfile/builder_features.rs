//! What a `Dockerfile` asks for that the classic builder does not know, and what of it an old BuildKit does not know
//! either. Whether the engine has a BuildKit is for `choice`.

use crate::dockerfile::instructions::{self, Instruction};

/// Something that only BuildKit knows.
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

/// What a `Dockerfile` needs of BuildKit.
pub(crate) fn needs(dockerfile: &str) -> Vec<Need> {
    let syntax = syntax(dockerfile).map(Need::Syntax);
    let instructions = instructions::read(dockerfile).all;
    syntax.into_iter().chain(instructions.iter().flat_map(needs_of)).collect()
}

fn needs_of(Instruction { keyword, rest }: &Instruction) -> Vec<Need> {
    let Some((_, known)) = FLAGS.iter().find(|(of, _)| of == keyword) else { return Vec::new() };
    let flags = rest.split_whitespace().take_while(|word| word.starts_with("--"));
    let names = flags.map(|flag| flag.split_once('=').map_or(flag, |(name, _)| name));
    let flags = names.filter(|name| known.contains(name)).map(|name| Need::Flag(format!("{keyword} {name}")));
    // In another place it can be the shell's own: `RUN cat <<EOF` has always gone to the shell.
    let first = rest.split_whitespace().find(|word| !word.starts_with("--"));
    let here = first.filter(|word| word.starts_with("<<") && !word.starts_with("<<<"));
    let here = here.map(|mark| Need::HereDocument(format!("{keyword} {mark}")));
    flags.chain(here).collect()
}

/// `# syntax=X`, which counts only among the directives at the top.
fn syntax(dockerfile: &str) -> Option<String> {
    let comments = dockerfile.trim_start_matches('\u{feff}').lines().map_while(|line| line.trim().strip_prefix('#'));
    let directives = comments.map_while(|comment| comment.split_once('='));
    let is_directive = |(name, _): &(&str, &str)| name.trim().chars().all(char::is_alphanumeric);
    let mut directives = directives.take_while(is_directive);
    directives.find(|(name, _)| name.trim().eq_ignore_ascii_case("syntax")).map(|(_, value)| value.trim().to_owned())
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
            "FROM a\n# RUN --mount=type=cache\nHEALTHCHECK --interval=1s CMD x\n",
            "",
        ] {
            assert_eq!(needs(dockerfile), [], "{dockerfile}");
        }
    }

    #[test]
    fn what_needs_buildkit_is_named() {
        let told = |text| needs(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told("#Syntax = docker/dockerfile:1.4\n# escape=`\nFROM a"), ["# syntax=docker/dockerfile:1.4"]);
        assert_eq!(
            told("FROM a\nrun --network=none \\\n  --mount=type=secret,id=a x"),
            ["RUN --network", "RUN --mount"]
        );
        assert_eq!(told("FROM a\nCOPY --link --chmod=1 a /b\nADD --checksum=1 a /b").len(), 3);
        assert_eq!(
            told("FROM a\nRUN --mount=type=cache <<EOF\nx\nEOF\n"),
            ["RUN --mount", "the here-document of RUN <<EOF"]
        );
        assert_eq!(told("FROM a\nCOPY <<\"A\" /x\nx\nA\n"), ["the here-document of COPY <<\"A\""]);
    }
}
