//! The errors of an engine. [`BuildFailure`] describes a failed build in detail.

use std::path::PathBuf;

use super::{BuildFailure, CertificateError, ManagedError, NamedBy, TargetArch};

use crate::report::Hint;

/// What went wrong in the engine, or in a build.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine was found.
    #[error("no engine answers; tried {}{named_by}{}", list(.places), Hint(.named_by.hint()))]
    NoneAnswers {
        /// Each address with its answer.
        places: Vec<(String, String)>,
        /// What names the address, if there is only one.
        named_by: NamedBy,
    },
    /// The certificates for TLS with the engine are invalid.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// One end does not trust the other, or the other end does not use TLS.
    #[error(
        "no TLS with the engine at {place}{named_by}, and no context was sent: {why}{}",
        Hint(format_args!("check the address, and ca.pem, cert.pem and key.pem in {}", directory.display()))
    )]
    Untrusted {
        /// The address of the engine.
        place: String,
        /// What names the address.
        named_by: NamedBy,
        /// What is wrong.
        why: String,
        /// The directory with the certificates.
        directory: PathBuf,
    },
    /// There is an engine, and we have no permission to use it.
    #[error(
        "no permission for {socket}{}",
        Hint(format_args!("join the group {group}; in a task, payload.osGroups: [{group}] and the scope generic-worker:os-group:<provisionerId>/<workerType>/{group}"))
    )]
    Forbidden {
        /// The engine's socket.
        socket: String,
        /// The group that may use it.
        group: String,
    },
    /// The engine failed: it is gone, in trouble, or out of space.
    #[error("the engine failed while {doing}")]
    Request {
        /// What it was doing.
        doing: String,
        /// Its error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine's answer ended before the engine reported success.
    #[error("the engine stopped answering while {doing}")]
    Unfinished {
        /// What it was doing.
        doing: String,
    },
    /// The engine does not accept an image archive.
    #[error("the engine refuses the image: {}{}", .0, Hint("`image-worker check` says who loads it"))]
    ArchiveRefused(String),
    /// This engine does not support the request.
    #[error("{0}")]
    Refused(String),
    /// The image did not build; the failure says who can fix that.
    #[error("{}", .0.summary())]
    Build(Box<BuildFailure>),
    /// The image is for another architecture than required.
    #[error(
        "{what} is for {found}, and must be for {wanted} (TARGET_ARCH, or `arch` in kind.yml): an image must be for the architecture of what it is built FROM"
    )]
    Architecture {
        /// The image, or its parent.
        what: &'static str,
        /// The required architecture.
        wanted: TargetArch,
        /// The architecture of the image.
        found: String,
    },
    /// The image has only a configuration. Docker makes such an image and does not export it.
    #[error(
        "the image has no layers, and such an image cannot be exported{}",
        Hint("add an instruction that makes a file, like COPY")
    )]
    NoLayers,
    /// The managed engine cannot be started, or not with these settings.
    #[error(transparent)]
    Managed(#[from] ManagedError),
    /// A managed engine is gone before anybody can look at its images.
    #[error("a managed engine keeps no image for {}{}", .0, Hint("name another with --engine"))]
    KeepsNothing(&'static str),
}

/// Formats addresses and their answers for people.
pub(super) fn list(places: &[(String, String)]) -> String {
    let answers: Vec<_> = places.iter().map(|(place, answer)| format!("{place} ({answer})")).collect();
    answers.join(", ")
}
