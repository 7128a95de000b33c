//! What BuildKit writes into an image of which steps its layers are, its inline cache: without that no later build can take
//! steps from the image. Which image they came from, and when an image may be a cache, is for others.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::rootfs::RootFs;

/// Where they are in a configuration: JSON in base64.
const FIELD: &str = "moby.buildkit.cache.v0";

/// An image has a few records for each of its layers, of which there are at most 127.
const MOST_RECORDS: usize = 10_000;

/// What of a configuration says which steps its layers are of.
#[derive(Deserialize)]
struct Config<'a> {
    rootfs: RootFs,
    #[serde(rename = "moby.buildkit.cache.v0")]
    records: &'a str,
}

/// A step, and which layers it has made. In the order in which BuildKit writes it: the same records are the same text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Its files are those of all layers until one.
    #[serde(default, rename = "layers", skip_serializing_if = "Vec::is_empty")]
    results: Vec<Top>,
    /// Its files are those of some of the layers.
    #[serde(default, rename = "chains", skip_serializing_if = "Vec::is_empty")]
    chained: Vec<Chain>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    digest: String,
    /// For each of its inputs the records that it can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<Input>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Top {
    layer: usize,
    #[serde(default, rename = "createdAt", skip_serializing_if = "String::is_empty")]
    created: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    layers: Vec<usize>,
    #[serde(default, rename = "createdAt", skip_serializing_if = "String::is_empty")]
    created: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    selector: String,
    link: usize,
}

/// The configuration of an image some of whose steps came from the image with the configuration `earlier`, with what that one
/// says of them: BuildKit as of Docker 23 leaves it out, so that the next build but one could take nothing. Nothing where
/// nothing is left out.
///
/// What is added is true of this image, too: the same step, of the same inputs, and the layers that it names are this image's.
#[must_use]
pub fn completed(config: &[u8], earlier: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(config).ok()?;
    let (of_image, of_earlier): (Config<'_>, Config<'_>) =
        (serde_json::from_str(text).ok()?, serde_json::from_slice(earlier).ok()?);
    let both = of_image.rootfs.diff_ids.iter().zip(&of_earlier.rootfs.diff_ids);
    let shared = both.take_while(|(one, other)| one == other).count();
    let (mut records, known) = (read(of_image.records)?, read(of_earlier.records)?);
    let same = same_steps(&records, &known);
    let mut is_changed = false;
    for (number, record) in records.iter_mut().enumerate() {
        if !record.results.is_empty() || !record.chained.is_empty() {
            continue;
        }
        for earlier in same.iter().filter(|(of, _)| *of == number).map(|(_, earlier)| &known[*earlier]) {
            record.results.extend(earlier.results.iter().filter(|top| top.layer < shared).cloned());
            let is_here = |chain: &&Chain| chain.layers.iter().all(|layer| *layer < shared);
            record.chained.extend(earlier.chained.iter().filter(is_here).cloned());
        }
        is_changed |= !record.results.is_empty() || !record.chained.is_empty();
    }
    let field = |records: &str| format!("\"{FIELD}\":\"{records}\"");
    let (before, after) = text.split_once(&field(of_image.records))?;
    let written = field(&STANDARD.encode(serde_json::to_vec(&records).ok()?));
    // All else stays byte by byte.
    is_changed.then(|| [before, &written, after].concat().into_bytes())
}

fn read(records: &str) -> Option<Vec<Record>> {
    let records: Vec<Record> = serde_json::from_slice(&STANDARD.decode(records).ok()?).ok()?;
    (records.len() <= MOST_RECORDS).then_some(records)
}

/// Which records of one image are the same step, of the same inputs, as which of another. They can lead to one another in a
/// circle; what is the same only if it is the same is not.
fn same_steps(one: &[Record], other: &[Record]) -> HashSet<(usize, usize)> {
    let mut by_digest: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, record) in other.iter().enumerate() {
        by_digest.entry(&record.digest).or_default().push(number);
    }
    let mut same: HashSet<(usize, usize)> = HashSet::new();
    loop {
        let before = same.len();
        for (number, record) in one.iter().enumerate() {
            for candidate in by_digest.get(record.digest.as_str()).into_iter().flatten() {
                let inputs = &other[*candidate].inputs;
                let is_same = record.inputs.len() == inputs.len()
                    && record.inputs.iter().zip(inputs).all(|(ours, theirs)| share_one(ours, theirs, &same));
                if is_same {
                    same.insert((number, *candidate));
                }
            }
        }
        if same.len() == before {
            return same;
        }
    }
}

