//! Taskcluster's own schemas, and the errors for a value that does not match one: the words of ajv, which the services
//! validate with. Which call has which schema is in `reference`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use boon::{Compiler, Draft, ErrorKind, SchemaIndex, Schemas, ValidationError};
use serde_json::{Map, Value};

use crate::reference::FILES;

/// Where the schemas are while they are compiled; a deployment's are below its root URL.
const BASE: &str = "http://taskcluster/";

struct Compiled {
    schemas: Schemas,
    /// By its path, `schemas/queue/v1/task.json`: a schema, and the defaults of its properties.
    files: BTreeMap<String, (SchemaIndex, Map<String, Value>)>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V6);
    let all = || FILES.iter().filter(|(name, _)| name.starts_with("schemas/"));
    for (name, schema) in all() {
        let mut schema = schema.clone();
        // As the services do: a schema is where it is served, and all are of draft 6.
        let properties = schema.as_object_mut().expect("a schema is an object");
        properties.retain(|name, _| name != "$id" && name != "$schema");
        compiler.add_resource(&format!("{BASE}{name}"), schema).expect("a URL");
    }
    let mut schemas = Schemas::new();
    let mut files = BTreeMap::new();
    for (name, schema) in all() {
        let index = compiler.compile(&format!("{BASE}{name}"), &mut schemas);
        let index = index.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        files.insert(name.clone(), (index, defaults(schema)));
    }
    Compiled { schemas, files }
});

fn defaults(schema: &Value) -> Map<String, Value> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone()))).collect()
}

/// Sets the properties that are missing, and have a default in the schema of this path.
pub(crate) fn set_defaults(path: &str, value: &mut Value) {
    let Value::Object(object) = value else { return };
    for (name, default) in &COMPILED.files[path].1 {
        object.entry(name.clone()).or_insert_with(|| default.clone());
    }
}

/// Sets defaults, and validates the value. The error is the services' message.
pub(crate) fn validate(path: &str, value: &mut Value, root_url: &str) -> Result<(), String> {
    set_defaults(path, value);
    let Err(error) = COMPILED.schemas.validate(value, COMPILED.files[path].0) else { return Ok(()) };
    let mut errors = Vec::new();
    list(&error, &mut errors);
    let errors = errors.join("\n  * ");
    Err(format!("\nSchema Validation Failed!\nRejecting Schema: \n{root_url}/{path}#\nErrors:\n  * {errors}"))
}

/// The errors one by one; those of alternatives come before the one about the alternatives.
fn list(error: &ValidationError, errors: &mut Vec<String>) {
    error.causes.iter().for_each(|cause| list(cause, errors));
    let at = format!("data{}", error.instance_location);
    errors.extend(messages(&error.kind).into_iter().map(|message| format!("{at} {message}")));
}

fn messages(kind: &ErrorKind) -> Vec<String> {
    let one = match kind {
        ErrorKind::Group | ErrorKind::Schema { .. } | ErrorKind::Reference { .. } | ErrorKind::AllOf => {
            return Vec::new();
        }
        ErrorKind::Required { want } => {
            return want.iter().map(|name| format!("must have required property '{name}'")).collect();
        }
        ErrorKind::AdditionalProperties { got } => {
            return got.iter().map(|name| format!("must NOT have additional properties: {name:?}")).collect();
        }
        ErrorKind::Type { want, .. } => {
            format!("must be {}", want.iter().map(|kind| kind.to_string()).collect::<Vec<_>>().join(","))
        }
        ErrorKind::Enum { .. } => "must be equal to one of the allowed values".to_owned(),
        ErrorKind::Const { .. } => "must be equal to constant".to_owned(),
        ErrorKind::Format { want, .. } => format!("must match format \"{want}\""),
        ErrorKind::Pattern { want, .. } => format!("must match pattern \"{want}\""),
        ErrorKind::MinLength { want, .. } => format!("must NOT have fewer than {want} characters"),
        ErrorKind::MaxLength { want, .. } => format!("must NOT have more than {want} characters"),
        ErrorKind::MinItems { want, .. } => format!("must NOT have fewer than {want} items"),
        ErrorKind::MaxItems { want, .. } => format!("must NOT have more than {want} items"),
        ErrorKind::MinProperties { want, .. } => format!("must NOT have fewer than {want} properties"),
        ErrorKind::MaxProperties { want, .. } => format!("must NOT have more than {want} properties"),
        ErrorKind::UniqueItems { got: [first, second] } => {
            format!("must NOT have duplicate items (items ## {first} and {second} are identical)")
        }
        ErrorKind::Minimum { want, .. } => format!("must be >= {want}"),
        ErrorKind::Maximum { want, .. } => format!("must be <= {want}"),
        ErrorKind::AnyOf => "must match a schema in anyOf".to_owned(),
        ErrorKind::OneOf(_) => "must match exactly one schema in oneOf".to_owned(),
        // Nothing else is in the schemas that are here.
        other => other.to_string(),
    };
    vec![one]
}
