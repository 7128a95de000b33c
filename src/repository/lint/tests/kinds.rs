//! Tests of surveys with a `kind.yml`: definitions that several images share, and parents in another project.

use super::*;

#[test]
fn a_definition_is_checked_with_the_arguments_of_each_entry() {
    let files = Files::new(&[
        ("taskcluster/docker/python/Dockerfile", "# %ARG VERSION\nFROM python:$VERSION\n"),
        ("taskcluster/docker/broken/Dockerfile", "FROM debian:12\n# %include nowhere\n"),
        ("taskcluster/docker/idle/Dockerfile", "# %ARG VERSION\nFROM python:$VERSION\n"),
        ("taskcluster/docker/recipes/x.sh", ""),
        ("taskcluster/docker/Some_Definition/Dockerfile", "FROM $DOCKER_IMAGE_PARENT\n"),
        ("taskcluster/docker/listed/Dockerfile", "FROM debian:12\n"),
        ("taskcluster/docker/listed/VERSION", "1"),
        (
            "kind.yml",
            "tasks:\n  python3: {definition: python, args: {VERSION: '3'}}\n  wrong: {definition: python}\n  \
             b1: {definition: broken}\n  b2: {definition: broken}\n  listed: {}\n  \
             some: {definition: Some_Definition, parent: listed}\n  packed: {definition: listed, packages: [p]}\n",
        ),
    ]);
    let lint = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap().lint(HashScheme::Tar);
    let names: Vec<_> = lint.images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["b1", "b2", "idle", "listed", "packed", "python3", "some", "wrong"]);
    let wrong: Vec<_> = lint.problems.iter().map(|it| it.image.as_ref().unwrap().as_str()).collect();
    assert_eq!(wrong, ["b1", "b2", "wrong"], "{:?}", lint.problems);
    for (problem, image) in lint.problems.iter().zip(wrong) {
        assert!(problem.message.starts_with(&format!("the image {image}: taskcluster/docker/")), "{problem:?}");
    }
    let drawn = lint.to_string();
    assert!(
        ["b1 (!)", "b2 (!)", "wrong (!)"].iter().all(|it| drawn.contains(it)) && drawn.contains("python3  "),
        "{drawn}"
    );
    // Only the task graph knows its packages.
    let packed = image(&lint, "packed");
    assert_eq!((packed.packages.concat(), packed.hash), ("p".to_owned(), None));
    let hints = messages(&lint.hints);
    assert!(hints.iter().any(|hint| hint.contains("docker/idle/Dockerfile, line 1")), "{hints:?}");
}

#[test]
fn a_parent_in_another_project_is_a_hint() {
    let files = Files::new(&[
        ("taskcluster/docker/tb/Dockerfile", "FROM $DOCKER_IMAGE_PARENT\n# %include comm/x\n"),
        ("kind.yml", "reference-base-path: taskcluster/kinds\nreference-tasks: [base]\ntasks: {tb: {parent: base}}\n"),
    ]);
    let lint = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap().lint(HashScheme::Tar);
    assert_eq!((lint.images.len(), messages(&lint.problems)), (1, Vec::new()));
    assert!(
        lint.hints[1].message.starts_with("the parent of the image tb: the image base is another"),
        "{:?}",
        lint.hints
    );
}
