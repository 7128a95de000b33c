//! Builds of tasks: sends the verified context as a stream, logs the output line by line, and records what was made so that it
//! can be removed. `builder` chooses the engine's builder.

use std::path::PathBuf;

use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptions;
use futures_util::{Stream, StreamExt};
use tokio::sync::Mutex;
use tracing::{debug, info};

use super::build_output::{BuildMessage, BuildOutput, BuildOutputParser};
use super::failure::{DOING, next_message, request_error};
use super::running_build::{RunningBuild, keep_reading};
use super::step_lines::{OutputEvent, Steps, is_about_our_args};
use crate::context::for_engine::ForEngine;
use crate::engine::build::builder::ChosenBuilder;
use crate::engine::build_log::BuildLog;
use crate::engine::cleanup::state::JournalEvent;
use crate::engine::connection::client::Closing;
use crate::engine::connection::messages::{AnswerError, BuildRequest};
use crate::engine::connection::restart_detector::RestartDetector;
use crate::engine::driver::AbandonedBuild;
use crate::engine::sending::noting_the_end;
use crate::engine::{BuildPlan, BuildSecrets};
use crate::engine::{Engine, EngineError, managed};
use crate::net::ImageId;
use crate::net::retry::{Policy, retry};
use crate::report::secrets as hidden;
use crate::report::{BuildEvent, StepEnd};

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its id in the engine.
    pub image_id: ImageId,
    /// The builder: `classic`, `buildkit` or `buildah`.
    pub builder: &'static str,
    /// Its steps, and how many of them came from the cache images.
    pub steps: Steps,
}

/// The options of a build, besides its context.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions<'a> {
    /// Build arguments and network.
    pub plan: &'a BuildPlan,
    /// The secrets that the `Dockerfile` may use.
    pub secrets: &'a BuildSecrets,
    /// The names of the images in the engine that the build may take cached steps from. If it is empty, every step is built.
    pub cache: &'a [String],
    /// Whether a later build may take cached steps from this image.
    pub is_cache: bool,
}

/// With this build argument `BuildKit` records in an image which steps made its layers. Without the records no build can take
/// steps from the image.
const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";

impl Engine {
    /// Builds a context and tags the image. The output goes to `log` line by line. Builds again after a temporary problem of a
    /// registry.
    pub async fn build(
        &self,
        context: &ForEngine,
        tag: &str,
        options: BuildOptions<'_>,
        log: &mut BuildLog,
    ) -> Result<Built, EngineError> {
        let log = Mutex::new(log);
        retry(DOING, self.access.retry.policy(Policy::CALL), || async {
            self.build_once(context, tag, options, &mut **log.lock().await).await
        })
        .await
    }

