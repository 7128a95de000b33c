//! Parses the output of Docker's classic builder and of Podman. It finds the lines that start a step, to show them and to name
//! the step that failed. A command can print such lines, too, so nothing is removed, named or published because of them.

use std::collections::VecDeque;
use std::fmt;

use crate::engine::build_log::LineBuffer;
use crate::report::{BuildEvent, StepEnd, shortened};

/// How many of the last lines of a failed step are kept: about what fits on a screen with the error.
pub(in crate::engine) const LAST_LINES: usize = 20;

/// A step of a `Dockerfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Counted from 1.
    pub number: u32,
    /// The number of steps.
    pub of: u32,
    /// The instruction as the engine shows it.
    pub instruction: String,
    /// The stage of the step, if each stage counts its own steps.
    pub stage: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.stage.as_ref().map(|stage| format!(" of stage {}", shortened(stage, 60))).unwrap_or_default();
        write!(f, "step {}/{}{stage}, {},", self.number, self.of, shortened(&self.instruction, 120))
    }
}

impl Step {
    /// Parses `Step 2/3 : RUN make` (Docker), `STEP 2/3: RUN make` or, with several stages, `[1/2] STEP 2/3: RUN make`
    /// (Podman).
    fn parse(line: &str) -> Option<Self> {
        let stage = line.strip_prefix('[').and_then(|line| line.split_once("] "));
        let line = match stage {
            Some((stage, line)) if stage.bytes().all(|b| b.is_ascii_digit() || b == b'/') => line,
            _ => line,
        };
        let rest = line.strip_prefix("Step ").or_else(|| line.strip_prefix("STEP "))?;
        let (count, instruction) = rest.split_once(':')?;
        let (number, of) = count.trim().split_once('/')?;
        let instruction = instruction.trim().to_owned();
        Some(Self { number: number.parse().ok()?, of: of.parse().ok()?, instruction, stage: None })
    }

    /// `[2/3] RUN make`, or with its stage `[builder 2/3] RUN make`.
    pub(in crate::engine) fn title(&self) -> String {
        let stage = self.stage.as_ref().map(|stage| format!("{stage} ")).unwrap_or_default();
        format!("[{stage}{}/{}] {}", self.number, self.of, self.instruction)
    }

    pub(in crate::engine) fn is(&self, instruction: &str) -> bool {
        self.instruction.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(instruction))
    }
}

/// Parses a build's output.
#[derive(Debug, Default)]
pub(in crate::engine) struct StepLineParser {
    lines: LineBuffer,
    step: Option<Step>,
    /// Whether the step has printed nothing yet, except that it looks up an image.
    is_pending: bool,
    cached: bool,
    /// Whether there was a FROM. Before the first FROM there are only arguments.
    has_base: bool,
    steps: Steps,
    last_lines: VecDeque<String>,
    /// Counts the steps for the display.
    on_display: u32,
    shown: Vec<BuildEvent>,
}

/// The number of steps of a build, and how many of them came from the build cache. A FROM does not count as a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// The number of steps from the build cache.
    pub cached: usize,
    /// The number of all steps.
    pub all: usize,
}

/// The step that was running when a build ended.
pub(in crate::engine) struct LastStep {
    /// None before the first step.
    pub(in crate::engine) step: Option<Step>,
    /// The last lines of its output.
    pub(in crate::engine) last_lines: Vec<String>,
}

/// A line of output, by its meaning for the build.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum OutputEvent {
    /// A line without a meaning for the build: a command printed it.
    Line(String),
    /// A line that starts a step.
    Step(String),
}

impl StepLineParser {
    /// Takes a piece of output and returns the lines that it completes.
    pub(in crate::engine) fn piece(&mut self, piece: &str) -> Vec<OutputEvent> {
        let lines = self.lines.piece(piece.as_bytes());
        lines.into_iter().map(|line| self.line(line)).collect()
    }

    /// The last line, if it does not end with a line break.
    pub(in crate::engine) fn end(&mut self) -> Option<OutputEvent> {
        let line = self.lines.end()?;
        Some(self.line(line))
    }

