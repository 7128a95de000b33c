//! An image's parent: the task image that it is built from, by its Dockerfile and by `kind.yml`, which must agree. `ancestors`
//! has chains of parents.

use super::registry::is_versioned;
use super::{Image, Tree, TreeError};
use crate::context::ImageName;
use crate::dockerfile::base_images::{DockerfileImages, FromError, FromProblem, Reference, from_lines};
use crate::report::{Hint, split_hint};

/// The build argument that the parent is put in by, as `image_builder` has it.
pub(super) const ARGUMENT: &str = "DOCKER_IMAGE_PARENT";

/// Why an image's parent is unknown, or cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParentProblem {
    /// `FROM $DOCKER_IMAGE_PARENT` without a value.
    #[error(
        "`{instruction}`, and nothing says which image that is{}",
        Hint(format_args!("write `ARG {ARGUMENT}=NAME` before it{kind}"))
    )]
    Unsaid {
        /// The instruction.
        instruction: String,
        /// The other way, where there is a `kind.yml`.
        kind: &'static str,
    },
    /// A task image by its name alone, which an engine would look for in a registry.
    #[error(
        "`{instruction}` is looked for in a registry, but {image} is built by a task{}",
        Hint(format_args!("write `ARG {ARGUMENT}={image}` and `FROM ${ARGUMENT}`, so that the task's image can be put in, or docker.io/library/{image} if that is meant"))
    )]
    ByName {
        /// The instruction.
        instruction: String,
        /// The image that it names.
        image: ImageName,
    },
    /// Two parents.
    #[error("`{instruction}` is {default}, but {other} is the parent too{}", Hint("an image has one parent"))]
    Two {
        /// The instruction.
        instruction: String,
        /// The image that it names.
        default: ImageName,
        /// The other one.
        other: ImageName,
    },
    /// Another parent than in `kind.yml`.
    #[error(
        "`{instruction}` is {default} by its ARG, but `parent: {parent}` in kind.yml{}",
        Hint("make them the same")
    )]
    NotAsInKind {
        /// The instruction.
        instruction: String,
        /// The image that the Dockerfile names.
        default: ImageName,
        /// The image that `kind.yml` names.
        parent: ImageName,
    },
    /// A FROM that gives an engine nothing to build from.
    #[error("{}{}", split_hint(.error).0, Hint(split_hint(.error).1.unwrap_or_default() + arguments))]
    From {
        /// The problem.
        error: FromError,
        /// The source of the image's arguments, for a FROM that depends on one.
        arguments: &'static str,
    },
    /// The argument among the image's own.
    #[error(
        "the args have {ARGUMENT}, which is the parent's place{}",
        Hint(format_args!("write `parent: {parent}` instead"))
    )]
    AmongArgs {
        /// The parent.
        parent: ImageName,
    },
}

/// The parent of an image, where it has one.
pub(super) fn parent(
    tree: &Tree,
    image: &Image,
    recipe: &DockerfileImages,
) -> Result<Option<ImageName>, ParentProblem> {
    let listed = image.listed_parent.as_ref();
    let mut found: Option<ImageName> = None;
    for reference in &recipe.references {
        let neighbour = neighbour(tree, reference);
        let instruction = || reference.shown();
        if !reference.variables.iter().any(|variable| variable == ARGUMENT) {
            by_name(tree, image, reference)?;
            continue;
        }
        match (neighbour, listed, &found) {
            (Some(default), Some(parent), _) if default != *parent => {
                return Err(ParentProblem::NotAsInKind { instruction: instruction(), default, parent: parent.clone() });
            }
            (Some(default), None, Some(other)) if default != *other => {
                return Err(ParentProblem::Two { instruction: instruction(), default, other: other.clone() });
            }
            (Some(default), ..) => found = Some(default),
            (None, None, _) if reference.image.as_ref().is_none_or(String::is_empty) => {
                let kind = if tree.kinds.is_empty() { "" } else { ", or `parent: NAME` in kind.yml" };
                return Err(ParentProblem::Unsaid { instruction: instruction(), kind });
            }
            (None, ..) => {}
        }
    }
    let parent = listed.cloned().or(found);
    match parent {
        Some(parent) if image.args.contains_key(ARGUMENT) => Err(ParentProblem::AmongArgs { parent }),
        parent => Ok(parent),
    }
}

