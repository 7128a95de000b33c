//! The calls of Taskcluster's API as its own reference describes them: route, parameters, scopes and schemas. What a call
//! does is in the modules of the services.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

/// The files of the reference by their names; schemas/README.md names the source.
pub(crate) static FILES: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let files: Value = serde_json::from_str(include_str!("../schemas/references.json")).expect("JSON");
    let files = files.as_array().expect("a list of files").iter();
    files.map(|file| (text(&file["filename"]), file["content"].clone())).collect()
});

static CALLS: LazyLock<Vec<ApiCall>> = LazyLock::new(|| {
    let references = FILES.values().filter(|content| content["entries"].is_array());
    references.flat_map(|api| each(&api["entries"], |entry| ApiCall::new(&text(&api["serviceName"]), entry))).collect()
});

/// A call of the API.
pub(crate) struct ApiCall {
    pub(crate) service: String,
    /// `createArtifact` and so on.
    pub(crate) name: String,
    method: String,
    /// `/task/<taskId>/status`.
    route: String,
    /// The names of the path's parameters, in order.
    pub(crate) parameters: Vec<String>,
    /// The names of the parameters that a query may have.
    pub(crate) query: Vec<String>,
    /// The scopes that the call requires, a template.
    pub(crate) scopes: Option<Value>,
    /// The paths of the schemas of what is sent and what is answered.
    pub(crate) input: Option<String>,
    pub(crate) output: Option<String>,
}

impl ApiCall {
    fn new(service: &str, entry: &Value) -> Self {
        let schema = |side: &str| {
            let path = entry[side].as_str()?.trim_end_matches('#');
            Some(format!("schemas/{service}/{path}"))
        };
        Self {
            service: service.to_owned(),
            name: text(&entry["name"]),
            method: text(&entry["method"]).to_uppercase(),
            route: text(&entry["route"]),
            parameters: each(&entry["args"], text),
            query: each(&entry["query"], text),
            scopes: entry.get("scopes").cloned(),
            input: schema("input"),
            output: schema("output"),
        }
    }

    /// Whether this is the call at a route of ours, `/task/{taskId}/artifacts/{*name}`, whose parameters may have other names.
    fn is_at(&self, route: &str) -> bool {
        let is_parameter = |segment: &str| segment.starts_with(['<', '{']);
        let (theirs, ours) = (self.route.split('/'), route.split('/'));
        // The last parameter may be empty.
        theirs.clone().count() == ours.clone().count()
            && theirs
                .zip(ours)
                .all(|(theirs, ours)| theirs == ours || is_parameter(theirs) && (is_parameter(ours) || ours.is_empty()))
    }
}

/// The call at one of our routes, `/api/queue/v1/task/{taskId}`. A GET answers HEAD too.
pub(crate) fn find(method: &str, route: &str) -> Option<&'static ApiCall> {
    let method = if method == "HEAD" { "GET" } else { method };
    let (service, route) = route.strip_prefix("/api/")?.split_once("/v1")?;
    CALLS.iter().find(|call| call.service == service && call.method == method && call.is_at(route))
}

fn text(value: &Value) -> String {
    value.as_str().expect("the reference has a text here").to_owned()
}

fn each<T>(list: &Value, convert: impl Fn(&Value) -> T) -> Vec<T> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter().map(convert).collect()
}
