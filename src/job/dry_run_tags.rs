//! The names of a dry run's parents: its own, so that no image of the user's loses its name to it. They say what the images
//! are made of, so that the next dry run finds them, and two at once do not touch each other's. Building them is `build`'s.

use std::collections::BTreeSet;

use crate::engine::TargetArch;
use crate::repository::local::LocalImage;

/// What such a tag has behind the hash.
const MARK: &str = "-dry-run";

/// Gives names of their own to the images, all of them for one architecture where somebody says it. What a Dockerfile names
/// by its tag has that name only.
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
