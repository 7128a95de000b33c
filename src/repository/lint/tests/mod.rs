//! Tests of the lint: its output for good images, and all problems of bad ones.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::fixture::{self, Files};
use super::*;
mod kinds;

const DIGEST_A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DIGEST_B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A report on the images in `testing/docker`: paths below it, and what the files have.
fn lint(files: &[(&str, &str)]) -> (Files, LintReport) {
    let tree = Files::new(&[]);
    for (path, content) in files {
        tree.write(&format!("testing/docker/{path}"), content);
    }
    let lint = fixture::read(tree.root(), Some(Path::new("testing/docker"))).unwrap().lint(HashScheme::Tar);
    (tree, lint)
}

fn problems(files: &[(&str, &str)]) -> Vec<String> {
    messages(&lint(files).1.problems)
}

fn hints(files: &[(&str, &str)]) -> Vec<String> {
    let lint = lint(files).1;
    assert_eq!(messages(&lint.problems), Vec::<String>::new());
    messages(&lint.hints)
}

fn messages(findings: &[Diagnostic]) -> Vec<String> {
    findings.iter().map(|finding| finding.message.clone()).collect()
}

fn image<'a>(lint: &'a LintReport, name: &str) -> &'a ImageReport {
    lint.images.iter().find(|image| image.name.as_str() == name).unwrap()
}

/// `image link instruction`, and its mismatch.
fn from(lint: &LintReport, name: &str) -> Vec<String> {
    let relations = image(lint, name).from.iter();
    let lines = relations.map(|it| {
        let mismatch = it.mismatch.as_ref().map(|mismatch| format!(" {mismatch}")).unwrap_or_default();
        format!("{} {:?} {}{mismatch}", it.image, it.link, it.instruction)
    });
    lines.collect()
}

#[test]
fn an_argument_of_kind_yml_names_the_base_without_an_arg_line() {
    let files = Files::new(&[
        ("taskcluster/docker/i/Dockerfile", "ARG NOTE=`x`\nFROM node:$NODE_VERSION\n"),
        ("kind.yml", "tasks: {i: {args: {NODE_VERSION: '22'}}}"),
    ]);
    let tree = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap();
    let lint = tree.lint(HashScheme::Tar);
    assert_eq!((messages(&lint.problems), messages(&lint.hints)), (Vec::new(), Vec::new()));
    assert_eq!(image(&lint, "i").bases, ["node:22"]);
}

#[test]
fn an_image_is_listed_with_its_base_images() {
    let (files, lint) = lint(&[
        ("REGISTRY", "quay.io/m"),
        ("base/Dockerfile", "FROM debian:12\n"),
        ("base/VERSION", "1"),
        ("pinned/Dockerfile", "FROM base\n"),
        ("pinned/HASH", DIGEST_A),
        ("hub/Dockerfile", "FROM debian:12\nFROM hub:3\nFROM hub\n"),
        ("hub/VERSION", "3"),
        ("hub/REGISTRY", "docker.io/me"),
        (
            "tools/Dockerfile",
            "ARG V=1\nFROM quay.io/m/base:$V AS x\nFROM x\nFROM alpine\nCOPY --from=quay.io/m/base:1 / /\n",
        ),
        (
            "all/Dockerfile",
            &format!(
                "ARG DOCKER_IMAGE_PARENT=tools\nFROM quay.io/m/pinned:7@{DIGEST_A}\nFROM $DOCKER_IMAGE_PARENT\n\
                 COPY --from=me/hub:3 / /\nRUN --mount=from=index.docker.io/me/hub:3 true\n"
            ),
        ),
    ]);
    assert_eq!((messages(&lint.problems), lint.images_dir.as_str()), (Vec::new(), "testing/docker"));
    assert_eq!(from(&lint, "base"), Vec::<String>::new());
    assert_eq!(image(&lint, "base").bases, ["debian:12"]);
    assert_eq!(from(&lint, "pinned"), ["base Name FROM base"]);
    // Its own name may be one that a registry has.
    assert_eq!((from(&lint, "hub"), image(&lint, "hub").bases.len()), (Vec::new(), 3));
    let expected = ["base Registry FROM quay.io/m/base:$V", "base Registry COPY --from=quay.io/m/base:1"];
    assert_eq!(from(&lint, "tools"), expected);
    assert_eq!(image(&lint, "tools").bases, ["alpine"]);
    let expected = [
        &format!("pinned Registry FROM quay.io/m/pinned:7@{DIGEST_A}"),
        "tools Parent FROM $DOCKER_IMAGE_PARENT",
        "hub Registry COPY --from=me/hub:3",
        "hub Registry RUN --mount=from=index.docker.io/me/hub:3",
    ];
    assert_eq!(from(&lint, "all"), expected);
    assert_eq!(image(&lint, "all").main().unwrap().image.as_str(), "tools");
    let kinds: Vec<_> = lint.images.iter().map(|image| image.kind.unwrap()).collect();
    assert_eq!(kinds, [Sort::Task, Sort::Registry, Sort::Registry, Sort::Registry, Sort::Task]);

    let pinned = image(&lint, "pinned");
    assert_eq!((pinned.digest.as_deref(), pinned.version.as_deref()), (Some(DIGEST_A), None));
    assert_eq!(pinned.reference.as_deref(), Some(format!("quay.io/m/pinned@{DIGEST_A}").as_str()));
    let base = image(&lint, "base");
    assert_eq!((base.version.as_deref(), base.registry.as_deref()), (Some("1"), Some("quay.io/m")));
    assert_eq!(
        (base.files, base.size, base.directory.as_path()),
        (Some(2), Some(16), Path::new("testing/docker/base"))
    );
    assert_eq!((base.hash, base.context_hash.is_some()), (base.context_hash, true));
    let all = image(&lint, "all");
    assert_eq!(all.parent, Some("tools".parse().unwrap()));
    let tree = fixture::read(files.root(), None).unwrap();
    let (own, parent) = (tree.image(&all.name).unwrap(), image(&lint, "tools").hash);
    let all_hash = index_hash(own, all.context_hash.unwrap(), parent, &BTreeMap::new());
    assert_eq!(all.hash, all_hash);
}

