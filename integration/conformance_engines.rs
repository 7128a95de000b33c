//! Dockerfiles through the program on every builder: the same file system and the same configuration come out, or the
//! difference is in a table with its reason. docs/conformance.md is written from what happens here.

mod builder;
mod case;
mod image;

use builder::Builder;
use case::Case;

use crate::fault_matrix::each;
use crate::harness::engine;

#[test]
fn builders_agree() {
    if !engine() {
        return;
    }
    let only = std::env::var("CONFORMANCE_ONLY").unwrap_or_default();
    let cases: Vec<_> = Case::all().into_iter().filter(|case| case.name.contains(&only)).collect();
    let jobs: Vec<_> = cases.iter().flat_map(|case| Builder::ALL.map(|builder| (case, builder))).collect();
    let name = |(case, builder): &(&Case, Builder)| format!("{} on {}", case.name, builder.name());
    let built = each(&jobs, name, |(case, builder)| { let at = std::time::Instant::now(); let it = builder::build(case, *builder); eprintln!("TIME {} {:?} {}", case.name, builder, at.elapsed().as_millis()); it });
    for (case, built) in cases.iter().zip(built.chunks(Builder::ALL.len())) {
        for e in &case.expected {
            let ok = match e.strip_prefix("no ") {
                Some(s) => !built[0].contains_key(s),
                None => built[0].iter().any(|(k, v)| format!("{k} {v}") == *e || format!("{k} {v}").starts_with(&format!("{e} "))),
            };
            if !ok { 
                let key = e.split(' ').take_while(|w| !["file","dir","symlink","fifo","char"].contains(w) ).collect::<Vec<_>>().join(" ");
                eprintln!("EXPECT {}: {e}: {:?}", case.name, built[0].iter().filter(|(k, _)| **k == key || e.starts_with(&format!("{k} "))).collect::<Vec<_>>()); }
        }
        let mut keys: Vec<_> = built[0].keys().chain(built[1].keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            if built[0].get(key) != built[1].get(key) { eprintln!("DIFF {} {key}: {:?} {:?}", case.name, built[0].get(key), built[1].get(key)); }
        }
        if case.fails != (built[0]["Exit code"] == "20") { eprintln!("FAILS {} {}", case.name, built[0]["Exit code"]); }
    }
}
