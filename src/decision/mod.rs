//! The image tasks that a decision adds: which are needed, the deadlines and owners that they share, and their definitions.
//! `graph` has the graph that they go into, `lookup` finds images.

mod dummies;
pub mod graph;
pub mod image_needs;
pub mod image_tasks;
pub mod lookup;
pub mod task;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::config::plan::{ArtifactPlan, ContextPlan, ContextSource, Plan};
use crate::config::settings;
use crate::context::{ContextHash, HashScheme, ImageName};
use crate::decision::task::{TaskError, Template, Values};
use crate::engine::BuildPlan;
use crate::report::Hint;
use crate::repository::TreeError;
use crate::taskcluster::{ArtifactName, IndexPrefix, Project, PushDate, TaskId, to_milliseconds};
pub use waiting::{deadline, shared};

/// A task's definition in a graph: for any worker, and with places still to be filled in.
pub type Definition = Map<String, Value>;

/// The default architecture of images.
const USUAL_ARCH: &str = "amd64";
/// The variable with the architecture of an image's task.
const ARCH_VARIABLE: &str = "TARGET_ARCH";

/// The placeholder of Treeherder's symbol.
const SYMBOL: &str = "treeherder_symbol";
/// The placeholder of the expiry of a declared image and its index entries.
const EXPIRES: &str = "image_expires";

/// Why there is no image task.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The template cannot be filled in.
    #[error("the task of image {image}: {source}{}", Hint(way_out(source)))]
    Task {
        /// The image.
        image: ImageName,
        /// Why not.
        source: TaskError,
    },
    /// The template is none.
    #[error("the task's template cannot be used{}", Hint("correct the file of --task-template"))]
    Template(#[source] TaskError),
    /// The image cannot be built.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A value that cannot be given.
    #[error("--value {name}: {why}")]
    Value {
        /// The placeholder.
        name: String,
        /// Why not.
        why: &'static str,
    },
}

fn way_out(error: &TaskError) -> &'static str {
    match error {
        TaskError::Unfilled { .. } => "give each with --value NAME=VALUE",
        _ => "",
    }
}

/// Why an image gets a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The index does not have it.
    Missing,
    /// It is to be rebuilt, although the index has it.
    Rebuild,
    /// The index has it, but no longer than until this time. The task builds nothing if another one has made it by then.
    Renew {
        /// The time.
        until: Timestamp,
    },
}

impl Cause {
    /// What its task does not do by itself: a variable for `run`.
    fn variable(self) -> Option<(String, String)> {
        let (setting, value) = match self {
            Self::Missing => return None,
            Self::Rebuild => (&settings::REBUILD_TASK, "1".to_owned()),
            Self::Renew { until } => (&settings::NEEDED_UNTIL, to_milliseconds(until)),
        };
        Some((setting.variable.to_owned(), value))
    }
}

/// An image that needs a task.
#[derive(Clone, Debug)]
pub struct ImageTaskSpec {
    /// The image.
    pub image: ImageName,
    /// Its context hash.
    pub context: ContextHash,
    /// The hash in its `.hash.` route, if that is not the context hash.
    pub index_hash: Option<ContextHash>,
    /// Its build arguments.
    pub args: BTreeMap<String, String>,
    /// The task that has, or will have, its parent's image.
    pub parent: Option<TaskId>,
    /// Treeherder's symbol, if the image has one.
    pub symbol: Option<String>,
    /// The image's architecture, if it names one.
    pub arch: Option<String>,
    /// Why it needs one.
    pub cause: Cause,
}

/// An image's task, and the placeholders that have dummies.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The definition for the queue.
    pub definition: Value,
    /// Placeholders without a known value.
    pub unknown: BTreeSet<String>,
}

/// What all image tasks of a decision have in common.
#[derive(Clone, Debug)]
pub struct DecisionContext {
    /// The decision task, which has the contexts.
    pub decision_task: TaskId,
    /// The project that the images are indexed for.
    pub project: Project,
    /// The push.
    pub pushdate: PushDate,
    /// Prefix of the routes.
    pub index: IndexPrefix,
    /// The image artifacts.
    pub artifact: ArtifactPlan,
    /// How contexts are hashed.
    pub scheme: HashScheme,
    /// Values for the template's placeholders from the caller; they win. `ARCH:NAME` is one for images of that architecture.
    pub given: Values,
    /// Whether an unknown value becomes a visible dummy instead of an error: for inspection.
    pub dummies: bool,
    /// The current time.
    pub now: Timestamp,
}

