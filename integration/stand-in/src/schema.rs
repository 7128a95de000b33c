//! The request schemas, as strict as the services': an unknown property is an error, like a missing one.
//! Only what a body must look like; what its values mean is for the services.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::world::is_slugid;

/// What a request body may be: one of these.
pub(super) type Schema = &'static [Properties];

/// An object's properties: name, whether it must be there, and what it may be.
pub(super) type Properties = &'static [(&'static str, bool, Kind)];

/// What a property may be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A string of at most so many characters.
    Text(usize),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    DateTime,
    Url,
    Slugid,
    ProjectId,
    /// An integer that is not negative.
    Length,
    Number,
    /// An integer from, to.
    Integer(i64, i64),
    Object,
    Strings,
    /// Strings that pass a test, at most so many, each once.
    List(fn(&str) -> bool, usize),
    /// A string that passes a test.
    Word(fn(&str) -> bool),
    /// Strings of at most 4096 characters by name.
    Tags,
    True,
    /// Hex digests by algorithm; unknown algorithms are allowed.
    Hashes,
    Nested(Properties),
}

const ANY: usize = usize::MAX;

const UPLOADED: &[(&str, bool, Kind)] = &[
    ("expires", true, Kind::DateTime),
    ("contentType", true, Kind::Text(255)),
    ("contentLength", false, Kind::Length),
];

/// The schema of `createArtifact`.
pub(super) const CREATE_ARTIFACT: Schema = &[
    &[("storageType", true, Kind::OneOf(&["s3"])), UPLOADED[0], UPLOADED[1], UPLOADED[2]],
    &[("storageType", true, Kind::OneOf(&["object"])), UPLOADED[0], UPLOADED[1], UPLOADED[2]],
    &[("storageType", true, Kind::OneOf(&["reference"])), UPLOADED[0], UPLOADED[1], ("url", true, Kind::Url)],
    &[
        ("storageType", true, Kind::OneOf(&["link"])),
        ("expires", true, Kind::DateTime),
        ("contentType", false, Kind::Text(255)),
        ("artifact", true, Kind::Text(ANY)),
    ],
    &[
        ("storageType", true, Kind::OneOf(&["error"])),
        ("expires", true, Kind::DateTime),
        (
            "reason",
            true,
            Kind::OneOf(&[
                "file-missing-on-worker",
                "invalid-resource-on-worker",
                "too-large-file-on-worker",
                "file-not-readable-on-worker",
            ]),
        ),
        ("message", true, Kind::Text(4096)),
    ],
];

/// The schema of `finishArtifact`.
pub(super) const FINISH_ARTIFACT: Schema = &[&[("uploadId", true, Kind::Slugid)]];

/// The schema of `createUpload`.
pub(super) const CREATE_UPLOAD: Schema = &[&[
    ("projectId", true, Kind::ProjectId),
    ("uploadId", true, Kind::Slugid),
    ("expires", true, Kind::DateTime),
    ("hashes", false, Kind::Hashes),
    (
        "proposedUploadMethods",
        true,
        Kind::Nested(&[
            (
                "dataInline",
                false,
                // 8 KiB in base64.
                Kind::Nested(&[("contentType", true, Kind::Text(ANY)), ("objectData", true, Kind::Text(10926))]),
            ),
            (
                "putUrl",
                false,
                Kind::Nested(&[("contentType", true, Kind::Text(ANY)), ("contentLength", true, Kind::Length)]),
            ),
        ]),
    ),
]];

/// The schema of `finishUpload`.
pub(super) const FINISH_UPLOAD: Schema =
    &[&[("projectId", true, Kind::ProjectId), ("uploadId", true, Kind::Slugid), ("hashes", false, Kind::Hashes)]];

/// The schema of `startDownload`.
pub(super) const START_DOWNLOAD: Schema = &[&[(
    "acceptDownloadMethods",
    true,
    Kind::Nested(&[("simple", false, Kind::True), ("getUrl", false, Kind::True)]),
)]];

/// The schema of `insertTask`.
pub(super) const INSERT_TASK: Schema = &[&[
    ("taskId", true, Kind::Slugid),
    ("rank", true, Kind::Number),
    ("data", true, Kind::Object),
    ("expires", true, Kind::DateTime),
]];

/// The schema of `findTasksAtIndex`.
pub(super) const FIND_TASKS: Schema = &[&[("indexes", false, Kind::Strings)]];

/// Priorities of tasks, highest first.
pub(super) const PRIORITIES: &[&str] = &["highest", "very-high", "high", "medium", "low", "very-low", "lowest"];

/// The schema of `createTask`.
pub(super) const CREATE_TASK: Schema = &[&[
    ("provisionerId", false, Kind::Word(is_identifier)),
    ("workerType", false, Kind::Word(is_worker_type)),
    ("taskQueueId", false, Kind::Word(is_task_queue_id)),
    ("schedulerId", false, Kind::Word(is_identifier)),
    ("projectId", false, Kind::ProjectId),
    ("taskGroupId", false, Kind::Slugid),
    ("dependencies", false, Kind::List(is_slugid, 10_000)),
    ("requires", false, Kind::OneOf(&["all-completed", "all-resolved"])),
    ("routes", false, Kind::List(is_route, 64)),
    ("priority", false, Kind::OneOf(PRIORITIES)),
    ("retries", false, Kind::Integer(0, 49)),
    ("expires", false, Kind::DateTime),
    ("created", true, Kind::DateTime),
    ("deadline", true, Kind::DateTime),
    ("scopes", false, Kind::Strings),
    ("payload", true, Kind::Object),
    (
        "metadata",
        true,
        Kind::Nested(&[
            ("name", true, Kind::Text(255)),
            ("description", true, Kind::Text(32_768)),
            ("owner", true, Kind::Text(255)),
            ("source", true, Kind::Word(is_source)),
        ]),
    ),
    ("tags", false, Kind::Tags),
    ("extra", false, Kind::Object),
]];

