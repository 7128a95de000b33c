//! Checks which consumers can load an archive: it lists all problems, not only the first, and the consumers that each one
//! breaks. It reads the archive in one pass with constant memory. The callers decide what follows from the problems.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::manifest::{Image, repositories};
use super::member_digests::{Compression, ContentWriter, MemberDigests};
use super::members::{ArchiveIndex, Out, ReadError, Truncated, read_all};
use super::oci::single_image;
use super::problem::{
    BAD_NAME, CONSUMERS, DOCKER_WORKER, GZIP, HISTORY, LAYER, MANY_NAMES, NAMELESS, NO_MANIFEST, NO_TAR, NOTHING_LOADS,
    OCI, OLD_DOCKER, OLD_LAYERS, Problem, REPOSITORIES, TASKGRAPH, WINDOWS, ZSTD,
};
use super::verify::{misnamed_blobs, verify};
use crate::net::digest_reader::DigestReader;
use crate::net::registry::ImageReference;
use crate::net::{Digest, ImageId, SizedDigest};

/// More problems than this help nobody: the check skips the rest of the archive.
const MOST_PROBLEMS: usize = 100;

/// The result of checking an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The image's id, if the archive has exactly one image.
    pub image_id: Option<ImageId>,
    /// The names of all its images.
    pub tags: Vec<String>,
    /// How many layers its images have.
    pub layers: usize,
    /// The compression of the archive.
    pub packing: Compression,
    /// sha256 of the file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The problems that keep a consumer from loading it.
    pub problems: Vec<Problem>,
    /// All consumers, and whether they can load it.
    pub consumers: Vec<Consumer>,
}

/// A program that loads images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    /// The command.
    pub name: &'static str,
    /// Why it cannot load the archive; `None` if it can.
    pub cannot: Option<String>,
}

/// Checks a whole archive. Only errors of the reader itself are returned: bytes that are no archive are one of the problems.
pub fn check<R: Read>(source: R) -> io::Result<Checked> {
    let mut source = DigestReader::new(source);
    let mut index = ArchiveIndex::default();
    let mut problems = Vec::new();
    let mut collect = |problem| {
        problems.push(problem);
        if problems.len() < MOST_PROBLEMS {
            return Ok(());
        }
        Err(ReadError::Content(Problem::new("", NOTHING_LOADS, "it has too many problems: the rest is not looked at")))
    };
    let mut out = Out { raw: io::sink(), plain: ContentWriter::new(io::sink()) };
    let read = read_all(&mut source, &mut out, &mut index, &mut collect);
    match read {
        Ok(()) => {
            find_problems(&index, &mut problems);
            // A whole archive may be without an end.
            if let Some(cut) = index.unended.filter(|_| !problems.is_empty()) {
                problems.insert(0, truncated(cut));
            }
        }
        Err(ReadError::Content(problem)) => problems.push(problem),
        // Errors of the disk have an OS error number; errors of decoders have none.
        Err(ReadError::Read(error) | ReadError::Write(error)) if error.raw_os_error().is_some() => return Err(error),
        Err(ReadError::Read(error) | ReadError::Write(error)) => problems.push(match Truncated::of(&error) {
            Some(cut) => truncated(cut),
            None if index.is_nothing() => {
                Problem::new("", NOTHING_LOADS, "it is no tar archive, neither plain nor packed")
            }
            None => Problem::new("", NOTHING_LOADS, format!("it cannot be read to its end: {error}")),
        }),
    }
    io::copy(&mut source, &mut io::sink())?;
    let (_, SizedDigest { sha256, size }) = source.finish();
    let images = images(&index);
    let image_id = match &*images {
        [image] => verify(&index, image).image_id,
        _ => None,
    };
    let tags = images.iter().flat_map(|image| image.repo_tags.clone()).collect();
    let layers = images.iter().map(|image| image.layers.len()).sum();
    let consumers = consumers(index.compression, &problems);
    Ok(Checked { image_id, tags, layers, packing: index.compression, sha256, size, problems, consumers })
}

fn truncated(cut: Truncated) -> Problem {
    Problem::new("", NOTHING_LOADS, format!("it is {cut}"))
}

/// The images of an archive, or the single image of an OCI layout.
fn images(index: &ArchiveIndex) -> Vec<Image> {
    match &index.manifest {
        Some(images) => images.clone(),
        None => single_image(index).map(|image| vec![image.into_owned()]).unwrap_or_default(),
    }
}

/// Which consumers can load an archive with this compression and these problems.
fn consumers(compression: Compression, problems: &[Problem]) -> Vec<Consumer> {
    let cannot = |name: &'static str| {
        let reason = match (compression, name) {
            (Compression::Zstd, OLD_DOCKER) => Some("it is packed with zstd"),
            // It reads only zstd, and of that only the first frame.
            (Compression::Plain | Compression::Gzip | Compression::Xz | Compression::Bzip2, TASKGRAPH) => {
                Some("it takes .tar.zst only")
            }
            (Compression::Gzip | Compression::Xz | Compression::Bzip2, DOCKER_WORKER) => {
                Some("it takes .tar and .tar.zst")
            }
            _ => None,
        };
        let problem = || problems.iter().find(|problem| problem.keeps_out().contains(&name));
        reason.map(str::to_owned).or_else(|| problem().map(|problem| problem.problem.clone()))
    };
    CONSUMERS.iter().map(|name| Consumer { name, cannot: cannot(name) }).collect()
}