/// Whether an input can be the same record in both.
fn share_one(ours: &[Input], theirs: &[Input], same: &HashSet<(usize, usize)>) -> bool {
    let pairs = ours.iter().flat_map(|our| theirs.iter().map(move |their| (our, their)));
    pairs.into_iter().any(|(our, their)| our.selector == their.selector && same.contains(&(our.link, their.link)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A configuration as Go writes it, with these layers and records.
    fn config(layers: &[&str], records: &Value) -> Vec<u8> {
        let records = STANDARD.encode(records.to_string());
        let rootfs = json!({ "type": "layers", "diff_ids": layers });
        format!(r#"{{"created":"now","moby.buildkit.cache.v0":"{records}","rootfs":{rootfs},"os":"a\u003cb"}}"#).into()
    }

    /// A base, a step on it, and one on that. What has made a layer is named by the layer's number.
    fn records(first: Option<usize>, second: Option<usize>, last: &str) -> Value {
        let made = |layer: Option<usize>| layer.map(|layer| json!([{ "layer": layer, "createdAt": "then" }]));
        let step = |layer: Option<usize>, digest: &str, input: usize| {
            let mut record = json!({ "digest": digest, "inputs": [[{ "selector": "s", "link": input }]] });
            if let Some(made) = made(layer) {
                record["layers"] = made;
            }
            record
        };
        json!([{ "digest": "base" }, step(first, "first", 0), step(second, last, 1)])
    }

    /// The records of a completed configuration.
    fn of(config: Option<Vec<u8>>) -> Option<Value> {
        let config: Value = serde_json::from_slice(&config?).unwrap();
        Some(serde_json::from_slice(&STANDARD.decode(config["moby.buildkit.cache.v0"].as_str()?).unwrap()).unwrap())
    }

    #[test]
    fn what_was_taken_from_an_image_is_known_of_the_next_one_too() {
        let earlier = config(&["b", "1", "2"], &records(Some(1), Some(2), "second"));
        let next = config(&["b", "1", "3"], &records(None, Some(2), "third"));
        let completed_next = completed(&next, &earlier).unwrap();
        assert_eq!(of(Some(completed_next.clone())), Some(records(Some(1), Some(2), "third")));
        // All else is as it was; and there is nothing to add any more.
        let text = String::from_utf8(completed_next.clone()).unwrap();
        assert!(text.starts_with(r#"{"created":"now","moby"#) && text.ends_with(r#","os":"a\u003cb"}"#), "{text}");
        assert_eq!(completed(&completed_next, &earlier), None);
        // The same image again, whose last step alone BuildKit still knows: the same text.
        let text = r#"[{"digest":"d"},{"layers":[{"layer":0,"createdAt":"then"}],"digest":"e","inputs":[[{"selector":"s","link":0}]]}]"#;
        let lost = text.replace(r#""layers":[{"layer":0,"createdAt":"then"}],"#, "");
        let [whole, lost] = [text, &lost].map(|text| {
            String::from_utf8(config(&["b"], &json!(null)))
                .unwrap()
                .replace(&STANDARD.encode("null"), &STANDARD.encode(text))
                .into_bytes()
        });
        assert_eq!(completed(&lost, &whole), Some(whole));
    }

    #[test]
    fn nothing_is_said_of_layers_that_the_image_does_not_have() {
        let earlier = config(&["b", "1", "2"], &records(Some(1), Some(2), "second"));
        let lost = records(None, None, "second");
        let after = |layers: &[&str]| of(completed(&config(layers, &lost), &earlier));
        assert_eq!(after(&["b", "1", "2"]), Some(records(Some(1), Some(2), "second")));
        assert_eq!(after(&["b", "1", "other"]), Some(records(Some(1), None, "second")));
        assert_eq!(after(&["b", "1"]), Some(records(Some(1), None, "second")));
        assert_eq!(after(&["b", "other", "2"]), None);
        assert_eq!(after(&["other", "1", "2"]), None);
        // What the image says itself stays, whatever the earlier one said.
        assert_eq!(completed(&config(&["b", "1", "2"], &records(Some(0), Some(2), "second")), &earlier), None);
        let chained = |layers: &[usize]| json!([{ "digest": "d", "chains": [{ "layers": layers }] }]);
        let chain = |layers: &[usize]| {
            of(completed(
                &config(&["b", "1", "3"], &json!([{ "digest": "d" }])),
                &config(&["b", "1", "2"], &chained(layers)),
            ))
        };
        assert_eq!(chain(&[1]), Some(chained(&[1])));
        assert_eq!(chain(&[1, 2]), None);
    }

    #[test]
    fn another_step_is_another_step() {
        let layers = ["b", "1", "2"];
        let earlier = |records: &Value| config(&layers, records);
        let lost = |change: &dyn Fn(&mut Value)| {
            let mut lost = records(None, None, "second");
            change(&mut lost);
            completed(&config(&layers, &lost), &earlier(&records(Some(1), None, "second")))
        };
        assert!(lost(&|_| ()).is_some());
        assert_eq!(lost(&|records| records[1]["digest"] = "other".into()), None);
        assert_eq!(lost(&|records| records[0]["digest"] = "other base".into()), None);
        assert_eq!(lost(&|records| records[1]["inputs"][0][0]["selector"] = "other".into()), None);
        assert_eq!(lost(&|records| records[1]["inputs"] = json!([])), None);
        assert_eq!(lost(&|records| records[1]["inputs"][0][0]["link"] = 7.into()), None);
        // Another way to the same input is one more.
        assert!(lost(&|records| records[1]["inputs"][0].as_array_mut().unwrap().push(json!({ "link": 2 }))).is_some());
        // Steps that lead to one another.
        let circle = |layers: Option<Value>| {
            let mut record = json!({ "digest": "d", "inputs": [[{ "link": 0 }]] });
            record.as_object_mut().unwrap().extend(layers.map(|layers| ("layers".to_owned(), layers)));
            json!([record])
        };
        let whole = circle(Some(json!([{ "layer": 0 }])));
        assert_eq!(completed(&config(&layers, &circle(None)), &earlier(&whole)), None);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let whole = config(&["b"], &json!([{ "digest": "d", "layers": [{ "layer": 0 }] }]));
        let lost = config(&["b"], &json!([{ "digest": "d" }]));
        assert!(completed(&lost, &whole).is_some());
        let newer = config(&["b"], &json!([{ "digest": "d", "layers": [{ "layer": 0, "new": 1 }] }]));
        let plain = br#"{"rootfs":{"diff_ids":["b"]}}"#.to_vec();
        let many = config(&["b"], &json!(vec![json!({ "digest": "d" }); MOST_RECORDS + 1]));
        for other in [newer, plain, many, b"no configuration".to_vec()] {
            assert_eq!((completed(&lost, &other), completed(&other, &whole)), (None, None));
        }
    }
}
