//! The records of BuildKit's inline cache, which map an image's layers to build steps: without them, later builds cannot
//! reuse steps of the image. The callers decide which image is used as a cache.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::rootfs::RootFs;

/// The field of a configuration that holds the records: JSON in base64.
const FIELD: &str = "moby.buildkit.cache.v0";

/// An image has a few records for each of its layers, of which there are at most 127.
const MOST_RECORDS: usize = 10_000;

/// The fields of a configuration that connect layers with build steps.
#[derive(Deserialize)]
struct Config<'a> {
    rootfs: RootFs,
    #[serde(rename = "moby.buildkit.cache.v0")]
    records: &'a str,
}

/// A step, and the layers that it made. The fields are in the order in which BuildKit writes them, to get the same text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The result consists of all layers up to and including one.
    #[serde(default, rename = "layers", skip_serializing_if = "Vec::is_empty")]
    results: Vec<Top>,
    /// The result consists of some of the layers.
    #[serde(default, rename = "chains", skip_serializing_if = "Vec::is_empty")]
    chained: Vec<Chain>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    digest: String,
    /// For each input, the records that can provide it.
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

/// The configuration of an image that reused steps of the image with the configuration `earlier`, with the records that
/// `earlier` has of these steps: BuildKit as of Docker 23 omits them, so that the next build but one could reuse nothing.
/// `None` if no record is missing.
///
/// The added records are true for this image, too: it has the same step with the same inputs, and the layers that they name.
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
    // Everything else stays unchanged, byte by byte.
    is_changed.then(|| [before, &written, after].concat().into_bytes())
}

fn read(records: &str) -> Option<Vec<Record>> {
    let records: Vec<Record> = serde_json::from_slice(&STANDARD.decode(records).ok()?).ok()?;
    (records.len() <= MOST_RECORDS).then_some(records)
}

/// The pairs of records of two images that are the same step with the same inputs. Records can refer to each other in a cycle;
/// records that would be the same only because of each other are not.
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

/// Whether an input can be the same record in both images.
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

    /// A base, a step on it, and a step on that one. The arguments are the numbers of the layers that the steps made.
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

    /// The records in a completed configuration.
    fn records_of(config: Option<Vec<u8>>) -> Option<Value> {
        let config: Value = serde_json::from_slice(&config?).unwrap();
        Some(serde_json::from_slice(&STANDARD.decode(config["moby.buildkit.cache.v0"].as_str()?).unwrap()).unwrap())
    }

    #[test]
    fn what_was_taken_from_an_image_is_known_of_the_next_one_too() {
        let earlier = config(&["b", "1", "2"], &records(Some(1), Some(2), "second"));
        let next = config(&["b", "1", "3"], &records(None, Some(2), "third"));
        let completed_next = completed(&next, &earlier).unwrap();
        assert_eq!(records_of(Some(completed_next.clone())), Some(records(Some(1), Some(2), "third")));
        // Everything else is unchanged, and a second pass has nothing to add.
        let text = String::from_utf8(completed_next.clone()).unwrap();
        assert!(text.starts_with(r#"{"created":"now","moby"#) && text.ends_with(r#","os":"a\u003cb"}"#), "{text}");
        assert_eq!(completed(&completed_next, &earlier), None);
        // The same image again, of which BuildKit knows only the last step: the text is the same.
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
        let after = |layers: &[&str]| records_of(completed(&config(layers, &lost), &earlier));
        assert_eq!(after(&["b", "1", "2"]), Some(records(Some(1), Some(2), "second")));
        assert_eq!(after(&["b", "1", "other"]), Some(records(Some(1), None, "second")));
        assert_eq!(after(&["b", "1"]), Some(records(Some(1), None, "second")));
        assert_eq!(after(&["b", "other", "2"]), None);
        assert_eq!(after(&["other", "1", "2"]), None);
        // The image's own records stay, whatever the earlier image has.
        assert_eq!(completed(&config(&["b", "1", "2"], &records(Some(0), Some(2), "second")), &earlier), None);
        let chained = |layers: &[usize]| json!([{ "digest": "d", "chains": [{ "layers": layers }] }]);
        let chain = |layers: &[usize]| {
            records_of(completed(
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
        // An additional alternative for the same input.
        assert!(lost(&|records| records[1]["inputs"][0].as_array_mut().unwrap().push(json!({ "link": 2 }))).is_some());
        // Steps that refer to each other.
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
