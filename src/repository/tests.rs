//! Tests of `Tree`: the images that it lists, and errors about a requested one. Other modules have tests of their own.

use std::os::unix::fs::symlink;

use super::fixture::{self, Files};
use super::*;

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.names().map(ImageName::as_str).collect()
}

#[test]
fn directories_with_a_dockerfile_are_images() {
    let files = Files::new(&[
        ("testing/docker/builder/Dockerfile", ""),
        ("testing/docker/bare/README", ""),
        ("testing/docker/Upper/Dockerfile", ""),
        ("testing/docker/deep/er/Dockerfile", ""),
        ("testing/docker/REGISTRY", "quay.io/m"),
        ("elsewhere/linked/Dockerfile", ""),
    ]);
    symlink("../../elsewhere/linked", files.at("testing/docker/linked")).unwrap();
    let tree = fixture::read(files.root(), None).unwrap();
    assert_eq!(names(&tree), ["builder", "linked"]);
    assert_eq!((tree.root(), &tree.images_roots), (files.root(), &vec![files.at("testing/docker")]));
    assert_eq!(tree.image(&name("builder")).unwrap().directory, files.at("testing/docker/builder"));
    assert_eq!(tree.task_image(&name("builder")).unwrap(), tree.image(&name("builder")).unwrap());
    let error = |image: &str| tree.image(&name(image)).unwrap_err().to_string();
    assert_eq!(error("bare"), "unknown image bare: testing/docker/bare has no Dockerfile");
    assert_eq!(error("buidler"), "unknown image buidler: testing/docker has no such directory; did you mean builder?");
    assert_eq!(error("zzz"), "unknown image zzz: testing/docker has no such directory");
    let given = fixture::read(files.root(), Some(Path::new("elsewhere"))).unwrap();
    assert_eq!(names(&given), ["linked"]);
    assert_eq!(names(&fixture::read(Path::new("/"), Some(&files.at("elsewhere"))).unwrap()), ["linked"]);
}

#[test]
fn the_images_root_is_where_it_usually_is() {
    let files = Files::new(&[("taskcluster/docker/a/Dockerfile", ""), ("testing/x", "")]);
    assert_eq!(names(&fixture::read(files.root(), None).unwrap()), ["a"]);
    fs::create_dir(files.at("testing/docker")).unwrap();
    let both = fixture::read(files.root(), None).unwrap_err();
    assert!(matches!(&both, TreeError::TwoImagesRoots { root } if root == files.root()));
    assert!(both.to_string().contains("testing/docker and taskcluster/docker; name one of them with --images-dir"));
    let neither = fixture::read(&files.at("testing"), None).unwrap_err();
    assert!(matches!(&neither, TreeError::NoImagesRoot { root } if *root == files.at("testing")));
    assert!(neither.to_string().contains("--images-dir"));
    let wrong = fixture::read(files.root(), Some(Path::new("none"))).unwrap_err();
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
    let tree = fixture::read(files.root(), None).unwrap();
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
            "tasks:\n  a: {symbol: I(a), args: {BASE: 'y:2'}}\n  alias: {definition: shared}\n  none: {}\n  pack: {typo: [p]}\n",
        ),
    ]);
    let kind = files.at("taskcluster/kinds/docker-image/kind.yml");
    let tree = fixture::with_kind(files.root(), None, &kind).unwrap();
    assert_eq!(names(&tree), ["a", "alias", "none", "pack", "pushed"]);
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
        error("pack").starts_with("taskcluster/kinds/docker-image/kind.yml, the image pack: it has the key `typo`")
    );
    assert!(error("alia").ends_with("did you mean alias?"), "{}", error("alia"));
    let elsewhere = fixture::with_kind(files.root(), Some(Path::new("testing/docker")), &kind).unwrap();
    assert!(elsewhere.image(&name("other")).is_ok());
}

#[test]
fn a_dockerfile_that_cannot_be_read_names_its_place() {
    let files = Files::new(&[("testing/docker/a/Dockerfile", "FROM x\n# %ARG B\n"), ("testing/docker/b/x", "")]);
    symlink("nowhere", files.at("testing/docker/b/Dockerfile")).unwrap();
    let tree = fixture::read(files.root(), None).unwrap();
    let path = files.at("testing/docker/a/Dockerfile");
    let error = tree.recipe(&name("a")).unwrap_err().to_string();
    let expected = format!("{}, line 2: `# %ARG B` needs an argument that was not given; give B=VALUE", path.display());
    assert_eq!(error, expected);
    assert!(matches!(tree.parent(&name("b")), Err(TreeError::Read { .. })));
}

