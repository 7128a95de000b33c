//! The numbers of a build, and the first calls of a start: against the image that was published, against the rules of
//! Treeherder, and against another build of the same name.

mod treeherder;

use std::io::Read as _;
use std::time::{Duration, Instant};

use image_worker::net::Digest;
use serde_json::{Value, json};
use stand_in::{Fault, TaskSpec};

use crate::harness::{Job, Repository, engine, program};

const LAYERS: &str = "public/image-build/layers.json";
const PERFHERDER: &str = "public/image-build/perfherder-data-image-build.json";

fn artifact(job: &Job, name: &str) -> Value {
    let bytes = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, name);
    serde_json::from_slice(&bytes.unwrap_or_else(|| panic!("no {name}"))).unwrap()
}

/// The image's layers as its archive has them: diff id and size, the lowest first.
fn layers_of(image: &[u8]) -> Vec<(String, usize)> {
    let mut members = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(image).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, mut bytes) = (entry.path().unwrap().display().to_string(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        members.insert(name, bytes);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    let layers = manifest[0]["Layers"].as_array().unwrap().iter().map(|name| &members[name.as_str().unwrap()]);
    layers.map(|layer| (format!("sha256:{}", Digest::of(layer)), layer.len())).collect()
}

/// A step that makes a file of so many MiB.
fn makes(mebibytes: u32) -> String {
    format!("RUN dd if=/dev/zero of=/made bs=1048576 count={mebibytes}\n")
}

#[test]
fn an_image_lists_which_step_made_which_layer_and_what_it_took() {
    let steps = format!("ARG TOKEN\n{}RUN echo \"$TOKEN\" | md5sum > /sum\n", makes(2));
    let Some(job) = Job::ready("metrics-numbers", &steps) else { return };
    let args = [("DOCKER_BUILD_ARGS", r#"{"TOKEN": "nobody-may-see-this"}"#)];
    let finished = job.run_with(args);
    finished.assert_succeeds();

    let listed = artifact(&job, LAYERS);
    let image = job.taskcluster.artifact_bytes(&job.claim.task_id, 0, "public/image.tar").unwrap();
    let layers = listed["layers"].as_array().unwrap();
    let identify = |it: &Value| {
        (it["diffId"].as_str().unwrap().to_owned(), usize::try_from(it["size"].as_u64().unwrap()).unwrap())
    };
    let reported: Vec<_> = layers.iter().map(identify).collect();
    assert_eq!(reported, layers_of(&image));
    assert_eq!(listed["imageId"], job.taskcluster.index_entry(&job.routes()[2]).unwrap()["data"]["imageId"]);
    let size: usize = reported.iter().map(|(_, size)| size).sum();
    assert_eq!(listed["size"], json!(size));
    assert!(layers.iter().all(|layer| layer["base"] == false), "nothing is below scratch: {listed}");
    let made = layers.iter().find(|layer| layer["size"].as_u64() > Some(2 << 20) && layer["step"] != layers[0]["step"]);
    assert_eq!(made.unwrap()["step"], json!(makes(2).trim()), "{listed}");
    assert_eq!(layers.last().unwrap()["step"], json!("RUN echo \"$TOKEN\" | md5sum > /sum"));
    assert!(!listed.to_string().contains("nobody-may-see-this"), "{listed}");

    let data = artifact(&job, PERFHERDER);
    assert_eq!(treeherder::complaints(&data), [""; 0], "{data}");
    assert_eq!(data["framework"]["name"], "build_metrics");
    assert_eq!(data["suites"][0]["name"], "image-build metrics-numbers");
    let subtests = data["suites"][0]["subtests"].as_array().unwrap();
    let value = |name: &str| subtests.iter().find(|it| it["name"] == name).map(|it| it["value"].as_f64().unwrap());
    assert_eq!(value("image size"), listed["size"].as_f64());
    assert_eq!(value("layers"), Some(f64::from(u32::try_from(layers.len()).unwrap())));
    assert_eq!(value("compressed size"), None, "it is not");
    let stages = ["looking the image up", "fetching the context", "building", "exporting the image"];
    let seconds = stages.iter().map(|stage| value(stage).unwrap_or_else(|| panic!("no {stage}: {data}"))).sum::<f64>();
    assert!(seconds <= value("in all").unwrap(), "{data}");

    // The same at the end of the log, before the outcome.
    let lines: Vec<_> = finished.stderr.lines().collect();
    let summary = lines.iter().position(|line| line.contains("] metrics-numbers: ")).expect("a summary");
    assert!(lines[summary].contains(&format!(" in {} layers, from a context of ", layers.len())), "{}", lines[summary]);
    assert!(lines.last().unwrap().contains("published public/image.tar of "), "{}", finished.stderr);
    assert!(lines[lines.len() - 2].contains("  in all  "), "{}", finished.stderr);
    assert!(lines[summary..].iter().any(|line| line.contains("  building  ")), "{}", finished.stderr);
}

/// A job for another image of the same name, of a later push.
fn next(job: Job, steps: &str) -> (Job, Vec<(&'static str, &'static str)>) {
    let repository = Repository::new(&job.name, steps);
    (Job::on(job.taskcluster, &repository), vec![("PUSHDATE", "20151210000000")])
}

#[test]
fn the_step_that_made_an_image_larger_is_logged() {
    let Some(first) = Job::ready("metrics-larger", &format!("RUN echo kept > /kept\n{}", makes(1))) else { return };
    let finished = first.run();
    finished.assert_succeeds();
    assert!(!finished.stderr.contains(" than the image of task"), "there is none before it: {}", finished.stderr);
    let task = first.claim.task_id.clone();
    let steps = format!("RUN echo kept > /kept\nRUN echo new > /new\n{}", makes(3));
    let (second, later) = next(first, &steps);
    let finished = second.run_with(later.clone());
    finished.assert_succeeds();
    let headline = format!(" larger than the image of task {task} of 2015-12-09 (mozilla-central)");
    let lines: Vec<_> = finished.stderr.lines().skip_while(|line| !line.contains(&headline)).collect();
    assert!(lines[0].contains("] 2.00 MiB larger"), "{}", finished.stderr);
    assert!(lines[1].ends_with(&format!("  +2.00 MiB  {}: 3.00 MiB (was 1.00 MiB)", makes(3).trim())), "{lines:#?}");
    assert!(lines[2].contains("RUN echo new > /new: ") && lines[2].ends_with("(new)"), "{lines:#?}");
    assert!(lines[3].contains("published public/image.tar"), "nothing else differs: {lines:#?}");
    // The report has the same.
    let page = second.taskcluster.artifact_bytes(&second.claim.task_id, 0, "public/image-build/report.html").unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(&format!("\"headline\":\"2.00 MiB{headline}\"")), "{page}");

    // Where the list is not there, or is no list, the total sizes are compared, and nothing fails.
    let task = second.claim.task_id.clone();
    let stored = second.taskcluster.artifact_path(&task, 0, LAYERS).unwrap();
    std::fs::write(stored, "no list").unwrap();
    let (third, _) = next(second, &makes(1));
    let finished = third.run_with(later.clone());
    finished.assert_succeeds();
    let line = format!(" smaller than the image of task {task} of 2015-12-10 (mozilla-central)\n");
    assert!(finished.stderr.contains(&line) && !finished.stderr.contains("(was "), "{}", finished.stderr);

    // Nor does an index that does not answer.
    let (fourth, _) = next(third, &makes(2));
    fourth.taskcluster.fault(Fault::status("findTasksAtIndex", 403).times(u32::MAX));
    let finished = fourth.run_with(later);
    finished.assert_succeeds();
    assert!(!finished.stderr.contains(" the image of task "), "{}", finished.stderr);
    fourth.assert_engine_is_clean();
}

/// A start makes its first calls at once: the stand-in answers none of them, and all arrive.
#[test]
fn a_start_makes_its_first_calls_at_once_and_starts_nothing_before() {
    let repository = Repository::bare("metrics-start", "FROM scratch\nCOPY Dockerfile /\n");
    let job = Job::new(&repository);
    for call in ["currentScopes", "findTask", "listArtifacts", "task"] {
        job.taskcluster.fault(Fault::hang(call).times(u32::MAX));
    }
    let mut environment = job.signing_environment();
    environment.insert("PROJECT".to_owned(), "try".to_owned());
    let mut arrived = Vec::new();
    let finished = program(["run"], environment).finish_with(|process| {
        let limit = Instant::now() + Duration::from_mins(1);
        while job.taskcluster.calls().len() < 5 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        arrived = job.taskcluster.calls().into_iter().map(|call| (call.name, call.path, call.status)).collect();
        let killed = std::process::Command::new("kill").args(["-TERM", &process.to_string()]).status();
        assert!(killed.unwrap().success());
    });
    finished.assert_fails(143, &["looking the image up"]);
    arrived.sort();
    assert!(arrived.iter().all(|(_, _, status)| status.is_none()), "none was answered: {arrived:?}");
    let names: Vec<_> = arrived.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["currentScopes", "findTask", "findTask", "listArtifacts", "task"]);
    let (central, own) = (&arrived[1].1, &arrived[2].1);
    for (path, project) in [(central, "mozilla-central"), (own, "try")] {
        assert!(path.contains(&format!("docker.images.v1.{project}.metrics-start.hash.")), "{path}");
    }
    assert_eq!(job.call_names().len(), 5, "nothing else was requested");
    assert!(!finished.stderr.contains("engine"), "nothing was started: {}", finished.stderr);
}

#[test]
fn an_image_of_the_central_project_is_not_built_again() {
    if !engine() {
        return;
    }
    let mut job = Job::new(&Repository::new("metrics-central", "RUN echo made > /made\n"));
    job.run().assert_succeeds();
    let scope = format!("index:insert-task:docker.images.v1.try.{}.*", job.name);
    let central = std::mem::replace(&mut job.claim, job.taskcluster.create_task(TaskSpec::scopes([scope])));
    let finished = job.run_with([("PROJECT", "try")]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains(&format!("leads to task {}", central.task_id)), "{}", finished.stderr);
    assert!(!finished.stderr.contains("build |"), "{}", finished.stderr);
    let of_try = |tail: &str| job.taskcluster.index_entry(&job.namespace(tail).replace(".mozilla-central.", ".try."));
    for tail in ["latest", "pushdate.2015.12-09-123456"] {
        assert_eq!(of_try(tail).unwrap()["taskId"], json!(central.task_id), "{tail} of this push");
    }
    assert_eq!(of_try(&format!("hash.{}", job.hash)), None, "who looks for it finds it where it is");
    job.assert_engine_is_clean();
}