    fn line(&mut self, line: String) -> OutputEvent {
        if let Some(step) = Step::parse(&line) {
            self.has_base |= step.is("FROM");
            self.steps.all += usize::from(self.has_base && !step.is("FROM"));
            self.step = Some(step);
            self.is_pending = true;
            self.cached = false;
            self.last_lines.clear();
            self.begin_on_display(&line);
            return OutputEvent::Step(line);
        }
        let text = line.trim_start();
        // Podman prints that it tries to pull, before a registry has answered.
        self.is_pending &= ["Trying to pull ", "Resolving ", "Resolved "].iter().any(|start| text.starts_with(start));
        let is_from = self.step.as_ref().is_none_or(|step| step.is("FROM"));
        // Podman's arrow is shorter. Podman names the cached image twice, in this line and in the next.
        match text.strip_prefix("--->").or_else(|| text.strip_prefix("-->")) {
            Some(cached) if cached.starts_with(" Using cache") && !is_from => {
                self.steps.cached += usize::from(!self.cached);
                self.cached = true;
                self.shown.push(BuildEvent::Cached { step: self.on_display });
            }
            Some(_) => {}
            // Lines of the builder itself, after the last line of the command. The second comes from a chroot, twice.
            None if line.starts_with("Removing intermediate container ") => {}
            None if line.starts_with("subprocess exited with status ") => {}
            None => {
                if self.last_lines.len() == LAST_LINES {
                    self.last_lines.pop_front();
                }
                self.last_lines.push_back(line.clone());
                self.show_line(&line);
            }
        }
        OutputEvent::Line(line)
    }

    /// These builders do one step after the other.
    fn begin_on_display(&mut self, line: &str) {
        let Some(step) = &self.step else { return };
        // Podman's stage, `[1/2] STEP 1/3: FROM debian:12`.
        let stage = line.split_once("] ").filter(|_| line.starts_with('[')).map(|(stage, _)| format!("{stage}] "));
        let title = stage.unwrap_or_default() + &step.title();
        if self.on_display > 0 {
            self.shown.push(BuildEvent::Ended { step: self.on_display, end: StepEnd::Done });
        }
        self.on_display += 1;
        self.shown.push(BuildEvent::Started { step: self.on_display, title });
    }

    fn show_line(&mut self, line: &str) {
        let line = line.to_owned();
        self.shown.push(match self.on_display {
            _ if is_about_our_args(&line) => return,
            // BuildKit's steps come in other messages, and this line at their end.
            0 if line.starts_with("Successfully tagged ") => return,
            0 => BuildEvent::Notice(line),
            step => BuildEvent::Printed { step, line },
        });
    }

    /// A part of the base image that the current step downloads.
    pub(super) fn downloaded(&mut self, part: &str, bytes: u64, total: u64) {
        let (step, part) = (self.on_display, part.to_owned());
        self.shown.push(BuildEvent::Transferred { step, part, bytes, total });
    }

    /// What happened since the last call, for the display.
    pub(super) fn take_shown(&mut self) -> Vec<BuildEvent> {
        std::mem::take(&mut self.shown)
    }

    /// The current `FROM`, if the engine has not yet reported that it has the image or pulls it.
    pub(super) fn pending_from(&self) -> Option<&Step> {
        self.step.as_ref().filter(|step| self.is_pending && step.is("FROM"))
    }

    /// The number of steps.
    pub(in crate::engine) fn steps(&self) -> Steps {
        self.steps
    }

    /// The end of the output.
    pub(in crate::engine) fn into_last(self) -> LastStep {
        LastStep { step: self.step, last_lines: self.last_lines.into() }
    }
}

/// Whether a line warns about unused build arguments, and names only arguments that every build gets. Recognises the warnings
/// of Docker and of Podman.
pub(super) fn is_about_our_args(line: &str) -> bool {
    let docker = || line.strip_prefix("[Warning] One or more build-args [")?.strip_suffix("] were not consumed");
    let podman = || line.strip_prefix("[Warning] one or more build args were not consumed: [")?.strip_suffix(']');
    // The two proxies come from docker's configuration. Older builders do not know them.
    let ours = |name| matches!(name, "TASKCLUSTER_ROOT_URL" | "SOURCE_DATE_EPOCH" | "ALL_PROXY" | "all_proxy");
    docker().or_else(podman).is_some_and(|names| names.split_whitespace().all(ours))
}

