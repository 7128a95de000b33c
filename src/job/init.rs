//! `init NAME`: a new image directory that builds, and its entry in `kind.yml`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tracing::{info, warn};

use super::CommandError;
use super::shutdown::Shutdown;
use crate::config::{ConfigError, InitConfig};
use crate::context::ImageName;
use crate::dockerfile::PARENT_ARG;
use crate::net::registry::{RegistryError, RegistryImage, parse_reference};
use crate::report::ErrorChain;
use crate::repository::kind_entry::{entry, with_entry};
use crate::repository::{NewImageRoot, Tree};

/// `.dockerignore` of a new image.
const DOCKERIGNORE: &str = "\
# Files of this directory that the build does not need. The context's hash is of them, too: better keep them elsewhere.
*.md
*.env
";

/// A new image directory.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewImage {
    /// Its name.
    pub name: ImageName,
    /// The files that were written, from the root of the repository.
    pub files: Vec<PathBuf>,
    /// What its Dockerfile begins with.
    pub from: String,
    /// What to type next.
    pub next: Vec<String>,
}

/// What an image is built from.
enum Base {
    /// A registry's image, or `scratch`.
    Registry(String),
    /// An image of the tree.
    Parent(ImageName),
}

/// Writes the directory of a new image, built from `from`: an image of the tree, or of a registry.
pub async fn init(
    config: &InitConfig,
    name: &ImageName,
    from: &str,
    stop: &Shutdown,
) -> Result<NewImage, CommandError> {
    let root = NewImageRoot::of(&config.place, name)?;
    let base = match from.parse() {
        Ok(parent) if root.tree.as_ref().is_some_and(|tree| tree.task_image(&parent).is_ok()) => Base::Parent(parent),
        _ => Base::Registry(stop.run_stage("asking for the digest of the base image", pinned(config, from)).await?),
    };
    let mut files = Vec::new();
    write(&root.directory.join("Dockerfile"), &dockerfile(name, &base), &mut files)?;
    write(&root.directory.join(".dockerignore"), DOCKERIGNORE, &mut files)?;
    let parent = match &base {
        Base::Parent(parent) => Some(parent),
        Base::Registry(_) => None,
    };
    if let Some(kind) = &root.kind {
        add_to_kind(kind, name, parent, config, &mut files)?;
    }
    let shown = |file: PathBuf| file.strip_prefix(&root.repository).map_or_else(|_| file.clone(), Path::to_owned);
    let next = vec![
        format!("image-worker build {name}{}", if parent.is_some() { " --with-parents" } else { "" }),
        format!("image-worker shell --local {name}:latest"),
        format!("image-worker run --dry-run {name}"),
    ];
    let from = match base {
        Base::Registry(name) => name,
        Base::Parent(parent) => parent.to_string(),
    };
    Ok(NewImage { name: name.clone(), files: files.into_iter().map(shown).collect(), from, next })
}

/// A base image with its digest, where the registry can be asked.
async fn pinned(config: &InitConfig, from: &str) -> Result<String, CommandError> {
    let wrong = |why: &str| ConfigError::Combination(format!("--from {from}: {why}"));
    let Some(reference) = parse_reference(from) else {
        return Err(wrong(
            "it is the name of no image: expected NAME:TAG as in a Dockerfile, or an image of this tree",
        )
        .into());
    };
    if from == "scratch" || reference.digest().is_some() {
        return Ok(from.to_owned());
    }
    // The tag stays: it says what the digest is of.
    let named = if from.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        from.to_owned()
    } else {
        format!("{from}:latest")
    };
    let asking = async { RegistryImage::find(from, &config.logins, config.retry)?.published().await };
    match asking.await {
        Ok(Some(published)) => Ok(format!("{named}@{}", published.digest)),
        Ok(None) => Err(wrong("its registry does not have it").into()),
        Err(error) => {
            unpinned(&named, &error);
            Ok(named)
        }
    }
}

fn unpinned(named: &str, error: &RegistryError) {
    warn!(
        "{named} is not pinned to its digest: {}; write {named}@sha256:… when the registry answers, as a tag changes without a change of the hash",
        ErrorChain(error)
    );
}

