//! Who can load an archive: all that is wrong with it, not only the first thing, with who breaks on it.
//! One pass, and flat memory; what comes of it is for those who call.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::manifest::{Image, repositories};
use super::member_digests::{Compression, ContentWriter, MemberDigests};
use super::members::{ArchiveIndex, Out, ReadError, read_all};
use super::oci::the_image;
use super::problem::{
    BAD_NAME, CONSUMERS, DOCKER_WORKER, GZIP, HISTORY, LAYER, MANY_NAMES, NAMELESS, NO_MANIFEST, NO_TAR, NOTHING_LOADS,
    OCI, OLD_DOCKER, OLD_LAYERS, Problem, REPOSITORIES, TASKGRAPH, WINDOWS, ZSTD,
};
use super::verify::{misnamed_blobs, verify};
use crate::net::digest_reader::DigestReader;
use crate::net::registry::ImageReference;
use crate::net::{Digest, ImageId};

/// More problems than this tell nobody anything: the rest of an archive is not looked at.
const MOST_PROBLEMS: usize = 100;

/// What is known of an archive that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The id of its image, where it has one and no more.
    pub image_id: Option<ImageId>,
    /// The names of all its images.
    pub tags: Vec<String>,
    /// How many layers its images have.
    pub layers: usize,
    /// How the archive is packed.
    pub packing: Compression,
    /// sha256 of the file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What keeps which consumer from loading it.
    pub problems: Vec<Problem>,
    /// Who loads it, and who does not.
    pub consumers: Vec<Consumer>,
}

/// Somebody who loads images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    /// The command.
    pub name: &'static str,
    /// Why it does not load the archive; none, if it does.
    pub cannot: Option<String>,
}

/// Looks at all of an archive. An error is the reader's own: bytes that are no archive are a problem among the others.
pub fn check<R: Read>(source: R) -> io::Result<Checked> {
    let mut source = DigestReader::new(source);
    let mut seen = ArchiveIndex::default();
    let mut problems = Vec::new();
    let mut collect = |problem| {
        problems.push(problem);
        if problems.len() < MOST_PROBLEMS {
            return Ok(());
        }
        Err(ReadError::Content(Problem::new("", NOTHING_LOADS, "it has too many problems: the rest is not looked at")))
    };
    let mut out = Out { raw: io::sink(), plain: ContentWriter::new(io::sink()) };
    let read = read_all(&mut source, &mut out, &mut seen, &mut collect);
    match read {
        Ok(()) => judge(&seen, &mut problems),
        Err(ReadError::Content(problem)) => problems.push(problem),
        // The disk's own errors have a number, those of decoders and of tars that break off have none.
        Err(ReadError::Read(error) | ReadError::Write(error)) if error.raw_os_error().is_some() => return Err(error),
        Err(ReadError::Read(_)) if seen.is_nothing() => {
            problems.push(Problem::new("", NOTHING_LOADS, "it is no tar archive, neither plain nor packed"));
        }
        Err(ReadError::Read(error) | ReadError::Write(error)) => {
            problems.push(Problem::new("", NOTHING_LOADS, format!("it cannot be read to its end: {error}")));
        }
    }
    io::copy(&mut source, &mut io::sink())?;
    let (_, sha256, size) = source.finish();
    let images = images(&seen);
    let image_id = match &*images {
        [image] => verify(&seen, image).image_id,
        _ => None,
    };
    let tags = images.iter().flat_map(|image| image.repo_tags.clone()).collect();
    let layers = images.iter().map(|image| image.layers.len()).sum();
    let consumers = consumers(seen.packing, &problems);
    Ok(Checked { image_id, tags, layers, packing: seen.packing, sha256, size, problems, consumers })
}

/// The images of an archive, or the one of an OCI layout.
fn images(seen: &ArchiveIndex) -> Vec<Image> {
    match &seen.manifest {
        Some(images) => images.clone(),
        None => the_image(seen).map(|image| vec![image.into_owned()]).unwrap_or_default(),
    }
}

