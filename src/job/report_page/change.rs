//! What has changed since the previous image, as a page shows it.

use serde::Serialize;

use super::rows;
use crate::job::metrics::GrowthSince;
use crate::job::packages::PackageDifference;

/// The most bytes of all changed packages on a page, as JSON: some 3000, as many as another release of Debian changes.
const MOST_CHANGED: usize = 200_000;

/// The difference between two images, in bytes.
#[derive(Debug, Serialize)]
pub struct PageChange {
    headline: String,
    before: u64,
    now: u64,
    steps: Vec<ChangedStep>,
    packages: Option<ChangedPackages>,
}

#[derive(Debug, Serialize)]
struct ChangedStep {
    step: String,
    before: Option<u64>,
    now: Option<u64>,
}

/// The numbers are of all packages, the list may be shorter.
#[derive(Debug, Serialize)]
struct ChangedPackages {
    added: usize,
    removed: usize,
    upgraded: usize,
    /// Name, version before, version now; one of the versions is empty if the package is in one image only.
    listed: Vec<[String; 3]>,
}

impl PageChange {
    /// In these steps and packages.
    #[must_use]
    pub fn of(GrowthSince { growth, whose, packages }: &GrowthSince) -> Self {
        let steps = growth.changes.iter();
        let steps = steps.map(|it| ChangedStep { step: it.step.clone(), before: it.before, now: it.now });
        let headline = growth.headline(whose);
        let packages = packages.as_ref().map(changed_packages);
        Self { headline, before: growth.before, now: growth.now, steps: steps.collect(), packages }
    }
}

fn changed_packages(PackageDifference { added, removed, upgraded }: &PackageDifference) -> ChangedPackages {
    let row = |name: &str, before: &str, now: &str| [name, before, now].map(str::to_owned);
    let listed = upgraded.iter().map(|it| row(&it.name, &it.before, &it.now));
    let listed = listed.chain(added.iter().map(|it| row(&it.name, "", &it.version)));
    let listed = listed.chain(removed.iter().map(|it| row(&it.name, &it.version, "")));
    ChangedPackages {
        added: added.len(),
        removed: removed.len(),
        upgraded: upgraded.len(),
        listed: rows(listed, MOST_CHANGED),
    }
}
