//! The fuzz targets as ordinary tests: each is given all of its corpus, and then some thousand mutations of it, always
//! the same. Looking for new inputs, with an eye on coverage, is for `scripts/fuzz`.

mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image_worker::net::Digest;

use targets::TARGETS;

/// Enough that a promise broken in many places is noticed here; the rare places are found by `scripts/fuzz`.
const MUTATIONS: u32 = 3_000;
/// For slow machines: all targets together stay below twenty seconds.
const LONGEST: Duration = Duration::from_secs(3);

#[test]
fn the_context_reader_keeps_its_promises() {
    fuzz("context");
}

#[test]
fn the_dockerfile_preprocessor_keeps_its_promises() {
    fuzz("dockerfile");
}

#[test]
fn the_archive_writer_keeps_its_promises() {
    fuzz("image_archive");
}

#[test]
fn the_configuration_keeps_its_promises() {
    fuzz("config");
}

#[test]
fn the_names_keep_their_promises() {
    fuzz("names");
}

#[test]
fn log_lines_keep_their_promises() {
    fuzz("log_lines");
}

#[test]
fn build_output_keeps_its_promises() {
    fuzz("build_output");
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let mut directories: Vec<_> =
        fs::read_dir(corpora()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    directories.sort();
    targets.sort();
    assert_eq!(directories, targets);
}

fn fuzz(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let mut files: Vec<_> = fs::read_dir(corpora().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (file, input) in files.iter().zip(&corpus) {
        let passed = catch_unwind(|| target(input)).is_ok();
        assert!(passed, "{name} broke a promise for {}", file.display());
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let started = Instant::now();
    for _ in 0..MUTATIONS {
        if started.elapsed() > LONGEST {
            break;
        }
        let input = dice.mutate(&corpus);
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", Digest::of(&input)));
            fs::write(&file, &input).unwrap();
            panic!("{name} broke a promise; fix it, and keep {} in {name}'s corpus", file.display());
        }
    }
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz/corpus")
}

/// Numbers that only look random (xorshift), so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }

    /// A piece of at most 16 bytes.
    fn piece(&mut self, of: &[u8]) -> std::ops::Range<usize> {
        let from = self.below(of.len());
        from..(from + self.below(17)).min(of.len())
    }

    /// Some input of the corpus with a few changes.
    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            match self.below(6) {
                0 => input.insert(at, self.byte()),
                1 => {
                    let piece = self.piece(&input);
                    drop(input.drain(piece));
                }
                2 => {
                    let piece = self.piece(&input);
                    let copy = input[piece].to_vec();
                    input.splice(at..at, copy);
                }
                3 => {
                    let other = &corpus[self.below(corpus.len())];
                    let piece = self.piece(other);
                    input.splice(at..at, other[piece].iter().copied());
                }
                4 => input.truncate(at),
                _ => {
                    let byte = self.byte();
                    if let Some(old) = input.get_mut(at) {
                        *old = byte;
                    }
                }
            }
        }
        input
    }
}
