//! The images of a build's steps, for Podman: it takes steps only from images of their own, which the archive of an image
//! has not. Their configurations are read where its storage can be; what becomes of them is for those who publish.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::storage::containers::config_path;
use crate::engine::{Engine, EngineError};
use crate::net::blocking::blocking;
use crate::net::{Digest, ImageId};

/// What an engine has of a build's images.
#[derive(Debug)]
pub struct StepConfigs {
    /// The configuration of the image.
    pub image: Vec<u8>,
    /// The configurations of the images of its steps, in their order.
    pub steps: Vec<String>,
}

impl Engine {
    /// Whether the engine takes a step only from an image of its own, as Podman does.
    #[must_use]
    pub fn needs_step_images(&self) -> bool {
        self.driver.needs_step_images()
    }

    /// The configurations of an image that was just built here, and of the images of its steps, byte by byte. Podman's API
    /// gives none, so that they are read from its storage, where that is on this machine and can be read.
    pub async fn step_configs(&self, image_id: ImageId) -> Result<StepConfigs, EngineError> {
        let doing = || "reading the configurations of the steps' images".to_owned();
        let request_error = |source| EngineError::Request { doing: doing(), source };
        let info = self.client.info().await.map_err(|error| request_error(error.into()))?;
        let (Some(root), Some(driver)) = (info.docker_root_dir, info.driver) else {
            return Err(EngineError::Unfinished { doing: doing() });
        };
        let folder = PathBuf::from(root).join(format!("{driver}-images"));
        let steps = self.tracker.steps();
        let reading = blocking(move || read(&folder, image_id, &steps));
        reading.await.map_err(|error| request_error(error.into()))
    }
}

fn read(folder: &Path, image_id: ImageId, steps: &[String]) -> io::Result<StepConfigs> {
    let known: Vec<String> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    let image_id = image_id.hex().to_string();
    let mut configs = Vec::new();
    // Some are written with the algorithm.
    for id in known_as(&known, steps).filter(|id| **id != image_id) {
        let text = String::from_utf8(config(folder, id)?).map_err(io::Error::other)?;
        configs.push(text);
    }
    Ok(StepConfigs { image: config(folder, &image_id)?, steps: configs })
}

/// The ids that begin like those that the engine told, in the order in which it told them.
fn known_as<'a>(known: &'a [String], told: &'a [String]) -> impl Iterator<Item = &'a String> {
    told.iter().filter_map(move |told| known.iter().find(|id| id.starts_with(told.trim_start_matches("sha256:"))))
}

/// An image's configuration, as containers/storage keeps it: under its digest, which is the image's id.
fn config(folder: &Path, id: &str) -> io::Result<Vec<u8>> {
    let text = fs::read(config_path(folder, id))?;
    if Digest::of(&text).to_string() != id {
        return Err(io::Error::other(format!("the configuration of image {id} is another")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts a configuration into a storage; gives the image's id.
    fn put(folder: &Path, text: &str) -> String {
        let id = Digest::of(text.as_bytes()).to_string();
        fs::create_dir(folder.join(&id)).unwrap();
        fs::write(config_path(folder, &id), text).unwrap();
        id
    }

    #[test]
    fn configurations_are_found_by_a_few_digits_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("images.json"), "[]").unwrap();
        let [image, one, two] = ["image", "one", "two"].map(|text| put(folder.path(), text));
        let told = [two[..11].to_owned(), format!("sha256:{one}"), "0123456789a".to_owned(), image[..11].to_owned()];
        let read_all = || read(folder.path(), ImageId::of(b"image"), &told);
        let found = read_all().unwrap();
        assert_eq!((found.image.as_slice(), found.steps), (&b"image"[..], vec!["two".to_owned(), "one".to_owned()]));

        fs::write(config_path(folder.path(), &one), "changed").unwrap();
        assert!(read_all().unwrap_err().to_string().contains("is another"));
        assert!(read(&folder.path().join("nosuch"), ImageId::of(b"image"), &told).is_err());
    }
}
