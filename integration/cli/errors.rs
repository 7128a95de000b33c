//! The last line of runs that fail before anything begins: which thing is wrong, and a hint.

use crate::commands::tree::sample;
use crate::harness::{path, program};

/// The environment of an image task, in which each case changes something. Nothing is called before it is complete.
const TASK: [(&str, &str); 10] = [
    ("TASKCLUSTER_PROXY_URL", "http://127.0.0.1:9"),
    ("TASK_ID", "fN1SbArXTPSVFNUvaOlinQ"),
    ("RUN_ID", "0"),
    ("TASKCLUSTER_ROOT_URL", "https://tc.example.com"),
    ("IMAGE_NAME", "builder"),
    ("PROJECT", "try"),
    ("PUSHDATE", "20151209123456"),
    ("CONTEXT_TASK_ID", "AAAAAAAAQAqAAAAAAAAAAA"),
    ("CONTEXT_PATH", "public/docker-contexts/builder.tar.gz"),
    ("HASH", "abababababababababababababababababababababababababababababababab"),
];

#[test]
fn all_that_is_missing_or_wrong_is_named_at_once() {
    let environment = TASK.into_iter().filter(|(name, _)| !["IMAGE_NAME", "HASH", "PUSHDATE"].contains(name));
    let environment = environment.chain([("RUN_ID", "first"), ("MAX_RUN_TIME", "an hour")]);
    let finished = program(["run"], environment.map(|(name, value)| (name.to_owned(), value.to_owned()))).finish();
    assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{}", finished.stderr);
    finished.error_line();
    insta::assert_snapshot!(finished.stderr);
}

#[test]
fn each_mistake_is_named_with_the_way_out() {
    let root = sample();
    let root = path(root.path());
    let builder = format!("{root}/testing/docker/builder");
    let of_a_task: &[(&str, &str)] = &[
        ("IMAGE_NAME", "No Name"),
        ("IMAGE_NAME", ""),
        ("PROJECT", "a/b"),
        ("TASK_ID", ""),
        ("TASK_ID", "no-task"),
        ("RUN_ID", "first"),
        ("PUSHDATE", "yesterday"),
        ("PUSHDATE", ""),
        ("CONTEXT_TASK_ID", ""),
        ("CONTEXT_PATH", ""),
        ("CONTEXT_URL", "ftp://example.com/x"),
        ("HASH", "1234"),
        ("HASH", ""),
        ("HASH_SCHEME", "md5"),
        ("CONTEXT_MAX_BYTES", "2G"),
        ("CONTEXT_MAX_ENTRIES", "-1"),
        ("MAX_RUN_TIME", "an hour"),
        ("MAX_RUN_TIME", "0"),
        ("DOCKER_BUILD_ARGS", "A=b"),
        ("DOCKER_BUILD_SECRETS", "npm"),
        ("DOCKER_IMAGE_ZSTD_LEVEL", "40"),
        ("IMAGE_WORKER_BUILDER", "kaniko"),
        ("IMAGE_WORKER_ENGINE", "kaniko"),
        ("IMAGE_WORKER_TRIES", "0"),
        ("IMAGE_WORKER_CALL_TIMEOUT", "soon"),
        ("IMAGE_WORKER_SILENCE", "0"),
        ("IMAGE_WORKER_PUBLISH", "nowhere"),
        ("IMAGE_WORKER_LOG_FORMAT", "xml"),
        ("IMAGE_WORKER_PROGRESS", "fancy"),
        ("IMAGE_WORKER_CONFIG", "/nowhere/image-worker.toml"),
        ("SOURCE_DATE_EPOCH", "today"),
        ("CACHE_FROM", "yesterday"),
        ("TARGET_ARCH", "s390x"),
        ("PARENT_TASK_ID", "no-task"),
        ("ARTIFACT_NAME", "/image.tar"),
        ("ARTIFACT_EXPIRES", "in a year"),
        ("ARTIFACT_STORAGE", "tape"),
        ("EXPORT", "tarball"),
        ("INDEX", "index..x"),
        ("INDEX_HASH", "1234"),
        ("TASKCLUSTER_ROOT_URL", ""),
        ("TASKCLUSTER_PROXY_URL", ""),
        ("TASKCLUSTER_PROXY_URL", "proxy"),
        ("DOCKER_HOST", "ssh://somebody@example.com"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CONTEXT", "far"),
    ];
    let others: &[&[&str]] = &[
        &[],
        &["biuld"],
        &["run", "--buidler", "x"],
        &["run"],
        &["run", "--dry-run"],
        &["run", "--dry-run", "--image-name", "builder", "--context", "/nowhere"],
        &["run", "--dry-run", "--context", &builder, "--root", root, "--hash", "1234"],
        &["replay", "no-task"],
        &["rerun", "no-task"],
        &["hash", "nosuch", "--root", root],
        &["hash", "/nowhere"],
        &["lookup", "nosuch", "--root", root, "--project", "try", "--root-url", "https://tc.example.com"],
        &["lookup", "builder", "--root", root],
        &["decide", "/nowhere/graph.json", "--root", root, "--project", "try", "--root-url", "https://tc.example.com"],
        &["build", "nosuch", "--root", root],
        &["push", "builder", "--root", root],
        &["tree", "--root", root, "--json", "--dot"],
        &["tree", "--root", root, "--images-dir", "nowhere"],
        &["load"],
        &["check", "/nowhere/image.tar"],
        &["check", "/dev/null"],
    ];
    let cases = others.iter().map(|arguments| (*arguments, Vec::new(), String::new()));
    let cases = cases.chain(of_a_task.iter().map(|(name, value)| {
        let environment = TASK.into_iter().filter(|(other, _)| other != name).chain([(*name, *value)]);
        (&["run"][..], environment.collect::<Vec<_>>(), format!("{name}={value:?} "))
    }));
    let mut all = String::new();
    for (arguments, environment, shown) in cases {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let finished = program(arguments.iter().copied(), environment).finish();
        assert_ne!(finished.code, 0, "{shown}{arguments:?}: {}", finished.stdout);
        let line =
            format!("$ {shown}image-worker {}\n{}: {}\n\n", arguments.join(" "), finished.code, finished.error_line());
        all += &line.replace(root, "[ROOT]");
    }
    insta::assert_snapshot!(all);
}