/// Removes the middle of a message that is longer than `most` characters. The end of a message has the cause.
pub(super) fn cut_middle(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - (most - most / 3)).collect();
    format!("{}{end}", shortened(text, most / 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces as Docker 20.10 sends them.
    const DOCKER: &[&str] = &[
        "Step 1/3 : FROM debian:12",
        "\n",
        " ---> 0123456789ab\n",
        "Step 2/3 : COPY a /a",
        "\n",
        " ---> Using cache\n",
        " ---> 111111111111\n",
        "Step 3/3 : RUN make",
        "\n",
        " ---> Running in 222222222222\n",
        "\u{1b}[91mhello\u{1b}[0m",
        " wor",
        "ld\r\n50%\r100%\n",
        " ---> 333333333333\n",
        "Successfully built 333333333333\n",
    ];

    #[test]
    fn a_from_that_says_nothing_is_known() {
        let mut output = StepLineParser::default();
        for (piece, is_pending) in [
            ("Step 1/2 : FROM debian:12\n", true),
            ("12: Pulling from library/debian\n", false),
            ("Step 2/2 : RUN make\n", false),
            ("STEP 1/2: FROM 127.0.0.1:5000/a:1\n", true),
            ("Trying to pull 127.0.0.1:5000/a:1...\n", true),
            ("Getting image source signatures\n", false),
        ] {
            output.piece(piece);
            assert_eq!(output.pending_from().is_some(), is_pending, "{piece}");
        }
    }

    #[test]
    fn pieces_become_lines_without_control_characters() {
        let mut output = StepLineParser::default();
        let lines: Vec<_> = DOCKER.iter().flat_map(|piece| output.piece(piece)).collect();
        let text: Vec<_> = lines
            .iter()
            .map(|event| match event {
                OutputEvent::Line(line) | OutputEvent::Step(line) => line.as_str(),
            })
            .collect();
        assert_eq!(&text[7..11], ["hello world", "50%", "100%", " ---> 333333333333"]);
        assert!(text.iter().all(|line| !line.contains(['\r', '\u{1b}'])));
    }

    #[test]
    fn cached_steps_are_counted() {
        let mut output = StepLineParser::default();
        for piece in DOCKER {
            output.piece(piece);
        }
        assert_eq!(output.steps(), Steps { cached: 1, all: 2 });
    }

    #[test]
    fn the_display_gets_steps_and_what_their_commands_print() {
        let mut output = StepLineParser::default();
        output.piece("[Warning] old\nSuccessfully tagged a:latest\n");
        for piece in DOCKER {
            output.piece(piece);
        }
        let started = |step, title: &str| BuildEvent::Started { step, title: title.to_owned() };
        let printed = |step, line: &str| BuildEvent::Printed { step, line: line.to_owned() };
        let done = |step| BuildEvent::Ended { step, end: StepEnd::Done };
        let expected = [
            BuildEvent::Notice("[Warning] old".to_owned()),
            started(1, "[1/3] FROM debian:12"),
            done(1),
            started(2, "[2/3] COPY a /a"),
            BuildEvent::Cached { step: 2 },
            done(2),
            started(3, "[3/3] RUN make"),
            printed(3, "hello world"),
            printed(3, "50%"),
            printed(3, "100%"),
            printed(3, "Successfully built 333333333333"),
        ];
        assert_eq!(output.take_shown(), expected);
        output.piece("[2/2] STEP 1/3: FROM debian:12\n");
        assert_eq!(output.take_shown(), [done(3), started(4, "[2/2] [1/3] FROM debian:12")]);
    }

    #[test]
    fn only_warnings_about_what_nobody_asked_for_are_ours() {
        for (line, ours) in [
            ("[Warning] One or more build-args [TASKCLUSTER_ROOT_URL] were not consumed", true),
            ("[Warning] One or more build-args [SOURCE_DATE_EPOCH TASKCLUSTER_ROOT_URL] were not consumed", true),
            ("[Warning] one or more build args were not consumed: [TASKCLUSTER_ROOT_URL]", true),
            ("[Warning] one or more build args were not consumed: [TASKCLUSTER_ROOT_URL WORD]", false),
            ("[Warning] One or more build-args [WORD] were not consumed", false),
        ] {
            assert_eq!(is_about_our_args(line), ours, "{line}");
        }
    }

    #[test]
    fn podmans_words_are_understood() {
        let mut output = StepLineParser::default();
        let id = "4e5021d210f65ebe915670c7089120120bc0a303b90208592851708c1b8c04bd";
        let lines = [
            "[1/2] STEP 1/3: FROM debian:12",
            "[1/2] STEP 2/3: COPY a /a",
            &format!("--> Using cache {id}"),
            &format!("--> {}", &id[..11]),
            "[1/2] STEP 3/3: RUN make",
            "--> 111111111111",
            "--> 22222222222",
        ];
        let events: Vec<_> = lines.iter().flat_map(|line| output.piece(&format!("{line}\n"))).collect();
        assert_eq!(events.len(), 7);
        assert_eq!(output.steps(), Steps { cached: 1, all: 2 });
        let LastStep { step, last_lines } = output.into_last();
        assert_eq!((step.unwrap().to_string().as_str(), last_lines.len()), ("step 3/3, RUN make,", 0));
    }

    #[test]
    fn the_failing_step_keeps_its_last_lines() {
        let mut output = StepLineParser::default();
        output.piece("STEP 1/2: FROM scratch\nSTEP 2/2: RUN x\n");
        for number in 0..30 {
            output.piece(&format!("line {number}\n"));
        }
        output.piece("Removing intermediate container 0123456789ab\n");
        output.piece("no line break");
        assert_eq!(output.end(), Some(OutputEvent::Line("no line break".to_owned())));
        let LastStep { step, last_lines } = output.into_last();
        assert_eq!(step.unwrap().to_string(), "step 2/2, RUN x,");
        assert_eq!((last_lines.len(), last_lines.first().unwrap().as_str()), (20, "line 11"));
    }
}
