//! Progress on a terminal, with the real engine: what a build leaves there, what it shows meanwhile, and that nothing of it is
//! in a log.

use regex::Regex;

use crate::harness::terminal::{Session, on_terminal};
use crate::harness::{Program, Repository, docker, docker_output, engine, long_sleep, path, program};

/// An image that `build` leaves in the engine; it goes with this value.
struct Image(Repository);

impl Image {
    /// None, with a notice, where no engine can build it.
    fn new(name: &str, steps: &str) -> Option<Self> {
        engine().then(|| Self(Repository::new(name, steps)))
    }

    fn build(&self, more: &[&str], environment: &[(&str, &str)]) -> Program {
        let directory = self.0.directory();
        let arguments = ["build", path(&directory)].into_iter().chain(more.iter().copied());
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut program = program(arguments, environment);
        program.command.current_dir(self.0.root.path());
        program
    }

    fn on_terminal(&self, columns: u16, more: &[&str]) -> Session {
        on_terminal(&self.build(more, &[]), columns, |_| false, "")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", "--force", &format!("{}:latest", self.0.name)]);
        // What was built twice has lost its name, and a failed build has left its steps.
        let marked = format!("TEST={}", self.0.name);
        let dangling = docker_output(&["images", "--all", "--quiet", "--no-trunc", "--filter", "dangling=true"]);
        let is_ours = |id: &&str| {
            let environment = docker(&["inspect", "--format", "{{.Config.Env}}", id]);
            String::from_utf8_lossy(&environment.stdout).contains(&marked)
        };
        for id in dangling.lines().filter(is_ours).collect::<Vec<_>>() {
            docker(&["rmi", "--force", id]);
        }
    }
}

/// The lines whose form is that of `pattern`.
fn like<'a>(lines: &'a [String], pattern: &str) -> Vec<&'a str> {
    let pattern = Regex::new(pattern).unwrap();
    lines.iter().map(String::as_str).filter(|line| pattern.is_match(line)).collect()
}

#[test]
fn a_terminal_keeps_a_line_of_each_step() {
    let steps = "RUN for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; sleep 1\nRUN echo last\n";
    let Some(image) = Image::new("progress-folded", steps) else { return };
    // BuildKit has a cache of its own, in which an earlier run can have left them.
    let first = image.on_terminal(80, &["--no-cache"]);
    let lines = first.lines();
    assert_eq!(first.code, 0, "{lines:#?}");
    assert_eq!(like(&lines, r"^ => \[.*\] RUN for i in .*; do echo line .* [1-9]\d*\.\ds$").len(), 1, "{lines:#?}");
    assert_eq!(like(&lines, r"^ => \[.*\] RUN echo last +\d+\.\ds$").len(), 1, "{lines:#?}");
    assert_eq!(like(&lines, r"=> => #|^build \||(?i)^step"), [""; 0], "{lines:#?}");
    assert!(like(&lines, "^ => ").iter().all(|line| line.chars().count() == 79), "{lines:#?}");
    // While it ran, there were its last lines.
    assert!(first.written.contains(" => => # line 9"), "{}", first.written);

    let second = image.on_terminal(120, &[]);
    let lines = second.lines();
    assert_eq!(second.code, 0, "{lines:#?}");
    assert_eq!(like(&lines, r"^ => CACHED \[.*\] RUN echo last +\d+\.\ds$").len(), 1, "{lines:#?}");
}

#[test]
fn a_terminal_keeps_the_output_of_a_failed_step_before_the_error() {
    let steps = "RUN for i in $(seq 300); do echo \"line $i\"; done; exit 3\n";
    let Some(image) = Image::new("progress-failed", steps) else { return };
    let session = image.on_terminal(80, &[]);
    let lines = session.lines();
    assert_eq!(session.code, 20, "{lines:#?}");
    let failed = lines.iter().position(|line| line.starts_with(" => ERROR [")).expect("the failed step");
    let omitted =
        Regex::new(r"^    \| … \d+ lines \(.*B\) before these are left out; --progress plain prints all$").unwrap();
    assert!(omitted.is_match(&lines[failed + 1]), "{lines:#?}");
    let output = like(&lines, r"^    \| line \d+$");
    assert!(output.len() > 190 && output.last() == Some(&"    | line 300"), "{lines:#?}");
    let error = lines.iter().position(|line| line.starts_with("error: ")).unwrap();
    assert!(error > failed + output.len(), "{lines:#?}");
    assert_eq!(like(&lines, "=> => #|the step's last lines"), [""; 0], "{lines:#?}");
}

#[test]
fn a_stopped_build_leaves_nothing_of_the_display() {
    let seconds = long_sleep(7);
    let Some(image) = Image::new("progress-stopped", &format!("RUN echo waiting; sleep {seconds}\n")) else { return };
    let session = on_terminal(&image.build(&[], &[]), 80, |written| written.contains("=> => # waiting"), "\x03");
    let lines = session.lines();
    crate::harness::end_podmans_command(&seconds);
    assert_eq!(session.code, 130, "{lines:#?}");
    assert_eq!(like(&lines, r"^ => CANCELED \[.*\] RUN echo waiting").len(), 1, "{lines:#?}");
    assert_eq!(like(&lines, r"^error: SIGINT while building").len(), 1, "{lines:#?}");
    assert_eq!(like(&lines, "=> => #"), [""; 0], "{lines:#?}");
}

/// A log without what differs between two runs.
fn comparable(log: &str) -> String {
    let log = Regex::new(r"\[image-worker [^\]]*\]").unwrap().replace_all(log, "[image-worker]");
    // Podman takes the labels in any order.
    let log = Regex::new(r"LABEL .*").unwrap().replace_all(&log, "LABEL");
    let log = Regex::new(r"\b[0-9a-f]{10,}\b").unwrap().replace_all(&log, "ID");
    Regex::new(r"\d+\.\d s\b").unwrap().replace_all(&log, "TIME").replace("\r\n", "\n")
}

#[test]
fn plain_progress_is_what_a_pipe_gets() {
    let Some(image) = Image::new("progress-plain", "RUN echo hello\n") else { return };
    let no_cache: &[&str] = &["--no-cache"];
    // Also where a display is asked for; `finish` looks for control characters.
    let piped = image.build(no_cache, &[("IMAGE_WORKER_PROGRESS", "tty"), ("TERM", "xterm")]).finish();
    piped.assert_succeeds();
    let piped = comparable(&(piped.stderr + &piped.stdout));
    assert!(piped.contains("build | hello\n") && piped.contains("[image-worker] "), "{piped}");
    let assert_the_same = |more: &[&str], environment: &[(&str, &str)]| {
        let plain = on_terminal(&image.build(more, environment), 80, |_| false, "");
        assert_eq!(plain.code, 0, "{}", plain.written);
        assert_eq!(comparable(&plain.written), piped, "{more:?} {environment:?}");
    };
    assert_the_same(&["--no-cache", "--progress", "plain"], &[]);
    assert_the_same(no_cache, &[("IMAGE_WORKER_PROGRESS", "plain")]);
    assert_the_same(no_cache, &[("TERM", "dumb")]);
    // In a task, whose log may be a terminal.
    assert_the_same(no_cache, &[("TASK_ID", "AAAAAAAAQAqAAAAAAAAAAA")]);
    // Too narrow for a display.
    assert_eq!(comparable(&image.on_terminal(39, no_cache).written), piped);
    let json = image.on_terminal(80, &["--no-cache", "--log-format", "json"]);
    assert!(json.code == 0 && !json.written.contains('\x1b'), "{}", json.written);
}
