//! The rules of docs/architecture.md as tests: which modules may import which, how large files may get, and what must
//! not be in the tree. Each message names the fix; to change a rule, change the data at the top of its test.

mod source;
mod tree;

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use source::{Source, sources};
use tree::{files, is, root, text};

/// Fails with one line for each violation.
fn none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}\n  {}\n", violations.join("\n  "));
}

#[test]
fn imports_go_down() {
    // From the lowest to the highest: a module may use those before it, and nothing else of this crate.
    const LAYERS: &[&str] = &[
        "report",
        "net",
        "dockerfile",
        "context",
        "image",
        "engine",
        "taskcluster",
        "config",
        "repository",
        "decision",
        "job",
        "commands",
        "cli",
        "lib",
        "main",
        "",
    ];
    let layer = |module: &str| LAYERS.iter().position(|known| *known == module);
    let mut violations = Vec::new();
    for source in sources("src") {
        let Some(own) = layer(source.module()) else {
            violations.push(format!("{}: give the module its place in LAYERS, above all that it uses", source.path));
            continue;
        };
        for (line, used) in source.modules_used() {
            match layer(&used) {
                Some(other) if other <= own => {}
                Some(_) => violations.push(format!(
                    "{}:{line}: {} is below {used}: pass the value in from above, or move what both need down",
                    source.path,
                    source.module()
                )),
                None => violations.push(format!("{}:{line}: {used} is no module of src/", source.path)),
            }
        }
    }
    none("Imports in src/ go down only (the order is LAYERS, in this test):", &violations);
}

#[test]
fn no_two_files_import_each_other() {
    // (a package's source, fewer imports than it has: with less, this test reads them wrong)
    for (directory, fewest) in [("src", 500), ("integration/stand-in/src", 80)] {
        let sources = sources(directory);
        let modules: BTreeSet<String> = sources.iter().map(Source::path_of_module).collect();
        // The module that an import leads into: what stands behind it is an item.
        let module = |path: &str| {
            let mut parts: Vec<&str> = path.split("::").collect();
            while !parts.is_empty() && !modules.contains(&parts.join("::")) {
                parts.pop();
            }
            parts.join("::")
        };
        let mut imports = BTreeSet::new();
        for source in &sources {
            let own = source.path_of_module();
            let used = source.imports().iter().map(|path| module(path)).collect::<Vec<_>>();
            imports.extend(
                used.into_iter().filter(|used| !used.is_empty() && *used != own).map(|used| (own.clone(), used)),
            );
        }
        let is_pair = |(one, other): &&(String, String)| one < other && imports.contains(&(other.clone(), one.clone()));
        let pairs: Vec<_> = imports.iter().filter(is_pair).map(|(one, other)| format!("{one} and {other}")).collect();
        assert!(imports.len() > fewest, "{directory}: imports are written in another way now: fix this test");
        none("Two files that import each other are one: move what both need into a third:", &pairs);
    }
}

#[test]
fn some_words_stay_in_their_modules() {
    // (what, where it may be, what to do instead)
    let rules: [(&str, &[&str], &str); 7] = [
        (r"\bbollard\b", &["src/engine/"], "let src/engine/ do it, and give back a type of its own"),
        (r"\bbackoff\b", &["src/net/retry.rs"], "use retry::retry"),
        (r"\benv::", &["src/cli/"], "make it a setting, or a part of config::ProcessEnvironment"),
        (
            r"\b(Timestamp|SystemTime|Zoned)::now\b",
            &["src/cli/", "src/report/"],
            "take the moment from config::ProcessEnvironment",
        ),
        (r"\bstdout\b|\bprintln!|\bprint!", &["src/cli/"], "return the answer; cli prints it"),
        (
            r"\bstderr\b|\beprintln!|\beprint!|\bdbg!",
            &["src/cli/", "src/report/"],
            "log it with tracing, or with report::Report",
        ),
        (r"\bprocess::(exit|abort)\b", &[], "return an error; cli makes the exit code"),
    ];
    // Places that break a rule for a reason: (file, the words in it, the reason).
    let known: [(&str, &str, &str); 10] = [
        ("src/engine/managed/mod.rs", ".stdout(ours(&log)?).stderr(ours(&log)?)", "a child's log"),
        ("src/context/run_task.rs", "&output.stderr", "a child's stderr"),
        ("src/context/run_task.rs", "output.stdout.rsplitn", "a child's answer"),
        ("src/context/untracked.rs", "output.stdout.split", "a child's answer"),
        ("src/context/untracked.rs", "&output.stderr", "a child's stderr"),
        ("src/repository/git.rs", "output.stdout", "a child's answer"),
        ("src/repository/git.rs", "&output.stderr", "a child's stderr"),
        ("src/repository/git.rs", "Stdio::piped()", "a child's pipes"),
        ("src/job/build_script.rs", "Stdio::piped()", "a child's pipes"),
        ("src/job/build_script.rs", "child.stdout.take()", "a child's pipes"),
    ];
    let mut violations = Vec::new();
    let mut excused = BTreeSet::new();
    for source in sources("src") {
        for (pattern, allowed, instead) in &rules {
            if allowed.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (line, words) in source.find(&Regex::new(pattern).unwrap()) {
                match known.iter().find(|(file, excuse, _)| source.path == *file && words.contains(excuse)) {
                    Some((file, ..)) => drop(excused.insert(*file)),
                    None => violations.push(format!("{}:{line}: `{}`: {instead}", source.path, words.trim())),
                }
            }
        }
    }
    none("Some words stay in their modules:", &violations);
    for (file, words, _) in known {
        assert!(excused.contains(file), "{file} has no `{words}` any more: take it out of `known` in this test");
    }
}

