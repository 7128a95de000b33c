//! The same context built twice: the same bytes with --reproducible, and without it `check --compare` reports what differs. The
//! engine is real, and so is the time that passes between the builds.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Finished, PROJECT, Repository, assert_engine_is_clean, docker_output, engine, path, program};

/// Files, directories, links and what takes them away again, all made while it builds.
const STEPS: &str = "\
ARG SOURCE_DATE_EPOCH
RUN mkdir -p /srv/deep && echo data > /srv/deep/file && ln /srv/deep/file /srv/link && ln -s deep /srv/soft
RUN rm /srv/link && touch /srv/new && chmod 700 /srv/deep && echo \"$SOURCE_DATE_EPOCH\" > /srv/epoch
RUN mkdir /srv/a-b /srv/a && touch /srv/a/x && mkfifo /srv/a/pipe
WORKDIR /work
CMD [\"/bin/busybox\", \"stat\", \"-c\", \"%Y\", \"/srv/new\"]
";

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Waits until files get another time than before: layers have whole seconds.
fn another_second() {
    let before = now().as_secs();
    while now().as_secs() == before {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A dry run, and the archive that it has written.
fn build(repository: &Repository, output: &str, more: &[&str]) -> (Finished, PathBuf) {
    let output = repository.root.path().join(output);
    let (context, directory) = (repository.directory(), path(&output).to_owned());
    let mut arguments = vec!["run", "--dry-run", "--context", path(&context), "--output", &directory];
    arguments.extend(more);
    let environment = [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (program(arguments, environment).finish(), output.join("image.tar"))
}

fn compare(a: &Path, b: &Path) -> Finished {
    program(["check", path(a), "--compare", path(b)], []).finish()
}

/// A comparison that does not hold: all about it is on stdout, and it ends in one line besides.
fn assert_differ(compared: &Finished, words: &[&str]) {
    assert_eq!(compared.code, 10, "{}", compared.stderr);
    for words in words {
        assert!(compared.error_line().contains(words), "{words} in\n{}", compared.stderr);
    }
}

#[test]
fn two_builds_are_the_same_bytes() {
    if !engine() {
        return;
    }
    let repository = Repository::new("repro-same", STEPS);
    let (first, one) = build(&repository, "one", &["--reproducible"]);
    first.assert_succeeds();
    another_second();
    let (second, other) = build(&repository, "other", &["--reproducible"]);
    second.assert_succeeds();
    assert_eq!(first.stdout, second.stdout);
    let compared = compare(&one, &other);
    compared.assert_succeeds();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap(), "{}", compared.stdout);
    program(["check", path(&one)], []).finish().assert_succeeds();

    let tag = first.stdout.trim();
    docker_output(&["load", "--input", path(&one)]);
    assert_eq!(docker_output(&["run", "--rm", "--network", "none", tag]), "1451606400");
    docker_output(&["rmi", "--force", tag]);

    // Another epoch is another image, and RUN steps get it.
    let (third, third_file) = build(&repository, "third", &["--source-date-epoch", "1700000000"]);
    third.assert_succeeds();
    let compared = compare(&one, &third_file);
    assert_differ(&compared, &["are not the same image"]);
    for words in ["srv/epoch", "      -1451606400", "      +1700000000", "created: \"2016-01-01T00:00:00Z\""] {
        assert!(compared.stdout.contains(words), "{words} in\n{}", compared.stdout);
    }
    assert_engine_is_clean("repro-same");
}

#[test]
fn what_makes_builds_differ_is_named_with_a_hint() {
    if !engine() {
        return;
    }
    let steps = "RUN mkdir -p /etc && cat /proc/sys/kernel/random/uuid > /etc/machine-id && touch /same\n";
    let repository = Repository::new("repro-differs", steps);
    let (first, one) = build(&repository, "one", &[]);
    first.assert_succeeds();
    another_second();
    let (second, other) = build(&repository, "other", &[]);
    second.assert_succeeds();
    let compared = compare(&one, &other);
    assert_differ(&compared, &[path(&one), path(&other), "are not the same image"]);
    let hints = ["build with --reproducible", ": > /etc/machine-id", "  same: time ", "  etc/machine-id: time "];
    for words in hints {
        assert!(compared.stdout.contains(words), "{words} in\n{}", compared.stdout);
    }
    let json = program(["check", path(&one), "--compare", path(&other), "--json"], []).finish();
    let comparison: Value = serde_json::from_str(&json.stdout).unwrap();
    let layers = comparison["layers"].as_array().unwrap();
    let differ: Vec<_> = layers.iter().filter(|layer| layer["identical"] == false).collect();
    // The first one because of the directory that COPY made.
    assert_eq!(differ.len(), 2, "{}", json.stdout);
    assert_eq!(differ[0]["files"].as_array().unwrap().len(), 1, "{}", json.stdout);
    assert!(differ[1]["madeBy"].as_str().unwrap().contains("machine-id"), "{}", json.stdout);
    // What a clock did not do stays, and is all that stays.
    for output in ["one", "other"] {
        build(&repository, output, &["--reproducible"]).0.assert_succeeds();
    }
    let compared = program(["check", path(&one), "--compare", path(&other), "--json"], []).finish();
    let comparison: Value = serde_json::from_str(&compared.stdout).unwrap();
    assert_eq!(comparison["configuration"].as_array().unwrap().len(), 0, "{}", compared.stdout);
    let files: Vec<_> =
        comparison["layers"].as_array().unwrap().iter().flat_map(|it| it["files"].as_array().unwrap()).collect();
    assert_eq!(files.len(), 1, "{}", compared.stdout);
    assert_eq!(files[0]["path"], "etc/machine-id");
    assert_engine_is_clean("repro-differs");
}

#[test]
fn an_epoch_that_cannot_hold_and_archives_that_are_none_are_refused() {
    let repository = Repository::new("repro-refused", "");
    let future = (now().as_secs() + 1000).to_string();
    let (refused, _) = build(&repository, "out", &["--source-date-epoch", &future]);
    refused.assert_fails(2, &["--source-date-epoch", "is in the future"]);
    let file = repository.root.path().join("no.tar");
    std::fs::write(&file, "a secret that is no archive".repeat(100)).unwrap();
    let refused = compare(&file, &file);
    refused.assert_fails(10, &[path(&file), "image-worker check"]);
    assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
    compare(&file.with_extension("missing"), &file).assert_fails(2, &["no.missing"]);
}
