//! BuildKit, asked for by `--builder`: the same job with the same words, stages side by side, and what it leaves behind.

use crate::harness::{Finished, PROJECT, Repository, assert_engine_is_clean, docker_says, engine, path, program};

/// A dry run of an image by BuildKit.
fn dry_run(repository: &Repository, more: &[(&str, &str)]) -> Finished {
    let (output, directory) = (repository.root.path().join("out"), repository.directory());
    let arguments = ["run", "--dry-run", "--context", path(&directory), "--output", path(&output)];
    let environment =
        [("IMAGE_NAME", repository.name.as_str()), ("PROJECT", PROJECT), ("IMAGE_WORKER_BUILDER", "buildkit")];
    let environment = environment.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    program(arguments, environment).finish()
}

/// What a container of the image that a dry run wrote prints.
fn prints(repository: &Repository, finished: &Finished) -> String {
    finished.assert_succeeds();
    let tag = finished.stdout.trim();
    docker_says(&["load", "--input", path(&repository.root.path().join("out/image.tar"))]);
    let printed = docker_says(&["run", "--rm", "--network", "none", tag]);
    docker_says(&["rmi", "--force", tag]);
    printed
}

#[test]
fn stages_side_by_side_make_one_image() {
    if !engine() {
        return;
    }
    let stage = |name: &str| {
        format!("FROM base AS {name}\nRUN echo of {name} > /{name}\nRUN echo {name} says && cat /{name}\n")
    };
    let steps = format!(
        "RUN mkdir /tmp\nFROM scratch AS base\nENV TEST=buildkit-stages\nCOPY busybox /bin/busybox\n\
         SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n{}{}FROM base\nCOPY --from=left /left /\nCOPY --from=right /right /\n\
         CMD [\"/bin/busybox\", \"cat\", \"/left\", \"/right\"]\n",
        stage("left"),
        stage("right"),
    );
    let repository = Repository::new("buildkit-stages", &steps);
    let finished = dry_run(&repository, &[]);
    assert_eq!(prints(&repository, &finished), "of left\nof right");
    for line in [
        "build | [left] Step 2/2 : RUN echo left says && cat /left",
        "build | [left] left says",
        "build | [right] of right",
        "build | [stage-4] Step 2/2 : COPY --from=right /right /",
    ] {
        assert!(finished.stderr.lines().any(|told| told == line), "{line} is not in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains("mkdir"), "the first stage is of no use to the image: {}", finished.stderr);
    assert_engine_is_clean("buildkit-stages");
}

#[test]
fn a_failing_step_is_told_as_the_classic_builder_tells_it() {
    if !engine() {
        return;
    }
    let repository = Repository::new("buildkit-fails", "RUN echo hello; echo almost >&2; exit 7\n");
    let classic = dry_run(&repository, &[("IMAGE_WORKER_BUILDER", "classic")]);
    classic.assert_fails(
        20,
        &["RUN echo hello; echo almost >&2; exit 7, failed with exit code 7", "its last line: almost"],
    );
    let finished = dry_run(&repository, &[]);
    let tail = |finished: &Finished| finished.error_line().split_once(", ").unwrap().1.to_owned();
    assert_eq!(tail(&finished), tail(&classic));
    assert!(finished.error_line().contains("build: step 2/2, RUN"), "{}", finished.error_line());
    assert!(finished.stderr.contains("the step's last lines:\n    | hello\n    | almost\n"), "{}", finished.stderr);
    assert_engine_is_clean("buildkit-fails");
}

#[test]
fn what_cannot_be_built_is_the_dockerfiles_fault() {
    if !engine() {
        return;
    }
    let said = |dockerfile: &str, words: &[&str]| {
        let repository = Repository::bare("buildkit-faults", dockerfile);
        dry_run(&repository, &[]).assert_fails(20, words);
    };
    said(
        "FROM scratch\nFOO bar\n",
        &["the build did not begin: dockerfile parse error line 2: unknown instruction: FOO"],
    );
    said("FROM scratch\nCOPY nosuch /x\n", &["step 1/1, COPY nosuch /x, failed", "\"/nosuch\" not found"]);
    said("FROM debian:12\nCOPY Dockerfile /x\nRUN --mount=type=bogus x\n", &["unsupported mount type"]);
    assert_engine_is_clean("buildkit-faults");
}
