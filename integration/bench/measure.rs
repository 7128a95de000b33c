//! One command, measured: how long it takes; and of ours, how much memory it has at most and how much it writes. What the
//! figures are compared with is each row's own.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::harness::{Finished, path, program};

/// What one of our commands took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) seconds: f64,
    /// The most memory that it had, in KiB.
    pub(super) kib: u64,
    /// Bytes that it made the disk's, whether they are still there or not.
    pub(super) written: u64,
}

pub(super) type Environment = BTreeMap<String, String>;

/// Runs our program, which must succeed.
pub(super) fn ours(what: &str, arguments: &[&str], environment: &Environment) -> (Cost, Finished) {
    sync();
    let figures = NamedTempFile::new().unwrap();
    let mut program = program(arguments.iter().copied(), environment.clone());
    program.command = timed(&program.command, path(figures.path()));
    let started = Instant::now();
    let finished = program.finish();
    let seconds = started.elapsed().as_secs_f64();
    finished.assert_succeeds();
    let (kib, written) = read(&std::fs::read_to_string(figures.path()).unwrap());
    print_progress(what, seconds);
    (Cost { seconds, kib, written }, finished)
}

/// The same command under time(1), which gets its figures from the kernel: those of /proc/PID/status and /proc/PID/io at
/// the very end of the process.
fn timed(command: &Command, figures: &str) -> Command {
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["--format", "%M %O", "--output", figures]).arg(command.get_program()).args(command.get_args());
    timed.env_clear().stdin(Stdio::null());
    timed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    timed
}

/// KiB and bytes out of time's answer, whose second figure is in blocks of 512 bytes.
fn read(figures: &str) -> (u64, u64) {
    let last = figures.lines().last().unwrap_or_default();
    let mut words = last.split(' ').map(str::parse::<u64>);
    let (Some(Ok(kib)), Some(Ok(blocks))) = (words.next(), words.next()) else { panic!("time prints: {figures}") };
    (kib, blocks * 512)
}

/// Runs what people do without our program, as a shell script with arguments, which must succeed. Gives the seconds.
pub(super) fn theirs(what: &str, script: &str, arguments: &[&str]) -> f64 {
    sync();
    let started = Instant::now();
    run(script, arguments);
    let seconds = started.elapsed().as_secs_f64();
    print_progress(what, seconds);
    seconds
}

/// Runs a shell script with arguments, which must succeed, and gives what it prints.
pub(super) fn run(script: &str, arguments: &[&str]) -> String {
    let script = format!("set -euo pipefail\n{script}");
    let mut command = Command::new("bash");
    let output = command.args(["-c", &script, "bench"]).args(arguments).stdin(Stdio::null()).output().expect("bash");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "this failed, with {arguments:?}:\n{script}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// So that no measurement pays for what earlier ones have written.
fn sync() {
    let synced = Command::new("sync").status().expect("sync");
    assert!(synced.success(), "sync failed");
}

/// Prints the progress: a full run takes half an hour.
pub(super) fn print_progress(what: &str, seconds: f64) {
    eprintln!("bench: {what}: {seconds:.2} s");
}

#[test]
fn figures_of_a_command_are_read() {
    assert_eq!(read("Command exited with non-zero status 1\n4096 16\n"), (4096, 8192));
}
