//! The deployment: whether it answers, its clock, the credentials, their scopes, and the index.

use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;

use super::check::{Check, CheckState, DoctorProblem};
use super::checkout::NamedInTree;
use crate::config::plan::{Need, NeededScope};
use crate::config::{Config, Routes};
use crate::job::scopes::{MissingScopes, missing};
use crate::net::NameError;
use crate::report::{ErrorChain, counted};
use crate::taskcluster::auth::Scopes;
use crate::taskcluster::{Access, CallError, CallErrorKind, Deployment, Namespace, Services, ping};

/// Hawk's tolerance, in seconds: measured on a real deployment, 10 minutes pass and 20 do not; its setting is 15.
const HAWK_TOLERANCE: i64 = 15 * 60;

/// From this difference on, in seconds, expiries and timeouts are visibly wrong. The date itself is in whole seconds.
const NOTICEABLE_SKEW: i64 = 60;

/// The seconds that credentials should still live: a task's maxRunTime is about an hour.
const SHORT_LIFE: i64 = 60 * 60;

/// What to check.
pub(super) struct Request {
    pub(super) deployment: Deployment,
    pub(super) routes: Routes,
    /// The named image.
    pub(super) named: Option<NamedInTree>,
    /// The job whose scopes are compared: that of the environment, or that of the named image's task.
    pub(super) job: Option<Config>,
    /// Whether it is the job of the environment.
    pub(super) is_task: bool,
    /// The time of this machine.
    pub(super) now: Timestamp,
    /// The moment of that time.
    pub(super) began: Instant,
}

/// What no deployment is.
pub(super) fn none() -> Check {
    Check::note(
        "deployment",
        "TASKCLUSTER_ROOT_URL is not set: nothing is looked up; for CI's images set it to the deployment",
    )
}

/// Calls the deployment: all calls at once, each a single time.
pub(super) async fn checks(request: &Request) -> Vec<Check> {
    let deployment = &request.deployment;
    let services = match Services::new(deployment) {
        Ok(services) => services,
        Err(error) => return vec![Check::problem("deployment", error)],
    };
    let asked_at = request.now + request.began.elapsed();
    let (pong, scopes, index) =
        tokio::join!(ping(deployment), services.auth.current_scopes(), index(request, &services));
    let pong = match pong {
        Ok(pong) => pong,
        // The other calls can only say the same.
        Err(error) => return vec![Check::problem("deployment", error)],
    };
    let by = match &deployment.access {
        Access::Proxy(proxy) => format!(" through taskcluster-proxy at {proxy}"),
        Access::Hawk { .. } | Access::Anonymous => String::new(),
    };
    let took = pong.took.as_millis();
    let mut checks = vec![Check::ok("deployment", format!("{} answers{by} in {took} ms", deployment.root_url))];
    checks.push(match pong.date {
        Some(date) => clock(date, asked_at + pong.took / 2),
        None => Check::note("clock", "the deployment's answers have no date"),
    });
    checks.extend(credentials_and_scopes(request, scopes));
    checks.push(index);
    checks
}

/// Compares the deployment's date with the time here.
fn clock(date: Timestamp, here: Timestamp) -> Check {
    let ahead = here.as_second() - date.as_second();
    let (seconds, direction) = (ahead.abs(), if ahead > 0 { "ahead of" } else { "behind" });
    if seconds >= HAWK_TOLERANCE {
        return Check::problem("clock", DoctorProblem::Clock { seconds, direction, limit: HAWK_TOLERANCE });
    }
    if seconds >= NOTICEABLE_SKEW {
        return Check::warning(
            "clock",
            format!("this machine's clock is {seconds} s {direction} the deployment's; set it, by NTP for example"),
        );
    }
    Check::ok("clock", format!("within {NOTICEABLE_SKEW} s of the deployment's"))
}

/// What stands in the certificate of temporary credentials.
#[derive(Deserialize)]
struct Certificate {
    /// Milliseconds since 1970.
    expiry: i64,
}

