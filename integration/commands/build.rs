//! `build` with the real engine: a tree of three generations, what is built again when something changes, and the
//! messages for people who do something wrong.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::engine::target_arch::{emulators, own_and_other};
use crate::harness::{Builder, Finished, container_output, docker, docker_output, engine, engine_place, path, program};

const SHELL: &str = "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n";

/// A repository whose images begin with a mark of their own, and a base for them that no other test's images have: the
/// classic builder fails when an image goes while it looks through the children of the base.
struct Tree {
    root: TempDir,
    mark: &'static str,
}

impl Tree {
    /// None, with a notice, where no engine can build it.
    fn new(mark: &'static str) -> Option<Self> {
        if !engine() {
            return None;
        }
        let tree = Self { root: TempDir::with_prefix("repository-").unwrap(), mark };
        std::fs::create_dir(tree.root.path().join(".hg")).unwrap();
        tree.write("REGISTRY", "registry.invalid/m\n");
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_path_with_name("/bin/busybox", "bin/busybox").expect("busybox-static; run scripts/test");
        // A layer of its own: Podman fails to import one whose like another test removes in that moment.
        let mut header = tar::Header::new_gnu();
        header.set_size(mark.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "mark", mark.as_bytes()).unwrap();
        let archive = tree.root.path().join("root.tar");
        std::fs::write(&archive, tar.into_inner().unwrap()).unwrap();
        let label = format!("LABEL image-worker-test={mark}");
        docker_output(&["import", "--change", &label, path(&archive), &format!("{mark}root:1")]);
        Some(tree)
    }

