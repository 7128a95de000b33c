//! The display on a terminal that remembers what is on it.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cells::width;
use super::screen::{Id, Screen};
use super::steps::{BuildEvent, StepEnd};
use super::transfer::{Total, Transfer};
use crate::report::terminal::Size;

/// A terminal that shows what a screen paints on it.
struct Terminal {
    parser: vt100::Parser,
    screen: Screen,
    size: Size,
    now: Instant,
    build: Id,
}

fn parser(columns: u16, rows: u16) -> vt100::Parser {
    let [columns, rows] = [columns, rows].map(|cells| NonZero::new(cells).unwrap());
    vt100::Parser::new(rows, columns, 0)
}

impl Terminal {
    fn new(columns: u16, rows: u16) -> Self {
        let mut screen = Screen::new(false);
        let build = screen.next_id();
        let size = Size { columns: columns.into(), rows: rows.into() };
        // What leaves it at the top is lost, as in the tests nothing is to leave it.
        Self { parser: parser(columns, rows), screen, size, now: Instant::now(), build }
    }

    fn write(&mut self, bytes: &[u8]) {
        // As a terminal's driver does it.
        for byte in bytes {
            match byte {
                b'\n' => self.parser.process(b"\r\n"),
                byte => self.parser.process(&[*byte]),
            }
        }
    }

    fn paint(&mut self, above: &str) {
        let bytes = self.screen.paint(self.size, above.as_bytes(), self.now);
        self.write(&bytes);
    }

    fn event(&mut self, event: BuildEvent) {
        self.event_of(self.build, event);
    }

    fn event_of(&mut self, build: Id, event: BuildEvent) {
        let above = self.screen.update(build, event, self.size, self.now);
        self.paint(&above);
    }

    fn start(&mut self, step: u32, title: &str) {
        self.event(BuildEvent::Started { step, title: title.to_owned() });
    }

    fn print(&mut self, step: u32, line: &str) {
        self.event(BuildEvent::Printed { step, line: line.to_owned() });
    }

    fn end(&mut self, step: u32, end: StepEnd) {
        self.event(BuildEvent::Ended { step, end });
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.paint("");
    }

