//! What Treeherder takes as a `perfherder-data` document, as its own schema has it (schemas/performance-artifact.json): types,
//! lengths and ranges. Stricter in one thing: what the schema does not have is a complaint here, because it would be lost there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// What a property may be.
#[derive(Clone, Copy)]
enum Kind {
    Text {
        least: usize,
        most: usize,
    },
    Flag,
    Number {
        from: f64,
        to: f64,
    },
    /// Texts, each once: at most so many, of at most this length.
    Texts {
        most: usize,
        longest: usize,
    },
    OneOf(&'static [&'static str]),
    Each(&'static [Property]),
    Object(&'static [Property]),
}

/// A property: its name, whether it must be there, what it may be.
type Property = (&'static str, bool, Kind);

const ANY: Kind = Kind::Text { least: 0, most: usize::MAX };
const PUBLIC_NAME: Property = ("publicName", false, Kind::Text { least: 0, most: 30 });
const VALUE: Kind = Kind::Number { from: -1e12, to: 1e12 };
const UNIT: Property = ("unit", false, Kind::Text { least: 1, most: 20 });
const LOWER: Property = ("lowerIsBetter", false, Kind::Flag);
const ALERT: Property = ("shouldAlert", false, Kind::Flag);
const ALERT_TYPE: Property = ("alertChangeType", false, Kind::OneOf(&["absolute", "percentage"]));
const THRESHOLD: Property = ("alertThreshold", false, Kind::Number { from: 0.0, to: f64::MAX });

const SUBTEST: &[Property] =
    &[("name", true, ANY), PUBLIC_NAME, ("value", true, VALUE), UNIT, LOWER, ALERT, ALERT_TYPE, THRESHOLD];

/// Names of suites have no limit in the schema, but one of 80 characters in the place where they are kept.
const SUITE: &[Property] = &[
    ("name", true, Kind::Text { least: 1, most: 80 }),
    PUBLIC_NAME,
    ("tags", false, Kind::Texts { most: 14, longest: 24 }),
    ("extraOptions", false, Kind::Texts { most: 8, longest: 100 }),
    ("subtests", true, Kind::Each(SUBTEST)),
    ("value", false, VALUE),
    UNIT,
    LOWER,
    ALERT,
    ALERT_TYPE,
    THRESHOLD,
];

const DOCUMENT: &[Property] =
    &[("framework", true, Kind::Object(&[("name", true, ANY)])), ("suites", true, Kind::Each(SUITE))];

/// What is wrong with a document.
pub(super) fn complaints(document: &Value) -> Vec<String> {
    let mut all = Vec::new();
    object(DOCUMENT, document, "", &mut all);
    all
}

fn object(properties: &[Property], value: &Value, at: &str, all: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        all.push(format!("{at} is no object"));
        return;
    };
    for (name, required, kind) in properties {
        match object.get(*name) {
            Some(value) => kind.check(value, &format!("{at}/{name}"), all),
            None if *required => all.push(format!("{at}/{name} is missing")),
            None => {}
        }
    }
    let known = |key: &String| properties.iter().any(|(name, ..)| name == key);
    all.extend(object.keys().filter(|key| !known(key)).map(|key| format!("{at}/{key} is not known")));
}

impl Kind {
    fn check(self, value: &Value, at: &str, all: &mut Vec<String>) {
        let length = value.as_str().map(|text| text.chars().count());
        let good = match self {
            Self::Text { least, most } => length.is_some_and(|length| (least..=most).contains(&length)),
            Self::Flag => value.is_boolean(),
            Self::Number { from, to } => value.as_f64().is_some_and(|number| (from..=to).contains(&number)),
            Self::OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Self::Texts { most, longest } => value.as_array().is_some_and(|items| {
                let texts: BTreeSet<_> = items.iter().filter_map(Value::as_str).collect();
                let short = texts.iter().all(|text| text.chars().count() <= longest);
                short && texts.len() == items.len() && items.len() <= most
            }),
            Self::Object(properties) => return object(properties, value, at, all),
            Self::Each(properties) => {
                let items = value.as_array();
                for (number, item) in items.into_iter().flatten().enumerate() {
                    object(properties, item, &format!("{at}/{number}"), all);
                }
                items.is_some()
            }
        };
        if !good {
            all.push(format!("{at} cannot be {value}"));
        }
    }
}

#[test]
fn what_treeherder_refuses_is_refused_here() {
    let subtest = json!({ "name": "building", "value": 1.5, "unit": "s" });
    let good = json!({ "framework": { "name": "x" }, "suites": [{ "name": "x", "subtests": [subtest] }] });
    assert_eq!(complaints(&good), [""; 0]);
    let cases = [
        ("/suites/0/subtests/0/value", json!("1.5"), "/suites/0/subtests/0/value cannot be \"1.5\""),
        ("/suites/0/subtests/0/value", json!(2e12), "/suites/0/subtests/0/value cannot be 2000000000000.0"),
        ("/suites/0/subtests/0/unit", json!(""), "/suites/0/subtests/0/unit cannot be \"\""),
        ("/suites/0/subtests/0", json!({ "value": 1 }), "/suites/0/subtests/0/name is missing"),
        ("/suites/0/name", json!(7), "/suites/0/name cannot be 7"),
        ("/suites", json!({}), "/suites cannot be {}"),
        ("/framework", json!({ "name": "x", "size": 1 }), "/framework/size is not known"),
    ];
    for (place, value, expected) in cases {
        let mut wrong = good.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        assert_eq!(complaints(&wrong), [expected]);
    }
    let mut twice = good;
    twice["suites"][0]["extraOptions"] = json!(["classic", "classic"]);
    assert_eq!(complaints(&twice).len(), 1);
}