/// The problems of an archive that was read to its end. A member that already has a problem gets no further ones: that it is
/// missing from the others follows from the first.
fn find_problems(index: &ArchiveIndex, problems: &mut Vec<Problem>) {
    let mut report = |found: Vec<Problem>| {
        let known: Vec<_> = problems.iter().map(|problem| problem.member.clone()).collect();
        problems.extend(found.into_iter().filter(|problem| !known.contains(&problem.member)));
    };
    report(single_image(index).err().into_iter().collect());
    let images = images(index);
    for image in &images {
        report(verify(index, image).problems);
        report(image.layers.iter().filter_map(|layer| not_plain(layer, index.file(layer)?.compression)).collect());
        report(image.layers.iter().filter_map(|layer| no_tar(layer, index.file(layer)?)).collect());
        report(index.file(&image.config).and_then(|config| bad_config(&image.config, config)).into_iter().collect());
    }
    report(misnamed_blobs(index));
    if index.manifest.is_none() {
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
        // If the name is not clear, nothing can match it.
        if let (true, [tag]) = (sound, image.repo_tags.as_slice()) {
            problems.extend(repositories_problem(index, image, tag));
            problems.extend(nameless_layout(index, tag));
        }
    }
}

fn not_plain(layer: &str, compression: Compression) -> Option<Problem> {
    let breaks = match compression {
        Compression::Plain => return None,
        Compression::Gzip => GZIP,
        Compression::Zstd => ZSTD,
        Compression::Xz | Compression::Bzip2 => LAYER,
    };
    Some(Problem::new(layer, breaks, format!("its layer {layer} is packed with {compression}")))
}

/// A layer that has the right digest but is not a tar.
fn no_tar(layer: &str, digests: &MemberDigests) -> Option<Problem> {
    let is_none = digests.content.is_some() && !digests.is_tar;
    is_none.then(|| Problem::new(layer, NO_TAR, format!("its layer {layer} is no tar")))
}

/// What engines refuse in a configuration.
fn bad_config(name: &str, digests: &MemberDigests) -> Option<Problem> {
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
    let config: Config = serde_json::from_slice(digests.text.as_deref()?).ok()?;
    if config.os == "windows" {
        return Some(Problem::new(name, WINDOWS, "it is an image for Windows"));
    }
    let steps = config.history.unwrap_or_default().iter().filter(|step| !step.empty_layer).count();
    let layers = digests.diff_ids.as_ref()?.len();
    let what = || format!("its history has {steps} steps that made a layer, and it has {layers} layers");
    (steps > layers).then(|| Problem::new(name, HISTORY, what()))
}

/// Problems with the names of an image.
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

/// Problems with `repositories`, if the manifest has exactly one name.
fn repositories_problem(index: &ArchiveIndex, image: &Image, tag: &str) -> Option<Problem> {
    let problem = |breaks, problem: String| Some(Problem::new("repositories", breaks, problem));
    let Some(text) = &index.repositories else {
        return problem(REPOSITORIES, "it has no repositories".to_owned());
    };
    let declared: BTreeMap<String, BTreeMap<String, String>> = match serde_json::from_slice(text) {
        Ok(declared) => declared,
        Err(error) => return problem(REPOSITORIES, format!("repositories: {error}")),
    };
    let ours = repositories(tag, image.layers.last().map(String::as_str));
    let pairs = |all: &BTreeMap<String, BTreeMap<String, String>>| -> Vec<String> {
        all.iter().flat_map(|(name, tags)| tags.keys().map(move |tag| format!("{name}:{tag}"))).collect()
    };
    if pairs(&declared) != pairs(&ours) {
        let named = pairs(&declared).join(", ");
        return problem(REPOSITORIES, format!("repositories has the names [{named}], manifest.json has {tag}"));
    }
    // The top layer's directory in the old format, or the id that image-worker writes.
    let top = declared.values().flat_map(BTreeMap::values).next()?;
    let there = index.file(&format!("{top}/layer.tar")).is_some() || declared == ours;
    if there { None } else { problem(OLD_LAYERS, format!("repositories has the layer {top:?}, which is not there")) }
}

/// An OCI layout that does not contain the name.
fn nameless_layout(index: &ArchiveIndex, tag: &str) -> Option<Problem> {
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
    let text = index.oci_index.as_deref()?;
    let problem = |problem: String| Some(Problem::new("index.json", OCI, problem));
    let layout: Index = match serde_json::from_slice(text) {
        Ok(layout) => layout,
        Err(error) => return problem(format!("index.json: {error}")),
    };
    let full = |name: &str| name == tag || name.strip_suffix(tag).is_some_and(|host| host.ends_with('/'));
    let names = layout.manifests.iter().filter_map(|manifest| manifest.annotations.get("io.containerd.image.name"));
    if names.into_iter().any(|name| full(name)) {
        return None;
    }
    problem(format!("index.json, of an OCI layout, does not have the name {tag}"))
}

#[cfg(test)]
mod tests;
