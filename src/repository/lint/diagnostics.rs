//! Finds everything that is wrong with a tree of images, and what differs from common practice. `TreeError` has the problems of a
//! single requested image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::registry::{RegistryProblem, VersionFile};
use super::super::{Entry, Tree, TreeError, USUAL_PLACES, has_dockerfile};
use super::drawing::counted;
use super::relations::{Link, Relations};
use super::{Diagnostic, Look, Sort};
use crate::context::ImageName;
use crate::report::ErrorChain;

/// Registries that everybody can read. A name without a host is Docker Hub's.
const PUBLIC: [&str; 7] =
    ["docker.io", "index.docker.io", "quay.io", "ghcr.io", "gcr.io", "public.ecr.aws", "registry.gitlab.com"];

/// The diagnostics of a tree.
pub(super) struct Diagnostics<'a> {
    tree: &'a Tree,
    relations: &'a Relations,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) hints: Vec<Diagnostic>,
    /// Files whose wrong content is reported already.
    reported: BTreeSet<PathBuf>,
}

impl<'a> Diagnostics<'a> {
    /// Finds all problems and hints.
    pub(super) fn collect(tree: &'a Tree, looks: &'a BTreeMap<ImageName, Look>, relations: &'a Relations) -> Self {
        let mut it = Self { tree, relations, problems: Vec::new(), hints: Vec::new(), reported: BTreeSet::new() };
        it.misnamed_directories();
        it.entries();
        for (name, look) in looks {
            it.image(name, look);
            it.files(name, look);
            it.same_name(name);
        }
        it.references();
        it.cycles();
        it.no_taskgraph(looks);
        it
    }

    /// Directories with a Dockerfile and an invalid image name. Directories without a Dockerfile are ignored, and with a
    /// `kind.yml` only its entries are images.
    fn misnamed_directories(&mut self) {
        if !self.tree.kinds.is_empty() {
            return;
        }
        for (name, path) in self.tree.others.iter().filter(|(_, path)| has_dockerfile(path)) {
            let shown = self.tree.shown(path);
            let shown = shown.display();
            let problem = name.parse::<ImageName>().err().map(|error| error.to_string()).unwrap_or_default();
            let lower = name.to_lowercase();
            let message = if lower.parse().is_ok_and(|name| self.tree.is_image(&name)) {
                format!("{shown} and {lower} have one name where case does not count, and {problem}")
            } else {
                format!("{shown}: {problem}; rename it")
            };
            self.problems.push(Diagnostic { image: None, message });
        }
    }

    /// Entries of a `kind.yml` with names that no image can have.
    fn entries(&mut self) {
        for (kind, misnamed) in &self.tree.misnamed {
            let message = format!("{}: {}; rename it", self.tree.shown(kind).display(), misnamed.error);
            self.problems.push(Diagnostic { image: None, message });
        }
    }

    /// The problems of an image by itself.
    fn image(&mut self, name: &ImageName, look: &Look) {
        for error in &look.errors {
            let message = match error {
                TreeError::NoDockerfile { directory, .. } => {
                    format!("the image {name}: {} has no Dockerfile; write one", directory.display())
                }
                // The path alone does not show which of the images made from it.
                TreeError::Context(_) | TreeError::Read { .. } if self.has_other_directory(name) => {
                    format!("the image {name}: {}", self.message(error))
                }
                error => self.message(error),
            };
            // What another project's checkout has.
            let is_missing = matches!(error, TreeError::Context(_)) && self.tree.is_part();
            match self.tree.sort(name, look, self.relations) {
                Some(_) if !is_missing => self.problem(name, message),
                // No task builds it, or none here.
                _ => self.hints.push(Diagnostic { image: Some(name.clone()), message }),
            }
        }
        if let Some(error) = look.parent.as_ref().and_then(|parent| self.tree.task_image(parent).err()) {
            let is_elsewhere = matches!(error, TreeError::Elsewhere { .. });
            let message = self.message(&TreeError::OfChild { child: name.clone(), error: Box::new(error) });
            if is_elsewhere {
                self.hints.push(Diagnostic { image: Some(name.clone()), message });
            } else {
                self.problem(name, message);
            }
        }
        // A task builds what a kind.yml lists, even if it has files of a registry image.
        let is_listed = !self.tree.kinds.is_empty() && matches!(self.tree.images.get(name), Some(Entry::Built(_)));
        for problem in look.version_file.iter().filter(|_| !is_listed).flat_map(VersionFile::problems) {
            // A file that is wrong for one image is wrong for all that have it.
            if let RegistryProblem::Grammar { file, .. } = problem
                && !self.reported.insert(file.clone())
            {
                continue;
            }
            let error = TreeError::Registry { name: name.clone(), problem: problem.clone() };
            self.problem(name, self.message(&error));
        }
    }

    /// Whether an image is made from a directory that has another name.
    fn has_other_directory(&self, name: &ImageName) -> bool {
        self.tree.image(name).is_ok_and(|image| image.directory.file_name().is_none_or(|it| it != name.as_str()))
    }