#[test]
fn an_image_is_named_or_its_directory() {
    let files = Files::new(&[
        ("taskcluster/docker/a/Dockerfile", "FROM x"),
        ("taskcluster/docker/one/Dockerfile", "FROM x"),
        ("taskcluster/docker/shared/Dockerfile", "FROM x"),
        ("taskcluster/docker/named/Dockerfile", "FROM x"),
        ("elsewhere/Dockerfile", "FROM x"),
        (
            "kind.yml",
            "tasks:\n  a: {}\n  alias: {definition: one}\n  b: {definition: shared}\n  c: {definition: shared}\n  \
             named: {}\n  other: {definition: named}\n",
        ),
    ]);
    let tree = fixture::with_kind(files.root(), None, &files.at("kind.yml")).unwrap();
    let found = |typed: &str, directory: &str| {
        let found = tree.find(typed, &files.at(directory)).map_err(|error| error.to_string())?;
        Ok::<_, String>(found.map_or("-", |image| image.name.as_str()).to_owned())
    };
    for (typed, directory, expected) in [
        ("a", "", "a"),
        ("a", "taskcluster/docker", "a"),
        ("taskcluster/docker/a/", "", "a"),
        ("./a", "taskcluster/docker", "a"),
        (".", "taskcluster/docker/one", "alias"),
        ("taskcluster/docker/one", "", "alias"),
        ("alias", "", "alias"),
        ("taskcluster/docker/named", "", "named"),
        ("elsewhere", "", "-"),
        ("taskcluster", "", "-"),
    ] {
        assert_eq!(found(typed, directory).as_deref(), Ok(expected), "{typed} in {directory:?}");
    }
    let several = "taskcluster/docker/shared is the definition of b, c; name the image that you want";
    assert_eq!(found("taskcluster/docker/shared", "").unwrap_err(), several);
    assert_eq!(found("shared", "").unwrap_err(), several);
    assert!(found("alais", "").unwrap_err().ends_with("did you mean alias?"));
    assert!(found("no/where", "").unwrap_err().starts_with("cannot read "));
}

#[test]
fn a_kind_is_found_by_itself_and_brings_its_images() {
    let place = |files: &Files| ImagesDir { checkout: files.root().into(), ..ImagesDir::default() };
    for (at, text) in [
        ("taskcluster/kinds/docker-image/kind.yml", "tasks: {a: {}}"),
        ("taskcluster/ci/docker-image/kind.yml", "jobs: {a: {}}"),
    ] {
        let files =
            Files::new(&[("taskcluster/docker/a/Dockerfile", ""), ("taskcluster/docker/b/Dockerfile", ""), (at, text)]);
        let tree = Tree::open(&place(&files)).unwrap();
        assert!(tree.task_image(&name("a")).is_ok());
        let error = tree.task_image(&name("b")).unwrap_err().to_string();
        assert_eq!(error, format!("the image b is not in {at}, so no task builds it"));
        let none = ImagesDir { kinds: Some(Vec::new()), ..place(&files) };
        assert!(Tree::open(&none).unwrap().task_image(&name("b")).is_ok());
    }
    // Gecko had one that only had the path of the images.
    let old =
        [("testing/docker/a/Dockerfile", ""), ("taskcluster/ci/docker-image/kind.yml", "images_path: testing/docker")];
    let files = Files::new(&old);
    assert!(Tree::open(&place(&files)).unwrap().task_image(&name("a")).is_ok());
}

#[test]
fn an_image_is_taken_from_the_first_root_that_has_it() {
    let files = Files::new(&[
        ("comm/taskcluster/docker/tb/Dockerfile", "FROM $DOCKER_IMAGE_PARENT"),
        ("comm/taskcluster/docker/both/Dockerfile", ""),
        ("taskcluster/docker/both/Dockerfile", ""),
        ("taskcluster/docker/base/Dockerfile", "FROM x:1"),
        ("taskcluster/kinds/docker-image/kind.yml", "tasks: {base: {}, both: {}}"),
        (
            "comm/taskcluster/kinds/docker-image/kind.yml",
            "reference-base-path: taskcluster/kinds\nreference-tasks: [base]\ntasks: {tb: {parent: base}, both: {}}",
        ),
    ]);
    let comm = "comm/taskcluster/kinds/docker-image/kind.yml";
    let by_reference = ImagesDir { kinds: Some(vec![files.at(comm)]), ..ImagesDir::default() };
    let named = ImagesDir {
        images_dirs: ["comm/taskcluster/docker", "taskcluster/docker"].map(PathBuf::from).into(),
        kinds: Some([comm, "taskcluster/kinds/docker-image/kind.yml"].map(|it| files.at(it)).into()),
        ..ImagesDir::default()
    };
    for place in [by_reference, named] {
        let tree = Tree::open(&ImagesDir { checkout: files.root().into(), ..place }).unwrap();
        assert_eq!(tree.parent(&name("tb")).unwrap(), Some(name("base")));
        assert_eq!(tree.image(&name("base")).unwrap().directory, files.at("taskcluster/docker/base"));
        assert_eq!(tree.image(&name("both")).unwrap().directory, files.at("comm/taskcluster/docker/both"));
        assert_eq!(tree.ancestors(&[name("tb")]).unwrap(), [name("base"), name("tb")]);
    }
}

#[test]
fn an_image_of_another_project_says_where_it_is() {
    let files = Files::new(&[
        ("taskcluster/docker/tb/Dockerfile", "FROM $DOCKER_IMAGE_PARENT"),
        (
            "taskcluster/kinds/docker-image/kind.yml",
            "reference-base-path: taskcluster/kinds\nreference-tasks: [base]\ntasks: {tb: {parent: base}}",
        ),
    ]);
    let tree = Tree::open(&ImagesDir { checkout: files.root().into(), ..ImagesDir::default() }).unwrap();
    let error = tree.ancestors(&[name("tb")]).unwrap_err().to_string();
    assert!(error.starts_with("the parent of the image tb: the image base is another project's, by "), "{error}");
}
