//! Tests of `Tree`: which images there are, and what is said of one that is asked for. Others test their own rooms.

use std::os::unix::fs::symlink;

use super::fixture::Files;
use super::*;

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.names().map(ImageName::as_str).collect()
}

#[test]
fn folders_with_a_dockerfile_are_images() {
    let files = Files::new(&[
        ("testing/docker/builder/Dockerfile", ""),
        ("testing/docker/bare/README", ""),
        ("testing/docker/Upper/Dockerfile", ""),
        ("testing/docker/deep/er/Dockerfile", ""),
        ("testing/docker/REGISTRY", "quay.io/m"),
        ("elsewhere/linked/Dockerfile", ""),
    ]);
    symlink("../../elsewhere/linked", files.at("testing/docker/linked")).unwrap();
    let tree = Tree::read(files.root(), None).unwrap();
    assert_eq!(names(&tree), ["builder", "linked"]);
    assert_eq!((tree.root(), tree.images_root()), (files.root(), files.at("testing/docker").as_path()));
    assert_eq!(tree.image(&name("builder")).unwrap().directory, files.at("testing/docker/builder"));
    assert_eq!(tree.task_image(&name("builder")).unwrap(), tree.image(&name("builder")).unwrap());
    let error = |image: &str| tree.image(&name(image)).unwrap_err().to_string();
    assert_eq!(error("bare"), "unknown image bare: testing/docker/bare has no Dockerfile");
    assert_eq!(error("buidler"), "unknown image buidler: testing/docker has no such folder; did you mean builder?");
    assert_eq!(error("zzz"), "unknown image zzz: testing/docker has no such folder");
    let given = Tree::read(files.root(), Some(Path::new("elsewhere"))).unwrap();
    assert_eq!(names(&given), ["linked"]);
    assert_eq!(names(&Tree::read(Path::new("/"), Some(&files.at("elsewhere"))).unwrap()), ["linked"]);
}

#[test]
fn the_images_root_is_where_it_usually_is() {
    let files = Files::new(&[("taskcluster/docker/a/Dockerfile", ""), ("testing/x", "")]);
    assert_eq!(names(&Tree::read(files.root(), None).unwrap()), ["a"]);
    fs::create_dir(files.at("testing/docker")).unwrap();
    let both = Tree::read(files.root(), None).unwrap_err();
    assert!(matches!(&both, TreeError::TwoImagesRoots { root } if root == files.root()));
    assert!(both.to_string().contains("testing/docker and taskcluster/docker; name one of them with --images-dir"));
    let neither = Tree::read(files.at("testing").as_path(), None).unwrap_err();
    assert!(matches!(&neither, TreeError::NoImagesRoot { root } if *root == files.at("testing")));
    assert!(neither.to_string().contains("--images-dir"));
    let wrong = Tree::read(files.root(), Some(Path::new("none"))).unwrap_err();
    assert!(matches!(&wrong, TreeError::Read { path, .. } if *path == files.at("none")));
}

#[test]
fn registry_images_have_a_reference() {
    let files = Files::new(&[
        ("testing/docker/a/Dockerfile", "FROM builder"),
        ("testing/docker/a/VERSION", "0.2"),
        ("testing/docker/b/Dockerfile", ""),
        ("testing/docker/c/VERSION", "0.3"),
        ("testing/docker/REGISTRY", "quay.io/m"),
    ]);
    let tree = Tree::read(files.root(), None).unwrap();
    assert_eq!(tree.reference(&name("a")).unwrap(), "quay.io/m/a:0.2");
    assert_eq!(tree.registry(&name("b")).unwrap(), None);
    let error = tree.reference(&name("b")).unwrap_err().to_string();
    assert!(error.starts_with("the image b: it has no VERSION file; `docker_image` is for"), "{error}");
    assert!(matches!(tree.reference(&name("c")), Err(TreeError::NoDockerfile { .. })));
}

#[test]
fn a_kind_lists_the_task_images() {
    let files = Files::new(&[
        ("taskcluster/docker/a/Dockerfile", "# %ARG BASE\nFROM $BASE\n"),
        ("taskcluster/docker/shared/Dockerfile", "FROM x:1"),
        ("taskcluster/docker/pushed/Dockerfile", "FROM x:1"),
        ("taskcluster/docker/pushed/VERSION", "1"),
        ("taskcluster/docker/pack/Dockerfile", ""),
        ("taskcluster/docker/pack/VERSION", "2"),
        ("taskcluster/docker/REGISTRY", "r"),
        ("testing/docker/other/Dockerfile", ""),
        (
            "taskcluster/kinds/docker-image/kind.yml",
            "tasks:\n  a: {symbol: I(a), args: {BASE: 'y:2'}}\n  alias: {definition: shared}\n  none: {}\n  pack: {packages: [p]}\n",
        ),
    ]);
    let kind = files.at("taskcluster/kinds/docker-image/kind.yml");
    let tree = Tree::with_kind(files.root(), None, &kind).unwrap();
    assert_eq!(names(&tree), ["a", "alias", "none", "pack", "pushed", "shared"]);
    let a = tree.task_image(&name("a")).unwrap();
    assert_eq!((a.symbol.as_deref(), a.args["BASE"].as_str()), (Some("I(a)"), "y:2"));
    assert_eq!(tree.recipe(&name("a")).unwrap().references[0].image.as_deref(), Some("y:2"));
    assert_eq!(tree.image(&name("alias")).unwrap().directory, files.at("taskcluster/docker/shared"));
    assert_eq!(tree.reference(&name("pushed")).unwrap(), "r/pushed:1");
    assert_eq!(tree.reference(&name("pack")).unwrap(), "r/pack:2");
    let error = |image: &str| tree.task_image(&name(image)).unwrap_err().to_string();
    assert_eq!(
        error("pushed"),
        "the image pushed is not in taskcluster/kinds/docker-image/kind.yml, so no task builds it"
    );
    assert_eq!(error("none"), "unknown image none: taskcluster/docker/none has no Dockerfile");
    assert!(
        error("pack").starts_with("taskcluster/kinds/docker-image/kind.yml, the image pack: it needs `packages:` (p)")
    );
    assert!(error("shard").ends_with("did you mean shared?"), "{}", error("shard"));
    let elsewhere = Tree::with_kind(files.root(), Some(Path::new("testing/docker")), &kind).unwrap();
    assert!(elsewhere.image(&name("other")).is_ok());
}

#[test]
fn a_dockerfile_that_cannot_be_read_names_its_place() {
    let files = Files::new(&[("testing/docker/a/Dockerfile", "FROM x\n# %ARG B\n"), ("testing/docker/b/x", "")]);
    symlink("nowhere", files.at("testing/docker/b/Dockerfile")).unwrap();
    let tree = Tree::read(files.root(), None).unwrap();
    let path = files.at("testing/docker/a/Dockerfile");
    let error = tree.recipe(&name("a")).unwrap_err().to_string();
    let expected = format!("{}, line 2: `# %ARG B` needs an argument that was not given; give B=VALUE", path.display());
    assert_eq!(error, expected);
    assert!(matches!(tree.parent(&name("b")), Err(TreeError::Read { .. })));
}