#[test]
fn hashes_are_those_that_others_compute() {
    let (files, lint) = lint(&[
        ("a/Dockerfile", "FROM debian:12\n"),
        ("b/Dockerfile", "ARG DOCKER_IMAGE_PARENT=a\nFROM $DOCKER_IMAGE_PARENT\n"),
        ("c/Dockerfile", "ARG DOCKER_IMAGE_PARENT=b\nFROM $DOCKER_IMAGE_PARENT\n"),
        ("d/Dockerfile", "FROM debian:12\n# %ARG MISSING\n"),
    ]);
    let tree = fixture::read(files.root(), None).unwrap();
    let names = ["a", "b", "c"].map(|name| name.parse().unwrap());
    for (name, identified) in tree.identify(&names, HashScheme::Tar).unwrap() {
        let image = image(&lint, name.as_str());
        assert_eq!(image.hash, Some(identified.name_in_index()), "{name}");
        assert_eq!(image.context_hash, Some(identified.context), "{name}");
    }
    assert_eq!((image(&lint, "d").hash, image(&lint, "d").files), (None, None));
    // The raw files are a context in the other scheme, though nothing can be made of them.
    let contents = tree.lint(HashScheme::Contents);
    let d = image(&contents, "d");
    assert_eq!((d.files, d.context_hash.is_some(), d.hash), (Some(1), true, None));
    assert_eq!(contents.problems, lint.problems);
    assert!(lint.problems[0].message.starts_with("testing/docker/d/Dockerfile, line 2: `# %ARG MISSING` needs"));
}

#[test]
fn all_problems_are_told_at_once() {
    let all = problems(&[
        ("REGISTRY", "https://quay.io\n"),
        (".hidden/x", ""),
        ("__pycache__/x", ""),
        ("bare/README", ""),
        ("Upper/Dockerfile", ""),
        ("Good/Dockerfile", ""),
        ("good/Dockerfile", "FROM debian:12\n# %include testing/docker/store/sub/x\n"),
        ("store/sub/x", ""),
        ("empty/Dockerfile", "FROM debian:12\n"),
        ("empty/VERSION", ""),
        ("empty/HASH", "sha256:0"),
        ("two/Dockerfile", "FROM good\nCOPY --from=good:latest / /\n"),
        ("unsaid/Dockerfile", "FROM $DOCKER_IMAGE_PARENT\n"),
        ("include/Dockerfile", "FROM debian:12\n# %include nowhere\n"),
        ("../../taskcluster/docker/good/Dockerfile", ""),
    ]);
    let expected = [
        "testing/docker/Good and good have one name where case does not count, and ",
        "testing/docker/Upper: \"Upper\" is not ",
        "the image empty: testing/docker/empty/VERSION holds \"\", which is not a tag",
        "the image empty: testing/docker/empty/HASH holds \"sha256:0\", which is not sha256: and 64 hex digits",
        "the image empty: testing/docker/REGISTRY holds \"https://quay.io\", which is not a registry, ",
        "the image good: two directories have its name, testing/docker/good and taskcluster/docker/good; rename one",
        "testing/docker/include/Dockerfile, line 2: ",
        "the Dockerfile of the image two: `FROM good` is looked for in a registry, but good is built by a task; ",
        "the Dockerfile of the image unsaid: `FROM $DOCKER_IMAGE_PARENT`, and nothing says which image that is; ",
    ];
    for (at, expected) in expected.iter().enumerate() {
        assert!(all.get(at).is_some_and(|message| message.starts_with(expected)), "{at} {expected}\n{all:#?}");
    }
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    assert!(all.iter().all(|message| !message.contains('\n')));
}

