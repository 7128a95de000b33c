//! `hash` and `context` as scripts call them: the answer alone on stdout, the same as that of the real tools.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use image_worker::context::HashScheme;
use serde_json::{Value, json};

use crate::context::hash_conformance::images;
use crate::harness::{Repository, path, program};

#[test]
fn the_given_trees_have_the_hashes_of_the_real_tools() {
    let (root, images) = images();
    for (name, image) in images {
        let directory = root.path().join("testing/docker").join(&name);
        let args: Vec<String> = image.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let args: Vec<&str> = args.iter().flat_map(|arg| ["--arg", arg.as_str()]).collect();
        for (scheme, expected) in [("tar", image.tar), ("contents", image.contents)] {
            let fixed = ["hash", path(&directory), "--root", path(root.path()), "--scheme", scheme];
            let finished = program(fixed.into_iter().chain(args.iter().copied()), []).finish();
            assert_eq!(finished.stdout, format!("{expected}\n"), "{name}, scheme {scheme}: {}", finished.stderr);
            assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
        }
        let file = root.path().join("context.tar.gz");
        let fixed = ["context", path(&directory), "--root", path(root.path()), "-o", path(&file)];
        let finished = program(fixed.into_iter().chain(args), []).finish();
        assert_eq!(finished.stdout, format!("{}\n", image.tar), "{name}: {}", finished.stderr);
    }
}

#[test]
fn both_subcommands_take_the_scheme_and_a_file() {
    let (root, images) = images();
    let (hash, context) = (root.path().join("hash"), root.path().join("context.tar.gz"));
    for (subcommand, out) in [("hash", &hash), ("context", &context)] {
        let directory = root.path().join("testing/docker/plain");
        let rest = ["--root", path(root.path()), "--scheme", "contents", "-o", path(out)];
        let finished = program([subcommand, path(&directory)].into_iter().chain(rest), []).finish();
        assert_eq!(finished.stdout, format!("{}\n", images["plain"].contents), "{subcommand}: {}", finished.stderr);
    }
    assert_eq!(std::fs::read_to_string(hash).unwrap().trim(), images["plain"].contents.to_string());
    assert!(std::fs::read(context).unwrap().starts_with(&[0x1f, 0x8b]), "a gzip file");
}

#[test]
fn arguments_come_from_docker_build_args_too_and_flags_win() {
    let (root, images) = images();
    let image = &images["args"];
    let directory = root.path().join("testing/docker/args");
    let arguments = ["hash", path(&directory), "--root", path(root.path()), "--arg", "PY=3.11"];
    let wrong_py = serde_json::json!({ "BASE": image.args["BASE"], "PY": "2.7" });
    let environment = [("DOCKER_BUILD_ARGS".to_owned(), wrong_py.to_string())];
    let finished = program(arguments, environment).finish();
    assert_eq!(finished.stdout.trim(), image.tar.to_string(), "{}", finished.stderr);
}

#[test]
fn a_context_is_the_same_file_every_time_and_never_half_there() {
    let repository = Repository::bare("again", "FROM scratch\n");
    let (first, hash) = repository.context();
    let (second, _) = repository.context();
    assert_eq!(first, second);

    let out = repository.root.path().join("no/such/directory/context.tar.gz");
    let finished = program(["context", path(&repository.directory()), "-o", path(&out)], []).finish();
    finished.assert_fails(2, &["cannot write", path(&out), "no such directory"]);

    let target = repository.root.path().join("context.tar.gz");
    let device = repository.directory().join("gone");
    std::os::unix::fs::symlink("/nonexistent", device).unwrap();
    let finished = program(["context", path(&repository.directory()), "-o", path(&target)], []).finish();
    finished.assert_fails(10, &["gone is a link that leads nowhere"]);
    assert_eq!(std::fs::read(target).unwrap(), first, "the earlier context is untouched; hash {hash}");
}

/// An installed taskgraph of this release, as far as `# %include-run-task` needs it; gives its directory run-task.
fn install(packages: &Path, version: &str) -> std::path::PathBuf {
    let run_task = packages.join("taskgraph/run-task");
    std::fs::create_dir_all(&run_task).unwrap();
    std::fs::create_dir(packages.join(format!("taskcluster_taskgraph-{version}.dist-info"))).unwrap();
    for file in ["run-task", "fetch-content", "hgrc", "robustcheckout.py"] {
        std::fs::write(run_task.join(file), format!("{file} {version}\n")).unwrap();
    }
    run_task
}

