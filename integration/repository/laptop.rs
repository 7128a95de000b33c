//! A laptop gives the same results as CI: one hash for an image on every machine and in every directory, the same refusals,
//! the parent that CI would take, and nothing on the way that changes the next hash.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use stand_in::{Options, StandIn};
use tempfile::TempDir;

use crate::commands::decide::fixture::{GIVEN, task_id};
use crate::harness::{
    Finished, Job, PROJECT, Program, Repository, assert_engine_is_clean, container_output, docker, docker_output,
    engine, installed, path, program,
};

const SHELL: &str = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";

/// A taskgraph project: an image with arguments and a definition of its own, a child, a grandchild.
struct Project {
    root: TempDir,
    mark: &'static str,
}

impl Project {
    /// Its images' names begin with the mark.
    fn new(mark: &'static str) -> Self {
        let project = Self { root: TempDir::with_prefix("repository-").unwrap(), mark };
        std::fs::create_dir(project.at(".hg")).unwrap();
        let docker = |file: &str| format!("taskcluster/docker/{file}");
        let busybox = format!("COPY topsrcdir/tools/busybox /bin/busybox\n{SHELL}");
        let base = format!(
            "# %ARG FLAVOUR\nFROM scratch\nENV TEST={mark}\n# %include tools/busybox\n{busybox}RUN echo $FLAVOUR > /flavour\n"
        );
        project.write(&docker("shared/Dockerfile"), &base);
        let child = format!("FROM $DOCKER_IMAGE_PARENT\n{SHELL}RUN echo child >> /flavour\n");
        project.write(&docker(&format!("{mark}-child/Dockerfile")), &child);
        let grandchild = format!(
            "ARG DOCKER_IMAGE_PARENT={mark}-child\nFROM $DOCKER_IMAGE_PARENT\n{SHELL}CMD [\"/bin/busybox\", \"cat\", \"/flavour\"]\n"
        );
        project.write(&docker(&format!("{mark}-grandchild/Dockerfile")), &grandchild);
        let kind = format!(
            "tasks:\n  {mark}-base: {{definition: shared, args: {{FLAVOUR: sweet}}}}\n  {mark}-child: {{parent: {mark}-base}}\n  {mark}-grandchild: {{}}\n"
        );
        project.write("taskcluster/kinds/docker-image/kind.yml", &kind);
        std::fs::create_dir_all(project.at("tools")).unwrap();
        std::fs::copy("/bin/busybox", project.at("tools/busybox")).expect("busybox-static; run scripts/test");
        project
    }

