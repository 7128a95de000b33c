//! Task definitions: the environment of a planned image's task, and the template that becomes its definition. The table of
//! settings names the variables, so that `config` reads what this module writes; callers do YAML.

mod payload;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::config::plan::{ContextSource, Plan};
use crate::config::settings::{self, Setting};
use crate::net::NameError;
use crate::taskcluster::TaskId;
pub use payload::{Content, ContentEncoding, DeclaredArtifact, Features, FileType, Mount, OnExitStatus, Payload};

/// A task's environment: variables by name.
pub type Environment = BTreeMap<String, String>;

/// The values of a template's placeholders, by name.
pub type Values = BTreeMap<String, String>;

/// A task definition for the queue. Unknown properties are an error, so that a typo in a template is found and not ignored by a
/// worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskDefinition {
    /// First half of the worker pool's name.
    pub provisioner_id: String,
    /// Second half of the worker pool's name.
    pub worker_type: String,
    /// Controls who may manage the task; the same in the whole group.
    pub scheduler_id: String,
    /// The group, usually named after its decision task.
    pub task_group_id: TaskId,
    /// Tasks that must be completed first.
    pub dependencies: Vec<TaskId>,
    /// Routes of messages about the task.
    pub routes: Vec<String>,
    /// Which of two waiting tasks is first.
    pub priority: String,
    /// How many runs may follow one that was no fault of the task.
    pub retries: u32,
    /// When the task was made.
    pub created: Timestamp,
    /// When it must be resolved.
    pub deadline: Timestamp,
    /// When it is forgotten, with all its artifacts.
    pub expires: Timestamp,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What generic-worker does.
    pub payload: Payload,
    /// For people.
    pub metadata: Metadata,
    /// For searches.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// For other programs.
    #[serde(default)]
    pub extra: Extra,
}

/// Data for other programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// To the index, about the task's `index.` routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexOptions>,
    /// To all others; `treeherder` among them.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// How the index enters a task by its routes when it is completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexOptions {
    /// The push's seconds since 1970. The index enters nothing where this is no number.
    #[serde(default, deserialize_with = "rank")]
    pub rank: i32,
    /// When the entries are forgotten; without it, with the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The data of the entries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Value>,
}

/// Reads a number, or a text that a placeholder became.
fn rank<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        other => serde_json::from_value(other).map_err(serde::de::Error::custom),
    }
}

/// The description of a task for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// A short name.
    pub name: String,
    /// What the task does.
    pub description: String,
    /// The person to ask.
    pub owner: String,
    /// The source of the definition.
    pub source: String,
}

/// Why there is no definition.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The plan's context is a local file.
    #[error("{0} is on this machine: a task takes its context from another task's artifact, or from a URL")]
    LocalContext(String),
    /// The plan has no hash.
    #[error("a task cannot verify a context whose hash is not planned")]
    NoHash,
    /// The index would refuse the image.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Braces that are no placeholder.
    #[error(
        "{text:?} has a `{{{{` that begins no placeholder: expected {{{{name}}}}, of lower-case letters, digits and _"
    )]
    Malformed {
        /// The text of the template.
        text: String,
    },
    /// Placeholders without a value.
    #[error("the template has placeholders that nothing fills: {}", names.join(", "))]
    Unfilled {
        /// Their names.
        names: Vec<String>,
    },
    /// A filled template that is something else.
    #[error("the filled template is not a task definition")]
    Definition(#[source] serde_json::Error),
}

impl TaskDefinition {
    /// Reads a definition from a JSON value.
    pub fn parse(definition: Value) -> Result<Self, TaskError> {
        serde_json::from_value(definition).map_err(TaskError::Definition)
    }
}

