//! The images of a build's steps, for Podman. Podman takes a cached step only from an image of that step, and the archive of an
//! image does not contain these images. This module reads their configurations from Podman's storage, if it can be read. `job`
//! publishes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::storage::containers::config_path;
use crate::engine::{Engine, EngineError};
use crate::net::blocking::blocking;
use crate::net::{Digest, ImageId};

/// The configurations of a build's images.
#[derive(Debug)]
pub struct StepConfigs {
    /// The configuration of the image.
    pub image: Vec<u8>,
    /// The configurations of the images of its steps, in order.
    pub steps: Vec<String>,
}

impl Engine {
    /// Whether the engine takes a cached step only from an image of that step, as Podman does.
    #[must_use]
    pub fn needs_step_images(&self) -> bool {
        self.driver.needs_step_images()
    }

    /// The configurations of an image that was just built, and of the images of its steps, byte for byte. Podman's API does not
    /// return them, so they are read from its storage, which must be on this machine and readable.
    pub async fn step_configs(&self, image_id: ImageId) -> Result<StepConfigs, EngineError> {
        let doing = || "reading the configurations of the steps' images".to_owned();
        let request_error = |source| EngineError::Request { doing: doing(), source };
        let info = self.client.info().await.map_err(|error| request_error(error.into()))?;
        let (Some(root), Some(driver)) = (info.docker_root_dir, info.driver) else {
            return Err(EngineError::Unfinished { doing: doing() });
        };
        let directory = PathBuf::from(root).join(format!("{driver}-images"));
        let steps = self.tracker.steps();
        let reading = blocking(move || read(&directory, image_id, &steps));
        reading.await.map_err(|error| request_error(error.into()))
    }
}

fn read(directory: &Path, image_id: ImageId, steps: &[String]) -> io::Result<StepConfigs> {
    let known: Vec<String> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    let image_id = image_id.hex().to_string();
    let mut configs = Vec::new();
    // Some ids are written with the algorithm.
    for id in full_ids(&known, steps).filter(|id| **id != image_id) {
        let text = String::from_utf8(config(directory, id)?).map_err(io::Error::other)?;
        configs.push(text);
    }
    Ok(StepConfigs { image: config(directory, &image_id)?, steps: configs })
}

/// The known ids that start with the reported ids, in the order in which the engine reported them.
fn full_ids<'a>(known: &'a [String], reported: &'a [String]) -> impl Iterator<Item = &'a String> {
    reported.iter().filter_map(move |start| known.iter().find(|id| id.starts_with(start.trim_start_matches("sha256:"))))
}

/// Reads an image's configuration from containers/storage. It is stored under its digest, which is the image's id.
fn config(directory: &Path, id: &str) -> io::Result<Vec<u8>> {
    let text = fs::read(config_path(directory, id))?;
    if Digest::of(&text).to_string() != id {
        return Err(io::Error::other(format!("the configuration of image {id} is another")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a configuration into a storage and returns the image's id.
    fn put(directory: &Path, text: &str) -> String {
        let id = Digest::of(text.as_bytes()).to_string();
        fs::create_dir(directory.join(&id)).unwrap();
        fs::write(config_path(directory, &id), text).unwrap();
        id
    }

    #[test]
    fn configurations_are_found_by_a_few_digits_and_verified() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("images.json"), "[]").unwrap();
        let [image, one, two] = ["image", "one", "two"].map(|text| put(directory.path(), text));
        let ids = [two[..11].to_owned(), format!("sha256:{one}"), "0123456789a".to_owned(), image[..11].to_owned()];
        let read_all = || read(directory.path(), ImageId::of(b"image"), &ids);
        let found = read_all().unwrap();
        assert_eq!((found.image.as_slice(), found.steps), (&b"image"[..], vec!["two".to_owned(), "one".to_owned()]));

        fs::write(config_path(directory.path(), &one), "changed").unwrap();
        assert!(read_all().unwrap_err().to_string().contains("is another"));
        assert!(read(&directory.path().join("nosuch"), ImageId::of(b"image"), &ids).is_err());
    }
}
