//! The process, from the command line to the exit code. Only this file uses the real environment, clock and stdout; `commands`
//! has the subcommands.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, ExitCode};

use super::arguments;
use super::completion;
use super::console::console;
use crate::commands::CommandContext;
use crate::config::{self, ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::engine::EngineError;
use crate::job::CommandError;
use crate::job::run_log::FailureWord;
use crate::report::secrets;
use crate::report::{self, ErrorChain, LogFormat, Report, command_line};

/// Parses, runs, reports, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    // A panic is a bug. It is reported like other failures: one error line and its exit code.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("a panic").to_owned() + &place;
        let mut lines = vec![report::error_line(&CommandError::Bug(what).line())];
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            lines.extend(backtrace.to_string().lines().map(|line| format!("    | {line}")));
        } else {
            lines.push("  RUST_BACKTRACE=1 tells where".to_owned());
        }
        report::print_lines(&lines);
    }));
    std::panic::catch_unwind(run_subcommand)
        .unwrap_or_else(|_| ExitCode::from(CommandError::Bug(String::new()).exit_code()))
}

fn run_subcommand() -> ExitCode {
    if let Some(code) = completion::answer(std::env::args_os()) {
        return code;
    }
    let invocation = match arguments::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => return usage(&error),
    };
    let environment = |name: &str| std::env::var_os(name);
    let color = environment("NO_COLOR").is_none_or(|value| value.is_empty());
    // A plain report prints errors in the settings of the report itself.
    let plain = || Report::install(LogFormat::Text, false, color);
    let sources = match SettingLayers::new(invocation.flags.clone(), &environment) {
        Ok(sources) => sources,
        Err(error) => return failed(&plain(), &error.into()),
    };
    hide_secrets(&sources, &environment);
    let report = match log_settings(&sources) {
        Ok((format, verbose)) => Report::install(format, verbose, color),
        Err(error) => return failed(&plain(), &error.into()),
    };
    let context = match sources.switch(&settings::JSON) {
        Ok(json) => context(&sources, json, &report),
        Err(error) => return failed(&report, &error.into()),
    };
    match invocation.subcommand.run(&context) {
        Ok(answer) => match print(&answer.text) {
            Ok(()) => ExitCode::from(answer.exit_code),
            // The job is done; repeating it would not help.
            Err(error) if answer.is_of_something_published => {
                tracing::warn!("{}", ErrorChain(&error));
                ExitCode::SUCCESS
            }
            Err(error) => failed(&report, &error),
        },
        Err(error) => {
            let code = failed(&report, &error);
            if let CommandError::DebugImage { kept, .. } = &error {
                open_shell(&kept.open);
            }
            code
        }
    }
}

/// What this process passes to the subcommand.
fn context<'a>(settings: &'a SettingLayers<'a>, json: bool, report: &'a Report) -> CommandContext<'a> {
    CommandContext {
        settings,
        surroundings: ProcessEnvironment {
            environment: &|name| std::env::var_os(name),
            now: jiff::Timestamp::now(),
            directory: std::env::current_dir().unwrap_or_default(),
            temporary: std::env::temp_dir(),
        },
        json,
        report,
        print,
        confirm,
        command_line: arguments::command,
        console,
    }
}

/// Asks the user at the terminal.
fn confirm(question: &str) -> Result<bool, CommandError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let why = "this is not a terminal, so nobody can be asked; pass --yes";
        return Err(ConfigError::Missing { setting: &settings::YES, why }.into());
    }
    // A question that cannot be read counts as answered with no.
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    read.map_err(|source| CommandError::Bug(format!("the terminal's answer cannot be read: {source}")))?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Writes an answer, or a part of one. A closed pipe is no error: the reader has read enough.
fn print(answer: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout();
    match stdout.write_all(answer.as_bytes()).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::Write { path: "stdout".into(), source })
        }
        _ => Ok(()),
    }
}

/// Runs the command that opens a shell, if this is a terminal. The log has its command line already.
fn open_shell(command: &[String]) {
    let Some((program, arguments)) = command.split_first() else { return };
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return;
    }
    tracing::info!("opening it; `exit` ends it");
    // The shell's exit status is not a failure.
    if let Err(error) = Command::new(program).args(arguments).status() {
        tracing::warn!("cannot run {program}: {error}; run the command above where it is installed");
    }
}

/// Prints the error line, its causes, and for a build the last lines of its step.
fn print_failure(error: &CommandError, report: &Report) {
    if let CommandError::DebugImage { failed, kept } = error {
        print_failure(failed, report);
        report.details("a shell after the last good step", &[command_line(&kept.open)]);
        report.details("afterwards, to remove it", &[command_line(&kept.remove)]);
        return;
    }
    report.failure(&error.line(), error);
    if let CommandError::Config(ConfigError::Several(problems)) = error {
        let lines: Vec<_> = problems.iter().map(|problem| ErrorChain(problem).to_string()).collect();
        report.details("what each setting is for, and what is wrong with it", &lines);
    }
    if let CommandError::Scopes(missing) = error {
        report.details("missing scopes, and the calls that need them", &missing.lines());
    }
    let cause = if let CommandError::OneOfSeveral { error, .. } = error { error } else { error };
    if let CommandError::Engine(EngineError::Build(failure)) = cause {
        report.details("the step's last lines", &failure.last_lines);
        report.details("the engine says", &[failure.message.as_str()]);
    }
}

fn failed(report: &Report, error: &CommandError) -> ExitCode {
    print_failure(error, report);
    ExitCode::from(error.exit_code())
}

/// Help and version are answers. Anything else gets the error line in addition to clap's own text.
fn usage(error: &clap::Error) -> ExitCode {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        let what =
            format!("{}: wrong usage: no subcommand is given; see image-worker --help", FailureWord::Configuration);
        report::print_lines(&[report::error_line(&what)]);
    } else if error.use_stderr() {
        let words = error.to_string();
        // The problem stands before the first empty line, in one line or several.
        let (what, more) = words.split_once("\n\n").unwrap_or((&words, ""));
        let what = what.trim_start_matches("error: ");
        let what = format!("{}: wrong usage: {what}; see image-worker --help", FailureWord::Configuration);
        // Indented, so that Treeherder does not take clap's lines for errors.
        let more = more.lines().filter(|line| !line.is_empty()).map(|line| format!("  {}", line.trim_start()));
        report::print_lines(&std::iter::once(report::error_line(&what)).chain(more).collect::<Vec<_>>());
    } else {
        // A closed pipe is no reason to fail here.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Hides the secrets in the settings, and the passwords of proxies, which the HTTP clients read themselves.
fn hide_secrets(sources: &SettingLayers, environment: &dyn Fn(&str) -> Option<OsString>) {
    for setting in settings::ALL {
        // Whatever needs an unreadable setting reports the error.
        let Ok(Some(given)) = sources.get(setting) else { continue };
        if setting.secret {
            secrets::add(&given.text);
        }
        secrets::add_urls_in(&given.text);
    }
    secrets::add_args(&config::dockerfile_args(sources).unwrap_or_default());
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        let values = [environment(proxy), environment(&proxy.to_uppercase())];
        values.iter().flatten().for_each(|value| secrets::add_urls_in(&value.to_string_lossy()));
    }
}

fn log_settings(sources: &SettingLayers) -> Result<(LogFormat, bool), ConfigError> {
    Ok((sources.parse_or_default(&settings::LOG_FORMAT)?, sources.switch(&settings::VERBOSE)?))
}