#[test]
fn files_stay_small() {
    // (which files, the most lines, what to do)
    let rules: [(&str, usize, &str); 5] = [
        (r"^src/main\.rs$", 29, "the process's work is in src/cli/"),
        (r"^src/.*\.rs$", 400, "look for the second topic inside it"),
        (r"^integration/stand-in/.*\.rs$", 400, "look for the second topic inside it"),
        (r"^scripts/[^/]+$", 50, "a script only starts things: move the work into the program or integration/"),
        (r"^\.ci/[^/]+$", 50, "a step is a script or a test"),
    ];
    let mut violations = Vec::new();
    for (pattern, most, instead) in rules {
        let pattern = Regex::new(pattern).unwrap();
        let mut found = false;
        for path in files().into_iter().filter(|path| pattern.is_match(path)) {
            found = true;
            let lines = text(&path).unwrap_or_default().lines().count();
            if lines > most {
                violations.push(format!("{path} has {lines} lines, more than {most}: {instead}"));
            }
        }
        assert!(found, "no file is like {pattern} any more: fix this test");
    }
    none("Files stay small:", &violations);
}

#[test]
fn the_stand_in_knows_nothing_of_the_program() {
    let used = Regex::new(r"\bimage_worker\b").unwrap();
    let mut violations = Vec::new();
    for source in sources("integration/stand-in") {
        violations.extend(source.find(&used).into_iter().map(|(line, _)| format!("{}:{line}", source.path)));
    }
    none(
        "No test finds a mistake that the program and its stand-in share: write it again in the stand-in:",
        &violations,
    );
}

#[test]
fn every_source_file_begins_with_its_purpose() {
    let silent = |path: &String| !text(path).unwrap_or_default().starts_with("//! ");
    let violations: Vec<_> = files().into_iter().filter(|path| is("rs", path)).filter(silent).collect();
    none("Begin these files with `//!` and two sentences: what it is for, and what it leaves to others:", &violations);
}

#[test]
fn the_version_is_in_the_changelog() {
    let heading = format!("## [{}] - ", env!("CARGO_PKG_VERSION"));
    let found = text("CHANGELOG.md").unwrap().lines().filter(|line| line.starts_with(&heading)).count();
    assert_eq!(found, 1, "CHANGELOG.md needs a section `{heading}DATE` that tells users what changed and who must act");
}

#[test]
fn nothing_is_left_for_later() {
    // In two halves, so that this file is no example of them.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!")];
    let pattern = Regex::new(&format!(r"\b({})\b|\b({})", words.join("|"), macros.join("|"))).unwrap();
    let mut violations = Vec::new();
    for path in files().into_iter().filter(|path| path != "Cargo.lock") {
        let Some(text) = text(&path) else { continue };
        let lines = text.lines().enumerate().filter(|(_, line)| pattern.is_match(line));
        violations.extend(lines.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())));
    }
    none("Do it now, or write an issue:", &violations);
}

#[test]
fn every_fixture_is_used() {
    let users: String = files()
        .iter()
        .filter(|path| !path.starts_with("integration/fixtures/"))
        .filter(|path| is("rs", path) || is("py", path) || path.starts_with("scripts/"))
        .filter_map(|path| text(path))
        .collect();
    let fixtures: BTreeSet<_> = files()
        .iter()
        .filter_map(|path| path.strip_prefix("integration/fixtures/"))
        .map(|path| path.split('/').next().unwrap_or(path).to_owned())
        .collect();
    assert!(!fixtures.is_empty());
    let unused: Vec<_> = fixtures.into_iter().filter(|name| !users.contains(&format!("fixtures/{name}"))).collect();
    none("Name these as `fixtures/NAME` in a test or a script, or remove them from integration/fixtures/:", &unused);
}