/// Who loads an archive that is packed so and has these problems.
fn consumers(packing: Compression, problems: &[Problem]) -> Vec<Consumer> {
    let cannot = |name: &'static str| {
        let packed = match (packing, name) {
            (Compression::Zstd, OLD_DOCKER) => Some("it is packed with zstd"),
            // It reads nothing else, and of zstd only the first frame.
            (Compression::Plain | Compression::Gzip | Compression::Xz | Compression::Bzip2, TASKGRAPH) => {
                Some("it takes .tar.zst only")
            }
            (Compression::Gzip | Compression::Xz | Compression::Bzip2, DOCKER_WORKER) => {
                Some("it takes .tar and .tar.zst")
            }
            _ => None,
        };
        let problem = || problems.iter().find(|problem| problem.keeps_out().contains(&name));
        packed.map(str::to_owned).or_else(|| problem().map(|problem| problem.problem.clone()))
    };
    CONSUMERS.iter().map(|name| Consumer { name, cannot: cannot(name) }).collect()
}

/// What is wrong with an archive that could be read to its end. Of a member that was objected to already nothing more is
/// said: that it is not among the others follows.
fn judge(seen: &ArchiveIndex, problems: &mut Vec<Problem>) {
    let mut report = |found: Vec<Problem>| {
        let known: Vec<_> = problems.iter().map(|problem| problem.member.clone()).collect();
        problems.extend(found.into_iter().filter(|problem| !known.contains(&problem.member)));
    };
    report(the_image(seen).err().into_iter().collect());
    let images = images(seen);
    for image in &images {
        report(verify(seen, image).problems);
        report(image.layers.iter().filter_map(|layer| packed(layer, seen.file(layer)?.packing)).collect());
        report(image.layers.iter().filter_map(|layer| no_tar(layer, seen.file(layer)?)).collect());
        report(seen.file(&image.config).and_then(|config| configured(&image.config, config)).into_iter().collect());
    }
    report(misnamed_blobs(seen));
    if seen.manifest.is_none() {
        if !images.is_empty() {
            let what = "it is an OCI layout without a manifest.json";
            problems.push(Problem::new("manifest.json", NO_MANIFEST, what));
        }
        return;
    }
    if let [image] = &*images {
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

fn packed(layer: &str, packing: Compression) -> Option<Problem> {
    let breaks = match packing {
        Compression::Plain => return None,
        Compression::Gzip => GZIP,
        Compression::Zstd => ZSTD,
        Compression::Xz | Compression::Bzip2 => LAYER,
    };
    Some(Problem::new(layer, breaks, format!("its layer {layer} is packed with {packing}")))
}

/// Of a layer that is the one that it should be, and still none.
fn no_tar(layer: &str, sums: &MemberDigests) -> Option<Problem> {
    let is_none = sums.content.is_some() && !sums.is_tar;
    is_none.then(|| Problem::new(layer, NO_TAR, format!("its layer {layer} is no tar")))
}

/// What a configuration says that engines refuse.
fn configured(name: &str, sums: &MemberDigests) -> Option<Problem> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        os: String,
        #[serde(default)]
        history: Option<Vec<Step>>,
    }
    #[derive(Deserialize)]
    struct Step {
        #[serde(default)]
        empty_layer: bool,
    }
    let config: Config = serde_json::from_slice(sums.text.as_deref()?).ok()?;
    if config.os == "windows" {
        return Some(Problem::new(name, WINDOWS, "it is an image for Windows"));
    }
    let steps = config.history.unwrap_or_default().iter().filter(|step| !step.empty_layer).count();
    let layers = sums.diff_ids.as_ref()?.len();
    let what = || format!("its history has {steps} steps that made a layer, and it has {layers} layers");
    (steps > layers).then(|| Problem::new(name, HISTORY, what()))
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
fn disagreeing(seen: &ArchiveIndex, image: &Image, tag: &str) -> Option<Problem> {
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
fn nameless_layout(seen: &ArchiveIndex, tag: &str) -> Option<Problem> {
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
