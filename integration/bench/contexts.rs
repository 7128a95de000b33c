//! Contexts: hashed, packed and taken in, beside the plain tools that read the same bytes. What taskgraph needs for the same
//! is in `taskgraph`.

use std::fs::File;
use std::io::BufWriter;
use std::time::Instant;

use image_worker::context::intake::{Expectation, Limits, receive};
use image_worker::context::{ContextScheme, HashScheme};
use tempfile::TempDir;

use super::data;
use super::measure::{Cost, Environment, ours, print_progress, run, theirs};
use super::scale::Scale;
use super::table::{Section, Table, Way, Writes};
use crate::harness::{Repository, path};

/// The directory `$1` as a tar with what our own has in its headers.
const TAR: &str = "tar --create --format gnu --sort name --owner 0 --group 0 --numeric-owner --mtime @1451606400 --directory \"$1\" .";

/// How many large files are hashed.
const LARGE_FILES: u64 = 4;

/// Two image directories: one with many small files, one with few large ones.
pub(super) fn repositories(scale: &Scale) -> [(String, Repository); 2] {
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let (many, large) = (Repository::bare("bench-many", dockerfile), Repository::bare("bench-large", dockerfile));
    data::many(&many.directory().join("files"), scale.files);
    data::random_files(&large.directory().join("files"), LARGE_FILES, scale.large_file);
    let names =
        [format!("{} files of some 4 KiB", scale.files), format!("{LARGE_FILES} files of {} MiB", scale.large_file)];
    let [first, second] = names;
    [(first, many), (second, large)]
}

/// `hash`, `context` and the intake.
pub(super) fn section(scale: &Scale) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Speed), Table::costs());
    for (number, (what, repository)) in repositories(scale).iter().enumerate() {
        let directory = repository.directory();
        let packed = repository.root.path().join("packed.tar.gz");
        let few = number == 1;
        let hash = |scheme: &str| {
            ours(&format!("hash, {scheme}"), &["hash", path(&directory), "--scheme", scheme], &Environment::new()).0
        };
        let beside = |what: &str, script: &str| theirs(what, script, &[path(&directory)]);
        let turns = |ours: &dyn Fn() -> Cost, theirs: &dyn Fn() -> f64| -> (Vec<Cost>, Vec<(f64, f64)>) {
            // Once for nothing: what is measured is not the disk.
            ours();
            let pair = |_| {
                let theirs = theirs();
                let ours = ours();
                (ours, (ours.seconds, theirs))
            };
            (0..scale.rounds).map(pair).unzip()
        };
        let openssl = "find \"$1\" -type f -exec cat {} + | openssl dgst -sha256";
        let (openssl, named) = if few {
            ("openssl dgst -sha256 \"$1\"/files/*", "`openssl dgst -sha256 FILE…`")
        } else {
            (openssl, "`cat FILE… \\| openssl dgst -sha256`")
        };
        let tar = |filter: &str| format!("{TAR} | {filter}");
        let target = few.then_some(0.9);
        let rows: [(&str, &str, &str, &str, Option<f64>); 4] = [
            ("tar", "`hash`", &tar("sha256sum"), "`tar \\| sha256sum`", None),
            ("tar", "`hash`", &tar("openssl dgst -sha256"), "`tar \\| openssl dgst -sha256`", None),
            ("tar", "`hash`", openssl, named, target),
            (
                "contents",
                "`hash --scheme contents`",
                "find \"$1\" -type f -exec sha256sum {} + | sort | sha256sum",
                "`sha256sum FILE… \\| sha256sum`",
                None,
            ),
        ];
        let mut spent = Vec::new();
        for (scheme, ours, script, theirs, target) in rows {
            let (costs, pairs) = turns(&|| hash(scheme), &|| beside(theirs, script));
            spent.extend(costs);
            ratios.ratio((&format!("{ours}, {what}"), theirs), &pairs, target);
        }
        costs.cost(&format!("`hash`, {what}"), &spent, None);

        let pack = || ours("context", &["context", path(&directory), "-o", path(&packed)], &Environment::new()).0;
        let script = format!("{} >\"$1.theirs.tar.gz\"\nrm \"$1.theirs.tar.gz\"", tar("gzip -6"));
        let (spent, pairs) = turns(&pack, &|| beside("tar | gzip", &script));
        ratios.ratio((&format!("`context`, {what}"), "`tar \\| gzip -6`"), &pairs, None);
        costs.cost(&format!("`context`, {what}"), &spent, Some(Writes::once(super::job::size(&packed))));

        let inflated = || theirs_of_intake(path(&packed));
        let pairs: Vec<_> = (0..scale.rounds)
            .map(|_| {
                let theirs = inflated();
                (intake(repository, path(&packed)), theirs)
            })
            .collect();
        ratios.ratio((&format!("intake, {what}"), "`gzip -dc` to nowhere"), &pairs, Some(0.8));
    }
    let words = "The same files, read from memory by all (each command runs once unmeasured); whole commands, with their start. \
        The intake is what `run` does to a context that it downloads, called in the library: unpacked, every entry checked, \
        its hash verified, and written to a file; theirs writes nothing."
        .to_owned();
    Section { words, tables: vec![ratios, costs] }
}

fn theirs_of_intake(packed: &str) -> f64 {
    theirs("gzip -dc", "gzip -dc \"$1\" >/dev/null", &[packed])
}

/// Seconds of the checks of a packed context, into a file.
fn intake(repository: &Repository, packed: &str) -> f64 {
    let hash = repository.hash(HashScheme::Tar).parse().expect("a hash");
    let image = repository.name.parse().expect("a name");
    let expect = Expectation { scheme: ContextScheme::Tar, hash: Some(hash), directory: None, image, encoded: false };
    let directory = TempDir::with_prefix("bench-").unwrap();
    run("sync", &[]);
    let started = Instant::now();
    let out = BufWriter::with_capacity(256 * 1024, File::create(directory.path().join("context.tar")).unwrap());
    receive(File::open(packed).unwrap(), &expect, &Limits::default(), out).expect("a context that is what it is");
    let seconds = started.elapsed().as_secs_f64();
    print_progress("intake", seconds);
    seconds
}
