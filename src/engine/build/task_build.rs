//! Building: the verified context goes in as a stream, the output comes out line by line, and what was made is
//! written down so that it can be removed. Which of an engine's builders does it is chosen in `buildkit`.

use std::path::PathBuf;

use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptions;
use futures_util::{Stream, StreamExt};
use tokio::sync::Mutex;
use tracing::{debug, info};

use super::build_output::{BuildOutputParser, News};
use super::failure::{DOING, next_of, request_error};
use super::held::{Held, hold};
use super::step_lines::{OutputEvent, Steps, is_about_our_args};
use crate::context::for_engine::ForEngine;
use crate::engine::build::builder::ChosenBuilder;
use crate::engine::build_log::BuildLog;
use crate::engine::cleanup::state::JournalEvent;
use crate::engine::connection::client::Closing;
use crate::engine::connection::messages::{AnswerError, BuildRequest};
use crate::engine::connection::witness::Witness;
use crate::engine::driver::AbandonedBuild;
use crate::engine::sending::noting_the_end;
use crate::engine::{BuildPlan, BuildSecrets};
use crate::engine::{Engine, EngineError, managed};
use crate::net::ImageId;
use crate::net::retry::{Policy, retry};
use crate::report::secrets as hidden;

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its id in the engine.
    pub image_id: ImageId,
    /// Who has read the `Dockerfile`: `classic`, `buildkit` or `buildah`.
    pub builder: &'static str,
    /// How many of its steps came from the images that were offered for it.
    pub steps: Steps,
}

/// What a build is told besides its context.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions<'a> {
    /// Arguments and network.
    pub plan: &'a BuildPlan,
    /// What the `Dockerfile` may ask for.
    pub secrets: &'a BuildSecrets,
    /// The images in the engine, by name, that steps may be taken from; without any, each step is built.
    pub cache: &'a [String],
    /// Whether a later build may take steps from this image.
    pub is_cache: bool,
}

/// By this argument `BuildKit` writes into an image of which steps its layers are: without it none can be taken from it.
const INLINE_CACHE_ARG: &str = "BUILDKIT_INLINE_CACHE";

