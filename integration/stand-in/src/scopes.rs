//! Scope expressions: what a call requires, by its template in the reference, and what of it a caller lacks. Whose scopes they
//! are is for `auth`.

use serde_json::{Value, json};

use crate::auth::satisfies;

/// What a call requires.
pub(crate) enum ScopeExpression {
    Scope(String),
    AllOf(Vec<ScopeExpression>),
    AnyOf(Vec<ScopeExpression>),
}

impl ScopeExpression {
    /// What a template of the reference requires with these values; none where one of them is missing.
    pub(crate) fn expand(template: &Value, values: &Value) -> Option<Self> {
        Self::expand_with(template, values, ("", ""))
    }

    /// `item` is the variable of a `for` around it, and its value.
    fn expand_with(template: &Value, values: &Value, item: (&str, &str)) -> Option<Self> {
        if let Some(text) = template.as_str() {
            return Some(Self::Scope(fill(text, values, item)?));
        }
        let all = |parts: &Value| -> Option<Vec<Self>> {
            let parts = parts.as_array()?.iter().map(|part| Self::expand_part(part, values));
            Some(parts.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
        };
        match (template.get("AllOf"), template.get("AnyOf")) {
            (Some(parts), _) => Some(Self::AllOf(all(parts)?)),
            (_, parts) => Some(Self::AnyOf(all(parts?)?)),
        }
    }

    /// A part of a list, which may stand for one expression for each item of a value.
    fn expand_part(part: &Value, values: &Value) -> Option<Vec<Self>> {
        let Some(variable) = part["for"].as_str() else { return Some(vec![Self::expand(part, values)?]) };
        let items = values.get(part["in"].as_str()?)?.as_array()?.iter();
        items.map(|item| Self::expand_with(&part["each"], values, (variable, item.as_str()?))).collect()
    }

    /// The part that `given` does not satisfy, if any.
    pub(crate) fn missing(&self, given: &[String]) -> Option<Self> {
        match self {
            Self::Scope(scope) => (!satisfies(given, scope)).then(|| Self::Scope(scope.clone())),
            Self::AllOf(parts) => {
                let missing: Vec<Self> = parts.iter().filter_map(|part| part.missing(given)).collect();
                (!missing.is_empty()).then(|| Self::AllOf(missing).simplified())
            }
            Self::AnyOf(parts) => {
                let missing: Option<Vec<Self>> = parts.iter().map(|part| part.missing(given)).collect();
                missing.map(|missing| Self::AnyOf(missing).simplified())
            }
        }
    }

    /// The scopes that it names. Where one of several will do, those that `given` satisfies, if any.
    pub(crate) fn scopes(&self, given: &[String]) -> Vec<String> {
        match self {
            Self::Scope(scope) => vec![scope.clone()],
            Self::AllOf(parts) => parts.iter().flat_map(|part| part.scopes(given)).collect(),
            Self::AnyOf(parts) => match parts.iter().find(|part| part.missing(given).is_none()) {
                Some(part) => part.scopes(given),
                None => parts.iter().flat_map(|part| part.scopes(given)).collect(),
            },
        }
    }

    /// A single part speaks for itself.
    fn simplified(self) -> Self {
        match self {
            Self::AllOf(mut parts) | Self::AnyOf(mut parts) if parts.len() == 1 => parts.remove(0),
            other => other,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Scope(scope) => json!(scope),
            Self::AllOf(parts) => json!({"AllOf": parts.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::AnyOf(parts) => json!({"AnyOf": parts.iter().map(Self::to_json).collect::<Vec<_>>()}),
        }
    }
}

impl std::fmt::Display for ScopeExpression {
    /// As the services' errors have it: a scope as it is, anything else as JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scope(scope) => f.write_str(scope),
            other => write!(f, "{:#}", other.to_json()),
        }
    }
}

/// The template with a value for each `<variable>`.
fn fill(template: &str, values: &Value, item: (&str, &str)) -> Option<String> {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('<') {
        let (name, after) = after.split_once('>')?;
        filled += before;
        filled += if name == item.0 { item.1 } else { values.get(name)?.as_str()? };
        rest = after;
    }
    Some(filled + rest)
}
