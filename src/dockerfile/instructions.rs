//! A Dockerfile as instructions: comments gone, continued lines joined, the bodies of here-documents left out.
//! What the instructions mean is for `base_images`, how their words are expanded for `words`.

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Its keyword, in capitals.
    pub(crate) keyword: String,
    /// What follows, in one line.
    pub(crate) rest: String,
}

/// What a Dockerfile says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instructions {
    /// In order.
    pub(crate) all: Vec<Instruction>,
    /// The character that takes a meaning away, `\` unless a directive at the top says `` ` ``.
    pub(crate) escape: char,
}

/// Reads the text of a Dockerfile. Nothing is wrong to it: refusing is the engine's affair.
pub(crate) fn read(text: &str) -> Instructions {
    let escape = escape_of(text);
    let mut all = Vec::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let mut joined = String::new();
    while let Some(line) = lines.next() {
        // Also inside a continued instruction, where both are left out.
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(start) = continued(line, escape) {
            joined.push_str(start);
            continue;
        }
        joined.push_str(line);
        end(&std::mem::take(&mut joined), &mut lines, &mut all);
    }
    end(&joined, &mut lines, &mut all);
    Instructions { all, escape }
}

/// Adds an instruction, and skips the here-documents that it begins.
fn end<'a>(joined: &str, lines: &mut impl Iterator<Item = &'a str>, all: &mut Vec<Instruction>) {
    let joined = joined.trim();
    let Some(keyword) = joined.split_whitespace().next() else { return };
    let rest = joined[keyword.len()..].trim_start().to_owned();
    let keyword = keyword.to_ascii_uppercase();
    if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
        for (mark, indented) in here_documents(&rest) {
            // One that has no end takes the rest of the file, as it does in the engine.
            let _ = lines.find(|line| if indented { line.trim_start_matches('\t') == mark } else { *line == mark });
        }
    }
    all.push(Instruction { keyword, rest });
}

/// The line without the character at its end that continues it.
fn continued(line: &str, escape: char) -> Option<&str> {
    let start = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!start.ends_with(escape)).then_some(start)
}

/// `# escape=X`, which counts only among the directives at the top.
fn escape_of(text: &str) -> char {
    let comments = text.lines().map_while(|line| line.trim().strip_prefix('#'));
    let directives = comments.map_while(|comment| comment.split_once('='));
    directives
        .take_while(|(name, _)| !name.trim().is_empty() && !name.trim().contains(char::is_whitespace))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("escape"))
        .find_map(|(_, value)| value.trim().chars().next().filter(|found| matches!(found, '\\' | '`')))
        .unwrap_or('\\')
}

/// The marks that end the here-documents of an instruction, and whether tabs may stand before them.
fn here_documents(rest: &str) -> Vec<(String, bool)> {
    let words = rest.split_whitespace().filter_map(|word| {
        // A file descriptor may stand before it; `<<<` is something else.
        let mark = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (mark, indented) = mark.strip_prefix('-').map_or((mark, false), |mark| (mark, true));
        let bare = mark.trim_matches(['"', '\'']);
        let word = !bare.is_empty() && bare.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
        word.then(|| (bare.to_owned(), indented))
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        read(text).all.into_iter().map(|it| format!("{}|{}", it.keyword, it.rest)).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "\u{feff}# a comment\n\n  from  a:1   AS b \nRUN x \\\n# a comment within\n\n  && y \\  \n && z\nRun w\\\\\nCMD";
        assert_eq!(told(text), ["FROM|a:1   AS b", "RUN|x   && y  && z", "RUN|w\\\\", "CMD|"]);
        assert_eq!(told("RUN a \\"), ["RUN|a"]);
        assert_eq!(told("# only\n \\\n"), Vec::<String>::new());
    }

    #[test]
    fn the_escape_can_be_another() {
        let text = "# syntax=docker/dockerfile:1\n# Escape = `\nRUN a \\\nRUN b `\n c";
        assert_eq!(told(text), ["RUN|a \\", "RUN|b  c"]);
        // Behind a comment, or behind an instruction, it is a comment.
        assert_eq!(read("# a comment\n# escape=`\n").escape, '\\');
        assert_eq!(read("FROM a\n# escape=`\n").escape, '\\');
        assert_eq!(read("# escape=x\n").escape, '\\');
    }

    #[test]
    fn here_documents_are_no_instructions() {
        let text = "RUN <<EOF\nFROM no\nEOF\nCOPY <<-\"a.b\" <<'C' /x/\nFROM no\n\ta.b\n FROM no\n C\nC\nRUN cat <<< x\nFROM a";
        assert_eq!(told(text), ["RUN|<<EOF", "COPY|<<-\"a.b\" <<'C' /x/", "RUN|cat <<< x", "FROM|a"]);
        assert_eq!(told("RUN <<EOF\nFROM no"), ["RUN|<<EOF"]);
        assert_eq!(told("ENV A=<<EOF\nFROM a"), ["ENV|A=<<EOF", "FROM|a"]);
    }
}
