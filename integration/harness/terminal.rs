//! The program on a terminal: `script` of util-linux runs it on one, and what it writes there goes to a terminal that remembers
//! what is on it.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::{Command, Stdio};

use super::Program;

/// Rows enough that nothing of a run leaves the terminal at its top.
const ROWS: u16 = 250;

/// What a program did on a terminal.
pub(crate) struct Session {
    pub(crate) code: i32,
    /// All that it wrote, stdout too, with the characters that move the cursor.
    pub(crate) written: String,
    columns: u16,
}

impl Session {
    /// The lines that are on the terminal at the end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let [rows, columns] = [ROWS, self.columns].map(|cells| NonZero::new(cells).unwrap());
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        terminal.process(self.written.as_bytes());
        assert!(!terminal.screen().hide_cursor(), "the cursor is there");
        terminal.screen().contents().trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// Runs a program on a terminal of so many columns to its end. When `reached` is true of what it has written so far, `typed` is
/// typed. A program that does not end is killed.
pub(crate) fn on_terminal(
    program: &Program,
    columns: u16,
    mut reached: impl FnMut(&str) -> bool,
    typed: &str,
) -> Session {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().expect("UTF-8"));
    let words: Vec<_> =
        std::iter::once(program.command.get_program()).chain(program.command.get_args()).map(quoted).collect();
    let line = format!("stty rows {ROWS} cols {columns}; exec {}", words.join(" "));
    let environment = program.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut script = Command::new("timeout");
    script.args(["--foreground", "180", "script", "--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env_clear().env("TERM", "xterm").envs(environment);
    if let Some(directory) = program.command.get_current_dir() {
        script.current_dir(directory);
    }
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script; run scripts/test");
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut written, mut piece, mut is_typed) = (Vec::new(), [0; 4096], false);
    while let Ok(read @ 1..) = stdout.read(&mut piece) {
        written.extend_from_slice(&piece[..read]);
        if !is_typed && reached(&String::from_utf8_lossy(&written)) {
            stdin.write_all(typed.as_bytes()).unwrap();
            is_typed = true;
        }
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    Session { code, written: String::from_utf8(written).expect("UTF-8"), columns }
}
