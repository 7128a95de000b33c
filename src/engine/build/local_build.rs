//! Local builds: the image keeps its tag, the build uses the engine's build cache, and labels describe the image. `task_build`
//! has the builds of tasks.

use std::collections::BTreeMap;
use std::path::Path;

use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use tokio::sync::Mutex;
use tracing::info;

use super::debug_image;
use super::failure::DOING;
use crate::context::for_engine::ForEngine;
use crate::engine::build_log::BuildLog;
use crate::engine::connection::client::Closing;
use crate::engine::connection::messages::BuildRequest;
use crate::engine::{BuildPlan, BuildSecrets};
use crate::engine::{Engine, EngineError};
use crate::net::ImageId;
use crate::net::retry::{Policy, retry};
use crate::report::secrets;

/// The options of a local build, besides its context.
#[derive(Debug)]
pub struct LocalBuild {
    /// The tag of the image. An older image with this tag loses it.
    pub tag: String,
    /// Build arguments, network and architecture.
    pub plan: BuildPlan,
    /// The secrets that the `Dockerfile` may use.
    pub secrets: BuildSecrets,
    /// The labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Build every step without the build cache.
    pub no_cache: bool,
}

/// An image in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// Its id.
    pub id: ImageId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its names in registries, `REGISTRY/NAME@sha256:…`.
    pub digests: Vec<String>,
}

impl Engine {
    /// Builds a context and returns the image's id. The cleanup does not remove the image. Builds again after a temporary
    /// problem of a registry.
    pub async fn build_local(
        &self,
        context: &ForEngine,
        build: &LocalBuild,
        log: &mut BuildLog,
    ) -> Result<ImageId, EngineError> {
        let log = Mutex::new(log);
        retry(DOING, self.access.retry.policy(Policy::CALL), || async {
            self.build_local_once(context, build, &mut **log.lock().await).await
        })
        .await
    }

    async fn build_local_once(
        &self,
        context: &ForEngine,
        build: &LocalBuild,
        log: &mut BuildLog,
    ) -> Result<ImageId, EngineError> {
        let image_id = self.build_local_from(context, build, build.no_cache, log).await?;
        if build.no_cache
            || !self
                .has_wrong_architecture(&image_id.to_string(), build.plan.target_arch, &context.dockerfile())
                .await?
        {
            return Ok(image_id);
        }
        info!("steps for another architecture were in the engine's cache: building again without it");
        self.build_local_from(context, build, true, log).await
    }

    async fn build_local_from(
        &self,
        context: &ForEngine,
        build: &LocalBuild,
        no_cache: bool,
        log: &mut BuildLog,
    ) -> Result<ImageId, EngineError> {
        let dockerfile = context.dockerfile();
        let platform = self.platform(build.plan.target_arch, &dockerfile).await?;
        let choice = self.choice(build.plan.builder, platform.is_some());
        let builder = self.builder(choice, &dockerfile, &build.secrets).await?;
        let body = bollard::body_try_stream(context.stream(builder.chosen.by));
        let args = self.args_with_proxies(&build.plan);
        secrets::add_args(&args);
        let pulling = self.pulling(&builder, &dockerfile, &build.plan).await;
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(build.tag.clone()),
            // Nobody uses the containers of steps. The images of steps are the build cache.
            rm: true,
            forcerm: true,
            nocache: no_cache,
            buildargs: Some(args.into_iter().collect()),
            labels: Some(build.labels.clone().into_iter().collect()),
            networkmode: build.plan.network.clone(),
            platform: platform.unwrap_or_default(),
            ..BuildImageOptions::default()
        };
        secrets::add_build_secrets(build.secrets.values());
        let request =
            BuildRequest { options, excludes: context.excludes(), context: body, closing: Closing::default() };
        let answer = self.request_build(&builder, &pulling, request);
        Ok(self.follow(answer, &builder.chosen, log).await?.image_id)
    }

    /// The image with this name, if the engine has one.
    pub async fn present(&self, name: &str) -> Result<Option<LocalImage>, EngineError> {
        let image = match self.inspect(name).await {
            Ok(image) => image,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(source) => {
                return Err(EngineError::Request { doing: format!("looking for {name}"), source: source.into() });
            }
        };
        let doing = || format!("looking for {name}: it reported no id");
        let id = image
            .id
            .as_deref()
            .and_then(ImageId::in_answer)
            .ok_or_else(|| EngineError::Unfinished { doing: doing() })?;
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        let digests = image.repo_digests.unwrap_or_default();
        Ok(Some(LocalImage { id, labels: labels.into_iter().collect(), digests }))
    }

    /// The command that opens a shell in an image, with the variables of these files. Users type it.
    pub async fn shell_in(&self, tag: &str, env_files: &[impl AsRef<Path>]) -> Result<Vec<String>, EngineError> {
        let doing = || format!("looking at {tag}");
        let shell = self.shell_of(tag).await;
        let shell = shell.map_err(|source| EngineError::Request { doing: doing(), source: source.into() })?;
        let option = |file: &Path| ["--env-file".to_owned(), file.display().to_string()];
        let options: Vec<_> = env_files.iter().flat_map(|file| option(file.as_ref())).collect();
        Ok(debug_image::open(&self.driver.client_command(&self.place), tag, &options, &debug_image::shell(shell)))
    }
}
