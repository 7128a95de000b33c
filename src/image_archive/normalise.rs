//! One pass over an engine's export: layers and configuration go through untouched, `manifest.json` and
//! `repositories` are written anew with exactly one tag, and what the manifest promises is checked to be there.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Archive, Builder, Entry, EntryType, Header};

use super::manifest::{Image, repositories};
use crate::names::Digest;
use crate::stream::Tally;

/// Members up to this size are kept in mind with their digest, to check the configuration; a configuration is
/// kilobytes, and layers need no second hash.
const SMALL_MEMBER: u64 = 4 * 1024 * 1024;

/// Members read from and written to disk at this size, so that system calls do not count.
const COPY_BUFFER: usize = 256 * 1024;

/// What is wrong with an export, or with writing the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The export broke off, or is no tar.
    #[error("the engine's export cannot be read to its end")]
    Read(#[source] io::Error),
    /// The archive cannot be written.
    #[error("the image archive cannot be written")]
    Write(#[source] io::Error),
    /// The export is not an archive of the image that was built.
    #[error("the engine's export is not the image that was built: {0}")]
    Content(String),
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The image's id, `sha256:…` of its configuration.
    pub image_id: String,
    /// How many layers it has.
    pub layers: usize,
}

/// What has been seen of the export so far.
#[derive(Default)]
struct Seen {
    manifest: Option<Vec<Image>>,
    members: HashMap<String, Option<Digest>>,
}

/// Reads an export and writes the archive with `tag` as its only name. Gives the writer back, after the tar's end.
pub(super) fn normalise<R: Read, W: Write>(
    export: R,
    image_id: &str,
    tag: &str,
    out: W,
) -> Result<(Normalised, W), ArchiveError> {
    let mut archive = Archive::new(export);
    // Raw: extension headers pass through as they are, instead of being read and lost.
    let entries = archive.entries().map_err(ArchiveError::Read)?.raw(true);
    let mut out = Builder::new(out);
    let mut seen = Seen::default();
    for entry in entries {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        match entry.path_bytes().as_ref() {
            b"manifest.json" => seen.manifest = Some(json(&mut entry)?),
            // Written anew.
            b"repositories" => {}
            _ => pass(&mut entry, &mut out, &mut seen)?,
        }
    }
    let image = seen.check(image_id)?;
    let top = image.layers.last().map(String::as_str);
    append(
        &mut out,
        "manifest.json",
        &serde_json::json!([Image { repo_tags: vec![tag.to_owned()], ..image.clone() }]),
    )?;
    append(&mut out, "repositories", &repositories(tag, top))?;
    let content = Normalised { image_id: image_id.to_owned(), layers: image.layers.len() };
    Ok((content, out.into_inner().map_err(ArchiveError::Write)?))
}

/// Copies a member as it is, and keeps in mind that it was there.
fn pass<R: Read, W: Write>(entry: &mut Entry<R>, out: &mut Builder<W>, seen: &mut Seen) -> Result<(), ArchiveError> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let size = entry.size();
    let kind = entry.header().entry_type();
    out.get_mut().write_all(entry.header().as_bytes()).map_err(ArchiveError::Write)?;
    let digest = if size <= SMALL_MEMBER {
        let mut tally = Tally::new(entry);
        copy(&mut tally, out.get_mut(), size)?;
        Some(tally.finish().1)
    } else {
        copy(entry, out.get_mut(), size)?;
        None
    };
    pad(out.get_mut(), size)?;
    if matches!(kind, EntryType::Regular | EntryType::Symlink | EntryType::Link) {
        seen.members.insert(name, digest);
    }
    Ok(())
}

/// Copies `size` bytes, telling errors of the two ends apart.
fn copy<R: Read, W: Write>(from: &mut R, to: &mut W, size: u64) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; COPY_BUFFER.min(usize::try_from(size).unwrap_or(COPY_BUFFER))];
    let mut left = size;
    while left > 0 {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::Read(error)),
        };
        to.write_all(&buffer[..read]).map_err(ArchiveError::Write)?;
        left -= read as u64;
    }
    Ok(())
}

/// Members begin at multiples of 512 bytes.
fn pad<W: Write>(to: &mut W, size: u64) -> Result<(), ArchiveError> {
    let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
    to.write_all(&[0; 512][..padding]).map_err(ArchiveError::Write)
}

fn json<R: Read, T: serde::de::DeserializeOwned>(entry: &mut Entry<R>) -> Result<T, ArchiveError> {
    if entry.size() > SMALL_MEMBER {
        return Err(ArchiveError::Content(format!("manifest.json has {} bytes", entry.size())));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text).map_err(ArchiveError::Read)?;
    serde_json::from_slice(&text).map_err(|error| ArchiveError::Content(format!("manifest.json: {error}")))
}

fn append<W: Write>(out: &mut Builder<W>, name: &str, value: &impl serde::Serialize) -> Result<(), ArchiveError> {
    let text = serde_json::to_vec(value).map_err(|error| ArchiveError::Content(error.to_string()))?;
    let mut header = Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    out.append_data(&mut header, name, text.as_slice()).map_err(ArchiveError::Write)
}

