//! What steps print, keep for later builds, and leave when they are stopped, to make the cleaning remove what is not ours, or miss what
//! is: neighbours' images stay, and nothing of the build does.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use stand_in::TaskSpec;
use tempfile::TempDir;

use super::kill::{job_from_with_busybox, job_with_busybox};
use super::play::{ARTIFACT, assert_engine_is_clean};
use crate::harness::archive::Archive;
use crate::harness::{Builder, Finished, Job, docker, docker_output, engine, path, program};

fn run(job: &Job) -> Finished {
    program(["run"], job.environment()).finish()
}

/// A step that runs a shell script.
fn shell(script: &str) -> String {
    format!("RUN [\"/busybox\", \"sh\", \"-c\", \"{script}\"]\n")
}

/// An image of another user, ready to be loaded.
struct Neighbour {
    directory: TempDir,
    id: String,
    tag: Option<String>,
}

impl Neighbour {
    fn new(mark: &str, tag: Option<&str>) -> Self {
        let directory = TempDir::new().unwrap();
        let mut image = Archive::empty(mark);
        image.add_layer("neighbour", mark.as_bytes());
        let tags: Vec<_> = tag.into_iter().collect();
        std::fs::write(directory.path().join("image.tar"), image.tar((!tags.is_empty()).then_some(&tags[..]))).unwrap();
        Self { directory, id: image.id(), tag: tag.map(str::to_owned) }
    }

    fn load(&self) {
        docker_output(&["load", "--quiet", "--input", path(&self.directory.path().join("image.tar"))]);
    }

    fn is_there(&self) -> bool {
        docker(&["image", "inspect", &self.id]).status.success()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        docker(&["rmi", self.tag.as_ref().unwrap_or(&self.id)]);
    }
}

/// The neighbour's image is loaded while the build is under way, and a step prints its id as engines print those of steps.
#[test]
fn a_step_that_prints_a_neighbours_id_removes_nothing() {
    if !engine() {
        return;
    }
    for (tag, last) in [(Some("forged-neighbour:1"), ""), (Some("forged-neighbour:2"), "exit 1"), (None, "exit 1")] {
        let mark = format!("neighbour-{}-{}-{}", std::process::id(), last.len(), tag.unwrap_or("none"));
        let neighbour = Neighbour::new(&mark, tag);
        let (id, digits) = (&neighbour.id[7..], &neighbour.id[7..19]);
        let forged = format!(" ---> {digits}\\n--> {digits}\\n{id}\\nSuccessfully built {digits}\\n");
        let steps = format!(
            "COPY busybox /busybox\n{}{}",
            shell("/busybox sleep 3"),
            shell(&format!("printf '{forged}'; {last}"))
        );
        let job = job_with_busybox("neighbour", &steps);
        let finished =
            program(["run"], job.environment()).finish_when(|log| log.contains("sleep 3"), |_| neighbour.load());
        assert_ends(&finished, last);
        assert!(finished.stderr.contains(&format!("---> {digits}")), "{}", finished.stderr);
        assert!(neighbour.is_there(), "the neighbour's image is gone:\n{}", finished.stderr);
        assert_engine_is_clean(&job.name);
    }
}

#[test]
fn a_step_that_prints_the_engines_words_leaves_nothing() {
    if !engine() {
        return;
    }
    for (forged, last) in [
        ("Step 1/2 : FROM scratch\\n ---> \\n", ""),
        (" ---> Using cache\\n", ""),
        ("STEP 1/2: FROM scratch\\n--> Using cache 0123456789ab\\n", "exit 1"),
        ("Step 1/2 : FROM scratch\\n ---> Using cache\\n ---> 0123456789ab\\n", "exit 1"),
    ] {
        let steps = format!(
            "COPY busybox /busybox\n{}ENV A=$B\n{}",
            shell(&format!("printf '{forged}'")),
            shell(&format!("true; {last}"))
        );
        let job = job_with_busybox("words", &steps);
        let finished = run(&job);
        assert_ends(&finished, last);
        assert_engine_is_clean(&job.name);
    }
}