#[test]
fn files_that_cannot_be_read_are_told_with_the_cause() {
    let (files, lint) = lint(&[("a/Dockerfile", "FROM x:1\n"), ("a/VERSION/x", ""), ("b/x", "")]);
    let is_directory = "cannot read testing/docker/a/VERSION; it must be there and readable: Is a directory";
    assert!(messages(&lint.problems)[0].starts_with(is_directory), "{:?}", lint.problems);
    assert_eq!((lint.problems.len(), &lint.problems[0].image), (1, &Some("a".parse().unwrap())));
    symlink("nowhere", files.at("testing/docker/b/Dockerfile")).unwrap();
    let lint = fixture::read(files.root(), None).unwrap().lint(HashScheme::Tar);
    assert_eq!(lint.problems.len(), 2, "{:?}", lint.problems);
    assert!(lint.problems[1].message.contains("testing/docker/b"), "{:?}", lint.problems);
}

#[test]
fn a_version_that_a_child_does_not_name_is_reported() {
    let problems_with = |reference: &str| {
        let child = format!("FROM {reference}\n");
        let registry = [("REGISTRY", "quay.io/m"), ("base/Dockerfile", "FROM debian:12\n"), ("base/VERSION", "2")];
        problems(&[&registry[..], &[("base/HASH", DIGEST_A), ("i/Dockerfile", &child)]].concat())
    };
    let problem = |reference: &str, what: &str| {
        vec![format!("the Dockerfile of the image i: `FROM {reference}` names {what}; make them the same")]
    };
    let (right, wrong) = (format!("quay.io/m/base@{DIGEST_A}"), format!("quay.io/m/base@{DIGEST_B}"));
    assert_eq!(problems_with("quay.io/m/base:1"), problem("quay.io/m/base:1", "the version 1, but VERSION has 2"));
    assert_eq!(problems_with("quay.io/m/base"), problem("quay.io/m/base", "the version latest, but VERSION has 2"));
    assert_eq!(problems_with(&wrong), problem(&wrong, &format!("the digest {DIGEST_B}, but HASH has {DIGEST_A}")));
    for good in ["quay.io/m/base:2", &right, "quay.io/n/base:1", "base:1", "localhost:5000/m/base"] {
        assert_eq!(problems_with(good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn cycles_are_told_once_and_drawn() {
    let parent = |name: &str| format!("ARG DOCKER_IMAGE_PARENT={name}\nFROM $DOCKER_IMAGE_PARENT\n");
    let (_files, lint) = lint(&[
        ("REGISTRY", "quay.io/m"),
        ("a/Dockerfile", &parent("c")),
        ("b/Dockerfile", &parent("a")),
        ("c/Dockerfile", &parent("b")),
        ("child/Dockerfile", &parent("b")),
        ("own/Dockerfile", &parent("own")),
        ("pushed/Dockerfile", "FROM quay.io/m/copied:1\n"),
        ("pushed/VERSION", "1"),
        ("copied/Dockerfile", "FROM debian:12\nCOPY --from=quay.io/m/pushed:1 / /\n"),
        ("copied/VERSION", "1"),
        ("again/Dockerfile", "FROM quay.io/m/again:1\n"),
        ("again/VERSION", "2"),
        ("stuck/Dockerfile", "FROM quay.io/m/stuck:2\n"),
        ("stuck/VERSION", "2"),
    ]);
    let cycle = |cycle: &str| format!("the images {cycle} are built from each other; one of them needs another parent");
    let cycles = ["a -> c -> b -> a", "copied -> pushed -> copied", "own -> own", "stuck -> stuck"];
    assert_eq!(messages(&lint.problems), cycles.map(cycle));
    let drawing = lint.to_string();
    let drawn: Vec<_> = drawing.lines().skip(3).take_while(|line| !line.is_empty()).map(first_of).collect();
    // Those that have a place come first, then each cycle from its first image on.
    let expected =
        ["again", "own (!)", "stuck (!)", "a (!)", "└── b", "    ├── c", "    └── child", "copied (!)", "└── pushed"];
    assert_eq!(drawn, expected, "{drawing}");
}

/// The first column of a line.
fn first_of(line: &str) -> &str {
    let end = ["  task ", "  registry "].iter().filter_map(|kind| line.find(kind)).min();
    line[..end.unwrap_or(line.len())].trim_end()
}

#[test]
fn the_fields_habits_are_hints() {
    let from = ("tools/Dockerfile", "FROM debian:12\n");
    let private = [("REGISTRY", "registry.example.com/ci"), ("p/Dockerfile", "FROM debian:12\n"), ("p/VERSION", "1")];
    assert_eq!(hints(&[&private[..], &[from]].concat()), Vec::<String>::new());
    for registry in ["quay.io/m", "taskcluster", "docker.io/taskcluster"] {
        let found = hints(&[("REGISTRY", registry), private[1], private[2]]);
        let expected =
            format!("the image p is pushed by hand to a public registry, as {registry}/p:1; a task can build");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
    }
    let found = hints(&[from, ("tools/system-setup.sh", "")]);
    assert!(found.len() == 1 && found[0].starts_with("the image tools has a system-setup.sh; "), "{found:?}");
    // Without a REGISTRY it is no registry image, and neither is one that is a task's parent.
    let ignored =
        |name: &str| format!("the image {name} has a VERSION, which the task that builds it ignores; remove it");
    assert_eq!(hints(&[from, ("tools/VERSION", "1")]), [ignored("tools")]);
    let child = ("child/Dockerfile", "ARG DOCKER_IMAGE_PARENT=p\nFROM $DOCKER_IMAGE_PARENT\n");
    assert_eq!(hints(&[&private[..], &[child]].concat()), [ignored("p")]);
    let child = ("child/Dockerfile", "FROM p:latest\n");
    let expected =
        "the image child has `FROM p:latest`, which is not this tree's p; that is registry.example.com/ci/p:1";
    assert_eq!(hints(&[&private[..], &[child]].concat()), [expected]);
}

#[test]
fn without_a_taskgraph_there_are_images_and_no_hashes() {
    let files = [
        ("a/Dockerfile", "FROM debian:12\n# %include-run-task\n"),
        ("b/Dockerfile", "# %include-run-task\nFROM registry.example.com/c:1\n"),
        ("c/Dockerfile", "FROM debian:12\n"),
        ("c/VERSION", "1\n"),
        ("c/REGISTRY", "registry.example.com\n"),
    ];
    assert_eq!(
        hints(&files),
        [
            "no hash of 2 images: `# %include-run-task` needs an installed taskgraph, and there is none on PATH; pip install \
          taskcluster-taskgraph, or name its directory run-task with --run-task"
        ]
    );
    let lint = lint(&files).1;
    assert_eq!(from(&lint, "b"), ["c Registry FROM registry.example.com/c:1"]);
    assert_eq!(image(&lint, "a").bases, ["debian:12"]);
    let hashed = lint.images.iter().map(|image| image.context_hash.is_some());
    assert_eq!(hashed.collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_kind_says_what_tasks_build() {
    let files = Files::new(&[
        ("taskcluster/docker/REGISTRY", "registry.example.com"),
        ("taskcluster/docker/pushed/Dockerfile", "FROM a"),
        ("taskcluster/docker/pushed/VERSION", "1"),
        ("taskcluster/docker/both/Dockerfile", "FROM registry.example.com/pushed:1"),
        ("taskcluster/docker/both/VERSION", "1"),
        ("taskcluster/docker/idle/Dockerfile", "FROM x:1"),
        ("taskcluster/docker/shared/Dockerfile", "FROM $DOCKER_IMAGE_PARENT"),
        ("taskcluster/docker/deep/er/Dockerfile", "FROM x:1"),
        ("taskcluster/docker/alias/Dockerfile", "FROM x:1"),
        ("taskcluster/docker/nothing/x", ""),
        (
            "kind.yml",
            "tasks:\n  both: {}\n  alias: {definition: shared, parent: both, symbol: I(x), args: {A: b}}\n  deep: {definition: deep/er}\n\
             \x20 lost: {definition: nothing}\n  orphan: {definition: shared, parent: gone}\n  \
             unused: {definition: deep/er, parent: both}\n",
        ),
    ]);
    let tree = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap();
    let lint = tree.lint(HashScheme::Tar);
    let kind = |name: &str| image(&lint, name).kind;
    assert_eq!((kind("both"), kind("pushed")), (Some(Sort::Task), Some(Sort::Registry)));
    assert_eq!((kind("idle"), kind("lost")), (None, Some(Sort::Task)));
    assert!(lint.images.iter().all(|image| image.name.as_str() != "shared"), "a definition is no image");
    let alias = image(&lint, "alias");
    assert_eq!((alias.symbol.as_deref(), alias.args["A"].as_str()), (Some("I(x)"), "b"));
    assert_eq!(alias.directory, Path::new("taskcluster/docker/shared"));
    assert_eq!(from(&lint, "alias"), ["both Parent FROM $DOCKER_IMAGE_PARENT"]);
    assert_eq!(from(&lint, "both"), ["pushed Registry FROM registry.example.com/pushed:1"]);
    assert_eq!(from(&lint, "unused"), ["both Parent parent: both"]);
    assert_eq!((from(&lint, "pushed"), image(&lint, "pushed").bases.concat()), (Vec::new(), "a".to_owned()));
    let expected = [
        "the image lost: taskcluster/docker/nothing has no Dockerfile; write one",
        "the parent of the image orphan: unknown image gone: taskcluster/docker has no such directory",
    ];
    assert_eq!(messages(&lint.problems), expected);
    let expected = [
        "the image alias: two directories have its name, taskcluster/docker/shared and taskcluster/docker/alias; rename one",
        "the image both has a VERSION, which the task that builds it ignores; remove it",
        "the image idle is not in the kind.yml and has no VERSION with a REGISTRY, so nobody builds it",
        "the image unused has the parent both, and its Dockerfile does not use it, so it is rebuilt with it and has \
         nothing of it; write `FROM $DOCKER_IMAGE_PARENT`",
    ];
    assert_eq!(messages(&lint.hints), expected);
}

#[test]
fn the_drawing_and_the_graph() {
    let (_files, lint) = lint(&[
        ("base/Dockerfile", "FROM debian:12\n"),
        ("base/VERSION", "1"),
        ("base/REGISTRY", "registry.example.com"),
        ("a/Dockerfile", "FROM registry.example.com/base:1\n"),
        ("b/Dockerfile", "ARG DOCKER_IMAGE_PARENT=a\nFROM $DOCKER_IMAGE_PARENT\n"),
        ("c/Dockerfile", "FROM registry.example.com/base:0\nFROM \"x\nCOPY --from=registry.example.com/base:1 / /\n"),
    ]);
    let hash = |name: &str| image(&lint, name).context_hash.unwrap().to_string()[..12].to_owned();
    let expected = format!(
        "testing/docker: 4 images, 1 of a registry\n\n\
         IMAGE      KIND      CONTEXT       FILES  SIZE  MADE OF, KNOWN AS\n\
         base       registry  {}      3  36 B  from debian:12, is registry.example.com/base:1\n\
         ├── a      task      {}      1  33 B\n\
         │   └── b  task      {}      1  52 B\n\
         └── c (!)  task      {}      1  85 B  COPY --from=registry.example.com/base:1, from x\n\n\
         1 problem:\n\
         - the Dockerfile of the image c: `FROM registry.example.com/base:0` names the version 0, but VERSION has 1; \
         make them the same\n",
        hash("base"),
        hash("a"),
        hash("b"),
        hash("c"),
    );
    assert_eq!(lint.to_string(), expected);
    let expected = [
        "digraph images {",
        "  rankdir=LR;",
        "  node [shape=box];",
        r#"  "a" [label="a"];"#,
        r#"  "b" [label="b"];"#,
        r#"  "base" [label="base\nregistry.example.com/base:1"];"#,
        r#"  "c" [label="c", color=red];"#,
        r#"  "elsewhere/debian:12" [label="debian:12", shape=plaintext];"#,
        r#"  "elsewhere/x" [label="x", shape=plaintext];"#,
        r#"  "base" -> "a" [style=solid];"#,
        r#"  "a" -> "b" [style=solid];"#,
        r#"  "elsewhere/debian:12" -> "base";"#,
        r#"  "elsewhere/x" -> "c";"#,
        r#"  "base" -> "c" [style=solid, color=red];"#,
        r#"  "base" -> "c" [style=dashed];"#,
        "}",
    ];
    assert_eq!(lint.dot().lines().collect::<Vec<_>>(), expected);
    let (_files, empty) = self::lint(&[("REGISTRY", "r")]);
    assert_eq!(empty.to_string(), "testing/docker: 0 images, 0 of a registry\n");
    let files = Files::new(&[("a/Dockerfile", "FROM debian:12\n")]);
    let here = fixture::read(files.root(), Some(Path::new("."))).unwrap().lint(HashScheme::Tar);
    assert!(here.to_string().starts_with(".: 1 image, 0 of a registry\n"), "{here}");
    assert_eq!(here.images[0].directory, Path::new("a"));
}
