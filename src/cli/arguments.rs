//! The command line. Each subcommand's own arguments are in its file in `commands`. The flags of the settings are generated from
//! the table of settings, which defines each flag, its variable and its help once; `config` interprets the values.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use crate::commands::Subcommand;
use crate::config::settings::{self, Setting, SettingGroup};
use crate::report::{LogFormat, VERSION};

/// The exit codes, for the end of each help. The README has the same table; `exit_code` has the errors of each.
const EXIT_CODES: &str = "\
Exit codes:
  0    published, or there already
  1    a bug in image-worker
  2    wrong usage or configuration
  10   the context is not what was promised, or is gone
  20   the image did not build
  30   infrastructure failed: network, registry, engine, disk; another try can help
  31   refused: a missing scope, or published already with other content
  32   MAX_RUN_TIME is over: give the task more time
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM, after cleaning up";

/// The end of each short help.
const MORE: &str = "--help has all options, their variables, and the exit codes.";

/// Builds Docker images inside Taskcluster tasks
#[derive(Debug, clap::Parser)]
#[command(name = "image-worker", version = VERSION, after_help = MORE, after_long_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    subcommand: Subcommand,
}

/// The parsed command line.
#[derive(Debug)]
pub struct Invocation {
    /// The subcommand.
    pub subcommand: Subcommand,
    /// The flags that are settings, by name.
    pub flags: BTreeMap<&'static str, String>,
}

/// The command line's definition; completions and the manual page come from it too.
#[must_use]
pub fn command() -> Command {
    let everywhere = settings::EVERYWHERE.iter().map(|setting| flag(setting, setting.help).global(true));
    Subcommand::settings().fold(CommandLine::command().args(everywhere), |command, (name, groups)| {
        command.mut_subcommand(name, |subcommand| with_settings(subcommand, groups))
    })
}

/// A subcommand with the flags of its settings.
fn with_settings(subcommand: Command, groups: &[SettingGroup]) -> Command {
    let taken = || groups.iter().flat_map(|group| group.iter().copied());
    let exit_codes = subcommand.get_after_help().map_or_else(|| EXIT_CODES.to_owned(), ToString::to_string);
    let secrets = taken().filter(|setting| setting.secret);
    let secrets: Vec<_> = secrets.map(|setting| format!("  {}  {}\n", setting.variable, setting.help)).collect();
    let after_help = if secrets.is_empty() {
        exit_codes
    } else {
        format!("Secrets, which have variables only:\n{}\n{exit_codes}", secrets.concat())
    };
    let name = subcommand.get_name();
    let flags = taken().filter(|setting| !setting.secret).map(|setting| flag(setting, setting.help_of(name)));
    let flags: Vec<_> = flags.collect();
    let subcommand = match subcommand.get_long_about().map(|about| paragraphs(&about.to_string())) {
        Some(about) => subcommand.long_about(about),
        None => subcommand,
    };
    subcommand.args(flags).after_help(MORE).after_long_help(after_help)
}