/// What is wrong with a body: nothing, or the complaints of every shape that it could have had.
pub(super) fn complaints(schema: Schema, body: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for shape in schema {
        let of_shape = object_complaints(shape, body, "data");
        if of_shape.is_empty() {
            return Vec::new();
        }
        all.extend(of_shape);
    }
    all
}

fn object_complaints(shape: Properties, value: &Value, at: &str) -> Vec<String> {
    let Value::Object(object) = value else { return vec![format!("{at} must be object")] };
    let mut complaints = Vec::new();
    for (name, required, kind) in shape {
        match object.get(*name) {
            None if *required => complaints.push(format!("{at} must have required property '{name}'")),
            None => {}
            Some(value) => complaints.extend(kind.complaints(value, &format!("{at}/{name}"))),
        }
    }
    complaints.extend(unknown(shape, object).map(|name| format!("{at} must NOT have additional properties: {name:?}")));
    complaints
}

fn unknown(shape: Properties, object: &Map<String, Value>) -> impl Iterator<Item = &String> {
    object.keys().filter(|key| !shape.iter().any(|(name, ..)| name == key))
}

impl Kind {
    fn complaints(self, value: &Value, at: &str) -> Vec<String> {
        let text = value.as_str();
        let (good, rule) = match self {
            Self::Nested(shape) => return object_complaints(shape, value, at),
            Self::Text(max) => (text.is_some_and(|text| text.chars().count() <= max), "be a string, not too long"),
            Self::OneOf(values) => {
                (text.is_some_and(|text| values.contains(&text)), "be equal to one of the allowed values")
            }
            Self::DateTime => (text.is_some_and(is_date_time), "match format \"date-time\""),
            Self::Url => (text.is_some_and(|text| text.parse::<reqwest::Url>().is_ok()), "match format \"uri\""),
            Self::Slugid => (text.is_some_and(is_slugid), "match the pattern of slugids"),
            Self::ProjectId => (text.is_some_and(is_project_id), "match the pattern of project ids"),
            Self::Length => (is_length(value), "be integer >= 0"),
            Self::Number => (value.is_number(), "be number"),
            Self::Object => (value.is_object(), "be object"),
            Self::Strings => {
                (value.as_array().is_some_and(|items| items.iter().all(Value::is_string)), "be an array of strings")
            }
            Self::Integer(from, to) => {
                (value.as_i64().is_some_and(|number| (from..=to).contains(&number)), "be an integer in its range")
            }
            Self::List(passes, max) => (is_list(value, passes, max), "be an array of the right strings, each once"),
            Self::Word(passes) => (text.is_some_and(passes), "match pattern"),
            Self::Tags => (are_tags(value), "be an object of strings"),
            Self::True => (*value == Value::Bool(true), "be equal to constant"),
            Self::Hashes => (are_hashes(value), "be hex digests"),
        };
        if good { Vec::new() } else { vec![format!("{at} must {rule}")] }
    }
}

/// RFC 3339 with seconds and an offset, as the schemas' `date-time`.
fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && bytes[10].eq_ignore_ascii_case(&b't')
        && bytes[16] == b':'
        && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_project_id(text: &str) -> bool {
    (1..=500).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

fn is_identifier(text: &str) -> bool {
    (1..=38).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn is_worker_type(text: &str) -> bool {
    is_identifier(text)
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
}

fn is_task_queue_id(text: &str) -> bool {
    text.split_once('/').is_some_and(|(provisioner, kind)| is_identifier(provisioner) && is_worker_type(kind))
}

fn is_route(text: &str) -> bool {
    (1..=249).contains(&text.chars().count())
}

fn is_source(text: &str) -> bool {
    text.chars().count() <= 4096
        && ["https://", "http://", "ssh://", "git@"].iter().any(|start| text.starts_with(start))
}

fn is_list(value: &Value, passes: fn(&str) -> bool, max: usize) -> bool {
    value.as_array().is_some_and(|items| {
        let texts: Option<BTreeSet<&str>> =
            items.iter().map(|item| item.as_str().filter(|text| passes(text))).collect();
        items.len() <= max && texts.is_some_and(|texts| texts.len() == items.len())
    })
}

fn are_tags(value: &Value) -> bool {
    let short = |tag: &Value| tag.as_str().is_some_and(|tag| tag.chars().count() <= 4096);
    value.as_object().is_some_and(|tags| tags.values().all(short))
}

fn is_length(value: &Value) -> bool {
    // To JavaScript, 5.0 is an integer.
    value.as_f64().is_some_and(|number| number >= 0.0 && number.fract() == 0.0)
}

fn are_hashes(value: &Value) -> bool {
    let hex = |text: &Value, len: usize| {
        text.as_str()
            .is_some_and(|text| text.len() == len && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    };
    value.as_object().is_some_and(|hashes| {
        hashes.iter().all(|(algorithm, digest)| match algorithm.as_str() {
            "sha256" => hex(digest, 64),
            "sha512" => hex(digest, 128),
            _ => true,
        })
    })
}
