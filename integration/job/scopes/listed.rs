//! worker-config/scopes.yml as a list of the scopes that a job of a kind needs, its placeholders filled in.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

/// What placeholders stand for; some for several names.
pub(super) type Values = BTreeMap<&'static str, Vec<String>>;

/// A scope of a call.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) call: String,
    pub(super) scope: String,
    pub(super) granted_by: String,
    /// Whether the job does without it.
    pub(super) optional: bool,
}

/// The scopes of a subcommand where these conditions of `when` are met.
pub(super) fn listed(command: &str, when: &BTreeSet<&'static str>, values: &Values) -> Vec<Listed> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("worker-config/scopes.yml");
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut all = Vec::new();
    for entry in file["calls"].as_array().unwrap() {
        let words = |name: &str| -> Option<Vec<&str>> {
            Some(entry[name].as_array()?.iter().map(|word| word.as_str().unwrap()).collect())
        };
        let is_of = words("commands").unwrap_or_else(|| vec!["run"]).contains(&command);
        let is_so = words("when").unwrap_or_default().iter().all(|word| when.contains(word));
        if !is_of || !is_so {
            continue;
        }
        for scope in filled(entry["scope"].as_str().unwrap(), values) {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            let optional = entry["optional"].is_string();
            all.push(Listed { call: text("call"), scope, granted_by: text("granted-by"), optional });
        }
    }
    all
}

fn filled(scope: &str, values: &Values) -> Vec<String> {
    let placeholder = Regex::new(r"\{\{\w+\}\}|<[\w ]+>").unwrap();
    let Some(found) = placeholder.find(scope) else { return vec![scope.to_owned()] };
    let values_of =
        values.get(found.as_str()).unwrap_or_else(|| panic!("{scope}: nothing stands for {}", found.as_str()));
    values_of.iter().flat_map(|value| filled(&scope.replace(found.as_str(), value), values)).collect()
}