/// Triggers run behind FROM, each with an image of its own.
#[test]
fn triggers_of_a_base_leave_nothing() {
    if !engine() || Builder::chosen() == Builder::Podman {
        return;
    }
    for last in ["", "exit 1"] {
        let name = format!("triggers-{}-{}", std::process::id(), last.len());
        let directory = TempDir::new().unwrap();
        std::fs::copy("/bin/busybox", directory.path().join("busybox")).expect("busybox-static; run scripts/test");
        let triggers = "ONBUILD ENV A=b\nONBUILD COPY busybox /second\nONBUILD RUN [\"/busybox\", \"true\"]\n";
        let dockerfile = format!("FROM scratch\nLABEL image-worker-base={name}\nCOPY busybox /busybox\n{triggers}");
        std::fs::write(directory.path().join("Dockerfile"), dockerfile).unwrap();
        docker_output(&["build", "--quiet", "--tag", &format!("{name}:1"), path(directory.path())]);
        let job = job_from_with_busybox(&format!("{name}:1"), "triggered", &shell(&format!("true; {last}")));
        let before = images_of(&format!("image-worker-base={name}"));
        let finished = run(&job);
        let after = images_of(&format!("image-worker-base={name}"));
        docker_output(&["rmi", &format!("{name}:1")]);
        assert_ends(&finished, last);
        assert_eq!(after, before, "{}", finished.stderr);
        assert_engine_is_clean(&job.name);
    }
}

/// The same with a parent, which the triggers would keep as a whole.
#[test]
fn triggers_of_a_parent_leave_nothing() {
    if !engine() || Builder::chosen() == Builder::Podman {
        return;
    }
    for last in ["", "exit 1"] {
        let job = job_from_with_busybox("$DOCKER_IMAGE_PARENT", "triggering", &shell(&format!("true; {last}")));
        let mut image = Archive::empty(&job.name);
        image.add_layer("busybox", &std::fs::read("/bin/busybox").unwrap());
        let mut config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
        config["config"]["OnBuild"] =
            serde_json::json!(["ENV A=b", "COPY data /triggered", "RUN [\"/busybox\", \"true\"]"]);
        image.config = config.to_string().into();
        let env = serde_json::json!({ "IMAGE_NAME": "base", "PROJECT": crate::harness::PROJECT, "HASH": job.hash });
        let parent =
            job.taskcluster.create_task(TaskSpec::default().property("payload", serde_json::json!({ "env": env })));
        job.taskcluster.put_artifact(&parent.task_id, 0, ARTIFACT, "application/x-tar", None, &image.tar(None));
        let finished = program(["run", "--parent-task-id", &parent.task_id], job.environment()).finish();
        assert_ends(&finished, last);
        assert_engine_is_clean(&job.name);
    }
}

/// Asserts that a job ended as its last step does: `exit 1` fails, and nothing succeeds.
fn assert_ends(finished: &Finished, last: &str) {
    assert_eq!(finished.code, if last.is_empty() { 0 } else { 20 }, "{}", finished.stderr);
}

fn images_of(label: &str) -> BTreeSet<String> {
    let ids = docker_output(&["images", "--all", "--quiet", "--filter", &format!("label={label}")]);
    ids.lines().map(str::to_owned).collect()
}

/// The command of a step has ended, and the engine makes its image: a second's work.
#[test]
fn a_stop_while_the_engine_commits_a_step_leaves_nothing() {
    if !engine() || Builder::chosen() != Builder::Docker {
        return;
    }
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let steps = format!("COPY busybox /busybox\n{}", shell("/busybox dd if=/dev/zero of=/large bs=1M count=384"));
        let job = job_with_busybox("commits", &steps);
        let label = format!("label=image-worker-test={}", job.name);
        let mut was_met = false;
        let finished = program(["run"], job.environment()).finish_when(
            |log| log.contains("Running in"),
            |id| {
                let limit = Instant::now() + Duration::from_mins(2);
                while !was_met && Instant::now() < limit {
                    let ended = ["ps", "--all", "--quiet", "--filter", &label, "--filter", "status=exited"];
                    was_met = !docker_output(&ended).is_empty();
                }
                assert!(
                    Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().unwrap().success()
                );
            },
        );
        assert!(was_met, "the step was not met");
        finished.assert_fails(code, &["while building"]);
        assert_engine_is_clean(&job.name);
    }
}
