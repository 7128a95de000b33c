//! What a build does first: the first instruction of each stage of a `Dockerfile`. By it the image of a first step is
//! known when the program was killed before the engine told of it; building and reading histories is for others.

use crate::dockerfile::instructions::{self, Instruction};

/// The first instructions of a `Dockerfile`'s stages.
pub(super) fn firsts(dockerfile: &str) -> Vec<String> {
    let executed = instructions::read(dockerfile.as_bytes()).executed();
    let from = |instruction: &Instruction| instruction.keyword == "FROM";
    let firsts = executed.windows(2).filter(|pair| from(&pair[0]) && !from(&pair[1]));
    firsts.map(|pair| format!("{} {}", pair[1].keyword, pair[1].rest)).collect()
}

/// Whether this, from an image's history, was made of this instruction: `/bin/sh -c #(nop) COPY file:… in /data` of
/// `COPY data /data`. Where variables make it read otherwise, it is taken for another's.
pub(super) fn is_made_by(made_by: &str, instruction: &str) -> bool {
    // As engines write lists and texts in several ways.
    let bare = |text: &str| text.chars().filter(|it| !it.is_whitespace() && !"[],\"".contains(*it)).collect::<String>();
    let (word, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let Some((_, made)) = made_by.split_once("#(nop)") else {
        return word.eq_ignore_ascii_case("RUN") && !rest.is_empty() && bare(made_by).ends_with(&bare(rest));
    };
    let (made_word, made) = made.trim().split_once(char::is_whitespace).unwrap_or((made, ""));
    let same = if matches!(made_word, "COPY" | "ADD") {
        let (to, made_to) = (rest.split_whitespace().last(), made.rsplit_once(" in ").map(|(_, to)| to));
        to.map(bare) == made_to.map(bare)
    } else {
        bare(rest) == bare(made)
    };
    made_word.eq_ignore_ascii_case(word) && same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_first_instruction() {
        let dockerfile = "# syntax\nARG A=1\nFROM debian:12 AS one\n\n# about\nENV A \\\n# between\n  b\nRUN make\n\
                          from scratch\nCOPY --from=one /a /b\nFROM one\nFROM two\nRUN x\\\n\n y\nFROM three\n";
        assert_eq!(firsts(dockerfile), ["ENV A   b", "COPY --from=one /a /b", "RUN x y"]);
        assert_eq!(firsts("FROM ü\nRUN x"), ["RUN x"]);
        assert_eq!(firsts("# escape=`\nFROM a\nRUN x `\n y"), ["RUN x  y"]);
        assert_eq!(firsts("FROM a AS b\nONBUILD RUN x\nFROM b\nRUN y"), ["RUN x"]);
        assert_eq!(firsts("ü"), [""; 0]);
    }

    #[test]
    fn a_history_tells_the_instruction() {
        for (instruction, made_by, same) in [
            ("COPY a /b", "/bin/sh -c #(nop) COPY file:dbdb6fad2bc656f1 in /b ", true),
            ("COPY a b /x/", "/bin/sh -c #(nop) COPY multi:00 in /x/ ", true),
            ("ADD a /b", "/bin/sh -c #(nop) COPY file:00 in /b ", false),
            ("COPY a /other", "/bin/sh -c #(nop) COPY file:00 in /b ", false),
            ("LABEL a=1", "/bin/sh -c #(nop)  LABEL a=1", true),
            ("LABEL a=1", "/bin/sh -c #(nop)  LABEL a=2", false),
            ("SHELL [\"/x\", \"-c\"]", "/x -c #(nop)  SHELL [/x -c]", true),
            ("RUN [\"/busybox\", \"sleep\", \"1\"]", "/busybox sleep 1", true),
            ("RUN make all", "|1 A=b /bin/sh -c make all", true),
            ("RUN make all", "/bin/sh -c make", false),
            ("RUN", "/bin/sh -c make", false),
            ("", "/bin/sh -c #(nop)  LABEL a=1", false),
        ] {
            assert_eq!(is_made_by(made_by, instruction), same, "{instruction:?} {made_by:?}");
        }
    }
}
