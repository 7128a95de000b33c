//! The process, from the command line to the exit code. Only this file uses the real environment, clock and stdout; `commands`
//! has the subcommands.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, ExitCode};

use rustix::termios::tcgetwinsize;

use super::completion;
use super::console::console;
use super::{arguments, exit_code};
use crate::commands::CommandContext;
use crate::config::{self, ConfigError, ProcessEnvironment, SettingLayers, settings};
use crate::job::CommandError;
use crate::report::secrets;
use crate::report::{self, ErrorChain, FailureForm, LogFormat, LogOptions, ProgressMode, Report};

/// Parses, runs, reports, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let form = failure_form();
    // A panic is a bug. It is reported like other failures: one error line and its exit code.
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("a panic").to_owned() + &place;
        let backtrace = Backtrace::capture();
        let lines = if backtrace.status() == BacktraceStatus::Captured {
            backtrace.to_string()
        } else {
            "RUST_BACKTRACE=1 tells where".to_owned()
        };
        report::print_failure(&CommandError::Bug(what).failure().with_details("where", &[lines]), form);
    }));
    std::panic::catch_unwind(|| run_subcommand(form))
        .unwrap_or_else(|_| ExitCode::from(CommandError::Bug(String::new()).exit_code()))
}

/// The form of a failure, known before anything can fail. A worker's own terminal is a task's log too: workers set both variables.
fn failure_form() -> FailureForm {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if arguments::log_format(std::env::args_os(), std::env::var_os(settings::LOG_FORMAT.variable)) == LogFormat::Json {
        FailureForm::Json
    } else if io::stderr().is_terminal() && !(is_set("TASK_ID") && is_set("RUN_ID")) {
        FailureForm::Terminal { color: !is_set("NO_COLOR") }
    } else {
        FailureForm::TaskLog
    }
}

fn run_subcommand(form: FailureForm) -> ExitCode {
    if let Some(code) = completion::answer(std::env::args_os()) {
        return code;
    }
    let invocation = match arguments::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => return usage(&error, form),
    };
    let environment = |name: &str| std::env::var_os(name);
    let color = environment("NO_COLOR").is_none_or(|value| value.is_empty());
    let has = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
    let can_redraw = !has("TASK_ID") && has("TERM") && environment("TERM").is_none_or(|name| name != "dumb");
    // A plain report prints errors in the settings of the report itself.
    let (format, verbose, progress) = (LogFormat::Text, false, ProgressMode::Auto);
    let plain = LogOptions { format, verbose, progress, can_redraw, color };
    let settings = match SettingLayers::new(invocation.flags.clone(), &environment) {
        Ok(settings) => settings,
        Err(error) => return failed(&Report::install(plain), form, &error.into()),
    };
    hide_secrets(&settings, &environment);
    let (report, form) = match log_options(&settings, plain) {
        // The configuration file can have the format too.
        Ok(options) if options.format == LogFormat::Json => (Report::install(options), FailureForm::Json),
        Ok(options) => (Report::install(options), form),
        Err(error) => return failed(&Report::install(plain), form, &error.into()),
    };
    let context = match settings.switch(&settings::JSON) {
        Ok(json) => context(&settings, json, &report),
        Err(error) => return failed(&report, form, &error.into()),
    };
    let outcome = invocation.subcommand.run(&context);
    report.close_display();
    match outcome {
        Ok(answer) => match print(&answer.text) {
            Ok(()) => ExitCode::from(answer.exit_code),
            // The job is done; repeating it would not help.
            Err(error) if answer.is_published => {
                tracing::warn!("{}", ErrorChain(&error));
                ExitCode::SUCCESS
            }
            Err(error) => failed(&report, form, &error),
        },
        Err(error) => {
            let code = failed(&report, form, &error);
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
        environment: ProcessEnvironment {
            variable: &|name| std::env::var_os(name),
            now: jiff::Timestamp::now(),
            directory: std::env::current_dir().unwrap_or_default(),
            temporary: std::env::temp_dir(),
        },
        json,
        report,
        columns: stdout_columns(),
        print,
        confirm,
        command_line: arguments::command,
        console,
    }
}

/// How many columns the terminal at stdout has; `None` if stdout is no terminal, or does not say.
fn stdout_columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok())??;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Asks the user at the terminal.
fn confirm(question: &str) -> Result<bool, CommandError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let why = "this is not a terminal, so I cannot ask";
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
    match report::without_display(|| stdout.write_all(answer.as_bytes()).and_then(|()| stdout.flush())) {
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

fn failed(report: &Report, form: FailureForm, error: &CommandError) -> ExitCode {
    let mut failure = error.failure();
    if report.has_display() {
        // The failed step's output stands above already.
        failure = failure.without_details(exit_code::LAST_LINES);
    }
    report.failure(&failure, form);
    ExitCode::from(error.exit_code())
}

/// Help and version are answers. Of anything else clap's text becomes a failure: what is wrong, its tips, and the usage.
fn usage(error: &clap::Error, form: FailureForm) -> ExitCode {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        let (failure, code) = exit_code::usage("wrong usage: no subcommand is given", "see image-worker --help");
        report::print_failure(&failure, form);
        return ExitCode::from(code);
    }
    if !error.use_stderr() {
        // A closed pipe is no reason to fail here.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words = error.to_string();
    // The problem stands before the first empty line, in one line or several.
    let (what, more) = words.split_once("\n\n").unwrap_or((&words, ""));
    let what = format!("wrong usage: {}", what.trim_start_matches("error: "));
    let lines = || more.lines().map(str::trim);
    let usage: Vec<_> = lines().filter_map(|line| line.strip_prefix("Usage: ")).collect();
    // The usage begins with the program, and the subcommand where one is known.
    let subcommand =
        usage.first().and_then(|usage| usage.split(' ').nth(1)).filter(|word| word.starts_with(char::is_alphabetic));
    let help = format!("see image-worker {}--help", subcommand.map(|name| format!("{name} ")).unwrap_or_default());
    let hints: Vec<_> = lines().filter_map(|line| line.strip_prefix("tip: ")).chain([help.as_str()]).collect();
    let (failure, code) = exit_code::usage(&what, &hints.join("; "));
    report::print_failure(&failure.with_details("usage", &usage), form);
    ExitCode::from(code)
}

/// Hides the secrets in the settings, and the passwords of proxies, which the HTTP clients read themselves.
fn hide_secrets(settings: &SettingLayers, environment: &dyn Fn(&str) -> Option<OsString>) {
    for setting in settings::ALL {
        // Whatever needs an unreadable setting reports the error.
        let Ok(Some(given)) = settings.get(setting) else { continue };
        if setting.secret {
            secrets::add(&given.text);
        }
        secrets::add_urls_in(&given.text);
    }
    secrets::add_args(&config::dockerfile_args(settings).unwrap_or_default());
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        let values = [environment(proxy), environment(&proxy.to_uppercase())];
        values.iter().flatten().for_each(|value| secrets::add_urls_in(&value.to_string_lossy()));
    }
}

fn log_options(settings: &SettingLayers, plain: LogOptions) -> Result<LogOptions, ConfigError> {
    Ok(LogOptions {
        format: settings.parse_or_default(&settings::LOG_FORMAT)?,
        verbose: settings.switch(&settings::VERBOSE)?,
        progress: settings.parse_or_default(&settings::PROGRESS)?,
        ..plain
    })
}