#[test]
fn the_fuzz_package_has_the_crates_of_its_targets() {
    let crates = |manifest: &str| -> BTreeSet<String> {
        let manifest: toml::Table = text(manifest).unwrap().parse().unwrap();
        ["dependencies", "dev-dependencies"]
            .iter()
            .filter_map(|section| manifest.get(*section)?.as_table())
            .flat_map(|section| section.keys().cloned())
            .collect()
    };
    let targets: String = files()
        .iter()
        .filter(|path| path.starts_with("integration/fuzz/") && is("rs", path))
        .filter_map(|path| text(path))
        .collect();
    let used = |name: &&String| {
        let path = Regex::new(&format!(r"(^|[^:\w]){}::", name.replace('-', "_"))).unwrap();
        path.is_match(&targets)
    };
    let (ours, theirs) = (crates("Cargo.toml"), crates("integration/fuzz/Cargo.toml"));
    let missing: Vec<_> = ours.difference(&theirs).filter(used).cloned().collect();
    none("Name these in integration/fuzz/Cargo.toml too, which only scripts/fuzz builds:", &missing);
}

#[test]
fn nothing_names_the_machine_that_it_was_written_on() {
    // This machine's: the checkout, the directory that it is in, and what programs keep at home.
    let checkout = root();
    let mut directories = vec![format!("{}/", checkout.display())];
    let general = ["/", "/tmp", "/src", "/home"].map(Path::new);
    directories
        .extend(checkout.parent().filter(|parent| !general.contains(parent)).map(|it| format!("{}/", it.display())));
    directories.extend(std::env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| format!("{home}/.")));
    let directories: Vec<_> = directories.iter().map(|directory| regex::escape(directory)).collect();
    let directories = Regex::new(&format!(r"(^|[^\w$.}}/-])({})", directories.join("|"))).unwrap();
    let hosts = Regex::new(r"\bhttps?://([\w.-]+\.(?:internal|intranet|local|lan|corp)|\d+\.\d+\.\d+\.\d+)\b").unwrap();
    // The machine itself, and the three networks that are reserved for examples.
    let nowhere = Regex::new(r"^(127\.|0\.0\.0\.0$|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.)").unwrap();
    let mut violations = Vec::new();
    for path in files() {
        let Some(text) = text(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let host = hosts.captures(line).is_some_and(|found| !nowhere.is_match(&found[1]));
            if host || directories.is_match(line) {
                violations.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("Use relative paths, temporary directories, example.com:", &violations);
    let lock = text("Cargo.lock").unwrap();
    let elsewhere: Vec<_> = lock
        .lines()
        .filter(|line| line.starts_with("source = "))
        .filter(|line| *line != r#"source = "registry+https://github.com/rust-lang/crates.io-index""#)
        .map(str::to_owned)
        .collect();
    none(
        "Cargo.lock names a registry that others cannot reach; remove the line's package and build again:",
        &elsewhere,
    );
    assert!(!root().join(".cargo").exists(), ".cargo/ is a machine's own configuration: put it into your home");
}

#[test]
fn the_source_reader_finds_imports_and_words() {
    let source = Source::new(
        "src/job/fetch.rs",
        "use crate::{a::b, c};\n// crate::no \"\nlet d = \"crate::no\"; crate::e::f('\"');",
    );
    let used: Vec<_> = source.modules_used().into_iter().map(|(line, module)| format!("{line} {module}")).collect();
    assert_eq!(used, ["1 a", "1 c", "3 e"]);
    assert_eq!(Source::new("src/context/intake/pipe.rs", "").module(), "context");
    assert_eq!(source.find(&Regex::new("no").unwrap()), []);
    let text =
        "use super::{a, b::{C, D as E}};\nuse self::f::G;\nuse std::io;\n#[cfg(test)]\nmod tests { use crate::h; }";
    assert_eq!(
        Source::new("src/job/fetch.rs", text).imports(),
        ["job::a", "job::b::C", "job::b::D", "job::fetch::f::G"]
    );
    assert_eq!(Source::new("src/job/mod.rs", "use crate::net::x;").imports(), ["net::x"]);
    assert_eq!(Source::new("src/job/mod.rs", "").path_of_module(), "job");
}
