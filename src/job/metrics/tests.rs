//! The numbers of a build in all three forms: for Treeherder, for the next build, and in the log. Growth and steps have their own
//! tests.

use serde_json::{Value, json};

use super::*;
use crate::image::{ImageSummary, LayerSummary};
use crate::net::Digest;
use crate::report::secrets;

fn layers() -> Layers {
    let history = json!([
        { "created_by": "/bin/sh -c #(nop) ADD file:x in / " },
        { "created_by": "/bin/sh -c #(nop) ENV A=b", "empty_layer": true },
        { "created_by": "|1 TOKEN=nobody-may-see /bin/sh -c make nobody-may-see" },
    ]);
    let summary = |content: &[u8], size| LayerSummary { diff_id: Digest::of(content), size };
    let layers = vec![summary(b"one", 3 << 20), summary(b"two", 1 << 20)];
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.prefixed()).collect();
    let config = json!({ "history": history, "rootfs": { "diff_ids": diff_ids } }).to_string().into_bytes();
    let shape = ImageSummary { config, layers };
    secrets::add("nobody-may-see");
    Layers::of(&shape, 1)
}

fn measured() -> Measured {
    let stage = |name, millis| Stage { name, began: Duration::ZERO, took: Duration::from_millis(millis) };
    Measured {
        image: "builder".parse().unwrap(),
        builder: "classic",
        layers: layers(),
        artifact: "public/image.tar.zst".parse().unwrap(),
        archive: 1_500_000,
        context: 10_240,
        cached: Some((4, 7)),
        stages: vec![stage("looking the image up", 20), stage("fetching the context", 1234), stage("building", 34_000)],
        took: Duration::from_secs(36),
    }
}

#[test]
fn layers_name_the_step_and_what_is_below() {
    let layers = layers();
    assert_eq!(layers.size, 4 << 20);
    let listed: Vec<_> = layers.layers.iter().map(|layer| (layer.step.as_str(), layer.size, layer.base)).collect();
    assert_eq!(listed, [("ADD file:x in /", 3 << 20, true), ("RUN make [hidden]", 1 << 20, false)]);
    let json = serde_json::to_value(&layers).unwrap();
    assert_eq!(json["layers"][0]["diffId"], json!(format!("sha256:{}", Digest::of(b"one"))));
    assert_eq!(serde_json::from_value::<Layers>(json).unwrap(), layers, "what is written can be read");
}

#[test]
fn the_log_has_the_numbers_side_by_side() {
    let expected = "\
        builder: 4.00 MiB (1.43 MiB compressed) in 2 layers, from a context of 10.00 KiB\n  \
        fetching the context      1.2 s\n  \
        building                 34.0 s, 4 of 7 steps from the cache\n  \
        the rest                  0.0 s\n  \
        in all                   36.0 s";
    assert_eq!(lines(&measured()).join("\n"), expected);
}

#[test]
fn treeherder_gets_a_suite_with_a_number_for_each_thing() {
    let data = serde_json::to_value(PerfherderData::of(&measured())).unwrap();
    assert_eq!(data["framework"]["name"], "build_metrics");
    let suite = &data["suites"][0];
    assert_eq!(
        (&suite["name"], &suite["extraOptions"], &suite["shouldAlert"]),
        (&json!("image-build builder"), &json!(["classic"]), &json!(false))
    );
    let subtests: Vec<_> = suite["subtests"].as_array().unwrap().iter().map(describe).collect();
    let expected = [
        "image size 4194304 bytes lower",
        "compressed size 1500000 bytes lower",
        "layers 2 layers lower",
        "context size 10240 bytes lower",
        "cached steps 4 steps higher",
        "in all 36.0 s lower",
        "looking the image up 0.02 s lower",
        "fetching the context 1.234 s lower",
        "building 34.0 s lower",
    ];
    assert_eq!(subtests, expected);
}

fn describe(subtest: &Value) -> String {
    let better = if subtest["lowerIsBetter"] == true { "lower" } else { "higher" };
    let text = |key: &str| subtest[key].as_str().unwrap().to_owned();
    format!("{} {} {} {better}", text("name"), subtest["value"], text("unit"))
}
