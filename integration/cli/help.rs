//! `--help`, of the program and of each subcommand that it lists.

use crate::harness::program;

/// The lines of a terminal that is not very small.
const SCREEN: usize = 40;

#[test]
fn the_help_of_the_program_and_of_each_subcommand() {
    let help = |arguments: &[&str]| {
        let finished = program(arguments.iter().copied(), []).finish();
        finished.assert_succeeds();
        finished.stdout
    };
    let whole = help(&["--help"]);
    let commands =
        whole.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("its subcommands");
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    // The help of `help` is clap's.
    let names: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(names.contains(&"run") && names.len() > 10, "{names:?}");
    let readme = include_str!("../../README.md");
    for name in names {
        let lines = help(&[name, "-h"]).lines().count();
        assert!(lines <= SCREEN, "{name} -h has {lines} lines: which of its settings are `common`?");
        let in_readme = readme.contains(&format!("| `{name} ")) || readme.contains(&format!("`{name}` |"));
        assert!(
            in_readme || readme.contains(&format!("`{name} [")),
            "README.md has a table of subcommands: add {name}"
        );
        insta::assert_snapshot!(format!("help_{name}"), help(&[name, "--help"]));
    }
    insta::assert_snapshot!("help", whole);
    let short = help(&["-h"]);
    insta::assert_snapshot!("short_help", short);
    insta::assert_snapshot!("short_help_run", help(&["run", "-h"]));
}