fn dockerfile(name: &ImageName, base: &Base) -> String {
    let from = match base {
        Base::Registry(base) if base.contains('@') => {
            format!("# By its digest, so that the image changes only when this file does.\nFROM {base}\n")
        }
        Base::Registry(base) => format!("FROM {base}\n"),
        Base::Parent(parent) => {
            format!(
                "# An image of this tree. A change of it is a change of this one.\nARG {PARENT_ARG}={parent}\nFROM ${PARENT_ARG}\n"
            )
        }
    };
    format!(
        "# {name}: write here what the image is for, and which tasks use it.\n{from}\n\
         # What it needs, and nothing of the package manager's that only the build needed, as in:\n\
         # RUN apt-get update \\\n\
         #     && apt-get install --yes --no-install-recommends git \\\n\
         #     && rm -rf /var/lib/apt/lists/*\n\n\
         WORKDIR /builds\n\
         CMD [\"/bin/sh\"]\n"
    )
}

/// Writes a new file, and what is missing of its directories.
fn write(path: &Path, content: &str, files: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let unwritable = |source| CommandError::Write { path: path.to_owned(), source };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(unwritable)?;
    fs::write(path, content).map_err(unwritable)?;
    files.push(path.to_owned());
    Ok(())
}

/// Adds the image to a `kind.yml`. What cannot be added without changing more is left to the user.
fn add_to_kind(
    kind: &Path,
    name: &ImageName,
    parent: Option<&ImageName>,
    config: &InitConfig,
    files: &mut Vec<PathBuf>,
) -> Result<(), CommandError> {
    let before = fs::read_to_string(kind).map_err(|source| CommandError::Read { path: kind.to_owned(), source })?;
    if let Some(after) = with_entry(&before, name, parent) {
        let unwritable = |source| CommandError::Write { path: kind.to_owned(), source };
        fs::write(kind, after).map_err(unwritable)?;
        match Tree::open(&config.place).and_then(|tree| tree.task_image(name).map(drop)) {
            Ok(()) => {
                files.push(kind.to_owned());
                return Ok(());
            }
            Err(error) => {
                fs::write(kind, before).map_err(unwritable)?;
                info!("{} was left as it is: {}", kind.display(), ErrorChain(&error));
            }
        }
    }
    let lines = entry(name, parent);
    warn!("add the image to the tasks of {}, by hand: {} {{{}}}", kind.display(), lines[0], lines[1..].join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImagesDir;
    use crate::dockerfile::base_images::DockerfileImages;
    use crate::net::registry::RegistryLogins;
    use crate::net::retry::RetryConfig;

    #[test]
    fn the_dockerfile_names_its_base() {
        let name = "new".parse().unwrap();
        let images = |base| {
            let read = DockerfileImages::read(&dockerfile(&name, &base), &std::collections::BTreeMap::new());
            read.references.into_iter().filter_map(|it| it.image).collect::<Vec<_>>()
        };
        let digest = format!("debian:12@sha256:{}", "0".repeat(64));
        assert_eq!(images(Base::Registry(digest.clone())), [digest]);
        assert_eq!(images(Base::Parent("base".parse().unwrap())), ["base"]);
    }

    #[test]
    fn a_kind_that_cannot_be_added_to_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let kind = root.path().join("kind.yml");
        // The image has no directory, so that the tree does not have it afterwards.
        for text in ["tasks: {a: {}}\n", "tasks:\n  a: {}\n"] {
            fs::create_dir_all(root.path().join("taskcluster/docker")).unwrap();
            fs::write(&kind, text).unwrap();
            let place =
                ImagesDir { checkout: root.path().into(), kinds: Some(vec![kind.clone()]), ..ImagesDir::default() };
            let (logins, retry) = (RegistryLogins::default(), RetryConfig::default());
            let config = InitConfig { place, logins, retry };
            let mut files = Vec::new();
            add_to_kind(&kind, &"new".parse().unwrap(), None, &config, &mut files).unwrap();
            assert_eq!((fs::read_to_string(&kind).unwrap().as_str(), files.len()), (text, 0));
        }
    }
}
