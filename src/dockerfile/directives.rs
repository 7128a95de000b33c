//! The parser directives at the top of a Dockerfile: `# escape=`, `# syntax=` and `# check=`. They end at the first other line,
//! even an empty one or a comment. Callers interpret the directives.

/// The directives read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directives {
    /// The escape character, which also continues lines.
    pub(super) escape: char,
    /// The image that reads the Dockerfile.
    pub(super) syntax: Option<String>,
    known: Vec<&'static str>,
    done: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, known: Vec::new(), done: false }
    }
}

impl Directives {
    /// Reads the next line. What BuildKit refuses (a second directive of one name, another escape) changes nothing here.
    pub(super) fn read(&mut self, line: &str) {
        if self.done {
            return;
        }
        let Some(Directive { name, value }) = directive(line) else {
            self.done = true;
            return;
        };
        if self.known.contains(&name) {
            return;
        }
        self.known.push(name);
        match (name, value) {
            ("escape", "`") => self.escape = '`',
            // The engine looks for this one before it parses lines, so that nothing may precede the `#`.
            ("syntax", value) if line.starts_with('#') => {
                self.syntax = value.split(' ').next().map(str::to_owned);
            }
            _ => {}
        }
    }
}

struct Directive<'a> {
    name: &'static str,
    value: &'a str,
}

fn directive(line: &str) -> Option<Directive<'_>> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = ["escape", "syntax", "check"].into_iter().find(|known| name.trim().eq_ignore_ascii_case(known))?;
    Some(Directive { name, value: value.trim() }).filter(|it| !it.value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_end_at_the_first_line_that_is_none() {
        for (lines, escape, syntax) in [
            ("# escape=`", '`', None),
            ("#escape = ` ", '`', None),
            ("  # ESCAPE=`", '`', None),
            ("# syntax=docker/dockerfile:1\n# escape=`", '`', Some("docker/dockerfile:1")),
            ("# check=skip=all\n#Syntax = a:1 more\n# escape=`", '`', Some("a:1")),
            ("# escape=`\n# escape=\\", '`', None),
            ("# escape=x\n# syntax=a", '\\', Some("a")),
            ("# escape=\\", '\\', None),
            ("# escape=", '\\', None),
            // Other lines, and text behind directives.
            ("# a comment\n# escape=`", '\\', None),
            ("# a=b\n# escape=`", '\\', None),
            ("#\n# escape=`", '\\', None),
            ("\n# escape=`\n# syntax=a", '\\', None),
            ("FROM a\n# escape=`", '\\', None),
            ("# escape=`\n\n# syntax=a", '`', None),
            ("  # syntax=a", '\\', None),
        ] {
            let mut directives = Directives::default();
            lines.split('\n').for_each(|line| directives.read(line));
            assert_eq!((directives.escape, directives.syntax.as_deref()), (escape, syntax), "{lines:?}");
        }
    }
}
