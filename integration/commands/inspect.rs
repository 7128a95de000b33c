//! `inspect` of a real image: of its archive, and of the same image in the engine.

use serde_json::{Value, json};

use crate::harness::{Job, Repository, docker_output, engine, path, program};

fn inventory(arguments: &[&str]) -> Value {
    let finished = program(["inspect", "--json"].into_iter().chain(arguments.iter().copied()), []).finish();
    finished.assert_succeeds();
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn an_archive_and_an_image_of_the_engine_show_the_same_waste() {
    if !engine() {
        return;
    }
    let steps = "RUN head -c 100000 /dev/zero > /big; mkdir /d; head -c 50000 /dev/zero > /d/x\nRUN echo small > /big\nRUN rm -r /d\n";
    let job = Job::new(&Repository::new("inspect", &format!("{steps}ENV TOKEN=hush\nUSER 7\n")));
    job.run().assert_succeeds();
    let archive = job.taskcluster.artifact_path(&job.claim.task_id, 0, "public/image.tar").expect("the image");
    let of_archive = inventory(&[path(&archive)]);

    let layers = of_archive["layers"].as_array().unwrap();
    let last = layers.len();
    let step = |number: usize| layers[last - number]["step"].as_str().unwrap().to_owned();
    assert!(step(3).starts_with("RUN head -c 100000"), "{}", step(3));
    assert_eq!((step(2), step(1)), ("RUN echo small > /big".to_owned(), "RUN rm -r /d".to_owned()));
    assert_eq!(layers[last - 3]["visible"], 0, "nothing of that step is left");
    let wasted = json!([
        { "path": "big", "bytes": 100_000, "by": "overwritten", "layer": last - 1 },
        { "path": "d", "bytes": 50_000, "by": "deleted", "layer": last },
    ]);
    assert_eq!((&of_archive["wasted"]["bytes"], &of_archive["wasted"]["paths"]), (&json!(150_000), &wasted));
    let configuration = &of_archive["configuration"];
    assert_eq!(configuration["user"], "7");
    assert!(configuration["variables"].as_array().unwrap().contains(&json!("TOKEN")), "{configuration}");
    assert!(!of_archive.to_string().contains("hush"), "values can be secrets");

    let loaded = docker_output(&["load", "--input", path(&archive)]);
    let tag = loaded.trim_start_matches("Loaded image: ");
    let of_engine = inventory(&["--local", tag]);
    docker_output(&["rmi", "--force", tag]);
    for part in ["layers", "wasted", "largestFiles", "largestDirectories", "files", "packages"] {
        assert_eq!(of_engine[part], of_archive[part], "{part}");
    }

    let shown = program(["inspect", path(&archive)], []).finish();
    shown.assert_succeeds();
    assert!(shown.stdout.contains("Wasted: 146.48 KiB; "), "{}", shown.stdout);
    assert!(shown.stdout.contains("\n   97.66 KiB  big, overwritten in layer "), "{}", shown.stdout);
    job.assert_engine_is_clean();
}

#[test]
fn what_cannot_be_inspected_is_named() {
    program(["inspect", "/dev/null"], []).finish().assert_fails(10, &["/dev/null", "image-worker check"]);
    program(["inspect", "/nowhere"], []).finish().assert_fails(2, &["cannot read /nowhere"]);
    program(["inspect"], []).finish().assert_fails(2, &["<FILE|--local <IMAGE>>"]);
    if engine() {
        let unknown = program(["inspect", "--local", "image-worker-test/nothing:1"], []).finish();
        unknown.assert_fails(10, &["the engine has no image image-worker-test/nothing:1"]);
    }
}