/// The environment of a planned image's task, which `config` reads as the same plan again.
///
/// It leaves out the limits of a context and the storage type: the deployment decides these, not a task. A value that the plan
/// does not have is an empty variable, which counts as not set.
pub fn environment(plan: &Plan) -> Result<Environment, TaskError> {
    let (task_id, path, url) = match &plan.context.source {
        ContextSource::Artifact { task_id, name } => (task_id.to_string(), name.to_string(), String::new()),
        ContextSource::Url(url) => (String::new(), text(plan.context.directory.as_ref()), url.reveal().to_string()),
        local @ (ContextSource::File(_) | ContextSource::Directory { .. }) => {
            return Err(TaskError::LocalContext(local.to_string()));
        }
    };
    let args = serde_json::to_string(&plan.build.args).map_err(TaskError::Definition)?;
    let variables: [(&Setting, String); 22] = [
        (&settings::IMAGE_NAME, plan.image.to_string()),
        (&settings::PROJECT, plan.project.to_string()),
        (&settings::PUSHDATE, plan.pushdate.to_string()),
        (&settings::CONTEXT_TASK_ID, task_id),
        (&settings::CONTEXT_PATH, path),
        (&settings::CONTEXT_URL, url),
        (&settings::HASH, plan.context.hash.ok_or(TaskError::NoHash)?.to_string()),
        (&settings::HASH_SCHEME, plan.context.scheme.to_string()),
        (&settings::DOCKER_BUILD_ARGS, args),
        (&settings::DOCKER_BUILD_NETWORK, text(plan.build.network.as_ref())),
        (&settings::SECRET, plan.build.secrets.to_string()),
        (&settings::BUILDER, plan.build.builder.to_string()),
        (&settings::SOURCE_DATE_EPOCH, text(plan.reproducible.as_ref())),
        (&settings::CACHE_FROM, text(plan.build.cache_from.as_ref())),
        (&settings::TARGET_ARCH, text(plan.build.target_arch.as_ref())),
        (&settings::PARENT_TASK_ID, text(plan.parent.as_ref())),
        (&settings::ARTIFACT_NAME, plan.artifact.name.to_string()),
        (&settings::ARTIFACT_EXPIRES, text(plan.artifact.expires.as_ref())),
        (&settings::ZSTD_LEVEL, text(plan.artifact.zstd_level.as_ref())),
        (&settings::EXPORT, plan.artifact.export.to_string()),
        (&settings::INDEX, plan.index.to_string()),
        (&settings::INDEX_HASH, text(plan.index_hash.as_ref())),
    ];
    Ok(variables.into_iter().map(|(setting, value)| (setting.variable.to_owned(), value)).collect())
}

