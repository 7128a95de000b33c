//! The names of a dry run's parents: separate ones, so that no image of the user's loses its name. They contain what the images
//! are made from, so that the next dry run finds them, and parallel ones do not collide. `build` builds them.

use std::collections::BTreeSet;

use crate::engine::TargetArch;
use crate::repository::local::LocalImage;

/// What such a tag has behind the hash.
const MARK: &str = "-dry-run";

/// Gives the images names of their own, all for one architecture if it is given. An image that a Dockerfile names by its tag has
/// only that name.
pub(super) fn rename(images: &mut [LocalImage], target_arch: Option<TargetArch>) {
    let by_tag = |it: &LocalImage| it.needs.iter().filter(|need| it.parent.as_ref() != Some(need)).cloned().collect();
    let by_tag: Vec<BTreeSet<_>> = images.iter().map(by_tag).collect();
    let arch = target_arch.map(|arch| format!("-{arch}")).unwrap_or_default();
    for it in images {
        if !by_tag.iter().any(|names| names.contains(&it.image.name)) {
            it.tag = format!("{}:{}{MARK}{arch}", it.image.name, it.hash);
        }
    }
}

/// Whether an image has such a name.
pub(super) fn is_renamed(it: &LocalImage) -> bool {
    it.tag.starts_with(&format!("{}:{}{MARK}", it.image.name, it.hash))
}
