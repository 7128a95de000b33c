//! Loads an image archive into the engine: it is sent as a stream, under a name that is recorded so that the image can be
//! removed. The caller must verify the archive: `image::forward` withholds its end until it is verified.

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

/// The beginning of Docker's message about layers that it could not unpack.
const UNPACKING_FAILED: &str = "Error unpacking image ";

impl Engine {
    /// Loads an uncompressed docker-archive whose only name is `tag`. Returns the id of the image that has this name then.
    /// [`Engine::clean`] removes the name, and with it the image if it has no other name.
    pub async fn load(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        tag: &str,
    ) -> Result<ImageId, EngineError> {
        self.tracker.add(JournalEvent::Load(tag.to_owned())).await;
        self.load_with(archive, tag, &[]).await
    }

    /// The same for an image that a build uses as its cache. `steps` are the ids of its step images, if the archive contains
    /// these too.
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
        // A cleanup in progress may remove this image.
        self.wait_for_other_cleanups().await;
        let before = self.images().await.map_err(request_error)?;
        let is_new = |id: ImageId| before.iter().all(|image| ImageId::in_answer(&image.id) != Some(id));
        let new: Vec<_> = steps.iter().filter(|id| is_new(**id)).map(ImageId::to_string).collect();
        if !new.is_empty() {
            self.tracker.add(JournalEvent::Steps(new)).await;
        }
        let result = self.send(archive, tag, is_new).await;
        let is_nameless = |image: &ImageSummary| image.repo_tags.iter().all(|name| is_none(name));
        let had_no_name = |id: &String| before.iter().any(|image| image.id == *id && is_nameless(image));
        // An image that was there before without a name would be removed with the name that this load gives it.
        let was_nameless = result.as_ref().is_ok_and(had_no_name);
        let made = result.as_ref().ok().filter(|id| ImageId::in_answer(id).is_none_or(is_new)).cloned();
        self.tracker.add(JournalEvent::Loaded { tag: tag.to_owned(), was_nameless, made }).await;
        ImageId::in_answer(&result?).ok_or_else(|| EngineError::Unfinished { doing: DOING.to_owned() })
    }

    /// Replaces the name `loaded` of a loaded image with its final name `tag`.
    pub async fn rename(&self, loaded: &str, tag: &ImageReference) -> Result<(), EngineError> {
        let request_error =
            |source: Error| EngineError::Request { doing: format!("naming the image {tag}"), source: source.into() };
        let name = TagImageOptions { repo: Some(tag.repository().to_owned()), tag: Some(tag.tag().to_owned()) };
        self.client.tag_image(loaded, Some(name)).await.map_err(request_error)?;
        // The image has another name, so only this name is removed.
        self.remove_name(loaded).await
    }

    /// Removes the name `loaded` of a loaded image, and the image if it has no other name.
    pub async fn remove_name(&self, loaded: &str) -> Result<(), EngineError> {
        let request_error = |source: Error| EngineError::Request {
            doing: format!("removing the name {loaded}"),
            source: source.into(),
        };
        let options = RemoveImageOptions { force: false, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(loaded, Some(options), None).await.map_err(request_error)?;
        // The name no longer exists.
        self.tracker.add(JournalEvent::Loaded { tag: loaded.to_owned(), was_nameless: true, made: None }).await;
        Ok(())
    }

    /// Removes what a load that failed has left: an image that is not whole, whose layers another load would take for its own. Of
    /// such an image not even all engines' answers are whole, but the list has it.
    async fn remove_failed(&self, tag: &str, is_new: impl Fn(ImageId) -> bool) {
        let images = self.images().await.unwrap_or_default();
        let is_left = |image: &ImageSummary| {
            let is_named = image.repo_tags.iter().any(|name| name == tag || name.ends_with(&format!("/{tag}")));
            is_named && ImageId::in_answer(&image.id).is_some_and(&is_new)
        };
        if images.iter().any(is_left) {
            let options = RemoveImageOptions { force: false, noprune: true, ..RemoveImageOptions::default() };
            // What cannot be removed now is removed with the name.
            let _ = self.client.remove_image(tag, Some(options), None).await;
        }
    }

    async fn send(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        tag: &str,
        is_new: impl Fn(ImageId) -> bool,
    ) -> Result<String, EngineError> {
        let (tracker, name) = (self.tracker.clone(), tag.to_owned());
        let body = bollard::body_try_stream(noting_the_end(archive, async move |bytes| {
            tracker.add(JournalEvent::Sent(name, bytes)).await;
        }));
        let question =
            Question { path: "/images/load".to_owned(), query: [("quiet", "true")], headers: of_an_archive(), body };
        let mut answer = std::pin::pin!(messages::<BuildInfo, _, _>(&self.place, question));
        while let Some(line) = answer.next().await {
            let line = line.map_err(refusal)?;
            // Docker with the containerd image store says so as if it were progress, and has an image then that is not whole.
            if let Some(message) = line.stream.filter(|text| text.starts_with(UNPACKING_FAILED)) {
                self.remove_failed(tag, is_new).await;
                return Err(refusal(AnswerError::Reported { message: message.trim().to_owned(), code: None }));
            }
        }
        match self.inspect(tag).await {
            Ok(loaded) => loaded.id.ok_or_else(|| EngineError::Unfinished { doing: DOING.to_owned() }),
            Err(error) => {
                // So the containerd image store answers about an image that lacks a layer, which it did not notice.
                self.remove_failed(tag, is_new).await;
                Err(request_error(error))
            }
        }
    }
}

/// The error of a refused archive, unless the message is about a problem of the engine itself.
fn refusal(error: AnswerError) -> EngineError {
    let (AnswerError::Reported { message, .. } | AnswerError::Status { message, .. }) = &error else {
        return request_error(error);
    };
    if is_own_trouble(message) {
        return request_error(error);
    }
    EngineError::ArchiveRefused(docker_archive_error(message).trim().to_owned())
}

/// Podman reports each format that it has tried, line by line.
fn docker_archive_error(message: &str) -> &str {
    message.lines().find_map(|line| line.trim_start().strip_prefix("* docker-archive: ")).unwrap_or(message)
}

fn request_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Request { doing: DOING.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_is_refused_is_no_trouble_of_the_engines() {
        let refused = |error: &str| refusal(AnswerError::Reported { message: error.to_owned(), code: None });
        let system = "operating system \"windows\" cannot be used on this platform";
        assert!(matches!(refused(system), EngineError::ArchiveRefused(why) if why == system));
        assert!(matches!(refused("write /layer: No space left on device"), EngineError::Request { .. }));
        let formats =
            "no supported format:\n * oci: not a directory\n * docker-archive: broken\n * dir: not a directory";
        assert!(matches!(refused(formats), EngineError::ArchiveRefused(why) if why == "broken"));
        let gone = formats.replace("broken", "writing blob: layer not known");
        assert!(matches!(refused(&gone), EngineError::Request { .. }));
        let broken = AnswerError::Cut(io::ErrorKind::ConnectionReset.into());
        assert!(matches!(refusal(broken), EngineError::Request { .. }));
    }
}