    /// What an image's files could have otherwise.
    fn files(&mut self, name: &ImageName, look: &Look) {
        let sort = self.tree.sort(name, look, self.relations);
        let Ok(image) = self.tree.image(name) else { return };
        if image.directory.join("system-setup.sh").exists() {
            let why =
                "as steps of the Dockerfile its commands are cached one by one, and the log says which one failed";
            self.hint(name, &format!("has a system-setup.sh; {why}"));
        }
        if let Some(version_file) = &look.version_file {
            match sort {
                Some(Sort::Registry) => {
                    let reference = self.tree.reference(name).ok();
                    if let Some(reference) = reference.filter(|reference| is_public(reference)) {
                        let instead =
                            "a task can build it on push instead, without VERSION, unless decision tasks run in it";
                        self.hint(name, &format!("is pushed by hand to a public registry, as {reference}; {instead}"));
                    }
                }
                Some(Sort::Task) if version_file.is_versioned() => {
                    let file = if version_file.version.is_some() { "VERSION" } else { "HASH" };
                    self.hint(name, &format!("has a {file}, which the task that builds it ignores; remove it"));
                }
                Some(Sort::Task) | None => {}
            }
        }
        if sort.is_none() {
            self.hint(name, "is not in the kind.yml and has no VERSION with a REGISTRY, so nobody builds it");
        }
    }

    /// Two directories for one name: by `definition:`, or in both of the usual places.
    fn same_name(&mut self, name: &ImageName) {
        let directory = match self.tree.images.get(name) {
            Some(Entry::Built(image) | Entry::Unlisted(image)) => &image.directory,
            _ => return,
        };
        let own = self.tree.directory(name.as_str());
        let places = USUAL_PLACES.iter().map(|place| self.tree.root().join(place).join(name.as_str()));
        let other = |other: &Path| {
            let same = || other.canonicalize().ok() == directory.canonicalize().ok();
            other != directory && has_dockerfile(other) && !same()
        };
        let others: Vec<_> = std::iter::once(own.clone()).chain(places.filter(|place| *place != own)).collect();
        for other in others.into_iter().filter(|place| other(place)) {
            let (directory, other) = (self.tree.shown(directory), self.tree.shown(&other));
            let both = format!("{} and {}", directory.display(), other.display());
            let message = format!("the image {name}: two directories have its name, {both}; rename one");
            // A kind.yml selects one.
            if self.tree.kinds.is_empty() {
                self.problem(name, message);
            } else {
                self.hints.push(Diagnostic { image: Some(name.clone()), message });
            }
        }
    }

    /// References that do not match the referenced image.
    fn references(&mut self) {
        for (name, relation) in self.relations.all() {
            let (instruction, other) = (&relation.instruction, &relation.image);
            if let Some(mismatch) = &relation.mismatch {
                let message =
                    format!("the Dockerfile of the image {name}: `{instruction}` {mismatch}; make them the same");
                self.problem(name, message);
            }
            let pushed = self.tree.reference(other).ok().filter(|_| relation.link == Link::Name);
            if let Some(pushed) = pushed {
                self.hint(name, &format!("has `{instruction}`, which is not this tree's {other}; that is {pushed}"));
            }
            if instruction.starts_with("parent: ") {
                let why = "so it is rebuilt with it and has nothing of it; write `FROM $DOCKER_IMAGE_PARENT`";
                self.hint(name, &format!("has the parent {other}, and its Dockerfile does not use it, {why}"));
            }
        }
    }

    fn cycles(&mut self) {
        for cycle in self.relations.cycles() {
            let names = cycle.iter().chain(cycle.first()).map(|name| name.as_str());
            let error = TreeError::Cycle { cycle: names.collect::<Vec<_>>().join(" -> ") };
            if let Some(first) = cycle.first() {
                self.problem(first, error.to_string());
            }
        }
    }

    /// Contexts that this machine cannot make.
    fn no_taskgraph(&mut self, looks: &BTreeMap<ImageName, Look>) {
        let without: Vec<_> = looks.values().filter_map(|look| look.no_taskgraph.as_ref()).collect();
        if let Some(error) = without.first() {
            let images = counted(without.len(), "image");
            let message = format!("no hash of {images}: `# %include-run-task` {error}");
            self.hints.push(Diagnostic { image: None, message });
        }
    }

    /// An error and its causes, with paths as people write them.
    fn message(&self, error: &TreeError) -> String {
        let text = ErrorChain(error).to_string();
        text.replace(&format!("{}/", self.tree.root().display()), "").replace('\n', " ")
    }

    fn problem(&mut self, name: &ImageName, message: String) {
        if !self.problems.iter().any(|known| known.message == message && known.image.as_ref() == Some(name)) {
            self.problems.push(Diagnostic { image: Some(name.clone()), message });
        }
    }

    fn hint(&mut self, name: &ImageName, what: &str) {
        self.hints.push(Diagnostic { image: Some(name.clone()), message: format!("the image {name} {what}") });
    }
}

/// Whether everybody can read the registry.
fn is_public(reference: &str) -> bool {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => PUBLIC.contains(&host),
        _ => true,
    }
}
