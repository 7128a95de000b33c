//! Loading: an image archive goes in as a stream, under a name that is written down so that it can be removed. Whether
//! the archive is what it says it is must be known by those who send it: `image_archive::relay` withholds its end.

use std::io;

use bollard::errors::Error;
use bollard::models::{BuildInfo, ImageSummary};
use bollard::query_parameters::{RemoveImageOptions, TagImageOptions};
use futures_util::{Stream, StreamExt};
use tokio_util::bytes::Bytes;

use super::build::fault::is_own_trouble;
use super::cleanup::descent::is_none;
use super::cleanup::state::JournalEvent;
use super::connection::messages::{AnswerError, Question, messages, of_an_archive};
use super::sending::noting_the_end;
use super::{Engine, EngineError};
use crate::net::ImageId;
use crate::net::registry::ImageReference;

const DOING: &str = "loading the image";

impl Engine {
    /// Loads a plain docker-archive whose one name is `tag`. Gives the id of the image that has this name then. The name
    /// is among what [`Engine::clean`] removes, and with it the image, where nobody else has it.
    pub async fn load(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        tag: &str,
    ) -> Result<ImageId, EngineError> {
        self.tracker.add(JournalEvent::Load(tag.to_owned())).await;
        self.load_with(archive, tag, &[]).await
    }

    /// The same for an image that a build takes steps from. `steps` are the ids of the images of its steps, where the
    /// archive has these too.
    pub async fn load_cache(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        tag: &str,
        steps: &[ImageId],
    ) -> Result<ImageId, EngineError> {
        self.tracker.add(JournalEvent::Cache(tag.to_owned())).await;
        self.load_with(archive, tag, steps).await
    }

    async fn load_with(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        tag: &str,
        steps: &[ImageId],
    ) -> Result<ImageId, EngineError> {
        // It may be among what is removed.
        self.wait_for_sweeps().await;
        let before = self.images().await.map_err(request_error)?;
        let is_new = |id: ImageId| before.iter().all(|image| ImageId::in_answer(&image.id) != Some(id));
        let new: Vec<_> = steps.iter().filter(|id| is_new(**id)).map(ImageId::to_string).collect();
        if !new.is_empty() {
            self.tracker.add(JournalEvent::Steps(new)).await;
        }
        let loaded = self.send(archive, tag).await;
        let is_nameless = |image: &ImageSummary| image.repo_tags.iter().all(|name| is_none(name));
        let had = |id: &String| before.iter().any(|image| image.id == *id && is_nameless(image));
        // An image that was there before without a name would go with the name that we gave it.
        let was_nameless = loaded.as_ref().is_ok_and(had);
        let made = loaded.as_ref().ok().filter(|id| ImageId::in_answer(id).is_none_or(is_new)).cloned();
        self.tracker.add(JournalEvent::Loaded { tag: tag.to_owned(), was_nameless, made }).await;
        ImageId::in_answer(&loaded?).ok_or_else(|| EngineError::Unfinished { doing: DOING.to_owned() })
    }

    /// Gives an image that was loaded as `loaded` its lasting name instead. Gives the id of the image that had this name
    /// before, if it was another.
    pub async fn rename(&self, loaded: &str, tag: &ImageReference) -> Result<Option<String>, EngineError> {
        let request_error =
            |source: Error| EngineError::Request { doing: format!("naming the image {tag}"), source: source.into() };
        let id = self.inspect(loaded).await.map_err(request_error)?.id;
        let before = match self.inspect(tag.as_str()).await {
            Ok(image) => image.id.filter(|before| id.as_ref() != Some(before)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => None,
            Err(error) => return Err(request_error(error)),
        };
        let name = TagImageOptions { repo: Some(tag.repository().to_owned()), tag: Some(tag.tag().to_owned()) };
        self.client.tag_image(loaded, Some(name)).await.map_err(request_error)?;
        // The image has a name besides this one: only the name goes.
        let options = RemoveImageOptions { force: false, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(loaded, Some(options), None).await.map_err(request_error)?;
        // The name is not there any more.
        self.tracker.add(JournalEvent::Loaded { tag: loaded.to_owned(), was_nameless: true, made: None }).await;
        Ok(before)
    }

    async fn send(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        tag: &str,
    ) -> Result<String, EngineError> {
        let (tracker, name) = (self.tracker.clone(), tag.to_owned());
        let body = bollard::body_try_stream(noting_the_end(archive, async move |bytes| {
            tracker.add(JournalEvent::Sent(name, bytes)).await;
        }));
        let question =
            Question { path: "/images/load".to_owned(), query: [("quiet", "true")], headers: of_an_archive(), body };
        let mut answer = std::pin::pin!(messages::<BuildInfo, _, _>(&self.place, question));
        while let Some(line) = answer.next().await {
            line.map_err(refusal)?;
        }
        let loaded = self.inspect(tag).await.map_err(request_error)?;
        loaded.id.ok_or_else(|| EngineError::Unfinished { doing: DOING.to_owned() })
    }
}

/// What an engine says of an archive, unless it is about the engine itself.
fn refusal(error: AnswerError) -> EngineError {
    let (AnswerError::Reported { message: said, .. } | AnswerError::Status { message: said, .. }) = &error else {
        return request_error(error);
    };
    if is_own_trouble(said) {
        return request_error(error);
    }
    EngineError::ArchiveRefused(of_our_format(said).trim().to_owned())
}

/// Podman tells of each format that it has tried, line by line.
fn of_our_format(said: &str) -> &str {
    said.lines().find_map(|line| line.trim_start().strip_prefix("* docker-archive: ")).unwrap_or(said)
}

fn request_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Request { doing: DOING.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_is_refused_is_no_trouble_of_the_engines() {
        let said = |error: &str| refusal(AnswerError::Reported { message: error.to_owned(), code: None });
        let system = "operating system \"windows\" cannot be used on this platform";
        assert!(matches!(said(system), EngineError::ArchiveRefused(why) if why == system));
        assert!(matches!(said("write /layer: No space left on device"), EngineError::Request { .. }));
        let formats =
            "no supported format:\n * oci: not a directory\n * docker-archive: broken\n * dir: not a directory";
        assert!(matches!(said(formats), EngineError::ArchiveRefused(why) if why == "broken"));
        let gone = formats.replace("broken", "writing blob: layer not known");
        assert!(matches!(said(&gone), EngineError::Request { .. }));
        let broken = AnswerError::Cut(io::ErrorKind::ConnectionReset.into());
        assert!(matches!(refusal(broken), EngineError::Request { .. }));
    }
}
