//! The differences between two configurations, by path. It ignores the layers' ids: the layers are compared separately.

use serde_json::Value;

use super::Difference;

/// Compares the configurations key by key.
pub(super) fn differences(a: &[u8], b: &[u8]) -> Vec<Difference> {
    let mut found = Vec::new();
    let [one, other] = [a, b].map(|text| serde_json::from_slice(text).unwrap_or(Value::Null));
    walk("", Some(&one), Some(&other), &mut found);
    if found.is_empty() && a != b && one["rootfs"] == other["rootfs"] {
        let text = |text: &[u8]| Some(format!("{} bytes", text.len()));
        found.push(Difference { what: "its text, though it says the same".to_owned(), a: text(a), b: text(b) });
    }
    found
}

fn walk(path: &str, a: Option<&Value>, b: Option<&Value>, found: &mut Vec<Difference>) {
    if a == b || path == "rootfs.diff_ids" {
        return;
    }
    match (a, b) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, one.get(key), other.get(key), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            for index in 0..one.len().max(other.len()) {
                walk(&format!("{path}[{index}]"), one.get(index), other.get(index), found);
            }
        }
        _ => {
            let text = |value: Option<&Value>| value.map(ToString::to_string);
            found.push(Difference { what: path.to_owned(), a: text(a), b: text(b) });
        }
    }
}