/// Joins the lines of each paragraph, which are broken for the readers of the source, so that clap wraps them. Indented lines stay.
fn paragraphs(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut() {
            Some(last) if is_prose(last) && is_prose(line) => *last = format!("{last} {line}"),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

fn flag(setting: &'static Setting, help: &'static str) -> Arg {
    let mut long_help = format!("{help} [env: {}]", setting.variable);
    if let Some(default) = setting.default {
        long_help = format!("{long_help} [default: {default}]");
    }
    let arg = Arg::new(setting.name).long(setting.name).help(help).long_help(long_help);
    let arg = arg.help_heading(setting.group).hide_short_help(!setting.common);
    let arg = if setting.repeatable { arg.action(ArgAction::Append) } else { arg };
    let arg = match setting.name {
        "verbose" => arg.short('v'),
        "out" => arg.short('o'),
        _ => arg,
    };
    if setting.is_switch() {
        arg.action(ArgAction::SetTrue)
    } else {
        // An empty flag is a mistake, unlike an empty variable.
        arg.value_name(setting.value_name).value_parser(NonEmptyStringValueParser::new())
    }
}

/// Parses a command line. The error is clap's own, which distinguishes help, version and mistakes.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let CommandLine { subcommand } = CommandLine::from_arg_matches(&matches)?;
    let (_, own) = matches.subcommand().unwrap_or(("", &matches));
    let flags = settings::ALL.iter().filter_map(|setting| Some((setting.name, given(own, setting)?)));
    Ok(Invocation { subcommand, flags: flags.collect() })
}

/// The log's format on a command line that may be wrong, or in the variable: a failure to parse it has to be printed too.
pub(super) fn log_format(arguments: impl IntoIterator<Item = OsString>, variable: Option<OsString>) -> LogFormat {
    let flag = format!("--{}", settings::LOG_FORMAT.name);
    let arguments: Vec<_> = arguments.into_iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let value = arguments.iter().enumerate().find_map(|(at, it)| match it.strip_prefix(&flag)? {
        "" => arguments.get(at + 1).cloned(),
        value => value.strip_prefix('=').map(str::to_owned),
    });
    let value = value.or_else(|| variable?.into_string().ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(LogFormat::Text)
}

fn given(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    if setting.is_switch() {
        let on = matches.try_get_one::<bool>(setting.name).ok().flatten();
        on.filter(|on| **on).map(|_| "1".to_owned())
    } else if setting.repeatable {
        let values = matches.try_get_many::<String>(setting.name).ok().flatten()?;
        Some(values.cloned().collect::<Vec<_>>().join("\n"))
    } else {
        matches.try_get_one::<String>(setting.name).ok().flatten().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_format_is_known_of_a_wrong_command_line() {
        let format = |line: &str, variable: Option<&str>| {
            log_format(line.split(' ').map(OsString::from), variable.map(OsString::from))
        };
        for line in ["x --log-format json", "x run --log-format=json --nonsense", "x biuld --log-format json"] {
            assert_eq!(format(line, None), LogFormat::Json, "{line}");
        }
        for line in ["x", "x --log-format", "x --log-format text", "x --log-formats json", "x --log-format xml"] {
            assert_eq!(format(line, None), LogFormat::Text, "{line}");
        }
        assert_eq!(format("x", Some("json")), LogFormat::Json);
        assert_eq!(format("x --log-format text", Some("json")), LogFormat::Text);
    }

    fn typed(line: &str) -> Result<Invocation, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_that_are_settings_are_found_wherever_they_stand() {
        let typed = typed("image-worker --json run --dry-run --image-name builder -v").unwrap();
        assert!(matches!(typed.subcommand, Subcommand::Run(_)));
        let expected = [("dry-run", "1"), ("image-name", "builder"), ("json", "1"), ("verbose", "1")];
        assert_eq!(typed.flags, expected.map(|(key, value)| (key, value.to_owned())).into());
    }

    #[test]
    fn lines_of_a_paragraph_are_joined_and_examples_stay() {
        let text = "One\nparagraph:\n    an example\n    another\nTwo,\nof it.\n\nThree.";
        assert_eq!(paragraphs(text), "One paragraph:\n    an example\n    another\nTwo, of it.\n\nThree.");
    }

    #[test]
    fn help_of_a_subcommand_is_of_that_subcommand() {
        let names: Vec<_> = Subcommand::settings().collect();
        for setting in settings::ALL {
            for (name, _) in setting.help_in {
                let takes = |(own, groups): &(String, &[SettingGroup])| {
                    own == name && groups.iter().any(|group| group.contains(setting))
                };
                assert!(names.iter().any(takes), "{name} does not take --{}", setting.name);
            }
        }
        let help = |name: &str| typed(&format!("image-worker {name} --help")).unwrap_err().to_string();
        assert!(help("push").contains("Push over a tag"));
        assert!(!help("run").contains("Push over a tag"));
    }

    #[test]
    fn every_setting_has_a_subcommand_that_takes_it() {
        let taken = |setting| Subcommand::settings().any(|(_, groups)| groups.iter().any(|it| it.contains(setting)));
        for setting in settings::ALL {
            assert!(settings::EVERYWHERE.contains(setting) || taken(setting), "no subcommand takes --{}", setting.name);
        }
    }

    #[test]
    fn secrets_have_no_flag() {
        assert!(typed("image-worker run --access-token x").is_err());
        for (name, groups) in Subcommand::settings() {
            let help = typed(&format!("image-worker {name} --help")).unwrap_err().to_string();
            let taken = groups.iter().flat_map(|group| group.iter());
            for setting in taken {
                assert!(help.contains(setting.variable), "each variable is shown: {help}");
                let flag = format!("--{} ", setting.name);
                assert!(!(setting.secret && help.contains(&flag)), "a secret has none: {help}");
            }
        }
        assert!(typed("image-worker run --nonsense").is_err());
    }
}