impl Seen {
    /// The one image of the export, if it is the one that was built and all its parts are there.
    fn check(&self, image_id: &str) -> Result<&Image, ArchiveError> {
        let wrong = |why: String| Err(ArchiveError::Content(why));
        let image = match self.manifest.as_deref() {
            Some([image]) => image,
            Some(images) => return wrong(format!("manifest.json names {} images", images.len())),
            None => return wrong("it has no manifest.json".to_owned()),
        };
        match self.members.get(&image.config) {
            Some(Some(digest)) if image_id == format!("sha256:{digest}") => {}
            Some(Some(digest)) => return wrong(format!("it has sha256:{digest}, not {image_id}")),
            Some(None) => return wrong(format!("its configuration {} is too large", image.config)),
            None => return wrong(format!("its configuration {} is missing", image.config)),
        }
        match image.layers.iter().find(|layer| !self.members.contains_key(*layer)) {
            Some(layer) => wrong(format!("its layer {layer} is missing")),
            None => Ok(image),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &[u8] = br#"{"architecture":"amd64"}"#;

    fn id() -> String {
        format!("sha256:{}", Digest::of(CONFIG))
    }

    /// An archive as Docker exports an image by id, with some members left out or changed.
    fn export(change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
        let config = format!("{}.json", Digest::of(CONFIG));
        let manifest = format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["l1/layer.tar","l2/layer.tar"]}}]"#);
        let large = vec![7; 5 * 1024 * 1024 + 3];
        let members: [(&str, &[u8]); 5] = [
            (&config, CONFIG),
            ("l1/VERSION", b"1.0"),
            ("l1/layer.tar", &large),
            ("l2/layer.tar", b"two"),
            ("manifest.json", manifest.as_bytes()),
        ];
        let mut out = Builder::new(Vec::new());
        for (name, data) in members {
            if let Some(data) = change(name, data) {
                let mut header = Header::new_ustar();
                header.set_size(data.len() as u64);
                out.append_data(&mut header, name, data.as_slice()).unwrap();
            }
        }
        out.into_inner().unwrap()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where changes do that can leave a member out")]
    fn unchanged(_: &str, data: &[u8]) -> Option<Vec<u8>> {
        Some(data.to_vec())
    }

    fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = Archive::new(archive);
        let read = |entry: io::Result<Entry<&[u8]>>| {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            (entry.path().unwrap().display().to_string(), data)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn everything_passes_and_the_one_tag_is_added() {
        let export = export(unchanged);
        let (content, out) = normalise(export.as_slice(), &id(), "builder:1234", Vec::new()).unwrap();
        assert_eq!(content, Normalised { image_id: id(), layers: 2 });
        let before = members(&export);
        let after = members(&out);
        assert_eq!(after[..4], before[..4], "layers and configuration are untouched");
        let text = |at: usize| String::from_utf8(after[at].1.clone()).unwrap();
        assert_eq!((after[4].0.as_str(), after[5].0.as_str()), ("manifest.json", "repositories"));
        assert!(text(4).contains(r#""RepoTags":["builder:1234"]"#), "{}", text(4));
        assert_eq!(text(5), r#"{"builder":{"1234":"l2"}}"#);
    }

    #[test]
    fn an_export_that_is_not_the_image_is_refused() {
        let without = |missing: &'static str| move |name: &str, data: &[u8]| (name != missing).then(|| data.to_vec());
        let said =
            |export: Vec<u8>, id: &str| normalise(export.as_slice(), id, "a:b", io::sink()).unwrap_err().to_string();
        assert!(said(export(without("manifest.json")), &id()).contains("no manifest.json"));
        assert!(said(export(without("l1/layer.tar")), &id()).contains("layer l1/layer.tar is missing"));
        let other = format!("sha256:{}", Digest::of(b"other"));
        assert!(said(export(unchanged), &other).contains(&other));
        let config =
            |name: &str, data: &[u8]| Some(if data == CONFIG { b"{}".to_vec() } else { unchanged(name, data)? });
        assert!(said(export(config), &id()).contains(&Digest::of(b"{}").to_string()));
    }

    #[test]
    fn a_cut_export_is_an_error_wherever_it_is_cut() {
        let export = export(unchanged);
        for cut in [0, 100, 512, 600, 5000, export.len() - 2000] {
            let error = normalise(&export[..cut], &id(), "a:b", io::sink()).unwrap_err();
            assert!(matches!(error, ArchiveError::Read(_) | ArchiveError::Content(_)), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_export() {
        let mut small = [0; 1000];
        let error = normalise(export(unchanged).as_slice(), &id(), "a:b", &mut small[..]).map(|_| ()).unwrap_err();
        assert!(matches!(error, ArchiveError::Write(_)), "{error}");
    }

    #[test]
    fn a_compressed_archive_is_the_same_archive() {
        let export = export(unchanged);
        let (mut plain, mut packed) = (Vec::new(), Vec::new());
        let a = super::super::write(export.as_slice(), &id(), "a:b", None, &mut plain).unwrap();
        let b = super::super::write(export.as_slice(), &id(), "a:b", Some(3), &mut packed).unwrap();
        assert_eq!(zstd::decode_all(packed.as_slice()).unwrap(), plain);
        assert_eq!((a.sha256, a.size), (Digest::of(&plain), plain.len() as u64));
        assert_eq!((b.sha256, b.size), (Digest::of(&packed), packed.len() as u64));
    }
}