fn text(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// The values of a plan for a template: its environment, each variable under its name in lower case, and derived ones: the
/// image's namespaces in the index, the artifact as a worker declares it, and `treeherder_symbol`.
pub fn values(plan: &Plan) -> Result<Values, TaskError> {
    /// Treeherder refuses longer symbols.
    const LONGEST_SYMBOL: usize = 25;
    let names = plan.identity(plan.context.hash.ok_or(TaskError::NoHash)?)?.namespaces;
    let latest = names.latest.as_str();
    let mut values: Values =
        environment(plan)?.into_iter().map(|(variable, value)| (variable.to_lowercase(), value)).collect();
    let besides = [
        ("image_namespace", latest.strip_suffix(".latest").unwrap_or(latest).to_owned()),
        ("route_latest", names.latest.route()),
        ("route_pushdate", names.pushdate.route()),
        ("route_hash", names.hash.route()),
        ("rank", plan.pushdate.epoch_seconds().to_string()),
        ("artifact_file", plan.artifact.name.file_name().to_owned()),
        ("artifact_content_type", plan.artifact.content_type().to_owned()),
        ("treeherder_symbol", plan.image.as_str().chars().take(LONGEST_SYMBOL).collect()),
    ];
    values.extend(besides.map(|(name, value)| (name.to_owned(), value)));
    Ok(values)
}

/// Variables of a task's environment that `run` does not read: typos, or variables of another program.
#[must_use]
pub fn unread(environment: &Environment) -> Vec<String> {
    let read = |variable: &String| {
        settings::EVERYWHERE
            .iter()
            .chain(settings::RUN.iter().copied().flatten())
            .any(|setting| setting.variable == variable)
    };
    environment.keys().filter(|variable| !read(variable)).cloned().collect()
}

/// A task definition with placeholders, `{{name}}`, in its texts.
///
/// Placeholders are filled in after the template is parsed: a value is always a text, whatever it contains.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Value);

impl Template {
    /// The built-in definition of the image task.
    pub const BUILT_IN: &str = include_str!("../../../worker-config/task.yml");

    /// Reads a template from a JSON value.
    #[must_use]
    pub fn new(template: Value) -> Self {
        Self(template)
    }

    /// The names of its placeholders.
    pub fn placeholders(&self) -> Result<BTreeSet<String>, TaskError> {
        let mut names = BTreeSet::new();
        fill(&self.0, &mut |name| {
            names.insert(name.to_owned());
            String::new()
        })?;
        Ok(names)
    }

    /// The definition from the template with these values. Values without a placeholder are left out.
    pub fn fill(&self, values: &Values) -> Result<TaskDefinition, TaskError> {
        let names: Vec<_> = self.placeholders()?.into_iter().filter(|name| !values.contains_key(name)).collect();
        if !names.is_empty() {
            return Err(TaskError::Unfilled { names });
        }
        TaskDefinition::parse(fill(&self.0, &mut |name| values.get(name).cloned().unwrap_or_default())?)
    }
}

/// Fills the texts below `value`; not the keys.
fn fill(value: &Value, look_up: &mut impl FnMut(&str) -> String) -> Result<Value, TaskError> {
    Ok(match value {
        Value::String(text) => Value::String(fill_text(text, look_up)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| fill(item, look_up)).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let filled = map.iter().map(|(key, value)| Ok((key.clone(), fill(value, look_up)?)));
            Value::Object(filled.collect::<Result<_, TaskError>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn fill_text(text: &str, look_up: &mut impl FnMut(&str) -> String) -> Result<String, TaskError> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let placeholder = after.split_once("}}").filter(|(name, _)| is_name(name));
        let (name, after) = placeholder.ok_or_else(|| TaskError::Malformed { text: text.to_owned() })?;
        filled.push_str(before);
        filled.push_str(&look_up(name));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::plan::ContextPlan;

    fn plan(source: ContextSource) -> Plan {
        let example = Plan::example(source);
        Plan {
            image: "a-very-long-name-of-an-image".parse().unwrap(),
            context: ContextPlan { hash: "ab".repeat(32).parse().ok(), ..example.context },
            index: "index.garbage".parse().unwrap(),
            ..example
        }
    }

    #[test]
    fn a_plan_fills_its_variables_and_the_names_that_follow_from_them() {
        // The whole URL: the task downloads from it, query and all.
        let url = "https://example.com/context.tar.gz?version=3";
        let values = values(&plan(ContextSource::Url(url.parse().unwrap()))).unwrap();
        assert_eq!(values["context_url"], url);
        assert_eq!(values["context_task_id"], "");
        assert_eq!(values["image_namespace"], "garbage.docker.images.v1.try.a-very-long-name-of-an-image");
        assert_eq!(values["treeherder_symbol"], "a-very-long-name-of-an-im");
        assert_eq!(values["route_pushdate"], format!("index.{}.pushdate.2015.12-09-123456", values["image_namespace"]));
        assert_eq!(values["rank"], "1449664496");
    }

    #[test]
    fn a_plan_for_a_laptop_makes_no_task() {
        let local = environment(&plan(ContextSource::File("context.tar".into()))).unwrap_err();
        assert!(local.to_string().starts_with("context.tar is on this machine"), "{local}");
        let mut plan = plan(ContextSource::Url("https://example.com".parse().unwrap()));
        plan.context.hash = None;
        assert!(matches!(values(&plan), Err(TaskError::NoHash)));
    }

    #[test]
    fn placeholders_are_filled_wherever_a_text_is_and_values_are_never_looked_through() {
        let template = json!({ "a": ["{{x}}-{{y}}", 3, true, null], "{{key}}": "x" });
        let filled = fill(&template, &mut |name| format!("<{name} {{{{x}}}} \">")).unwrap();
        assert_eq!(filled, json!({ "a": ["<x {{x}} \">-<y {{x}} \">", 3, true, null], "{{key}}": "x" }));
        let names = Template::new(template).placeholders().unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn errors_name_the_placeholders() {
        let template = Template::new(json!({ "a": "{{one}}{{two}}", "b": "{{three}}" }));
        let error = template.fill(&Values::from([("two".to_owned(), String::new())])).unwrap_err();
        assert_eq!(error.to_string(), "the template has placeholders that nothing fills: one, three");
        for text in ["{{", "{{a", "{{ a }}", "{{}}", "{{#a}}", "{{A}}"] {
            let error = Template::new(json!(text)).placeholders().unwrap_err();
            assert!(matches!(&error, TaskError::Malformed { text: reported } if reported == text), "{text}: {error}");
        }
        assert!(Template::new(json!("{ } }} {\"a\":{}}")).placeholders().unwrap().is_empty());
    }

    #[test]
    fn a_rank_is_a_number_whatever_it_was_in_the_template() {
        let read = |rank: Value| {
            let options =
                json!({ "index": { "rank": rank, "expires": "2016-12-08T12:35:00Z" }, "treeherder": { "tier": 1 } });
            serde_json::from_value::<Extra>(options).map(|extra| serde_json::to_value(extra).unwrap())
        };
        for rank in [json!("1449664496"), json!(1_449_664_496)] {
            let extra = read(rank).unwrap();
            assert_eq!((&extra["index"]["rank"], &extra["treeherder"]["tier"]), (&json!(1_449_664_496), &json!(1)));
        }
        for rank in [json!(""), json!("1449664496000"), json!(5.5), json!(null)] {
            assert!(read(rank.clone()).is_err(), "{rank}");
        }
        for others in [json!({}), json!({ "index": { "rank": 0, "data": { "a": [1] } } })] {
            let read: Extra = serde_json::from_value(others.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), others);
        }
    }

    #[test]
    fn variables_that_nobody_reads_are_found() {
        let environment = ["IMAGE_NAME", "IMAGE_NAEM", "IMAGE_WORKER_ENGINE", "IMAGE_WORKER_OUT", "VCS_HEAD_REV"]
            .map(|name| (name.to_owned(), "x".to_owned()));
        assert_eq!(unread(&environment.into()), ["IMAGE_NAEM", "IMAGE_WORKER_OUT", "VCS_HEAD_REV"]);
    }
}