    fn at(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    fn write(&self, file: &str, content: &str) {
        std::fs::create_dir_all(self.at(file).parent().unwrap()).unwrap();
        std::fs::write(self.at(file), content).unwrap();
    }

    fn names(&self) -> [String; 3] {
        ["base", "child", "grandchild"].map(|name| format!("{}-{name}", self.mark))
    }

    /// Calls the program in a directory of the project.
    fn call(&self, directory: &str, arguments: &[&str]) -> Finished {
        call(&self.at(directory), arguments, &[])
    }
}

fn call(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
    started(directory, arguments, environment).finish()
}

fn started(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Program {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut program = program(arguments.iter().copied(), environment);
    program.command.current_dir(directory);
    program
}

fn json_of(finished: &Finished) -> Value {
    finished.assert_succeeds();
    serde_json::from_str(&finished.stdout).unwrap()
}

fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn remove_images(mark: &str) {
    let names = docker_output(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut ours: Vec<_> = names.lines().filter(|name| name.contains(mark) && !name.contains("<none>")).collect();
    ours.sort_by_key(|name| std::cmp::Reverse(name.len()));
    docker(&[&["rmi", "--force"][..], &ours].concat());
}

#[test]
fn an_image_has_one_hash_in_every_directory() {
    let project = Project::new("laptop-hash");
    let [base, child, grandchild] = project.names();
    let task = |image: &str| {
        let image = format!("{{{{#task_id_for_image}}}}{image}{{{{/task_id_for_image}}}}");
        json!({ "taskId": task_id(&image), "task": { "payload": { "image": image } } })
    };
    let graph = json!({ "tasks": [task(&base), task(&child), task(&grandchild)] });
    project.write("graph.json", &graph.to_string());
    let decide = ["decide", "../graph.json", "--offline", "--json", "--contexts", "../contexts", "--project", "try"];
    let given =
        ["--value", "owner=a@example.com", "--value", "revision=abcdef", "--value", "source=https://example.com"];
    let decided = project.call("tools", &[&decide[..], &GIVEN, &given].concat());
    let decided = json_of(&decided);
    let mut index_hashes = BTreeMap::new();
    for image in decided["images"].as_array().unwrap() {
        let name = image["name"].as_str().unwrap();
        index_hashes.insert(name.to_owned(), image["hash"].clone());
        let context = image["contextHash"].as_str().unwrap();
        for directory in ["", "tools", "taskcluster/docker/shared"] {
            let hash = project.call(directory, &["hash", name]);
            assert_eq!(hash.stdout, format!("{context}\n"), "{name} in {directory:?}: {}", hash.stderr);
        }
        let file = project.at("context.tar.gz");
        let packed = project.call("tools", &["context", name, "-o", path(&file)]);
        assert_eq!(packed.stdout, format!("{context}\n"), "{}", packed.stderr);
        let definition = if name == base { "shared" } else { name };
        let elsewhere = tempfile::tempdir().unwrap();
        let by_path = project.at("taskcluster/docker").join(definition);
        let hash = call(elsewhere.path(), &["hash", path(&by_path)], &[]);
        assert_eq!(hash.stdout, format!("{context}\n"), "by path: {}", hash.stderr);
        let hash = call(&by_path, &["hash", "."], &[]);
        assert_eq!(hash.stdout, format!("{context}\n"), "in the directory: {}", hash.stderr);
    }
    assert_eq!(index_hashes.len(), 3);
    // An argument on the command line wins over kind.yml.
    let other = project.call("", &["hash", &base, "--arg", "FLAVOUR=sour"]);
    assert_ne!(other.stdout, project.call("", &["hash", &base]).stdout);
    let unknown = project.call("tools", &["hash", "laptop-hash-bass"]);
    unknown.assert_fails(2, &["unknown image laptop-hash-bass", &base]);

    if !engine() {
        return;
    }
    let built = json_of(&project.call("tools", &["build", &grandchild, "--with-parents", "--json"]));
    for image in built.as_array().unwrap() {
        assert_eq!(image["hash"], index_hashes[image["name"].as_str().unwrap()]);
    }
    for name in [&base, &grandchild] {
        let output = project.at("out");
        let run = ["run", "--dry-run", name, "--json", "--output", path(&output)];
        let outcome = json_of(&project.call("taskcluster/docker", &run));
        assert_eq!(outcome["tag"], format!("{name}:{}", index_hashes[name].as_str().unwrap()));
    }
    remove_images("laptop-hash");
}

#[test]
fn a_dry_runs_parent_is_built_and_never_an_old_one_of_its_name() {
    if !engine() {
        return;
    }
    let project = Project::new("laptop-parent");
    let [base, child, grandchild] = project.names();
    // An image that was built long ago, and that no registry has.
    json_of(&project.call("", &["build", &child, "--with-parents", "--json"]));
    project.write(
        &format!("taskcluster/docker/{child}/Dockerfile"),
        &format!("FROM $DOCKER_IMAGE_PARENT\n{SHELL}RUN echo new >> /flavour\n"),
    );
    let id = |name: &str| docker_output(&["image", "inspect", "--format", "{{.Id}}", name]);
    let olds = [&base, &child].map(|name| format!("{name}:latest"));
    let ids: BTreeMap<_, _> = olds.iter().map(|name| (name.clone(), id(name))).collect();
    let output = project.at("out");
    let run = ["run", "--dry-run", &grandchild, "--output", path(&output)];
    let finished = project.call("tools", &run);
    finished.assert_succeeds();
    // It has a name of the dry run's own: an image with another name stays what it is.
    assert!(finished.stderr.contains(&format!("the parent {child} is {child}:")), "{}", finished.stderr);
    assert!(!finished.stderr.contains(&format!("is {child}:latest")), "{}", finished.stderr);
    for name in &olds {
        assert_eq!(id(name), ids[name], "{name}");
    }
    // The next one finds it.
    let again = project.call("tools", &run);
    again.assert_succeeds();
    assert!(again.stderr.contains("-dry-run is there already"), "{}", again.stderr);
    docker_output(&["load", "--input", path(&output.join("image.tar"))]);
    assert_eq!(container_output(&[finished.stdout.trim()]), "sweet\nnew");
    assert_eq!(std::fs::read_to_string(output.join(".gitignore")).unwrap(), "*\n");
    // With a deployment it is CI's, and CI has none.
    let taskcluster = StandIn::start(Options::default());
    let root_url = [("TASKCLUSTER_ROOT_URL", taskcluster.root_url())];
    let root_url = root_url.each_ref().map(|(name, value)| (*name, value.as_str()));
    let finished = call(&project.at("tools"), &run, &root_url);
    finished.assert_fails(2, &["the index has no image of the parent", &child, PROJECT, "--parent build"]);
    let build = ["build", &grandchild, "--parent", "index"];
    call(&project.at(""), &build, &root_url).assert_fails(2, &["no image of the parent", "--parent build"]);
    project.call("", &build).assert_fails(2, &["TASKCLUSTER_ROOT_URL is not set"]);
    project
        .call("", &[&run[..], &["--parent", "ci"]].concat())
        .assert_fails(2, &["--parent: \"ci\"", "index or build"]);
    // The parent can be made, with a deployment too.
    call(&project.at(""), &[&run[..], &["--parent", "build"]].concat(), &root_url).assert_succeeds();
    remove_images("laptop-parent");
}

#[test]
fn a_parent_of_ci_is_taken_from_the_index() {
    if !engine() {
        return;
    }
    let repository = Repository::new("laptop-index-base", "RUN echo from-ci > /inherited\n");
    let mut job = Job::new(&repository);
    job.claim = job.taskcluster.create_task(Job::spec("laptop-index-base"));
    job.run().assert_succeeds();
    let directory = repository.root.path().join("testing/docker/laptop-index");
    std::fs::create_dir(&directory).unwrap();
    let dockerfile = format!(
        "ARG DOCKER_IMAGE_PARENT=laptop-index-base\nFROM $DOCKER_IMAGE_PARENT\n{SHELL}RUN cat /inherited\nCMD [\"/bin/busybox\", \"cat\", \"/inherited\"]\n"
    );
    std::fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    let root_url = job.taskcluster.root_url();
    let environment = [("TASKCLUSTER_ROOT_URL", root_url.as_str())];
    let output = repository.root.path().join("out");
    let run = ["run", "--dry-run", "laptop-index", "--project", "try", "--output", path(&output)];
    let finished = call(repository.root.path(), &run, &environment);
    finished.assert_succeeds();
    assert!(finished.stderr.contains("the parent laptop-index-base is CI's image of task"), "{}", finished.stderr);
    assert!(finished.stderr.contains("build | from-ci"), "{}", finished.stderr);
    assert_engine_is_clean("laptop-index");

    let arguments = ["build", "laptop-index", "--parent", "index", "--json"];
    let built = json_of(&call(repository.root.path(), &arguments, &environment));
    let names: Vec<_> = built.as_array().unwrap().iter().map(|image| image["name"].clone()).collect();
    assert_eq!(names, ["laptop-index"], "the parent is not built");
    assert_eq!(finished.stdout.trim(), format!("laptop-index:{}", built[0]["hash"].as_str().unwrap()));
    assert_eq!(container_output(&["laptop-index:latest"]), "from-ci");
    remove_images("laptop-index");
}

#[test]
fn what_a_task_refuses_is_refused_at_once_with_the_same_words() {
    type Variables = &'static [(&'static str, &'static str)];
    let deep = format!("{}/f", vec!["d"; 130].join("/"));
    let cases: [(&str, Variables, &str); 5] = [
        ("new\nline", &[], "has a control character"),
        (&deep, &[], "lies below more than 128 directories"),
        ("a", &[("CONTEXT_MAX_ENTRIES", "1")], "is one entry more than the 1 that a context may have"),
        ("large", &[("CONTEXT_MAX_BYTES", "20480")], "brings the context above 20480 bytes"),
        ("a", &[("CONTEXT_MAX_BYTES", "4096")], "the context has more than 4096 bytes"),
    ];
    for (file, limits, words) in cases {
        let repository = Repository::bare("laptop-refused", "FROM scratch\n");
        let file_path = repository.directory().join(file);
        std::fs::create_dir_all(file_path.parent().unwrap()).unwrap();
        std::fs::write(&file_path, vec![b'x'; if file == "large" { 30_000 } else { 1 }]).unwrap();
        let call = |arguments: &[&str], more: &[(&str, &str)]| {
            call(repository.root.path(), arguments, &[limits, more].concat())
        };
        let out = repository.root.path().join("context.tar.gz");
        call(&["hash", "laptop-refused"], &[]).assert_fails(10, &[words, "context from"]);
        call(&["context", "laptop-refused", "-o", path(&out)], &[]).assert_fails(10, &[words]);
        assert!(!out.exists());
        call(&["build", "laptop-refused"], &[]).assert_fails(10, &[words]);
        let tree = call(&["tree"], &[]);
        assert_eq!(tree.code, 10, "{}", tree.stderr);
        assert!(tree.stdout.contains(words) || tree.stderr.contains(words), "{}{}", tree.stdout, tree.stderr);
        // A task refuses such a context, made by a program that takes everything, with the same words.
        let tar = repository.root.path().join("by-tar.tar");
        let made = Command::new("tar")
            .args(["--create", "--format=gnu", "--file", path(&tar), "--directory", path(&repository.directory())])
            .args(["--blocking-factor=20", "--no-recursion", "Dockerfile", file])
            .status();
        assert!(made.unwrap().success());
        let finished = call(
            &["run", "--dry-run", "--context", path(&tar), "--project", "try"],
            &[("IMAGE_NAME", "laptop-refused")],
        );
        // Only with an engine a dry run comes so far.
        if engine() {
            finished.assert_fails(10, &[words]);
        }
    }
}

/// Who has mistyped a name need not set anything first.
#[test]
fn an_unknown_name_comes_before_a_deployment_that_is_not_set() {
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().join("taskcluster/docker/builder");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::create_dir(top.path().join(".git")).unwrap();
    std::fs::write(directory.join("Dockerfile"), "FROM scratch\n").unwrap();
    for subcommand in ["shell", "load", "lookup", "inspect"] {
        call(top.path(), &[subcommand, "biulder"], &[]).assert_fails(2, &["unknown image biulder", "mean builder?"]);
        call(top.path(), &[subcommand, "builder"], &[]).assert_fails(2, &["TASKCLUSTER_ROOT_URL is not set"]);
    }
}

/// Also for plain HTTP: the client loads them before it knows what it is for.
#[test]
fn a_machine_without_ca_certificates_is_told_where_they_come_from() {
    let top = tempfile::tempdir().unwrap();
    let none = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let asked = ["history", "builder", "--root-url", "http://127.0.0.1:9"];
    call(top.path(), &asked, &none).assert_fails(30, &["ca-certificates", "SSL_CERT_FILE"]);
}

#[test]
fn an_image_directory_outside_of_checkouts_needs_no_root() {
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().join("alone");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("Dockerfile"), "FROM scratch\nENV TEST=laptop-alone\nCOPY Dockerfile /\n").unwrap();
    let hash = call(top.path(), &["hash", "alone"], &[]);
    hash.assert_succeeds();
    assert_eq!(call(&directory, &["hash", "."], &[]).stdout, hash.stdout);
    let with_root = ["hash", "alone", "--root", path(top.path()), "--images-dir", "."];
    assert_eq!(call(top.path(), &with_root, &[]).stdout, hash.stdout);
    call(top.path(), &["hash", "nobody"], &[])
        .assert_fails(2, &["\"nobody\" names an image of a checkout", "--root DIR"]);
    call(top.path(), &["hash", "alone", "--scheme", "contents"], &[]).assert_fails(2, &["IMAGE_WORKER_ROOT"]);
    if engine() {
        let run = call(top.path(), &["run", "--dry-run", "--context", "alone", "--json"], &[]);
        let outcome = json_of(&run);
        assert_eq!(outcome["tag"], format!("alone:{}", hash.stdout.trim()));
        assert!(run.stderr.contains("PROJECT is not set"), "{}", run.stderr);
    }
    std::fs::write(directory.join("Dockerfile"), "FROM scratch\n# %include tools/x\n").unwrap();
    for arguments in [&["hash", "alone"][..], &["context", "alone", "-o", "c.tar.gz"], &["run", "--dry-run", "./alone"]]
    {
        if arguments[0] != "run" || engine() {
            call(top.path(), arguments, &[]).assert_fails(2, &["line 2", "# %include tools/x", "--root DIR"]);
        }
    }
}

#[test]
fn what_is_written_stays_out_of_the_image_directory() {
    let repository = Repository::bare("laptop-inside", "FROM scratch\n");
    let directory = repository.directory();
    let inside = directory.join("out/deep");
    let refused = [path(&inside), path(&directory), "is inside the image directory"];
    let hash = repository.hash(image_worker::context::HashScheme::Tar);
    for arguments in [
        &["run", "--dry-run", "laptop-inside", "--output", path(&inside)][..],
        &["run", "--dry-run", "--context", path(&directory), "--output", path(&inside)],
        &["hash", "laptop-inside", "-o", path(&inside)],
        &["context", "laptop-inside", "-o", path(&inside)],
    ] {
        call(repository.root.path(), arguments, &[]).assert_fails(2, &refused);
    }
    // From inside the image directory, the usual place is in it.
    call(&directory, &["run", "--dry-run", "."], &[]).assert_fails(2, &["image-worker-out", "--output"]);
    assert_eq!(repository.hash(image_worker::context::HashScheme::Tar), hash, "nothing was written");
    call(repository.root.path(), &["run", "laptop-inside"], &[]).assert_fails(2, &["laptop-inside", "--dry-run"]);
    let both = ["run", "--dry-run", "laptop-inside", "--context", "."];
    call(repository.root.path(), &both, &[]).assert_fails(2, &["--context: ", "laptop-inside", "which of them"]);
    let arg = ["run", "--dry-run", "--arg", "A=1"];
    call(repository.root.path(), &arg, &[]).assert_fails(2, &["--arg", "DOCKER_BUILD_ARGS"]);
}

#[test]
fn what_is_written_stays_out_of_all_that_contexts_are_made_from() {
    let repository = Repository::bare("laptop-included", "FROM scratch\n# %include tools\n");
    let root = repository.root.path();
    let child = root.join("testing/docker/laptop-including");
    for (directory, file, text) in [
        (root.join("tools"), "x", "x"),
        (child.clone(), "Dockerfile", "ARG DOCKER_IMAGE_PARENT=laptop-included\nFROM $DOCKER_IMAGE_PARENT\n"),
    ] {
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join(file), text).unwrap();
    }
    let graph = json!({ "tasks": [{
        "taskId": task_id("a"),
        "task": { "payload": { "image": "{{#task_id_for_image}}laptop-including{{/task_id_for_image}}" } },
    }] });
    std::fs::write(root.join("graph.json"), graph.to_string()).unwrap();
    let before = call(root, &["hash", "laptop-included"], &[]).stdout;
    for (place, whose) in [
        ("tools/new", "/tools, which the Dockerfile in "),
        ("testing/docker/laptop-included/new", "is inside the image directory "),
        ("testing/docker/laptop-including/new", "is inside the image directory "),
    ] {
        let words = [whose, "would become a part of the context", "name another place"];
        // What belongs to the parent goes into the child, too.
        for arguments in [
            &["run", "--dry-run", "laptop-including", "--output", place][..],
            &["run", "--dry-run", "laptop-including", "--publish", "payload", "--output", place],
            &["hash", "laptop-including", "-o", place],
            &["context", "laptop-including", "-o", place],
            &[&["decide", "graph.json", "--offline", "--contexts", place][..], &GIVEN].concat(),
            &[&["decide", "graph.json", "--offline", "-o", place][..], &GIVEN].concat(),
        ] {
            call(root, arguments, &[]).assert_fails(2, &words);
        }
    }
    // A link brings a file from outside in.
    std::fs::write(root.join("outside"), "").unwrap();
    std::os::unix::fs::symlink("../../../outside", root.join("testing/docker/laptop-included/link")).unwrap();
    let linked = call(root, &["hash", "laptop-included"], &[]).stdout;
    for subcommand in ["hash", "context"] {
        let words = ["outside is where the link ", "/laptop-included/link in the context leads", "name another place"];
        call(root, &[subcommand, "laptop-included", "-o", "outside"], &[]).assert_fails(2, &words);
    }
    assert_eq!(call(root, &["hash", "laptop-included"], &[]).stdout, linked, "nothing was written");
    std::fs::remove_file(root.join("testing/docker/laptop-included/link")).unwrap();
    assert_eq!(call(root, &["hash", "laptop-included"], &[]).stdout, before, "nothing was written");
    call(root, &["context", "laptop-included", "-o", "testing/docker/laptop-including/c.tar.gz"], &[])
        .assert_succeeds();
}

#[test]
fn a_dash_is_no_file() {
    let repository = Repository::bare("laptop-dash", "FROM scratch\n");
    let root = repository.root.path();
    let hash = call(root, &["hash", "laptop-dash", "-o", "-"], &[]);
    hash.assert_succeeds();
    assert_eq!(hash.stdout.trim(), repository.hash(image_worker::context::HashScheme::Tar));
    call(root, &["context", "laptop-dash", "-o", "-"], &[])
        .assert_fails(2, &["--out: stdout has the hash", "/dev/stdout"]);
    let listed = ["context", "laptop-dash", "--list"];
    call(root, &[&listed[..], &["-o", "x"]].concat(), &[]).assert_fails(2, &["--out: --list", "leave one of them out"]);
    call(root, &listed, &[("IMAGE_WORKER_OUT", "x")]).assert_fails(2, &["IMAGE_WORKER_OUT: --list"]);
    std::fs::write(root.join("graph.json"), "{\"tasks\": []}").unwrap();
    let decided = call(root, &["decide", "graph.json", "--offline", "-o", "-"], &[]);
    assert_eq!(json_of(&decided), json!({ "tasks": [] }));
    assert!(!root.join("-").exists() && !root.join("x").exists());
}

#[test]
fn a_parent_of_another_tree_is_named_and_never_looked_for() {
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().join("stray");
    std::fs::create_dir(&directory).unwrap();
    let write = |dockerfile: &str| std::fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    let from = "FROM $DOCKER_IMAGE_PARENT\nENV TEST=laptop-stray\n";
    for default in ["laptop-stray-base", "laptop-stray-base:latest"] {
        write(&format!("ARG DOCKER_IMAGE_PARENT={default}\n{from}"));
        let run = call(top.path(), &["run", "--dry-run", "stray"], &[]);
        let ways = [
            "`FROM $DOCKER_IMAGE_PARENT` is laptop-stray-base",
            "--root",
            "--arg DOCKER_IMAGE_PARENT=IMAGE",
            "PARENT_TASK_ID",
        ];
        run.assert_fails(2, &ways);
        assert!(run.stderr.contains("docker.io/library/laptop-stray-base"), "{}", run.stderr);
    }
    write(from);
    call(top.path(), &["run", "--dry-run", "stray"], &[]).assert_fails(2, &["names no image", "PARENT_TASK_ID"]);
    if engine() {
        write(&format!("ARG DOCKER_IMAGE_PARENT=laptop-stray-base\n{from}COPY Dockerfile /\n"));
        let given = ["run", "--dry-run", "stray", "--arg", "DOCKER_IMAGE_PARENT=scratch"];
        call(top.path(), &given, &[]).assert_succeeds();
        // A registry's.
        write(&format!("ARG DOCKER_IMAGE_PARENT=127.0.0.1:1/laptop-stray:1\n{from}COPY Dockerfile /\n"));
        let pulled = call(top.path(), &["run", "--dry-run", "stray"], &[]);
        assert!(pulled.stderr.contains("127.0.0.1:1/laptop-stray"), "{}", pulled.stderr);
    }
}

#[test]
fn packages_that_are_not_there_are_reported_and_no_hash_is_invented() {
    if !engine() {
        return;
    }
    let repository = Repository::bare("laptop-packed", "FROM scratch\nENV TEST=laptop-packed\nCOPY Dockerfile /\n");
    let root = repository.root.path();
    let run = [
        "run",
        "--dry-run",
        "laptop-packed",
        "--kind",
        "kind.yml",
        "--images-dir",
        "testing/docker",
        "--output",
        "out",
    ];
    std::fs::write(root.join("kind.yml"), "tasks: {laptop-packed: {packages: [deb12-x, deb12-y]}}\n").unwrap();
    let routes = || {
        let publish: Value = serde_json::from_slice(&std::fs::read(root.join("out/publish.json")).unwrap()).unwrap();
        let inserts = publish["insertTask"].as_array().unwrap().clone();
        inserts.iter().map(|it| it["namespace"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let warning = "packages of other tasks (deb12-x, deb12-y), which are not there: DOCKER_IMAGE_PACKAGES is empty";
    let finished = call(root, &run, &[]);
    finished.assert_succeeds();
    assert!(finished.stderr.contains(warning), "{}", finished.stderr);
    assert!(finished.stderr.contains("publish.json has no hash route"), "{}", finished.stderr);
    assert_eq!(routes().len(), 2, "{:?}", routes());
    assert!(routes().iter().all(|route| !route.contains(".hash.")), "{:?}", routes());
    assert_eq!(
        finished.stdout.trim(),
        format!("laptop-packed:{}", repository.hash(image_worker::context::HashScheme::Tar))
    );
    // They can be given, and the hash.
    let hash = "ab".repeat(32);
    let arguments = [&run[..], &["--arg", "DOCKER_IMAGE_PACKAGES=a b", "--index-hash", &hash]].concat();
    let finished = call(root, &arguments, &[]);
    finished.assert_succeeds();
    assert!(!finished.stderr.contains("which are not there"), "{}", finished.stderr);
    assert!(routes()[2].ends_with(&format!(".hash.{hash}")), "{:?}", routes());
    assert_engine_is_clean("laptop-packed");
    let built = ["build", "laptop-packed", "--kind", "kind.yml", "--images-dir", "testing/docker", "--json"];
    let built = json_of(&call(root, &built, &[]));
    assert_eq!(built[0]["hash"], Value::Null);
    remove_images("laptop-packed");
}

#[test]
fn the_output_is_one_runs_while_its_parent_is_built() {
    if !engine() {
        return;
    }
    let project = Project::new("laptop-locked");
    let output = project.at("out");
    let run = ["run", "--dry-run", "laptop-locked-child", "--output", path(&output)];
    let finished = started(&project.at(""), &run, &[]).finish_when(
        |log| log.contains("building laptop-locked-base:"),
        |first| {
            signal(first, "STOP");
            project.call("", &run).assert_fails(2, &["another run writes to", path(&output), "--output"]);
            signal(first, "CONT");
        },
    );
    finished.assert_succeeds();
    remove_images("laptop-locked");
}

#[test]
fn files_that_only_this_checkout_has_are_named() {
    if !installed("git") {
        return;
    }
    let repository = Repository::bare("laptop-untracked", "FROM scratch\n# %include tools/x\n");
    let root = repository.root.path();
    std::fs::remove_dir(root.join(".hg")).unwrap();
    std::fs::create_dir(root.join("tools")).unwrap();
    for file in ["tools/x", "testing/docker/laptop-untracked/a b", "testing/docker/laptop-untracked/x.pyc"] {
        std::fs::write(root.join(file), "x").unwrap();
    }
    symlink("a b", repository.directory().join("link")).unwrap();
    std::fs::write(root.join(".gitignore"), "*.pyc\n").unwrap();
    let git = |arguments: &[&str]| {
        let done = Command::new("git").arg("-C").arg(root).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet"]);
    let warning = |count: &str| format!("{count} of the context");
    let finished = call(root, &["hash", "laptop-untracked"], &[]);
    assert!(finished.stderr.contains(&warning("5 files")) && finished.stderr.contains("x.pyc"), "{}", finished.stderr);
    git(&["add", "tools", "testing"]);
    let finished = call(root, &["hash", "laptop-untracked"], &[]);
    let line = finished.stderr.lines().find(|line| line.contains("not tracked by git")).expect("a warning");
    assert!(line.contains(&warning("1 file")) && line.contains("laptop-untracked/x.pyc"), "{line}");
    git(&["add", "--force", "testing"]);
    let finished = call(root, &["hash", "laptop-untracked"], &[]);
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    let listed = call(root, &["context", "laptop-untracked", "--list"], &[]);
    let directory = "testing/docker/laptop-untracked";
    let lines = [
        format!("0644\t32\tDockerfile\t{directory}/Dockerfile"),
        format!("0644\t1\ta b\t{directory}/a b"),
        format!("0644\t1\tlink\t{directory}/link"),
        "0644\t1\ttopsrcdir/tools/x\ttools/x".to_owned(),
        format!("0644\t1\tx.pyc\t{directory}/x.pyc"),
    ];
    assert_eq!(listed.stdout.lines().collect::<Vec<_>>(), lines, "{}", listed.stderr);
    let json = json_of(&call(root, &["context", "laptop-untracked", "--list", "--json"], &[]));
    let first =
        json!({ "name": "Dockerfile", "mode": "0644", "size": 32, "source": format!("{directory}/Dockerfile") });
    assert_eq!(json["files"][0], first);
    call(root, &["context", "laptop-untracked"], &[]).assert_fails(2, &["IMAGE_WORKER_OUT", "--list"]);
    // Where git cannot list them, a warning has the reason.
    std::fs::write(repository.directory().join("new"), "").unwrap();
    let why = |environment: &[(&str, &str)]| {
        let finished = call(root, &["hash", "laptop-untracked"], environment);
        finished.assert_succeeds();
        let lines: Vec<_> = finished.stderr.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].contains("cannot tell whether the context has files that git does not track"),
            "{lines:?}"
        );
        lines[0].to_owned()
    };
    assert!(why(&[("PATH", "/nowhere")]).contains("git cannot be run: No such file"));
    assert!(why(&[("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")]).contains("detected dubious ownership"));
    std::fs::write(root.join(".git/HEAD"), "damaged").unwrap();
    assert!(why(&[]).contains("not a git repository"));
}

#[test]
fn a_failed_dry_run_leaves_no_image_of_an_earlier_one() {
    if !engine() {
        return;
    }
    let repository = Repository::new("laptop-failed", "RUN echo good\n");
    let output = repository.root.path().join("out");
    let run = ["run", "--dry-run", "laptop-failed", "--output", path(&output)];
    call(repository.root.path(), &run, &[]).assert_succeeds();
    assert!(output.join("image.tar").exists() && output.join("publish.json").exists());
    let dockerfile = repository.directory().join("Dockerfile");
    let good = std::fs::read_to_string(&dockerfile).unwrap();
    std::fs::write(&dockerfile, good.replace("RUN echo good", "RUN exit 3")).unwrap();
    call(repository.root.path(), &run, &[]).assert_fails(20, &["exit code 3"]);
    let mut left: Vec<_> = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".gitignore", "build.log"]);
}

#[test]
fn two_dry_runs_at_once_do_not_touch_each_other() {
    if !engine() {
        return;
    }
    let repository = Repository::new("laptop-two", "RUN echo step\nRUN echo second\n");
    let (first, second) = (repository.root.path().join("first"), repository.root.path().join("second"));
    let run = |output: &Path| {
        let arguments = ["run", "--dry-run", "laptop-two", "--output", path(output)].map(str::to_owned);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        started(repository.root.path(), &arguments, &[])
    };
    let mut others = None;
    let finished = run(&first).finish_when(
        |log| log.contains("building laptop-two:"),
        |first_id| {
            // It goes on when the second is done, and finds all that is its own.
            signal(first_id, "STOP");
            let same = run(&first).finish();
            same.assert_fails(2, &["another run writes to", path(&first), "--output"]);
            others = Some(run(&second).finish());
            signal(first_id, "CONT");
        },
    );
    finished.assert_succeeds();
    let other = others.unwrap();
    other.assert_succeeds();
    assert_eq!(finished.stdout, other.stdout);
    for output in [first, second] {
        docker_output(&["load", "--input", path(&output.join("image.tar"))]);
        docker_output(&["rmi", "--force", finished.stdout.trim()]);
    }
    assert_engine_is_clean("laptop-two");
}

#[test]
fn an_include_may_be_written_with_a_dot() {
    let repository = Repository::bare("laptop-dots", "FROM scratch\n# %include ./tools\nCOPY topsrcdir/tools /tools\n");
    std::fs::create_dir(repository.root.path().join("tools")).unwrap();
    std::fs::write(repository.root.path().join("tools/x"), "x").unwrap();
    let listed = call(repository.root.path(), &["context", "laptop-dots", "--list"], &[]);
    assert!(listed.stdout.contains("\ttopsrcdir/./tools/x\t"), "{}", listed.stdout);
    if engine() {
        // The COPY finds it.
        call(repository.root.path(), &["run", "--dry-run", "laptop-dots"], &[]).assert_succeeds();
        assert_engine_is_clean("laptop-dots");
    }
}

#[test]
fn a_path_is_the_image_that_lies_there_or_nothing() {
    let here = Repository::bare("laptop-path", "FROM scratch\nENV TEST=laptop-path\nCOPY Dockerfile /\n");
    let there = Repository::bare("laptop-path", "FROM scratch\nENV TEST=laptop-path OTHER=1\nCOPY Dockerfile /\n");
    let elsewhere = there.directory();
    for subcommand in ["build", "push"] {
        for typed in ["/nonexistent/laptop-path", path(&elsewhere)] {
            call(here.root.path(), &[subcommand, typed], &[]).assert_fails(2, &[typed]);
        }
    }
    let lookup = ["lookup", path(&elsewhere), "--root-url", "http://127.0.0.1:1"];
    call(here.root.path(), &lookup, &[]).assert_fails(2, &[path(&elsewhere)]);
    if engine() {
        let built = json_of(&call(&here.directory(), &["build", ".", "--json"], &[]));
        assert_eq!(built[0]["name"], "laptop-path");
        remove_images("laptop-path");
    }
}

#[test]
fn a_failed_parent_leaves_no_image_of_an_earlier_run() {
    if !engine() {
        return;
    }
    let project = Project::new("laptop-unparented");
    let run = ["run", "--dry-run", "laptop-unparented-child", "--output", "out"];
    project.call("", &run).assert_succeeds();
    assert!(project.at("out/image.tar").exists());
    let shared = project.at("taskcluster/docker/shared/Dockerfile");
    let good = std::fs::read_to_string(&shared).unwrap();
    std::fs::write(&shared, good.replace("RUN echo $FLAVOUR > /flavour", "RUN exit 4")).unwrap();
    project.call("", &run).assert_fails(20, &["exit code 4"]);
    assert!(!project.at("out/image.tar").exists() && !project.at("out/publish.json").exists());
    remove_images("laptop-unparented");
}

#[test]
fn the_architecture_of_kind_yml_is_that_of_a_dry_run() {
    let repository = Repository::bare("laptop-arch", "FROM scratch\nENV TEST=laptop-arch\nCOPY Dockerfile /\n");
    let root = repository.root.path();
    let kind = root.join("kind.yml");
    let run = ["run", "--dry-run", "laptop-arch", "--kind", "kind.yml", "--images-dir", "testing/docker"];
    std::fs::write(&kind, "tasks: {laptop-arch: {arch: sparc}}\n").unwrap();
    call(root, &run, &[]).assert_fails(2, &["`arch` is \"sparc\", not amd64 or arm64"]);
    std::fs::write(&kind, "tasks: {laptop-arch: {arch: arm64}}\n").unwrap();
    if engine() {
        let finished = call(root, &run, &[]);
        finished.assert_succeeds();
        assert!(finished.stderr.contains("building for arm64"), "{}", finished.stderr);
        assert_engine_is_clean("laptop-arch");
    }
}
