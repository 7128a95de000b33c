//! The targets under libFuzzer, one for each process: FUZZ_TARGET names it. `scripts/fuzz` starts it; the targets
//! themselves are in `targets`.

#![no_main]

mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    targets::TARGETS.iter().find(|(known, _)| *known == name).expect("FUZZ_TARGET is one of targets::TARGETS").1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