/// Refuses what no engine can build from. The parent's image has a name when the task builds.
pub(super) fn check_from(tree: &Tree, image: &Image, parent: Option<&ImageName>) -> Result<(), TreeError> {
    let processed = image.dockerfile()?.text;
    let mut args = image.args.clone();
    args.extend(parent.map(|parent| (ARGUMENT.to_owned(), parent.to_string())));
    let Some(mut error) = DockerfileImages::read(&processed, &args).from_error else { return Ok(()) };
    // The same FROM has another line in the processed text, where that has other lines before it.
    let raw = super::read_text(&image.directory.join("Dockerfile")).unwrap_or_default();
    let which = from_lines(&processed).iter().position(|line| Some(*line) == error.line);
    error.line = which.and_then(|which| from_lines(&raw).get(which).copied()).or(error.line);
    let arguments = of_arguments(tree, &error.problem);
    Err(TreeError::Parent { name: image.name.clone(), problem: ParentProblem::From { error, arguments } })
}

/// Where the arguments of a tree's images are.
fn of_arguments(tree: &Tree, problem: &FromProblem) -> &'static str {
    match problem {
        FromProblem::Missing | FromProblem::Bare { .. } => "",
        FromProblem::Empty { .. } | FromProblem::NoReference { .. } if tree.kinds.is_empty() => {
            " (--arg K=V for `hash`, `context` and dry runs; for all others by the `args` of a kind.yml, which is not here)"
        }
        FromProblem::Empty { .. } | FromProblem::NoReference { .. } => {
            " (in the `args` of kind.yml: a transform of the project that puts one in is not run)"
        }
    }
}

/// The image of the tree that a reference could mean, by any tag.
fn neighbour(tree: &Tree, reference: &Reference) -> Option<ImageName> {
    reference.plain()?.name.parse().ok().filter(|name| tree.is_image(name))
}