    fn write(&self, file: &str, content: &str) -> PathBuf {
        let file = self.root.path().join("testing/docker").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    fn name(&self, image: &str) -> String {
        format!("{}{image}", self.mark)
    }

    /// An image directory; `@` in its Dockerfile is the mark.
    fn image(&self, image: &str, dockerfile: &str) {
        let name = self.name(image);
        self.write(&format!("{name}/Dockerfile"), &dockerfile.replace('@', self.mark));
    }

    /// An image that adds a file with its name to its parent.
    fn child(&self, image: &str, parent: &str, more: &str) {
        let from = format!("ARG DOCKER_IMAGE_PARENT=@{parent}\nFROM $DOCKER_IMAGE_PARENT\n");
        self.image(image, &format!("{from}{SHELL}RUN echo {image} > /{image}\n{more}"));
    }

    fn build(&self, arguments: &[&str]) -> Finished {
        let mut program = program(["build"].iter().chain(arguments).copied(), []);
        program.command.current_dir(self.root.path());
        program.finish()
    }

    /// Builds, and gives the report about each image, in order.
    fn built(&self, arguments: &[&str]) -> Vec<Value> {
        let built = self.build(&[arguments, &["--json"]].concat());
        built.assert_succeeds();
        serde_json::from_str(&built.stdout).unwrap()
    }

    /// The images that a build makes, without their mark, in order.
    fn made(&self, arguments: &[&str]) -> Vec<String> {
        let built = self.built(arguments).into_iter().filter(|image| image["built"] == true);
        built.map(|image| image["name"].as_str().unwrap().trim_start_matches(self.mark).to_owned()).collect()
    }

    fn hash(&self, image: &str) -> String {
        let directory = self.root.path().join("testing/docker").join(self.name(image));
        let hash = program(["hash", path(&directory)], []).finish();
        hash.assert_succeeds();
        hash.stdout.trim().to_owned()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let names = docker_output(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let ours = names.lines().filter(|name| name.contains(self.mark) && !name.contains("<none>"));
        // Children first: a parent can be removed only after them.
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|name| name.ends_with("root:1"));
        docker(&[&["rmi"][..], &ours].concat());
        // What was built twice has lost its name.
        docker(&["image", "prune", "--force", "--filter", &format!("label=image-worker-test={}", self.mark)]);
    }
}

/// The engine does not see it: BuildKit of Docker 20.10 dies of some.
#[test]
fn a_dockerfile_without_an_image_to_build_from_is_the_dockerfiles_fault() {
    let Some(tree) = Tree::new("build-nothing-") else { return };
    for (dockerfile, problem) in [
        ("# nothing\n", "the Dockerfile: there is no FROM; write `FROM IMAGE`"),
        ("FROM\n", "the Dockerfile: line 1: `FROM` names no image"),
        ("ARG BASE\nFROM $BASE\n", "the Dockerfile: line 2: `FROM $BASE` is empty, as nothing gives BASE a value"),
    ] {
        tree.image("x", dockerfile);
        let name = tree.name("x");
        tree.build(&[&name]).assert_fails(20, &[problem]);
        let mut run = program(["run", "--dry-run", &name, "--output", "out"], []);
        run.command.current_dir(tree.root.path());
        run.finish().assert_fails(20, &[problem]);
        assert_eq!(docker_output(&["images", "--quiet", &name]), "");
    }
    let mut run =
        program(["run", "--dry-run", &tree.name("x"), "--output", "out", "--arg", "BASE=build-nothing-root:1"], []);
    run.command.current_dir(tree.root.path());
    run.finish().assert_succeeds();
}

/// Podman 4.3's service ends with it, and with it every build in it.
#[test]
fn a_stage_that_is_not_there_is_the_dockerfiles_fault() {
    let Some(tree) = Tree::new("build-no-stage-") else { return };
    let name = tree.name("x");
    tree.child("y", "x", "");
    let mut numbers = vec!["COPY --from=7"];
    if Builder::is_podman() {
        numbers.extend(["COPY --from=-1", "ADD --from=7"]);
    }
    for number in numbers {
        tree.image("x", &format!("FROM @root:1\n{number} /a /b\n"));
        tree.build(&[&name]).assert_fails(20, &[number]);
        for dry_run in [name.as_str(), &tree.name("y")] {
            let mut run = program(["run", "--dry-run", dry_run, "--parent", "build", "--output", "out"], []);
            run.command.current_dir(tree.root.path());
            run.finish().assert_fails(20, &[number]);
        }
    }
}

/// What a command in an image prints.
fn run(tag: &str, command: &str) -> String {
    container_output(&[tag, "/bin/busybox", "sh", "-c", command])
}

/// Eight images: two that stand on something else, three of the second generation, three of the third.
fn generations(mark: &'static str) -> Option<Tree> {
    let tree = Tree::new(mark)?;
    tree.image("base", &format!("FROM @root:1\n{SHELL}RUN echo base > /base\n"));
    tree.image("tools", &format!("FROM @root:1\n{SHELL}RUN echo tools > /tools\n"));
    tree.write(&format!("{mark}tools/VERSION"), "1.2\n");
    tree.child("builder", "base", "");
    tree.child("lint", "base", "");
    tree.child("tester", "base", "COPY --from=registry.invalid/m/@tools:1.2 /tools /tools\n");
    tree.child("clang", "builder", "");
    tree.child("gcc", "builder", "");
    tree.child("gpu", "tester", "");
    Some(tree)
}

#[test]
fn three_generations_are_built_with_one_command_and_only_what_depends_on_a_change_again() {
    let Some(tree) = generations("build-three-") else { return };
    let leaves = ["clang", "gcc", "lint", "gpu"].map(|image| tree.name(image));
    let arguments: Vec<_> = ["--with-parents"].into_iter().chain(leaves.iter().map(String::as_str)).collect();
    let first = tree.built(&arguments);
    let order: Vec<_> = first.iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(order, ["base", "builder", "clang", "gcc", "lint", "tools", "tester", "gpu"].map(|it| tree.name(it)));
    assert!(first.iter().all(|image| image["built"] == true), "{first:?}");
    let by_name: BTreeMap<_, _> = first.iter().map(|image| (image["name"].as_str().unwrap(), image)).collect();
    for image in ["base", "tools", "gpu"] {
        let image_report = by_name[tree.name(image).as_str()];
        assert_eq!(image_report["contextHash"], tree.hash(image));
        let label = "{{index .Config.Labels \"image-worker.context-hash\"}}";
        let tag = image_report["tag"].as_str().unwrap();
        assert_eq!(docker_output(&["image", "inspect", "--format", label, tag]), tree.hash(image));
        assert_eq!(docker_output(&["image", "inspect", "--format", "{{.Id}}", tag]), image_report["imageId"]);
    }
    assert_eq!(by_name[tree.name("tools").as_str()]["tag"], format!("registry.invalid/m/{}", tree.name("tools:1.2")));
    assert_eq!(run(&tree.name("gpu:latest"), "cat /base /tools /tester /gpu"), "base\ntools\ntester\ngpu");

    assert_eq!(tree.made(&arguments), Vec::<String>::new(), "nothing has changed");
    // A grandparent, a parent, one that is only copied from, a leaf.
    let all = ["base", "builder", "clang", "gcc", "lint", "tester", "gpu"];
    for (touched, expected) in [
        ("base", &all[..]),
        ("builder", &["builder", "clang", "gcc"]),
        ("tools", &["tools", "tester", "gpu"]),
        ("lint", &["lint"]),
    ] {
        tree.write(&format!("{}/touched", tree.name(touched)), touched);
        assert_eq!(tree.made(&arguments), expected, "touched {touched}");
    }
    assert_eq!(tree.made(&arguments), Vec::<String>::new());
    assert_eq!(tree.made(&[&arguments[..], &["--no-cache"]].concat()).len(), 8, "everything is built again");
    // One image without --with-parents is built alone, with a warning about what is old.
    tree.write(&format!("{}/touched", tree.name("base")), "again");
    let gcc = tree.build(&[&tree.name("gcc")]);
    gcc.assert_succeeds();
    assert!(gcc.stderr.contains("was built from another context than"), "{}", gcc.stderr);
    assert_eq!(gcc.stdout, format!("{} {}\n", tree.name("gcc:latest"), tree.hash("gcc")));
}

#[test]
fn the_last_lines_name_the_next_command() {
    let Some(tree) = Tree::new("build-end-") else { return };
    tree.image("local", &format!("FROM @root:1\n{SHELL}COPY local.env /e\n"));
    for file in [".env", "local.env", "env"] {
        tree.write(&format!("{}/{file}", tree.name("local")), "A=b\n");
    }
    let built = tree.build(&[&format!("testing/docker/{}/", tree.name("local"))]);
    built.assert_succeeds();
    let tag = tree.name("local:latest");
    assert_eq!(built.stdout, format!("{tag} {}\n", tree.hash("local")));
    let warning = format!("{} has no VERSION: the build takes the local tag {tag}", tree.name("local"));
    assert!(built.stderr.contains(&warning), "{}", built.stderr);
    let directory = format!("testing/docker/{}", tree.name("local"));
    let shell = format!(
        "run -it --rm --env-file {directory}/.env --env-file {directory}/local.env --entrypoint /bin/busybox {tag} sh\n"
    );
    assert!(built.stderr.contains(&shell), "{}", built.stderr);
    assert!(!built.stderr.contains("to push it"), "{}", built.stderr);

    tree.write(&format!("{}/VERSION", tree.name("local")), "0.1\n");
    let built = tree.build(&[&tree.name("local")]);
    built.assert_succeeds();
    assert!(built.stdout.starts_with(&format!("registry.invalid/m/{} ", tree.name("local:0.1"))), "{}", built.stdout);
    assert!(built.stderr.contains(&format!("to push it: image-worker push {}\n", tree.name("local"))));
    assert!(!built.stderr.contains("warning"), "{}", built.stderr);
}

#[test]
fn the_context_is_the_one_that_a_task_would_get() {
    let Some(tree) = Tree::new("build-context-") else { return };
    tree.write("shared/script", "shared\n");
    // A parent without an ARG line, as image_builder's Dockerfiles have it; an include, an argument, and a file that the
    // engine would leave out by itself.
    tree.image("parent", "FROM @root:1\n");
    let steps = "# %include testing/docker/shared/script\nCOPY topsrcdir/testing/docker/shared/script dropped /\n";
    tree.image("child", &format!("# %ARG WORD\nFROM $DOCKER_IMAGE_PARENT\n{SHELL}{steps}RUN echo $WORD > /word\n"));
    tree.write(&format!("{}/dropped", tree.name("child")), "there\n");
    let kind = "tasks:\n  @child: {parent: @parent, args: {WORD: said}}\n  @parent: {}\n".replace('@', tree.mark);
    let kind = tree.write("kind.yml", &kind);
    let child = tree.name("child");
    let arguments = ["--kind", path(&kind), "--images-dir", "testing/docker", "--with-parents", &child];
    let finished = tree.build(&[&arguments[..], &["--json"]].concat());
    finished.assert_succeeds();
    assert!(!finished.stderr.contains("VERSION"), "tasks build what is listed: {}", finished.stderr);
    let built: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(run(&tree.name("child:latest"), "cat /script /dropped /word"), "shared\nthere\nsaid");
    let directory = tree.root.path().join("testing/docker").join(&child);
    let hash = program(["hash", path(&directory), "--arg", "WORD=said"], []).finish();
    assert_eq!(built[1]["contextHash"], hash.stdout.trim());
    assert_ne!(built[1]["hash"], built[1]["contextHash"], "the parent and the argument count");
}

#[test]
fn a_from_needs_no_arg_line_and_ignored_files_stay_out() {
    let Some(tree) = Tree::new("build-from-") else { return };
    tree.image("child", &format!("ARG BASE=@root:$VERSION\nFROM $BASE\n{SHELL}COPY . /all\n"));
    let own = [(".dockerignore", "*.env\n!public.env\n"), (".containerignore", "*\n")];
    for (file, content) in own.into_iter().chain([(".env", "secret"), ("public.env", "")]) {
        tree.write(&format!("{}/{file}", tree.name("child")), content);
    }
    let kind = format!("tasks: {{{}: {{args: {{VERSION: '1'}}}}}}\n", tree.name("child"));
    let kind = tree.write("kind.yml", &kind);
    let built = tree.built(&["--kind", path(&kind), "--images-dir", "testing/docker", &tree.name("child")]);
    let files = run(&tree.name("child:latest"), "cd /all; for file in .e* .[cd]* *; do echo \"$file\"; done");
    assert_eq!(files, ".e*\n.containerignore\n.dockerignore\nDockerfile\npublic.env");
    let directory = tree.root.path().join("testing/docker").join(tree.name("child"));
    let hash = program(["hash", path(&directory), "--arg", "VERSION=1"], []).finish();
    assert_eq!(built[0]["contextHash"], hash.stdout.trim(), "of all files, and of the Dockerfile as it is");
}

#[test]
fn a_script_of_the_images_own_is_run_instead() {
    let Some(tree) = Tree::new("build-script-") else { return };
    tree.image("own", "FROM nothing.invalid/that:is\n");
    let script = |text: &str, mode: u32| {
        let script = tree.write(&format!("{}/build.sh", tree.name("own")), &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let own = tree.name("own");
    script(&format!("echo \"got $*\" && docker tag {} \"$2\"", tree.name("root:1")), 0o755);
    let built = tree.build(&[&own]);
    built.assert_succeeds();
    assert!(built.stderr.contains(&format!("build | got -t {own}:latest\n")), "{}", built.stderr);
    let id = |name: &str| docker_output(&["image", "inspect", "--format", "{{.Id}}", name]);
    assert_eq!(id(&format!("{own}:latest")), id(&tree.name("root:1")));

    script("exit 7", 0o755);
    tree.build(&[&own]).assert_fails(20, &["/build.sh failed: exit status: 7"]);
    docker_output(&["rmi", &format!("{own}:latest")]);
    script("true", 0o755);
    tree.build(&[&own]).assert_fails(20, &["ended well, but the engine has no", &own, "`-t`"]);
    tree.image("own", "FROM @root:1\n");
    script("exit 7", 0o644);
    let built = tree.build(&[&own]);
    built.assert_succeeds();
    assert!(built.stderr.contains("build.sh is not executable: the Dockerfile is built instead"), "{}", built.stderr);
}

#[test]
fn a_parent_that_was_not_built_here_is_reported() {
    let Some(tree) = Tree::new("build-foreign-") else { return };
    let parent = tree.name("base:latest");
    tree.image("base", &format!("FROM @root:1\n{SHELL}RUN echo base > /base\n"));
    tree.child("child", "base", "");
    docker_output(&["tag", &tree.name("root:1"), &parent]);
    let warning = format!("{parent} was not built from {} of this tree", tree.name("base"));
    let built = tree.build(&[&tree.name("child")]);
    built.assert_succeeds();
    assert!(built.stderr.contains(&warning) && built.stderr.contains("--with-parents"), "{}", built.stderr);
    for arguments in [&["--with-parents"][..], &[]] {
        let built = tree.build(&[arguments, &[&tree.name("child")]].concat());
        built.assert_succeeds();
        assert!(!built.stderr.contains("was not built from"), "{}", built.stderr);
    }
}

#[test]
fn an_image_is_built_for_the_architecture_of_its_kind() {
    let Some(tree) = Tree::new("build-arch-") else { return };
    let (_, other) = own_and_other();
    tree.image("base", "FROM scratch\nENV TEST=@\nCOPY Dockerfile /\n");
    tree.image("child", "FROM $DOCKER_IMAGE_PARENT\nCOPY Dockerfile /child\n");
    tree.image("runs", &format!("FROM $DOCKER_IMAGE_PARENT\n{SHELL}RUN true\n"));
    let kind = format!(
        "tasks:\n  @base: {{arch: {other}}}\n  @child: {{parent: @base, arch: {other}}}\n  @runs: {{parent: @base, arch: {other}}}\n"
    );
    let kind = tree.write("kind.yml", &kind.replace('@', tree.mark));
    let [child, runs] = ["child", "runs"].map(|name| tree.name(name));
    // The classic builder makes the images of some steps for its own platform (docs/engines.md).
    let place = ["--kind", path(&kind), "--images-dir", "testing/docker", "--with-parents", "--builder", "auto"];
    if !emulators() {
        // The parent is not built either.
        let refused = tree.build(&[&place[..], &[&runs]].concat());
        refused.assert_fails(2, &[&format!("is for {other} (TARGET_ARCH, or `arch` in kind.yml)"), "qemu-user-static"]);
        assert!(!refused.stderr.contains("building "), "{}", refused.stderr);
    }
    let arch = |image: &str| docker_output(&["image", "inspect", "--format", "{{.Architecture}}", &tree.name(image)]);
    assert_eq!(tree.made(&[&place[..], &[&child]].concat()), ["base", "child"]);
    assert_eq!([arch("base:latest"), arch("child:latest")], [other, other]);
    assert_eq!(tree.made(&[&place[..], &[&child]].concat()), Vec::<String>::new(), "they are there already");
    // A parent for another architecture cannot be built on.
    let kind_text = std::fs::read_to_string(&kind).unwrap();
    std::fs::write(&kind, kind_text.replacen(&format!("arch: {other}"), "", 1)).unwrap();
    tree.build(&[&place[..], &[&child]].concat())
        .assert_fails(20, &["the parent image is for", &format!("must be for {other}")]);
}

#[test]
fn mistakes_are_reported_before_anything_is_built() {
    let Some(tree) = generations("build-wrong-") else { return };
    let base = tree.name("base:latest");
    tree.build(&[&tree.name("gcc")]).assert_fails(2, &["is built from", "the engine has no", "--with-parents"]);
    tree.build(&[&tree.name("bas")]).assert_fails(2, &["unknown image", "did you mean", &tree.name("base")]);
    tree.write(&format!("{}/VERSION", tree.name("base")), "");
    tree.build(&["--with-parents", &tree.name("gcc")]).assert_fails(2, &["/VERSION holds \"\", which is not a tag"]);
    assert!(!docker(&["image", "inspect", &base]).status.success(), "nothing was built");
    tree.image("broken", &format!("FROM @root:1\n{SHELL}RUN echo why >&2; exit 3\n"));
    let broken = tree.build(&[&tree.name("broken")]);
    broken.assert_fails(20, &["RUN echo why", "failed with exit code 3", "its last line: why", "--shell"]);
    let containers =
        docker_output(&["ps", "--all", "--quiet", "--filter", &format!("label=image-worker-test={}", tree.mark)]);
    assert_eq!(containers, "", "the step's container is gone");
}

#[test]
fn the_script_of_the_old_name_builds() {
    let Some(tree) = Tree::new("build-old-") else { return };
    tree.image("base", "FROM @root:1\n");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_image-worker"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/build.sh");
    let build = |arguments: &[&str]| {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
        let mut command = Command::new(script);
        command
            .args(arguments)
            .env("PATH", path)
            .envs(engine_place().map(|place| ("DOCKER_HOST", place)))
            .current_dir(tree.root.path().join("testing/docker"));
        command.output().unwrap()
    };
    let output = build(&[&format!("{}/", tree.name("base"))]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{} {}\n", tree.name("base:latest"), tree.hash("base"))
    );
    assert_eq!(build(&[]).status.code(), Some(2));
}

fn git(tree: &Tree, arguments: &[&str]) {
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    let git = Command::new("git").args(who).args(arguments).current_dir(tree.root.path()).output().unwrap();
    assert!(git.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&git.stderr));
}

#[test]
fn all_images_of_a_tree_are_built_side_by_side_parents_first() {
    let Some(tree) = generations("build-all-") else { return };
    let all = ["base", "builder", "clang", "gcc", "lint", "tools", "tester", "gpu"];
    let built = tree.build(&["--all", "--jobs", "3"]);
    built.assert_succeeds();
    // The tags of all of them, by name; each line of a build has the name of its image.
    let mut tags: Vec<_> = all.iter().map(|image| tree.name(image)).collect();
    tags.sort();
    let lines: Vec<_> = built.stdout.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(lines.len(), tags.len(), "{}", built.stdout);
    assert!(lines.iter().zip(&tags).all(|(line, tag)| line.starts_with(&format!("{tag}:"))), "{}", built.stdout);
    for image in all {
        let line = format!("build | {}: ", tree.name(image));
        assert!(built.stderr.contains(&line), "{line} is not in {}", built.stderr);
    }
    assert_eq!(run(&tree.name("gpu:latest"), "cat /base /tools /tester /gpu"), "base\ntools\ntester\ngpu");
    assert_eq!(tree.made(&["--all"]), Vec::<String>::new(), "nothing has changed");
    tree.build(&["--all", &tree.name("base")]).assert_fails(2, &["--all"]);
    tree.build(&[]).assert_fails(2, &["--all"]);
    // The tree is Mercurial's.
    tree.build(&["--changed"]).assert_fails(2, &["is no git checkout", "--all"]);
}

#[test]
fn a_failure_begins_no_other_image_and_lists_them() {
    let Some(tree) = generations("build-stop-") else { return };
    tree.child("builder", "base", "RUN exit 3\n");
    let failed = tree.build(&["--all", "--jobs", "1"]);
    failed.assert_fails(20, &[&format!("build: {}: ", tree.name("builder")), "exit 3"]);
    let left = ["clang", "gcc", "tools", "tester", "gpu", "lint"].map(|image| tree.name(image)).join(", ");
    assert!(failed.stderr.contains(&format!("not built: {left}")), "{}", failed.stderr);
    let there = |image: &str| !docker_output(&["images", "--quiet", &tree.name(image)]).is_empty();
    assert!(there("base") && !there("clang") && !there("lint"));
    // One image alone needs no name before its error.
    tree.build(&[&tree.name("builder")]).assert_fails(20, &["build: step"]);
}

#[test]
fn changed_images_are_those_of_another_hash_and_what_is_built_on_them() {
    let Some(tree) = generations("build-changed-") else { return };
    std::fs::remove_dir(tree.root.path().join(".hg")).unwrap();
    std::fs::write(tree.root.path().join(".gitignore"), "root.tar\n").unwrap();
    git(&tree, &["init", "--quiet"]);
    git(&tree, &["add", "--all"]);
    git(&tree, &["commit", "--quiet", "--message", "x"]);
    let none = tree.build(&["--changed"]);
    none.assert_succeeds();
    assert_eq!(none.stdout, "");
    assert!(none.stderr.contains("none of 8 images differs from HEAD"), "{}", none.stderr);

    tree.write(&format!("{}/touched", tree.name("tester")), "not committed");
    let changed = tree.build(&["--changed", "--since", "HEAD"]);
    changed.assert_succeeds();
    assert!(changed.stderr.contains("2 of 8 images differ from HEAD"), "{}", changed.stderr);
    let names: Vec<_> = changed.stdout.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, [tree.name("tester"), tree.name("gpu")]);
    // What they need was built, too, and nothing else.
    let there = |image: &str| !docker_output(&["images", "--quiet", &tree.name(image)]).is_empty();
    assert!(there("base") && there("tester") && there("gpu") && !there("builder") && !there("lint"));
    tree.build(&["--changed", "--since", "nowhere"]).assert_fails(2, &["git knows no revision nowhere", "--since"]);
    tree.build(&["--since", "HEAD", &tree.name("base")]).assert_fails(2, &["--since"]);
}