#[test]
fn run_task_is_included_from_the_taskgraph_that_is_named_or_the_repositorys_own() {
    let repository = Repository::bare("tester", "FROM scratch\n# %include-run-task\n");
    let requirements = repository.root.path().join("taskcluster/requirements.txt");
    std::fs::create_dir(requirements.parent().unwrap()).unwrap();
    std::fs::write(&requirements, "taskcluster-taskgraph==14.0.0 \\\n").unwrap();
    let directory = repository.directory();
    let hash = |more: &[&str], variables: Vec<(String, String)>| {
        program(["hash", path(&directory)].into_iter().chain(more.iter().copied()), variables).finish()
    };

    let none = hash(&[], vec![("PATH".to_owned(), path(&directory).to_owned())]);
    let expected = ["line 2: `# %include-run-task` needs", "requirements.txt pins 14.0.0", "--run-task"];
    none.assert_fails(2, &expected);
    none.assert_fails(2, &["pip install taskcluster-taskgraph==14.0.0"]);
    assert!(hash(&["--scheme", "contents"], vec![]).code == 0, "nothing is included in the scheme of 2015");

    let own = install(&repository.root.path().join("third_party/python/taskcluster_taskgraph"), "15.0.0");
    let first = hash(&[], vec![]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let log = format!("`# %include-run-task` takes the files of taskgraph 15.0.0 in {}\n", own.display());
    assert!(first.stderr.ends_with(&log) && first.stderr.lines().count() == 1, "{}", first.stderr);

    let other = install(&repository.root.path().join("packages"), "14.0.0");
    let by_flag = hash(&["--run-task", path(&other)], vec![]);
    assert_eq!((by_flag.code, by_flag.stderr.lines().count()), (0, 1), "{}", by_flag.stderr);
    let by_variable = hash(&[], vec![("IMAGE_WORKER_RUN_TASK".to_owned(), path(&other).to_owned())]);
    assert_eq!(by_variable.stdout, by_flag.stdout);
    assert_ne!(first.stdout, by_flag.stdout);
    hash(&["--run-task", path(&directory)], vec![]).assert_fails(2, &["needs run-task, and ", "--run-task"]);

    // Every subcommand that makes a context has the same one, and logs once where the files are from.
    let tree = program(["tree", "--root", path(repository.root.path()), "--json"], []).finish();
    let report: Value = serde_json::from_str(&tree.stdout).unwrap();
    assert_eq!(report["images"][0]["contextHash"], first.stdout.trim(), "{}", tree.stderr);
    assert_eq!(tree.stderr.matches("takes the files of").count(), 1, "{}", tree.stderr);
    assert_eq!(repository.context().1, first.stdout.trim());
}

#[test]
fn json_names_the_scheme_and_the_file() {
    let repository = Repository::bare("hash-json", "FROM scratch\n");
    let directory = repository.directory();
    let answer = |arguments: &[&str]| -> Value {
        let finished = program(arguments.iter().copied().chain(["--json"]), []).finish();
        finished.assert_succeeds();
        serde_json::from_str(&finished.stdout).unwrap()
    };
    for scheme in [HashScheme::Tar, HashScheme::Contents] {
        let hash = answer(&["hash", path(&directory), "--scheme", &scheme.to_string()]);
        assert_eq!(hash, json!({ "hash": repository.hash(scheme), "scheme": scheme }));
    }
    let file = repository.root.path().join("hash-json.tar.gz");
    let context = answer(&["context", path(&directory), "-o", path(&file)]);
    assert_eq!(context, json!({ "hash": repository.hash(HashScheme::Tar), "file": file }));
}

#[test]
fn different_mistakes_get_different_messages() {
    let repository = Repository::bare("mistakes", "FROM scratch\n# %include none\n");
    let hash = |arguments: &[&str]| program(["hash"].into_iter().chain(arguments.iter().copied()), []).finish();
    let directory = repository.directory();
    hash(&[path(&directory)]).assert_fails(10, &["Dockerfile", "line 2", "%include none"]);
    hash(&[path(repository.root.path())]).assert_fails(2, &["has no Dockerfile"]);
    let nowhere = Path::new("/proc/self");
    hash(&[path(nowhere)]).assert_fails(2, &["has no Dockerfile"]);
    hash(&[]).assert_fails(2, &["wrong usage", "not provided: <NAME|PATH>;"]);
    std::fs::write(directory.join("Dockerfile"), "FROM scratch\n# %ARG\n").unwrap();
    hash(&[path(&directory)]).assert_fails(10, &["line 2", "`# %ARG` names no argument", "write `# %ARG NAME`"]);
    let here = |typed: &str| {
        let mut program = program(["hash", typed], []);
        program.command.current_dir(repository.root.path());
        program.finish()
    };
    here("nope").assert_fails(2, &["unknown image nope"]);
    here("./nope").assert_fails(2, &["nope is no directory"]);
    here("./testing/docker/mistakes/Dockerfile").assert_fails(2, &["Dockerfile is no directory"]);
    here("UPPER").assert_fails(2, &["\"UPPER\" is not an image name: expected lower-case letters"]);
}

/// As root, which may read everything, the program runs as a user who may not.
#[test]
fn what_may_not_be_read_is_not_reported_as_missing() {
    let repository = Repository::bare("secret", "FROM scratch\n");
    let (root, directory) = (repository.root.path(), repository.directory());
    // Test binaries can be where only their owner may go.
    let binary = root.join("image-worker");
    std::fs::copy(env!("CARGO_BIN_EXE_image-worker"), &binary).unwrap();
    let is_root = std::fs::metadata(root).unwrap().uid() == 0;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(root, 0o755);
    let unprivileged = |arguments: &[&str]| {
        let mut program = program([], []);
        program.command = std::process::Command::new(&binary);
        program.command.args(arguments).env_clear().current_dir(root);
        if is_root {
            program.command.uid(65534).gid(65534);
        }
        program.finish()
    };
    for (unreadable, usual) in [(&directory, 0o755), (&directory.join("Dockerfile"), 0o644)] {
        mode(unreadable, 0);
        for image in ["secret", "./testing/docker/secret"] {
            let hash = unprivileged(&["hash", image]);
            hash.assert_fails(10, &["cannot read", "secret/Dockerfile"]);
            assert!(hash.stderr.contains("Permission denied"), "{}", hash.stderr);
        }
        let tree = unprivileged(&["tree"]);
        assert!(
            tree.code == 10 && tree.stdout.contains("Dockerfile; it must be there and readable: Permission denied"),
            "{tree:?}"
        );
        mode(unreadable, usual);
    }
    unprivileged(&["hash", "secret"]).assert_succeeds();
}