/// The images that need a task, parents first: of those that are used, and of the parents of those that must be built,
/// all that are not found. The parent of an image that is found need not be there any more.
#[must_use]
pub fn missing(
    used: impl IntoIterator<Item = ImageName>,
    is_found: impl Fn(&ImageName) -> bool,
    parent_of: impl Fn(&ImageName) -> Option<ImageName>,
) -> Vec<ImageName> {
    let mut missing = Vec::new();
    let mut visited = BTreeSet::new();
    for image in used {
        let mut line = Vec::new();
        let mut next = Some(image);
        while let Some(image) = next.filter(|image| !is_found(image) && visited.insert(image.clone())) {
            next = parent_of(&image);
            line.push(image);
        }
        missing.extend(line.into_iter().rev());
    }
    missing
}

/// The artifact of the decision task that has an image's context.
pub fn context_artifact(image: &ImageName) -> Result<ArtifactName, DecisionError> {
    let name = format!("public/docker-contexts/{image}.tar.gz").parse();
    name.map_err(|error| DecisionError::Task { image: image.clone(), source: TaskError::Name(error) })
}

/// A Treeherder symbol in taskgraph's notation, `I(sym)` or `sym`: the part for the one job, at most 25 characters.
fn job_symbol(symbol: &str) -> String {
    let inner = symbol.strip_suffix(')').and_then(|symbol| symbol.split_once('(')).map_or(symbol, |(_, inner)| inner);
    inner.chars().take(25).collect()
}

/// Refuses values without a placeholder in the template: typos.
pub fn check_given(given: &Values, template: &Template) -> Result<(), DecisionError> {
    let places = template.placeholders().map_err(DecisionError::Template)?;
    match given.keys().find(|name| !places.contains(placeholder(name))) {
        Some(name) => {
            Err(DecisionError::Value { name: name.clone(), why: "the task's template has no such placeholder" })
        }
        None => Ok(()),
    }
}

/// The placeholder in `NAME` and `ARCH:NAME`.
fn placeholder(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, name)| name)
}

/// The values for images of one architecture: the general ones, overridden by those of that architecture.
fn for_arch(given: &Values, arch: &str) -> Values {
    let own = given.iter().filter_map(|(name, value)| {
        let (of, name) = name.split_once(':')?;
        (of == arch).then(|| (name.to_owned(), value.clone()))
    });
    let for_all = given.iter().filter(|(name, _)| !name.contains(':'));
    for_all.map(|(name, value)| (name.clone(), value.clone())).chain(own).collect()
}

/// When an image expires that is built for the tasks that wait for it.
fn image_expires(waiting: &[&Definition], arch: Option<&str>, common: &DecisionContext) -> Option<Timestamp> {
    let mut values = shared(waiting, &common.decision_task, common.now);
    values.extend(for_arch(&common.given, arch.unwrap_or(USUAL_ARCH)));
    let task = values.get("expires")?.parse().ok()?;
    Some(common.artifact.expires.map_or(task, |expires| expires.min(task)))
}

