//! What a push changed: its image compared with that of the push before.

use serde::Serialize;

use super::build::Build;
use super::pushes::{BuiltBy, IndexedPush};
use crate::context::ContextHash;
use crate::job::packages::PackageDifference;

/// Why a push has another image than the push before, or the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It has the same image.
    Reused,
    /// The context is another one.
    Context,
    /// The context is the same, and the hash in the `.hash.` route is not: the parent or an argument is another one.
    ParentOrArguments,
    /// Both hashes are the same: the image was built again.
    BuiltAgain,
    /// The hashes are not known.
    Unknown,
}

impl Cause {
    /// In a few words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Reused => "same image",
            Self::Context => "context",
            Self::ParentOrArguments => "parent or arguments",
            Self::BuiltAgain => "built again",
            Self::Unknown => "not known",
        }
    }
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Why.
    pub cause: Cause,
    /// The number of bytes that the image has more than before, all layers unpacked.
    pub size: Option<i64>,
    /// The number of layers that it has more.
    pub layers: Option<i64>,
    /// The packages.
    pub packages: Option<PackageChanges>,
}

/// The numbers of packages that differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackageChanges {
    /// Only in the later image.
    pub added: usize,
    /// Only in the earlier one.
    pub removed: usize,
    /// In both, in two versions.
    pub upgraded: usize,
}

/// A push's image, as far as it is compared.
pub(super) struct Snapshot<'a> {
    pub(super) by: &'a BuiltBy,
    pub(super) context_hash: Option<ContextHash>,
    pub(super) build: &'a Build,
}

impl<'a> Snapshot<'a> {
    /// The index has the hash from the run, and the documents from the same run.
    pub(super) fn of(push: &'a IndexedPush, build: &'a Build) -> Self {
        Self { by: &push.by, context_hash: push.context_hash.or(build.context_hash), build }
    }
}

/// What has changed between two pushes.
pub(super) fn between(before: &Snapshot, now: &Snapshot) -> Change {
    let (old, new) = (&before.build.facts, &now.build.facts);
    let count = |count: Option<usize>| count.and_then(|count| u64::try_from(count).ok());
    Change {
        cause: cause(before, now),
        size: difference(old.size, new.size),
        layers: difference(count(old.layers), count(new.layers)),
        packages: before
            .build
            .packages
            .as_ref()
            .zip(now.build.packages.as_ref())
            .map(|(old, new)| old.difference(new).into()),
    }
}

fn cause(before: &Snapshot, now: &Snapshot) -> Cause {
    if before.by == now.by {
        return Cause::Reused;
    }
    let index_hash = |snapshot: &Snapshot| snapshot.build.facts.index_hash;
    let differs = |old: Option<ContextHash>, new: Option<ContextHash>| Some(old? != new?);
    match (differs(before.context_hash, now.context_hash), differs(index_hash(before), index_hash(now))) {
        (Some(true), _) => Cause::Context,
        (Some(false), Some(true)) => Cause::ParentOrArguments,
        (Some(false), Some(false)) => Cause::BuiltAgain,
        (None, _) | (Some(false), None) => Cause::Unknown,
    }
}

/// Numbers from outside can be any.
fn difference(before: Option<u64>, now: Option<u64>) -> Option<i64> {
    i64::try_from(i128::from(now?) - i128::from(before?)).ok()
}

impl From<PackageDifference> for PackageChanges {
    fn from(PackageDifference { added, removed, upgraded }: PackageDifference) -> Self {
        Self { added: added.len(), removed: removed.len(), upgraded: upgraded.len() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::history::build::BuildFacts;
    use crate::job::packages::Sbom;
    use crate::net::Digest;

    fn hash(text: &str) -> ContextHash {
        ContextHash(Digest::of(text.as_bytes()))
    }

    fn by(run_id: u32) -> BuiltBy {
        BuiltBy { task_id: "fN1SbArXTPSVFNUvaOlinQ".parse().unwrap(), run_id: Some(run_id) }
    }

    fn build(index_hash: Option<&str>, size: Option<u64>, packages: &[(&str, &str)]) -> Build {
        let component = |(name, version): &(&str, &str)| json!({ "type": "library", "name": name, "version": version });
        let sbom = json!({ "components": packages.iter().map(component).collect::<Vec<_>>() });
        let packages = serde_json::from_value::<Sbom>(sbom).unwrap().into();
        let facts = BuildFacts { index_hash: index_hash.map(hash), size, layers: Some(3), ..BuildFacts::default() };
        Build { facts, packages: Some(packages), ..Build::default() }
    }

    #[test]
    fn the_cause_is_the_first_thing_that_differs() {
        let cause = |context: [Option<&str>; 2], index: [Option<&str>; 2]| {
            let [old, new] = index.map(|index| build(index, None, &[]));
            let (one, other) = (by(0), by(1));
            let before = Snapshot { by: &one, context_hash: context[0].map(hash), build: &old };
            let now = Snapshot { by: &other, context_hash: context[1].map(hash), build: &new };
            assert_eq!(between(&before, &Snapshot { by: &one, ..now }).cause, Cause::Reused, "whatever the rest says");
            let now = Snapshot { by: &other, context_hash: context[1].map(hash), build: &new };
            between(&before, &now).cause
        };
        assert_eq!(cause([Some("a"), Some("b")], [Some("x"), Some("y")]), Cause::Context);
        assert_eq!(cause([Some("a"), Some("b")], [None, None]), Cause::Context);
        assert_eq!(cause([Some("a"), Some("a")], [Some("x"), Some("y")]), Cause::ParentOrArguments);
        assert_eq!(cause([Some("a"), Some("a")], [Some("x"), Some("x")]), Cause::BuiltAgain);
        assert_eq!(cause([Some("a"), Some("a")], [None, Some("x")]), Cause::Unknown);
        assert_eq!(cause([None, Some("a")], [Some("x"), Some("x")]), Cause::Unknown);
    }

    #[test]
    fn sizes_and_packages_are_counted() {
        let old = build(None, Some(100), &[("a", "1"), ("b", "1"), ("c", "1")]);
        let new = build(None, Some(40), &[("a", "1"), ("b", "2"), ("d", "1"), ("e", "1")]);
        let (one, other) = (by(0), by(1));
        let before = Snapshot { by: &one, context_hash: None, build: &old };
        let now = Snapshot { by: &other, context_hash: None, build: &new };
        let change = between(&before, &now);
        assert_eq!((change.size, change.layers), (Some(-60), Some(0)));
        assert_eq!(change.packages, Some(PackageChanges { added: 2, removed: 1, upgraded: 1 }));
        let back = between(&now, &before);
        assert_eq!(back.packages, Some(PackageChanges { added: 1, removed: 2, upgraded: 1 }));
        assert_eq!(difference(Some(0), Some(u64::MAX)), None);
        let nothing = Build::default();
        let change = between(&before, &Snapshot { by: &other, context_hash: None, build: &nothing });
        assert_eq!((change.size, change.layers, change.packages), (None, None, None));
    }
}
