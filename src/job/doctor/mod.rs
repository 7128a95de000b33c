//! `doctor`: what is missing or wrong on this machine, before a build finds it out. Nothing changes anywhere, and nothing is left.
//! The checks run side by side, each in a file: [`engine`], [`deployment`], [`checkout`].

mod check;
mod checkout;
mod deployment;
mod engine;

use std::time::{Duration, Instant};

use tokio::time::timeout;

pub use check::{Check, CheckState, DoctorProblem, Examination};

use crate::config::{Config, ConfigError, DoctorConfig, ProcessEnvironment, Routes, SettingLayers, job_of_image};
use crate::net::blocking::blocking;
use checkout::NamedInTree;

/// How long a check may take. An engine has 30 s to answer a ping, services have 10 s.
const LIMIT: Duration = Duration::from_secs(45);

/// Does all checks that apply; `image` is the named image or its path. They are in the order in which `run` meets what they check.
pub async fn examine(
    config: DoctorConfig,
    image: Option<&str>,
    settings: &SettingLayers<'_>,
    environment: &ProcessEnvironment<'_>,
) -> Examination {
    let DoctorConfig { job, engine, builder, deployment, routes, place, scheme, work_dir, directory, now } = config;
    let began = Instant::now();
    let (job, of_environment) = match job {
        Some(job) => plan(job),
        None => (None, Vec::new()),
    };
    let is_task = !of_environment.is_empty();
    // A broken environment's own errors are the same ones: each is said once.
    let is_reported = of_environment.iter().any(|check| check.state == CheckState::Problem);
    let problem = |name: &'static str, error: ConfigError| {
        if is_reported { Vec::new() } else { vec![Check::problem(name, error)] }
    };
    let image = image.map(str::to_owned);
    let (named, of_checkout) = match place {
        Ok(Some(place)) => {
            let looking = blocking(move || checkout::checks(&place, image.as_deref(), &directory, scheme));
            in_time("images", looking).await.unwrap_or_else(|late| (None, vec![late]))
        }
        Ok(None) if is_task => (None, Vec::new()),
        Ok(None) => (None, vec![checkout::none(image.as_deref())]),
        Err(error) => (None, problem("images", error)),
    };
    let work_directory = async {
        match work_dir {
            Ok(path) => {
                let looking = blocking(move || engine::work_directory(&path));
                in_time("work-directory", looking).await.unwrap_or_else(|late| vec![late])
            }
            Err(error) => problem("work-directory", error),
        }
    };
    let of_engine = async {
        match (engine, builder) {
            (Ok(engine), Ok(builder)) => engine::checks(&engine, builder, LIMIT).await,
            (Err(error), _) | (_, Err(error)) => problem("engine", error),
        }
    };
    let of_deployment = async {
        match (deployment, routes) {
            (Ok(Some(deployment)), Ok(routes)) => {
                let job = job.or_else(|| of_image(named.as_ref(), settings, environment, &routes));
                let request = deployment::Request { deployment, routes, named, job, is_task, now, began };
                let asking = deployment::checks(&request);
                in_time("deployment", asking).await.unwrap_or_else(|late| vec![late])
            }
            (Ok(None), Ok(_)) => vec![deployment::none()],
            (Err(error), _) | (_, Err(error)) => problem("deployment", error),
        }
    };
    let (of_engine, work_directory, of_deployment) = tokio::join!(of_engine, work_directory, of_deployment);
    let checks = [of_environment, of_engine, work_directory, of_deployment, of_checkout];
    Examination::new(checks.into_iter().flatten().collect())
}

/// The job of this environment, and what is wrong with it.
fn plan(job: Result<Config, ConfigError>) -> (Option<Config>, Vec<Check>) {
    match job {
        Ok(config) => {
            let checks = vec![Check::ok("environment", format!("complete: {}", config.plan))];
            (Some(config), checks)
        }
        Err(ConfigError::Several(errors)) => {
            (None, errors.into_iter().map(|error| Check::problem("environment", error)).collect())
        }
        Err(error) => (None, vec![Check::problem("environment", error)]),
    }
}

/// The job of the named image's task. What is wrong with its settings is in other checks.
fn of_image(
    named: Option<&NamedInTree>,
    settings: &SettingLayers,
    environment: &ProcessEnvironment,
    routes: &Routes,
) -> Option<Config> {
    let NamedInTree { name, hash } = named?;
    job_of_image(settings, environment, routes, name, (*hash)?).ok()
}

/// The result of a check; what to say about one that takes too long.
async fn in_time<T>(name: &'static str, work: impl Future<Output = T>) -> Result<T, Check> {
    timeout(LIMIT, work).await.map_err(|_| Check::problem(name, DoctorProblem::Late { seconds: LIMIT.as_secs() }))
}
