//! What can go wrong with an engine. Of a build that failed, [`BuildFailure`] says more.

use std::path::PathBuf;

use super::{BuildFailure, CertificateError, ManagedError, NamedBy, TargetArch};

/// What the engine, or what it was asked to build, did wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine was found.
    #[error("no engine answers; tried {}{named_by}; {}", list(.places), .named_by.hint())]
    NoneAnswers {
        /// Each place and what it said.
        places: Vec<(String, String)>,
        /// Who names the place, where it is one.
        named_by: NamedBy,
    },
    /// The certificates for TLS with the engine.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// One end does not trust the other, or the other end speaks no TLS.
    #[error(
        "no TLS with the engine at {place}{named_by}, and no context was sent: {why}; check the address, and ca.pem, cert.pem and key.pem in {}", folder.display()
    )]
    Untrusted {
        /// Where the engine should be.
        place: String,
        /// Who says so.
        named_by: NamedBy,
        /// What is wrong.
        why: String,
        /// Where the certificates are.
        folder: PathBuf,
    },
    /// There is an engine, and we may not use it.
    #[error(
        "no permission for {socket}: join the group {group}; in a task, payload.osGroups: [{group}] and the scope generic-worker:os-group:<provisionerId>/<workerType>/{group}"
    )]
    Forbidden {
        /// The engine's socket.
        socket: String,
        /// The group that may use it.
        group: String,
    },
    /// The engine did not do what it can do: it is gone, in trouble, or out of space.
    #[error("the engine failed while {doing}")]
    Request {
        /// What it was doing.
        doing: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine ended its answer without saying that it was done.
    #[error("the engine stopped answering while {doing}")]
    Unfinished {
        /// What it was doing.
        doing: String,
    },
    /// An image archive that the engine does not take.
    #[error("the engine refuses the image: {0}; `image-worker check` says who loads it")]
    ArchiveRefused(String),
    /// This engine cannot do what is asked for.
    #[error("{0}")]
    Refused(String),
    /// The image did not build; the failure says whose fault that is.
    #[error("{}", .0.summary())]
    Build(Box<BuildFailure>),
    /// The image is for another architecture than it should be.
    #[error(
        "{what} is for {found}, and must be for {wanted} (TARGET_ARCH, or `arch` in kind.yml): an image must be for the architecture of what it is built FROM"
    )]
    Architecture {
        /// The image, or its parent.
        what: &'static str,
        /// What was asked for.
        wanted: TargetArch,
        /// What came out.
        found: String,
    },
    /// An image that is nothing but configuration, which Docker makes and does not export.
    #[error(
        "the image has no layers, and such an image cannot be exported; add an instruction that makes a file, like COPY"
    )]
    NoLayers,
    /// No engine of our own can be had, or not such a one.
    #[error(transparent)]
    Managed(#[from] ManagedError),
    /// An engine of our own is gone before anybody can look into it.
    #[error("a managed engine keeps no image for {0}: name another with --engine")]
    KeepsNothing(&'static str),
}

/// Places and what each of them said, for a person.
pub(super) fn list(places: &[(String, String)]) -> String {
    let answers: Vec<_> = places.iter().map(|(place, answer)| format!("{place} ({answer})")).collect();
    answers.join(", ")
}