/// Refuses a neighbour that only a task builds, if its name is used like a registry's. Any other tag than `latest` is a
/// registry's, and an image's own name may be one that a registry has too. A `kind.yml` lists the parents itself: other names are
/// a registry's, as in taskgraph.
fn by_name(tree: &Tree, image: &Image, reference: &Reference) -> Result<(), ParentProblem> {
    match neighbour(tree, reference) {
        Some(name)
            if reference.plain().is_some_and(|plain| plain.is_latest())
                && tree.kinds.is_empty()
                && name != image.name
                && !is_versioned(tree.images_root_of(name.as_str()), &name) =>
        {
            Err(ParentProblem::ByName { instruction: reference.shown(), image: name })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, Files};

    /// The parent of the image `i`, or nothing, among the neighbours `builder`, `tester` and, in a registry, `pushed`.
    fn parent_of(dockerfile: &str, kind: Option<&str>) -> Result<String, String> {
        let mut files = vec![
            ("taskcluster/docker/i/Dockerfile", dockerfile),
            ("taskcluster/docker/builder/Dockerfile", "FROM debian:12\n"),
            ("taskcluster/docker/tester/Dockerfile", "FROM debian:12\n"),
            ("taskcluster/docker/pushed/Dockerfile", "FROM debian:12\n"),
            ("taskcluster/docker/pushed/VERSION", "1"),
        ];
        let kind_file = kind.map(|task| format!("tasks:\n  i: {task}\n  builder: {{}}\n  tester: {{}}\n"));
        files.extend(kind_file.iter().map(|text| ("kind.yml", text.as_str())));
        let files = Files::new(&files);
        let tree = match kind {
            None => fixture::read(files.root(), None),
            Some(_) => fixture::with_kind(files.root(), None, &files.at("kind.yml")),
        };
        let parent = tree.unwrap().parent(&"i".parse().unwrap());
        parent.map(|parent| parent.map_or_else(String::new, |name| name.to_string())).map_err(|error| error.to_string())
    }

    fn parent(dockerfile: &str) -> Result<String, String> {
        parent_of(dockerfile, None)
    }

    #[test]
    fn the_default_of_the_argument_names_the_parent() {
        for dockerfile in [
            "ARG DOCKER_IMAGE_PARENT=builder\nFROM $DOCKER_IMAGE_PARENT\n",
            "arg OTHER DOCKER_IMAGE_PARENT=\"builder:latest\"\nfrom ${DOCKER_IMAGE_PARENT} as x\nFROM tester:1\n",
            "ARG DOCKER_IMAGE_PARENT\nFROM debian:12\nFROM --platform=linux/amd64 ${DOCKER_IMAGE_PARENT:-builder:1}\n",
            "ARG DOCKER_IMAGE_PARENT=builder\nFROM $DOCKER_IMAGE_PARENT\nFROM $DOCKER_IMAGE_PARENT\n",
        ] {
            assert_eq!(parent(dockerfile), Ok("builder".to_owned()), "{dockerfile}");
        }
        for dockerfile in [
            "FROM debian:12\n",
            "ARG DOCKER_IMAGE_PARENT=debian:12\nFROM $DOCKER_IMAGE_PARENT\n",
            "ARG DOCKER_IMAGE_PARENT=registry.example.com/builder\nFROM $DOCKER_IMAGE_PARENT\n",
            "ARG DOCKER_IMAGE_PARENT=builder\nFROM debian:12\n",
            "FROM pushed\nFROM i\nFROM builder:1.2\nFROM docker.io/library/builder\n",
            "FROM debian:12 AS builder\nCOPY --from=builder / /\nFROM builder\n",
        ] {
            assert_eq!(parent(dockerfile), Ok(String::new()), "{dockerfile}");
        }
    }

    #[test]
    fn a_parent_that_cannot_be_put_in_is_refused() {
        assert_eq!(
            parent("FROM $DOCKER_IMAGE_PARENT\n").unwrap_err(),
            "the Dockerfile of the image i: `FROM $DOCKER_IMAGE_PARENT`, and nothing says which image that is; \
             write `ARG DOCKER_IMAGE_PARENT=NAME` before it"
        );
        assert!(parent("ARG DOCKER_IMAGE_PARENT=\nFROM $DOCKER_IMAGE_PARENT\n").unwrap_err().contains("nothing says"));
        assert_eq!(
            parent("FROM builder:latest\n").unwrap_err(),
            "the Dockerfile of the image i: `FROM builder:latest` is looked for in a registry, but builder is built by a \
             task; write `ARG DOCKER_IMAGE_PARENT=builder` and `FROM $DOCKER_IMAGE_PARENT`, so that the task's image can \
             be put in, or docker.io/library/builder if that is meant"
        );
        for by_name in ["FROM builder\n", "ARG B=builder\nFROM $B\n", "FROM a:1\nCOPY --from=builder / /\n"] {
            assert!(parent(by_name).unwrap_err().contains("builder is built by a task"), "{by_name}");
        }
        assert_eq!(
            parent(
                "ARG DOCKER_IMAGE_PARENT\nFROM ${DOCKER_IMAGE_PARENT:-builder}\nFROM ${DOCKER_IMAGE_PARENT:-tester}\n"
            )
            .unwrap_err(),
            "the Dockerfile of the image i: `FROM ${DOCKER_IMAGE_PARENT:-tester}` is tester, but builder is the parent \
             too; an image has one parent"
        );
    }

    #[test]
    fn kind_and_dockerfile_agree() {
        let from = "FROM $DOCKER_IMAGE_PARENT\n";
        let with_default = "ARG DOCKER_IMAGE_PARENT=builder\nFROM $DOCKER_IMAGE_PARENT\n";
        for dockerfile in [
            from,
            with_default,
            "ARG DOCKER_IMAGE_PARENT=debian:12\nFROM $DOCKER_IMAGE_PARENT",
            "FROM a:1",
            "FROM tester",
        ] {
            assert_eq!(parent_of(dockerfile, Some("{parent: builder}")), Ok("builder".to_owned()), "{dockerfile}");
        }
        assert_eq!(parent_of(with_default, Some("{}")), Ok("builder".to_owned()));
        assert_eq!(parent_of("FROM a:1\n", Some("{}")), Ok(String::new()));
        assert!(parent_of(from, Some("{}")).unwrap_err().ends_with("before it, or `parent: NAME` in kind.yml"));
        assert_eq!(
            parent_of(with_default, Some("{parent: tester}")).unwrap_err(),
            "the Dockerfile of the image i: `FROM $DOCKER_IMAGE_PARENT` is builder by its ARG, but `parent: tester` in \
             kind.yml; make them the same"
        );
        let among = "the Dockerfile of the image i: the args have DOCKER_IMAGE_PARENT, which is the parent's place; write \
                     `parent: builder` instead";
        assert_eq!(parent_of(with_default, Some("{args: {DOCKER_IMAGE_PARENT: builder}}")).unwrap_err(), among);
        assert_eq!(parent_of(with_default, Some("{args: {DOCKER_IMAGE_PARENT: debian:12}}")), Ok(String::new()));
    }

    #[test]
    fn a_base_image_has_a_name_that_can_be_pulled() {
        for (dockerfile, kind, named) in [
            (
                "ARG B\nFROM $B\n",
                "{args: {B: '{dockerhub:ubuntu:latest}'}}",
                "line 2: `FROM $B` is \"{dockerhub:ubuntu:latest}\"",
            ),
            ("\nFROM Debian:12\n", "{}", "line 2: `FROM Debian:12` is \"Debian:12\""),
            ("ARG B=\"a b\"\nFROM $B\n", "{}", "line 2: `FROM $B` is \"a b\""),
            ("FROM node:$B\n", "{}", "line 1: `FROM node:$B` is \"node:\""),
        ] {
            let error = parent_of(dockerfile, Some(kind)).unwrap_err();
            let expected = format!("the Dockerfile of the image i: {named}, which is no image reference; ");
            assert!(error.starts_with(&expected), "{error}");
        }
        for (dockerfile, kind, named) in [
            ("# %ARG A\nFROM a\n# %include-run-task\nFROM $B\n", "{args: {A: a}}", "line 4: `FROM $B` is empty, as "),
            ("FROM $DOCKER_IMAGE_PARENT\nFROM ${B}\n", "{parent: builder}", "line 2: `FROM ${B}` is empty, as "),
            ("FROM\n", "{}", "line 1: `FROM` names no image; "),
            ("RUN a\n", "{}", "there is no FROM; "),
        ] {
            let error = parent_of(dockerfile, Some(kind)).unwrap_err();
            assert!(error.starts_with(&format!("the Dockerfile of the image i: {named}")), "{error}");
        }
        for from in ["FROM $B\n", "FROM node:$B\n"] {
            assert!(
                parent_of(from, Some("{}")).unwrap_err().contains(" build argument (in the `args` of kind.yml: "),
                "{from}"
            );
            let error = parent(from).unwrap_err();
            assert!(
                error.contains(" build argument (--arg K=V for `hash`, ") && !error.contains("transform"),
                "{error}"
            );
        }
        assert_eq!(parent_of("FROM debian:$B\n", Some("{args: {B: '12'}}")), Ok(String::new()));
        for fine in [
            "i386/ubuntu:bionic",
            "localhost:5000/a/b",
            "a.b/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "scratch",
        ] {
            assert_eq!(parent_of(&format!("FROM {fine}\n"), Some("{}")), Ok(String::new()), "{fine}");
        }
    }
}