    async fn build_once(
        &self,
        context: &ForEngine,
        tag: &str,
        BuildOptions { plan, secrets, cache, is_cache }: BuildOptions<'_>,
        log: &mut BuildLog,
    ) -> Result<Built, EngineError> {
        let mut args = self.args_with_proxies(plan);
        hidden::add_args(&args);
        hidden::add_build_secrets(secrets.values());
        let dockerfile = context.dockerfile();
        let platform = self.platform(plan.target_arch, &dockerfile).await?;
        let builder = self.builder(self.choice(plan.builder, platform.is_some()), &dockerfile, secrets).await?;
        let (tracker, outlives_client) = (self.tracker.clone(), builder.session.is_none());
        let excludes = context.excludes();
        let context = noting_the_end(context.stream(builder.chosen.by), async move |bytes| {
            // BuildKit stops when the connection closes.
            if outlives_client {
                tracker.add(JournalEvent::ContextSent(bytes)).await;
            }
        });
        let by_buildkit = builder.session.is_some();
        // A user who sets CACHE_FROM takes the risk.
        let records = plan.cache_from.is_some() || self.about.supports_inline_cache();
        let cache = if by_buildkit && !records && !cache.is_empty() {
            info!(
                "building without a layer cache: to keep one can end BuildKit's engine before Docker 23; CACHE_FROM=latest takes the risk"
            );
            &[][..]
        } else {
            cache
        };
        let offer = self.offer(self.usable(cache, plan.target_arch).await?, by_buildkit).await;
        if is_cache && by_buildkit && records {
            args.entry(INLINE_CACHE_ARG.to_owned()).or_insert_with(|| "1".to_owned());
        }
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(tag.to_owned()),
            rm: true,
            forcerm: true,
            // The image depends on its context, its base and the offered images, not on what others left in the engine. And the
            // classic builder fails if any image is removed while it searches its own cache.
            nocache: offer.names.is_empty(),
            cachefrom: (!offer.names.is_empty() && self.driver.takes_cache_names()).then(|| offer.names.clone()),
            buildargs: Some(args.into_iter().collect()),
            networkmode: plan.network.clone(),
            platform: platform.unwrap_or_default(),
            ..BuildImageOptions::default()
        };
        let pulling = self.pulling(&builder, &dockerfile, plan).await;
        let detector = RestartDetector::of(self.driver, &self.place).await;
        let started_build = self.begin(tag, outlives_client.then_some(&*dockerfile), &plan.args).await;
        let closing = Closing::default();
        let context = bollard::body_try_stream(context);
        let request = BuildRequest { options, excludes, context, closing: closing.clone() };
        let answer = self.request_build(&builder, &pulling, request);
        let built = if outlives_client && self.driver.abandoned_build() == AbandonedBuild::EndsItsStep {
            let RunningBuild { answer, ended } = keep_reading(answer, closing);
            self.tracker.goes_on_until(ended);
            self.follow(answer, &builder.chosen, log).await
        } else {
            self.follow(answer, &builder.chosen, log).await
        };
        if let (Ok(built), true) = (&built, self.needs_step_images()) {
            self.tracker.has_steps(self.steps_of(&started_build, &[built.image_id.to_string()]).await);
        }
        self.note_what_was_made().await;
        match built {
            // The managed service stopped during the step. The step failed because of that.
            Err(EngineError::Build(_)) if self.managed.as_ref().is_some_and(|managed| managed.has_ended()) => {
                Err(EngineError::Unfinished { doing: DOING.to_owned() })
            }
            // The command ended because the engine stopped. The engine is running again.
            Err(EngineError::Build(failure)) if failure.may_be_engine_shutdown() && detector.has_restarted().await => {
                Err(request_error(DOING, "it ended, and was started again"))
            }
            built => {
                let built = built?;
                if let Some(wanted) = plan.target_arch {
                    self.check_architecture(&built.image_id.to_string(), "the image", wanted).await?;
                }
                Ok(built)
            }
        }
    }

    /// Reads a build's reply to its end.
    pub(super) async fn follow(
        &self,
        answer: impl Stream<Item = Result<BuildInfo, AnswerError>>,
        chosen: &ChosenBuilder,
        log: &mut BuildLog,
    ) -> Result<Built, EngineError> {
        let mut answer = std::pin::pin!(answer);
        let mut parser = BuildOutputParser::default();
        let mut image_id = None;
        loop {
            let next = match next_message(answer.next(), &parser, self.access.retry.silence).await {
                Ok(next) => next,
                Err(timeout) => {
                    // Docker keeps waiting for the registry even if the client is gone, but the build makes nothing more.
                    drop(self.tracker.take_under_way());
                    Self::print(parser.end(), log);
                    log.show(BuildEvent::Over(parser.end_of_a_failed_build()));
                    return Err(timeout);
                }
            };
            let Some(line) = next else { break };
            match line {
                Ok(line) => {
                    let BuildMessage { output, pulled, id } = parser.line(&line);
                    Self::print(output, log);
                    for name in &pulled {
                        self.tracker.pulled(name);
                    }
                    if let (Some(piece), Some(_)) = (&line.stream, &self.managed) {
                        image_id = managed::final_image_id(piece);
                    }
                    if let Some(id) = id {
                        image_id = ImageId::in_answer(&id);
                        self.tracker.add_reported(id);
                    }
                }
                Err(error) if is_cut(&error, chosen) && image_id.is_some() => {
                    debug!("the engine's answer broke off after it reported the image's id: {error}");
                    break;
                }
                Err(error) => {
                    Self::print(parser.end(), log);
                    log.show(BuildEvent::Over(parser.end_of_a_failed_build()));
                    return Err(self.failure(parser, chosen, error).await);
                }
            }
        }
        Self::print(parser.end(), log);
        log.show(BuildEvent::Over(if image_id.is_some() { StepEnd::Done } else { StepEnd::Canceled }));
        let image_id = image_id.ok_or_else(|| EngineError::Unfinished { doing: DOING.to_owned() })?;
        Ok(Built { image_id, builder: chosen.by.name(), steps: parser.steps() })
    }

    fn print(output: BuildOutput, log: &mut BuildLog) {
        output.shown.into_iter().for_each(|event| log.show(event));
        for event in output.events {
            match event {
                // Nearly every build would end with this warning, about an argument that the user did not set.
                OutputEvent::Line(line) if is_about_our_args(&line) => {}
                OutputEvent::Line(line) => log.line(&line),
                OutputEvent::Step(line) => log.step(&line),
            }
        }
    }

    /// The size of an image's unpacked layers in bytes: about the size of its archive. Refuses an image without layers.
    pub async fn image_size(&self, image_id: ImageId) -> Result<u64, EngineError> {
        let image_id = &image_id.to_string();
        let image = self.inspect(image_id).await.map_err(|error| request_error("looking at the image", error))?;
        if image.root_fs.is_some_and(|files| files.layers.is_none_or(|layers| layers.is_empty())) {
            return Err(EngineError::NoLayers);
        }
        let size = image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(self.unpacked(image_id, size).await)
    }

    /// The directory where the engine stores images, if it is on this machine.
    pub async fn root(&self) -> Option<PathBuf> {
        let root = PathBuf::from(self.client.info().await.ok()?.docker_root_dir?);
        root.is_dir().then_some(root)
    }
}

/// Whether a reply of BuildKit broke off without an error. Docker 20.10 sometimes does this after its last message, which has
/// the image's id. The caller checks next whether the image exists.
fn is_cut(error: &AnswerError, chosen: &ChosenBuilder) -> bool {
    chosen.is_buildkit() && matches!(error, AnswerError::Cut(_) | AnswerError::Json(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_breaks_off_is_no_word_of_the_engine() {
        let broken = || AnswerError::Cut(std::io::Error::other("broken"));
        let reported = AnswerError::Reported { message: "exit code: 3".to_owned(), code: None };
        assert!(is_cut(&broken(), &ChosenBuilder::of_buildkit()));
        assert!(!is_cut(&reported, &ChosenBuilder::of_buildkit()));
        // The classic builder reports an id after each stage.
        assert!(!is_cut(&broken(), &ChosenBuilder::default()));
    }
}