/// The credentials as they are written, and as the auth service takes them.
fn credentials_and_scopes(request: &Request, scopes: Result<Scopes, CallError>) -> Vec<Check> {
    let credentials = credentials(&request.deployment.access, request.now);
    match scopes {
        Err(_) if credentials.state == CheckState::Problem => vec![credentials],
        Err(error) if error.unauthenticated => vec![Check::problem("credentials", error)],
        Err(error) => {
            let found = format!("not known: {}", ErrorChain(&error));
            let is_usual = error.is_unknown_call || matches!(error.kind, CallErrorKind::Refused | CallErrorKind::Gone);
            vec![credentials, if is_usual { Check::note("scopes", found) } else { Check::warning("scopes", found) }]
        }
        Ok(held) => vec![credentials, of_scopes(request, &held)],
    }
}

fn credentials(access: &Access, now: Timestamp) -> Check {
    let (client_id, certificate) = match access {
        Access::Proxy(_) => return Check::ok("credentials", "taskcluster-proxy has those of the task"),
        Access::Anonymous => {
            let hint = "public data can be read; `taskcluster signin` gets some, taskcluster-proxy has those of a task";
            return Check::note("credentials", format!("none: {hint}"));
        }
        Access::Hawk { client_id, certificate, .. } => (client_id, certificate),
    };
    let certificate = certificate.as_deref().map(serde_json::from_str::<Certificate>);
    let expiry = certificate.and_then(|it| Timestamp::from_millisecond(it.ok()?.expiry).ok());
    match expiry {
        Some(expiry) if expiry <= now => {
            Check::problem("credentials", DoctorProblem::Expired { client: client_id.clone(), expiry })
        }
        Some(expiry) if expiry.as_second() - now.as_second() < SHORT_LIFE => {
            Check::warning("credentials", format!("{client_id}, only until {expiry:.0}; get new ones before long work"))
        }
        Some(expiry) => Check::ok("credentials", format!("{client_id}, until {expiry:.0}")),
        None => Check::ok("credentials", format!("{client_id}, without an end")),
    }
}

/// Compares the scopes with those of the job. A person's credentials need none of a task's.
fn of_scopes(request: &Request, held: &Scopes) -> Check {
    let Some(Config { plan, .. }) = &request.job else {
        let why = match request.deployment.access {
            Access::Anonymous => "without credentials there is nothing to compare",
            Access::Hawk { .. } | Access::Proxy(_) if request.is_task => {
                "not compared, as the environment is not complete"
            }
            Access::Hawk { .. } | Access::Proxy(_) => "name an image, to compare them with those of its task",
        };
        return Check::note("scopes", why);
    };
    let Some(lacking) = request.lacking(held) else {
        return Check::note("scopes", "not compared, as the hash of the context is not known");
    };
    let what = format!("to publish {} for {}", plan.image, plan.project);
    let (perhaps, lacking): (Vec<_>, Vec<_>) = match lacking {
        Ok(lacking) => lacking.into_iter().partition(|it| it.need == Need::Perhaps),
        Err(error) => return Check::problem("scopes", error),
    };
    let list = |scopes: &[NeededScope]| scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if request.is_task && !lacking.is_empty() {
        // The whole list: an error line may have no room for it.
        let message = format!("{}, {what}: {}", counted(lacking.len(), "missing scope"), list(&lacking));
        let hint = "; add what is missing to the task's scopes, as worker-config/scopes.yml says";
        return Check::problem_of("scopes", &(message + hint), MissingScopes(lacking).into());
    }
    if request.is_task && !perhaps.is_empty() {
        let missing = list(&perhaps);
        return Check::warning("scopes", format!("an image that turns out to need it is not published: {missing}"));
    }
    if lacking.is_empty() {
        return Check::ok("scopes", format!("all there {what}"));
    }
    let count = counted(lacking.len(), "scope");
    Check::note("scopes", format!("a task needs {count} {what} that these credentials lack: {}", list(&lacking)))
}

