//! Whether every consumer can load an archive: all that is wrong with it, not only the first thing, with who breaks on it.
//! One pass, and flat memory; what comes of it is for those who call.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::manifest::{Image, repositories};
use super::members::{Out, Seen, Trouble, read_all};
use super::problem::{
    BAD_NAME, GZIP, MANY_NAMES, NAMELESS, NOTHING_LOADS, OCI, OLD_LAYERS, Problem, REPOSITORIES, ZSTD,
};
use super::sums::{Packing, Plain};
use super::verify::{misnamed_blobs, verify};
use crate::names::{Digest, ImageReference};
use crate::stream::Tally;

/// More problems than this tell nobody anything: the rest of an archive is not looked at.
const MOST_PROBLEMS: usize = 100;

/// What is known of an archive that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The id of its image, where it has one and no more.
    pub image_id: Option<String>,
    /// The names of all its images.
    pub tags: Vec<String>,
    /// How many layers its images have.
    pub layers: usize,
    /// How the archive is packed.
    pub packing: Packing,
    /// sha256 of the file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What keeps which consumer from loading it; nothing, if every consumer can.
    pub problems: Vec<Problem>,
}

/// Looks at all of an archive. An error is the reader's own: bytes that are no archive are a problem among the others.
pub fn check<R: Read>(source: R) -> io::Result<Checked> {
    let mut source = Tally::new(source);
    let mut seen = Seen::default();
    let mut problems = Vec::new();
    let mut collect = |problem| {
        problems.push(problem);
        if problems.len() < MOST_PROBLEMS {
            return Ok(());
        }
        Err(Trouble::Content(Problem::new("", NOTHING_LOADS, "it has too many problems: the rest is not looked at")))
    };
    let mut out = Out { raw: io::sink(), plain: Plain::new(io::sink()) };
    let read = read_all(&mut source, &mut out, &mut seen, &mut collect);
    match read {
        Ok(()) => judge(&seen, &mut problems),
        Err(Trouble::Content(problem)) => problems.push(problem),
        // The disk's own errors have a number, those of decoders and of tars that break off have none.
        Err(Trouble::Read(error) | Trouble::Write(error)) if error.raw_os_error().is_some() => return Err(error),
        Err(Trouble::Read(_)) if seen.is_nothing() => {
            problems.push(Problem::new("", NOTHING_LOADS, "it is no tar archive, neither plain nor packed"));
        }
        Err(Trouble::Read(error) | Trouble::Write(error)) => {
            problems.push(Problem::new("", NOTHING_LOADS, format!("it cannot be read to its end: {error}")));
        }
    }
    io::copy(&mut source, &mut io::sink())?;
    let (_, sha256, size) = source.finish();
    let images = seen.manifest.as_deref().unwrap_or_default();
    let image_id = match images {
        [image] => verify(&seen, image).image_id,
        _ => None,
    };
    let tags = images.iter().flat_map(|image| image.repo_tags.clone()).collect();
    let layers = images.iter().map(|image| image.layers.len()).sum();
    Ok(Checked { image_id, tags, layers, packing: seen.packing, sha256, size, problems })
}

/// What is wrong with an archive that could be read to its end. Of a member that was objected to already nothing more is
/// said: that it is not among the others follows.
fn judge(seen: &Seen, problems: &mut Vec<Problem>) {
    let mut tell = |found: Vec<Problem>| {
        let known: Vec<_> = problems.iter().map(|problem| problem.member.clone()).collect();
        problems.extend(found.into_iter().filter(|problem| !known.contains(&problem.member)));
    };
    tell(seen.image().err().into_iter().collect());
    let images = seen.manifest.as_deref().unwrap_or_default();
    for image in images {
        tell(verify(seen, image).problems);
        tell(image.layers.iter().filter_map(|layer| packed(layer, seen.file(layer)?.packing)).collect());
    }
    tell(misnamed_blobs(seen));
    if let [image] = images {
        let names = names(image);
        let sound = names.is_empty();
        problems.extend(names);
        // Where it is not clear what the name is, nothing can agree with it.
        if let (true, [tag]) = (sound, image.repo_tags.as_slice()) {
            problems.extend(disagreeing(seen, image, tag));
            problems.extend(nameless_layout(seen, tag));
        }
    }
}

fn packed(layer: &str, packing: Packing) -> Option<Problem> {
    let breaks = match packing {
        Packing::Plain => return None,
        Packing::Gzip => GZIP,
        Packing::Zstd => ZSTD,
    };
    Some(Problem::new(layer, breaks, format!("its layer {layer} is packed with {packing}")))
}

/// What is wrong with the names of an image.
fn names(image: &Image) -> Vec<Problem> {
    let problem = |breaks, problem: String| Problem::new("manifest.json", breaks, problem);
    let mut problems = Vec::new();
    match image.repo_tags.as_slice() {
        [] => problems.push(problem(NAMELESS, "manifest.json gives the image no name".to_owned())),
        [_] => {}
        names => {
            let many = format!("manifest.json gives the image {} names, {}", names.len(), names.join(", "));
            problems.push(problem(MANY_NAMES, many));
        }
    }
    let wrong = image.repo_tags.iter().filter(|name| name.parse::<ImageReference>().is_err());
    problems.extend(wrong.map(|name| problem(BAD_NAME, format!("manifest.json has the name {name:?}, which is none"))));
    problems
}

/// What is wrong with `repositories`, where the manifest has one name.
fn disagreeing(seen: &Seen, image: &Image, tag: &str) -> Option<Problem> {
    let problem = |breaks, problem: String| Some(Problem::new("repositories", breaks, problem));
    let Some(text) = &seen.repositories else {
        return problem(REPOSITORIES, "it has no repositories".to_owned());
    };
    let given: BTreeMap<String, BTreeMap<String, String>> = match serde_json::from_slice(text) {
        Ok(given) => given,
        Err(error) => return problem(REPOSITORIES, format!("repositories: {error}")),
    };
    let ours = repositories(tag, image.layers.last().map(String::as_str));
    let pairs = |all: &BTreeMap<String, BTreeMap<String, String>>| -> Vec<String> {
        all.iter().flat_map(|(name, tags)| tags.keys().map(move |tag| format!("{name}:{tag}"))).collect()
    };
    if pairs(&given) != pairs(&ours) {
        let named = pairs(&given).join(", ");
        return problem(REPOSITORIES, format!("repositories has the names [{named}], manifest.json has {tag}"));
    }
    // The old format's folder of the top layer, or what we write.
    let top = given.values().flat_map(BTreeMap::values).next()?;
    let there = seen.file(&format!("{top}/layer.tar")).is_some() || given == ours;
    if there { None } else { problem(OLD_LAYERS, format!("repositories has the layer {top:?}, which is not there")) }
}

/// An OCI layout that does not have the name.
fn nameless_layout(seen: &Seen, tag: &str) -> Option<Problem> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default)]
        manifests: Vec<Descriptor>,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let text = seen.index.as_deref()?;
    let problem = |problem: String| Some(Problem::new("index.json", OCI, problem));
    let index: Index = match serde_json::from_slice(text) {
        Ok(index) => index,
        Err(error) => return problem(format!("index.json: {error}")),
    };
    let full = |name: &str| name == tag || name.strip_suffix(tag).is_some_and(|host| host.ends_with('/'));
    let names = index.manifests.iter().filter_map(|manifest| manifest.annotations.get("io.containerd.image.name"));
    if names.into_iter().any(|name| full(name)) {
        return None;
    }
    problem(format!("index.json, of an OCI layout, does not have the name {tag}"))
}

#[cfg(test)]
mod tests;