    /// The lines on the terminal, as far as there are any.
    fn lines(&self) -> Vec<String> {
        let contents = self.parser.screen().contents();
        contents.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// A line of 39 columns, the last of 40 being free.
fn line(step: &str, time: &str) -> String {
    format!("{step:<0$}{time}", 39 - time.len())
}

#[test]
fn steps_are_folded_to_a_line_when_they_are_over() {
    let mut terminal = Terminal::new(40, 24);
    terminal.paint("image-worker: building a:latest\n");
    terminal.start(1, "[1/3] FROM debian:12");
    terminal.pass(1200);
    terminal.end(1, StepEnd::Done);
    terminal.start(2, "[2/3] COPY a b");
    terminal.event(BuildEvent::Cached { step: 2 });
    terminal.end(2, StepEnd::Done);
    terminal.start(3, "[3/3] RUN apt-get install --yes a-package");
    (0..9).for_each(|number| terminal.print(3, &format!("line {number}")));
    terminal.pass(12_300);
    let before = ["image-worker: building a:latest".to_owned(), line(" => [1/3] FROM debian:12", "1.2s")];
    let cached = line(" => CACHED [2/3] COPY a b", "0.0s");
    let running = " => [3/3] RUN apt-get install --… 12.3s".to_owned();
    let output = (3..9).map(|number| format!(" => => # line {number}"));
    let expected: Vec<_> = before.into_iter().chain([cached, running]).chain(output).collect();
    assert_eq!(terminal.lines(), expected);
    assert_eq!(terminal.parser.screen().cursor_position(), (10, 0), "the cursor is below the display");
    assert!(!terminal.parser.screen().hide_cursor());

    terminal.event(BuildEvent::Over(StepEnd::Done));
    terminal.paint("image-worker: built\n");
    let lines = terminal.lines();
    assert_eq!(lines[..4], expected[..4]);
    assert_eq!(lines[4..], ["image-worker: built"]);
}

#[test]
fn a_failed_step_leaves_its_output_and_the_others_are_canceled() {
    let mut terminal = Terminal::new(40, 24);
    terminal.start(1, "[one 1/1] RUN sleep");
    terminal.start(2, "[two 1/1] RUN false");
    (0..8).for_each(|number| terminal.print(2, &format!("line {number}")));
    terminal.end(2, StepEnd::Failed);
    terminal.event(BuildEvent::Over(StepEnd::Canceled));
    terminal.paint("[taskcluster-image-build:error] build\n");
    let output = (0..8).map(|number| format!("    | line {number}"));
    let mut expected = vec![line(" => ERROR [two 1/1] RUN false", "0.0s")];
    expected.extend(output);
    expected.push(line(" => CANCELED [one 1/1] RUN sleep", "0.0s"));
    expected.push("[taskcluster-image-build:error] build".to_owned());
    assert_eq!(terminal.lines(), expected);
}

#[test]
fn builds_side_by_side_and_log_lines_do_not_tear_it() {
    let mut terminal = Terminal::new(60, 24);
    let other = terminal.screen.next_id();
    terminal.start(1, "a [1/1] RUN a");
    terminal.event_of(other, BuildEvent::Started { step: 1, title: "b [1/1] RUN b".to_owned() });
    for number in 0..20 {
        terminal.print(1, &format!("a {number}"));
        terminal.event_of(other, BuildEvent::Printed { step: 1, line: format!("b {number}") });
        if number % 10 == 0 {
            terminal.paint(&format!("image-worker: log {number}\n"));
        }
    }
    terminal.event(BuildEvent::Notice("[Warning] old".to_owned()));
    let lines = terminal.lines();
    assert_eq!(lines[..3], ["image-worker: log 0", "image-worker: log 10", "build | [Warning] old"]);
    let steps: Vec<_> = lines[3..].iter().map(|line| line.trim_end_matches("0.0s").trim_end()).collect();
    let step = |it: &str| {
        let output = (14..20).map(|number| format!(" => => # {it} {number}"));
        std::iter::once(format!(" => {it} [1/1] RUN {it}")).chain(output).collect::<Vec<_>>()
    };
    assert_eq!(steps, [step("a"), step("b")].concat());
}

#[test]
fn transfers_show_how_far_they_are() {
    let mut terminal = Terminal::new(80, 24);
    let bytes = Arc::new(AtomicU64::new(0));
    let transfer = Transfer::new("uploading the image", Total::Exactly(40 << 20), Arc::clone(&bytes), terminal.now);
    let transfer = terminal.screen.add_transfer(transfer);
    terminal.paint("");
    bytes.store(10 << 20, Ordering::Relaxed);
    terminal.pass(2000);
    let amount = "25%  10.00 MiB / 40.00 MiB  5.00 MiB/s  2.0s";
    assert_eq!(terminal.lines(), [format!("{:<35}{amount}", " => uploading the image")]);
    terminal.screen.remove_transfer(transfer);
    terminal.paint("");
    assert_eq!(terminal.lines(), [""; 0]);
    assert_eq!(terminal.parser.screen().cursor_position(), (0, 0));
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_moves_the_cursor() {
    for columns in [40, 41, 80] {
        let mut terminal = Terminal::new(columns, 24);
        terminal.start(1, "[1/1] RUN echo 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字");
        terminal.print(1, &"🦀\t漢".repeat(100));
        terminal.print(1, "\x1b[2J\x1b[H\r\u{9b}5A\u{202e}");
        terminal.pass(100);
        let lines = terminal.lines();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[0].starts_with(" => [1/1] RUN echo 漢字") && lines[0].ends_with(" 0.1s") && lines[0].contains('…'),
            "{lines:?}"
        );
        assert!(lines[1].ends_with('…') && width(&lines[1]) < usize::from(columns), "{lines:?}");
        assert!(lines[2].starts_with(" => => # \\u{1b}[2J\\u{1b}[H"), "{lines:?}");
    }
}

#[test]
fn more_than_the_terminal_has_room_for_is_counted() {
    let mut terminal = Terminal::new(80, 8);
    (1..=9).for_each(|step| terminal.start(step, &format!("[{step} 1/1] RUN x")));
    (1..=9).for_each(|step| terminal.print(step, "output"));
    let lines = terminal.lines();
    assert_eq!((lines.len(), lines[5].as_str()), (6, " => and 4 more"));
    assert!(lines[..5].iter().all(|line| !line.contains("output")), "{lines:?}");
}

#[test]
fn a_display_that_the_terminal_has_broken_into_more_rows_is_replaced() {
    let mut terminal = Terminal::new(80, 24);
    terminal.start(1, "[1/1] RUN make");
    terminal.print(1, &"x".repeat(100));
    // The terminal becomes narrower, and has broken both lines, which begin at its third row now.
    terminal.parser = parser(40, 24);
    terminal.size = Size { columns: 40, rows: 24 };
    terminal.write(b"log\nlog\n1\n1\n2\n2\n");
    terminal.paint("");
    let output = format!(" => => # {}…", "x".repeat(29));
    assert_eq!(terminal.lines(), ["log".to_owned(), "log".to_owned(), line(" => [1/1] RUN make", "0.0s"), output]);
}

#[test]
fn it_can_be_taken_away_for_others_and_for_good() {
    let mut terminal = Terminal::new(40, 24);
    terminal.start(1, "[1/1] RUN make");
    let erased = terminal.screen.erase(terminal.size);
    terminal.write(&erased);
    assert_eq!(terminal.lines(), [""; 0]);
    terminal.write(b"an answer\n");
    terminal.paint("");
    assert_eq!(terminal.lines(), ["an answer".to_owned(), line(" => [1/1] RUN make", "0.0s")]);
    terminal.screen.close();
    terminal.paint("the end\n");
    assert_eq!(terminal.lines(), ["an answer", "the end"]);
}

#[test]
fn colours_take_no_width() {
    let (now, mut screen) = (Instant::now(), Screen::new(true));
    let size = Size { columns: 40, rows: 24 };
    screen.update(1, BuildEvent::Started { step: 1, title: "[1/1] RUN x".to_owned() }, size, now);
    screen.update(1, BuildEvent::Printed { step: 1, line: "hello".to_owned() }, size, now);
    let painted = String::from_utf8(screen.paint(size, b"", now)).unwrap();
    assert!(painted.contains("\x1b[2m => => # hello\x1b[0m\x1b[K\n"), "{painted:?}");
    assert!(screen.paint(size, b"", now).starts_with(b"\x1b[2A\r"), "two rows");
    let ended = screen.update(1, BuildEvent::Over(StepEnd::Failed), size, now);
    assert!(ended.starts_with("\x1b[31m => ERROR [1/1] RUN x "), "{ended:?}");
}