impl Request {
    /// The scopes that the job can need and does not have; none if that is not known.
    fn lacking(&self, held: &Scopes) -> Option<Result<Vec<NeededScope>, NameError>> {
        let job = self.job.as_ref()?;
        let hash = job.plan.context.hash?;
        let lacking = job.plan.identity(hash).and_then(|identity| missing(job, &identity, held));
        // A task has those of itself from the queue, and the task of a named image does not exist.
        let own = job.plan.task.as_ref().map(|task| task.task_id.as_str()).filter(|_| !self.is_task);
        Some(lacking.map(|it| it.into_iter().filter(|it| own.is_none_or(|own| !it.scope.contains(own))).collect()))
    }
}

/// Whether the index answers, and has the image.
async fn index(request: &Request, services: &Services) -> Check {
    let namespace = match request.namespace() {
        Ok(namespace) => namespace,
        Err(error) => return Check::problem("index", error),
    };
    match services.index.find_task(&namespace).await {
        Ok(Some(entry)) => {
            Check::ok("index", format!("{namespace} is of task {}, until {:.0}", entry.task_id, entry.expires))
        }
        Ok(None) if request.job.is_none() && request.named.is_none() => Check::ok("index", "it answers"),
        Ok(None) => Check::ok("index", format!("it answers, and has no {namespace}: the image is not built yet")),
        Err(error) => Check::problem("index", error),
    }
}

impl Request {
    /// The namespace to look at: that of the image's hash, or else one that says whether the index answers.
    fn namespace(&self) -> Result<Namespace, NameError> {
        let Routes { index, project } = &self.routes;
        let (image, hash) = match (&self.job, &self.named) {
            (Some(Config { plan, .. }), _) => (plan.image.clone(), plan.index_hash.or(plan.context.hash)),
            (None, Some(NamedInTree { name, hash })) => (name.clone(), *hash),
            (None, None) => ("image".parse()?, None),
        };
        match hash {
            Some(hash) => Namespace::of_hash(index, project, &image, hash),
            None => Namespace::of_latest(index, project, &image),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_is_a_problem_where_hawk_refuses_it() {
        let date = time("2020-01-01T00:00:00Z");
        for (here, state, words) in [
            ("2020-01-01T00:00:59Z", CheckState::Ok, "within 60 s"),
            ("2020-01-01T00:01:00Z", CheckState::Warning, "60 s ahead of the deployment's"),
            ("2019-12-31T23:59:00Z", CheckState::Warning, "60 s behind the deployment's"),
            ("2020-01-01T00:15:00Z", CheckState::Problem, "refused from 900 s on"),
            ("2019-12-31T23:00:00Z", CheckState::Problem, "3600 s behind"),
        ] {
            let check = clock(date, time(here));
            assert_eq!(check.state, state, "{here}");
            assert!(check.message.contains(words), "{here}: {}", check.message);
        }
    }

    #[test]
    fn credentials_with_a_certificate_end() {
        let of = |certificate: Option<&str>| {
            let certificate = certificate.map(str::to_owned);
            let access = Access::Hawk { client_id: "me".to_owned(), access_token: "secret".to_owned(), certificate };
            let check = credentials(&access, time("2020-01-01T00:00:00Z"));
            (check.state, check.message)
        };
        assert_eq!(of(None), (CheckState::Ok, "me, without an end".to_owned()));
        let (state, message) = of(Some(r#"{"expiry":1577836800000}"#));
        assert_eq!(state, CheckState::Problem);
        assert!(message.starts_with("the credentials of me have expired at 2020-01-01T00:00:00Z; "), "{message}");
        let (state, message) = of(Some(r#"{"expiry":1577840399000}"#));
        assert_eq!(state, CheckState::Warning);
        assert!(message.contains("only until 2020-01-01T00:59:59Z"), "{message}");
        assert_eq!(of(Some(r#"{"expiry":1577840400000}"#)).0, CheckState::Ok);
        assert_eq!(of(Some("{}")).0, CheckState::Ok);
        assert_eq!(credentials(&Access::Anonymous, Timestamp::UNIX_EPOCH).state, CheckState::Note);
    }
}