/// The definition of an image's task, for the tasks that wait for it.
pub fn definition(
    order: &ImageTaskSpec,
    waiting: &[&Definition],
    template: &Template,
    common: &DecisionContext,
) -> Result<Defined, DecisionError> {
    let wrong = |source| DecisionError::Task { image: order.image.clone(), source };
    let plan = Plan {
        image: order.image.clone(),
        parent: order.parent.clone(),
        project: common.project.clone(),
        task: None,
        pushdate: common.pushdate,
        context: ContextPlan {
            source: ContextSource::Artifact {
                task_id: common.decision_task.clone(),
                name: context_artifact(&order.image)?,
            },
            scheme: common.scheme.into(),
            hash: Some(order.context),
            directory: None,
            // The deployment's choice, which no task carries.
            max_bytes: u64::MAX,
            max_entries: u64::MAX,
        },
        build: BuildPlan { args: order.args.clone(), ..BuildPlan::default() },
        artifact: common.artifact.clone(),
        index: common.index.clone(),
        index_hash: order.index_hash,
        // The deployment's choice, too, or a given value.
        dry_run: None,
        reproducible: None,
    };
    let mut values = shared(waiting, &common.decision_task, common.now);
    let computed = task::values(&plan).map_err(wrong)?;
    // Values that the plan does not set, like the build's network, can be given.
    let is_said = |name: &&String| computed.get(*name).is_some_and(|value| !value.is_empty());
    let given = for_arch(&common.given, order.arch.as_deref().unwrap_or(USUAL_ARCH));
    if let Some(name) = given.keys().find(|name| is_said(name) && *name != SYMBOL) {
        return Err(DecisionError::Value { name: name.clone(), why: "is computed for each image" });
    }
    values.extend(computed);
    values.extend(order.symbol.as_deref().map(|symbol| (SYMBOL.to_owned(), job_symbol(symbol))));
    values.extend(given);
    // The expiry of ARTIFACT_EXPIRES; by default the task's, like an artifact of the program's own.
    let expires = common.artifact.expires.map(to_milliseconds).or_else(|| values.get("expires").cloned());
    if let Some(expires) = expires {
        values.entry(EXPIRES.to_owned()).or_insert(expires);
    }
    let unknown = if common.dummies { dummies::fill(&mut values, template).map_err(wrong)? } else { BTreeSet::new() };
    let mut definition = template.fill(&values).map_err(wrong)?;
    definition.payload.env.extend(order.arch.clone().map(|arch| (ARCH_VARIABLE.to_owned(), arch)));
    definition.payload.env.extend(order.cause.variable());
    let definition = serde_json::to_value(definition).map_err(|error| wrong(TaskError::Definition(error)))?;
    Ok(Defined { definition, unknown })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::net::Digest;

    const DECISION: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn image(name: &str) -> ImageName {
        name.parse().unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-23T07:00:00Z".parse().unwrap()
    }

    #[test]
    fn parents_of_what_must_be_built_come_first_and_those_of_what_is_found_do_not_come() {
        let parent_of = |name: &ImageName| match name.as_str() {
            "child" | "twin" => Some(image("middle")),
            "middle" => Some(image("base")),
            "found" => Some(image("gone")),
            _ => None,
        };
        let of = |used: &[&str], found: &[&str]| {
            let used: Vec<_> = used.iter().map(|name| image(name)).collect();
            let missing = missing(used, |name| found.contains(&name.as_str()), parent_of);
            missing.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&["child", "twin", "found"], &["found"]), ["base", "middle", "child", "twin"]);
        assert_eq!(of(&["child", "twin"], &["middle"]), ["child", "twin"]);
        assert_eq!(of(&["twin", "base", "child"], &["twin"]), ["base", "middle", "child"]);
        assert_eq!(of(&["child"], &["child"]), [""; 0]);
    }

    fn common(given: &[(&str, &str)]) -> DecisionContext {
        DecisionContext {
            decision_task: DECISION.parse().unwrap(),
            project: "try".parse().unwrap(),
            pushdate: "20151209123456".parse().unwrap(),
            index: "index".parse().unwrap(),
            artifact: ArtifactPlan::example(),
            scheme: HashScheme::Tar,
            given: given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            dummies: false,
            now: now(),
        }
    }

    fn order() -> ImageTaskSpec {
        let context = ContextHash(Digest::of(b"context"));
        ImageTaskSpec {
            image: image("builder"),
            context,
            index_hash: None,
            args: BTreeMap::new(),
            parent: None,
            symbol: None,
            arch: None,
            cause: Cause::Missing,
        }
    }

    #[test]
    fn what_is_missing_or_given_in_vain_is_named() {
        let template = Template::new(json!({ "a": "{{worker_type}} {{hash}} {{docker_build_network}}" }));
        let error_with = |given| definition(&order(), &[], &template, &common(given)).unwrap_err().to_string();
        let unfilled = error_with(&[]);
        assert!(unfilled.starts_with("the task of image builder: ") && unfilled.contains("worker_type"), "{unfilled}");
        assert!(unfilled.ends_with("give each with --value NAME=VALUE"), "{unfilled}");
        assert_eq!(error_with(&[("hash", "0")]), "--value hash: is computed for each image");
        let typo = check_given(&common(&[("worker_tpye", "x")]).given, &template).unwrap_err().to_string();
        assert_eq!(typo, "--value worker_tpye: the task's template has no such placeholder");
        assert!(check_given(&common(&[("docker_build_network", "none")]).given, &template).is_ok());
    }

    #[test]
    fn an_architecture_has_values_of_its_own() {
        let given = common(&[("a", "1"), ("b", "2"), ("arm64:a", "3")]).given;
        let values_of =
            |arch| for_arch(&given, arch).into_iter().map(|(name, value)| name + &value).collect::<Vec<_>>();
        assert_eq!(
            (values_of("amd64"), values_of("arm64")),
            (vec!["a1".into(), "b2".into()], vec!["a3".into(), "b2".into()])
        );
        let template = Template::new(json!("{{a}}{{b}}"));
        assert!(check_given(&given, &template).is_ok());
        assert!(check_given(&common(&[("arm64:c", "")]).given, &template).is_err());
    }

    #[test]
    fn symbols_are_those_of_the_job() {
        assert_eq!(
            ["I(deb12)", "deb12", "I(", &"x".repeat(30)].map(job_symbol),
            ["deb12", "deb12", "I(", &"x".repeat(25)]
        );
    }
}
