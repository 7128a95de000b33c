//! The possible problems of an image archive, in words for people, and the consumers that each one breaks. The other files of
//! this module find them.

use serde::Serialize;

/// Something that prevents a consumer from loading an archive, or makes it load something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The affected member, by its name in the archive; empty if the whole archive is affected.
    pub member: String,
    /// What is wrong.
    pub problem: String,
    /// Who breaks on it, and how.
    pub breaks: &'static str,
}

impl Problem {
    pub(super) fn new(member: &str, breaks: &'static str, problem: impl Into<String>) -> Self {
        Self { member: member.to_owned(), problem: problem.into(), breaks }
    }
}

/// The programs that load images of tasks, as `check` names them.
pub(super) const OLD_DOCKER: &str = "docker load before 23";
pub(super) const DOCKER: &str = "docker load from 23 on";
pub(super) const PODMAN: &str = "podman load";
pub(super) const DOCKER_WORKER: &str = "docker-worker";
pub(super) const TASKGRAPH: &str = "taskgraph load-image";
pub(super) const OWN_LOAD: &str = "image-worker load";
pub(super) const CONSUMERS: [&str; 6] = [OLD_DOCKER, DOCKER, PODMAN, DOCKER_WORKER, TASKGRAPH, OWN_LOAD];

impl Problem {
    /// The consumers that cannot load an archive with this problem, or not under its name.
    pub(super) fn keeps_out(&self) -> &'static [&'static str] {
        match self.breaks {
            NOTHING_LOADS => &CONSUMERS,
            LAYER => &[OLD_DOCKER, DOCKER, PODMAN, DOCKER_WORKER, TASKGRAPH, OWN_LOAD],
            NO_TAR | BAD_NAME => &[OLD_DOCKER, DOCKER, PODMAN, DOCKER_WORKER, TASKGRAPH],
            HISTORY => &[OLD_DOCKER, DOCKER, DOCKER_WORKER, TASKGRAPH],
            WINDOWS => &CONSUMERS,
            IDENTITY | DOUBT | OUTSIDE => &[OWN_LOAD],
            ZSTD => &[OLD_DOCKER],
            NO_MANIFEST => &[OLD_DOCKER, DOCKER, DOCKER_WORKER, TASKGRAPH],
            MANY_IMAGES => &[DOCKER_WORKER, TASKGRAPH, OWN_LOAD],
            NAMELESS | MANY_NAMES | REPOSITORIES => &[DOCKER_WORKER, TASKGRAPH],
            _ => &[],
        }
    }
}

pub(super) const NO_TAR: &str = "engines refuse a layer that is no tar";
pub(super) const HISTORY: &str = "Docker refuses it: \"too many non-empty layers in History section\"";
pub(super) const WINDOWS: &str = "engines on Linux refuse it";
pub(super) const NO_MANIFEST: &str =
    "`docker load` without the containerd image store, docker-worker and taskgraph want a manifest.json";
pub(super) const NOTHING_LOADS: &str = "nothing loads it";
/// Measured: Docker 20.10 and Podman 4.3 verify only the layers that they unpack.
pub(super) const LAYER: &str =
    "engines refuse it, unless they have the layer that was meant: then they skip this one unread";
pub(super) const IDENTITY: &str = "engines do not look, and load an image with another id";
pub(super) const DOUBT: &str =
    "readers differ in what they make of it, and image-worker loads nothing that is in doubt";
pub(super) const OUTSIDE: &str = "whoever unpacks it as files may write outside of the folder; image-worker refuses it";
pub(super) const NAMELESS: &str = "`docker load` gives it no name, by which tasks would find it";
pub(super) const MANY_NAMES: &str =
    "`docker load` takes each of these names from the image that has it; docker-worker and taskgraph want one";
pub(super) const BAD_NAME: &str = "`docker load` refuses it";
pub(super) const MANY_IMAGES: &str = "docker-worker, taskgraph and skopeo want one";
pub(super) const REPOSITORIES: &str = "docker-worker and taskgraph read the image's name from it";
pub(super) const OLD_LAYERS: &str = "Docker before 1.10, and what else reads `repositories` for its layers";
pub(super) const OCI: &str = "Docker with the containerd image store believes it, and loads an image without the name";
pub(super) const GZIP: &str = "readers that take layers as plain tars, as `docker save` wrote them until Docker 25";
pub(super) const ZSTD: &str = "Docker before 23, and readers that take layers as plain tars";