impl Engine {
    /// Builds a context and tags the image. The output goes to `log`, line by line as it comes. Where a registry is in
    /// trouble that passes, it builds again.
    pub async fn build(
        &self,
        context: &ForEngine,
        tag: &str,
        told: BuildOptions<'_>,
        log: &mut BuildLog,
    ) -> Result<Built, EngineError> {
        let log = Mutex::new(log);
        retry(DOING, self.access.retry.policy(Policy::CALL), || async {
            self.build_once(context, tag, told, &mut **log.lock().await).await
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
        let (tracker, goes_on) = (self.tracker.clone(), builder.session.is_none());
        let excludes = context.excludes();
        let context = noting_the_end(context.stream(builder.asked.by), async move |bytes| {
            // BuildKit stops with the connection.
            if goes_on {
                tracker.add(JournalEvent::ContextSent(bytes)).await;
            }
        });
        let by_buildkit = builder.session.is_some();
        // Who asks for it by name takes the risk.
        let records = plan.cache_from.is_some() || self.about.keeps_records();
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
            // The image is made of its context, its base and what is offered, not of what others left in the engine. And the
            // classic builder fails when any image goes while it looks through its own cache.
            nocache: offer.names.is_empty(),
            cachefrom: (!offer.names.is_empty() && self.driver.takes_cache_names()).then(|| offer.names.clone()),
            buildargs: Some(args.into_iter().collect()),
            networkmode: plan.network.clone(),
            platform: platform.unwrap_or_default(),
            ..BuildImageOptions::default()
        };
        let pulling = self.pulling(&builder, &dockerfile, plan).await;
        let witness = Witness::of(self.driver, &self.place).await;
        let begun = self.begin(tag, goes_on.then_some(&*dockerfile), &plan.args).await;
        let closing = Closing::default();
        let context = bollard::body_try_stream(context);
        let request = BuildRequest { options, excludes, context, closing: closing.clone() };
        let answer = self.ask_for_build(&builder, &pulling, request);
        let built = if goes_on && self.driver.abandoned_build() == AbandonedBuild::EndsItsStep {
            let Held { answer, ended } = hold(answer, closing);
            self.tracker.goes_on_until(ended);
            self.follow(answer, &builder.asked, log).await
        } else {
            self.follow(answer, &builder.asked, log).await
        };
        if let (Ok((image_id, _)), true) = (&built, self.needs_step_images()) {
            self.tracker.has_steps(self.steps_of(&begun, &[image_id.to_string()]).await);
        }
        self.note_what_was_made().await;
        match built {
            // Its service was ended while it was at a step, which then failed for no fault of its own.
            Err(EngineError::Build(_)) if self.managed.as_ref().is_some_and(|managed| managed.has_ended()) => {
                Err(EngineError::Unfinished { doing: DOING.to_owned() })
            }
            // A command that ended with its engine, which is there again.
            Err(EngineError::Build(failure)) if failure.may_be_the_engines_end() && witness.saw_an_end().await => {
                Err(request_error(DOING, "it ended, and was started again"))
            }
            built => {
                let (image_id, steps) = built?;
                if let Some(wanted) = plan.target_arch {
                    self.check_architecture(&image_id.to_string(), "the image", wanted).await?;
                }
                Ok(Built { image_id, builder: builder.asked.by.name(), steps })
            }
        }
    }

    /// Reads a build's answer to its end.
    pub(super) async fn follow(
        &self,
        answer: impl Stream<Item = Result<BuildInfo, AnswerError>>,
        asked: &ChosenBuilder,
        log: &mut BuildLog,
    ) -> Result<(ImageId, Steps), EngineError> {
        let mut answer = std::pin::pin!(answer);
        let mut heard = BuildOutputParser::default();
        let mut image_id = None;
        loop {
            let next = match next_of(answer.next(), &heard, self.access.retry.silence).await {
                Ok(next) => next,
                Err(silent) => {
                    // Docker would wait for the registry also when nobody waits for the build, which makes nothing more.
                    drop(self.tracker.take_under_way());
                    Self::print(heard.end(), log);
                    return Err(silent);
                }
            };
            let Some(line) = next else { break };
            match line {
                Ok(line) => {
                    let News { said, pulled, id } = heard.line(&line);
                    Self::print(said, log);
                    for name in &pulled {
                        self.tracker.pulled(name);
                    }
                    if let (Some(piece), Some(_)) = (&line.stream, &self.managed) {
                        image_id = managed::final_image_id(piece);
                    }
                    if let Some(id) = id {
                        image_id = ImageId::in_answer(&id);
                        self.tracker.told(id);
                    }
                }
                Err(error) if is_cut(&error, asked) && image_id.is_some() => {
                    debug!("the engine's answer broke off after it told the image's id: {error}");
                    break;
                }
                Err(error) => {
                    Self::print(heard.end(), log);
                    return Err(self.failure(heard, asked, error).await);
                }
            }
        }
        Self::print(heard.end(), log);
        let image_id = image_id.ok_or_else(|| EngineError::Unfinished { doing: DOING.to_owned() })?;
        Ok((image_id, heard.steps()))
    }

    fn print(lines: impl IntoIterator<Item = OutputEvent>, log: &mut BuildLog) {
        for said in lines {
            match said {
                // Nearly every build would end with this warning, about an argument that nobody asked for.
                OutputEvent::Line(line) if is_about_our_args(&line) => {}
                OutputEvent::Line(line) => log.line(&line),
                OutputEvent::Step(line) => log.step(&line),
            }
        }
    }

    /// How many bytes an image's layers have, unpacked: about the size of its archive. Refuses an image without any.
    pub async fn image_size(&self, image_id: ImageId) -> Result<u64, EngineError> {
        let image_id = &image_id.to_string();
        let image = self.inspect(image_id).await.map_err(|error| request_error("looking at the image", error))?;
        if image.root_fs.is_some_and(|files| files.layers.is_none_or(|layers| layers.is_empty())) {
            return Err(EngineError::NoLayers);
        }
        let size = image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(self.unpacked(image_id, size).await)
    }

    /// The folder where the engine keeps images, where it is on this machine.
    pub async fn root(&self) -> Option<PathBuf> {
        let root = PathBuf::from(self.client.info().await.ok()?.docker_root_dir?);
        root.is_dir().then_some(root)
    }
}

/// Whether an answer of BuildKit's broke off, and nothing is said to be wrong: Docker 20.10's does now and then behind its last
/// word, which is the image's id. Whether the image is there is asked next.
fn is_cut(error: &AnswerError, asked: &ChosenBuilder) -> bool {
    asked.is_of_buildkit() && matches!(error, AnswerError::Cut(_) | AnswerError::Json(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_breaks_off_is_no_word_of_the_engine() {
        let broken = || AnswerError::Cut(std::io::Error::other("broken"));
        let said = AnswerError::Reported { message: "exit code: 3".to_owned(), code: None };
        assert!(is_cut(&broken(), &ChosenBuilder::of_buildkit()));
        assert!(!is_cut(&said, &ChosenBuilder::of_buildkit()));
        // The classic builder tells an id after each stage.
        assert!(!is_cut(&broken(), &ChosenBuilder::default()));
    }
}
