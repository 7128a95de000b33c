//! The tail of a job, from the end of the build to an archive that is complete and hashed, beside the engine's own export
//! into a file; and packed, beside what `image_builder` does after its build. Whole jobs are in `job`.

use std::path::{Path, PathBuf};

use jiff::{Timestamp, Unit};
use serde_json::Value;
use tempfile::TempDir;

use super::data;
use super::job::size;
use super::measure::{Cost, Environment, ours, print_progress, theirs};
use super::place::{Engine, Image};
use super::scale::Scale;
use super::table::{Section, Table, Way, Writes};
use crate::harness::{Builder, Repository, path, program};

/// Beside the engine's own export.
pub(super) fn plain(scale: &Scale) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Speed), Table::costs());
    for builder in [Builder::Docker, Builder::Podman] {
        beside_export(
            &Engine::of(builder),
            scale.large_image,
            scale.rounds,
            &["auto", "engine", "squash"],
            (&mut ratios, &mut costs),
        );
    }
    let words = format!(
        "An image of {} MiB in four layers that nothing can compress, which the engine has. {MEASURED}",
        scale.large_image
    );
    Section { words, tables: vec![ratios, costs] }
}

/// The same where layers are kept compressed.
pub(super) fn containerd(scale: &Scale) -> Section {
    newer(
        &Engine::containerd(),
        scale,
        "on Docker 28 with the containerd image store, which keeps layers as `BuildKit` has packed them",
    )
}

/// The same on Podman 5.
pub(super) fn podman_5(scale: &Scale) -> Section {
    newer(&Engine::podman_5(), scale, "on Podman 5, on its overlay storage")
}

/// Beside the own export of an engine that is newer than Debian 12's.
fn newer(engine: &Engine, scale: &Scale, of_engine: &str) -> Section {
    let (mut ratios, mut costs) = (Table::ratios(Way::Speed), Table::costs());
    for mib in [scale.middle_image, scale.large_image] {
        beside_export(engine, mib, scale.rounds, &["auto", "engine"], (&mut ratios, &mut costs));
    }
    let words =
        format!("The same {of_engine}: images of {} and {} MiB. {MEASURED}", scale.middle_image, scale.large_image);
    Section { words, tables: vec![ratios, costs] }
}

/// How both are measured.
const MEASURED: &str = "A dry run builds nothing on it. Measured is from the line of the log that says `built` to the line that has the \
    archive's sha256; the archive is then complete, in its final order, and `check` accepts it. Theirs is the engine's export into a \
    file by curl, as `docker save` does it: neither in order nor summed.";

/// Each way to export, in turns with the engine's own.
fn beside_export(
    engine: &Engine,
    mib: u64,
    rounds: usize,
    exports: &[&str],
    (ratios, costs): (&mut Table, &mut Table),
) {
    let image = engine.random_image("tail", "scratch", mib);
    let mut all = vec![(Vec::new(), Vec::new()); exports.len()];
    let mut must = 0;
    for round in 0..rounds {
        let floor = save(engine, &image);
        for (export, (pairs, costs)) in exports.iter().zip(&mut all) {
            let made = tail(engine, &image, &[("EXPORT", export)]);
            if round == 0 {
                accepted(&made.archive);
            }
            must = size(&made.archive);
            pairs.push((made.seconds, floor));
            costs.push(made.cost);
        }
    }
    for (export, (pairs, spent)) in exports.iter().zip(&all) {
        let ours = format!("{}, {mib} MiB, `EXPORT={export}`", engine.name());
        ratios.ratio((&ours, "`GET /images/NAME/get` to a file"), pairs, Some(2.0));
        costs.cost(&format!("`run --dry-run`, {ours}"), spent, Some(Writes::once(must)));
    }
}

/// Packed, beside `image_builder`'s tail.
pub(super) fn packed(scale: &Scale) -> Section {
    let engine = Engine::of(Builder::Docker);
    let directory = TempDir::with_prefix("bench-").unwrap();
    data::machine(&directory.path().join("files.tar"), scale.compressible);
    std::fs::copy("/bin/busybox", directory.path().join("busybox")).expect("busybox-static; run scripts/packages");
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nADD files.tar /\n";
    std::fs::write(directory.path().join("Dockerfile"), dockerfile).unwrap();
    let image = engine.image("packed", directory.path());
    drop(directory);

    let (mut ratios, mut costs) = (Table::ratios(Way::Speed), Table::costs());
    for level in ["3", "10"] {
        let (mut pairs, mut spent) = (Vec::new(), Vec::new());
        let (mut sizes, mut must) = ((0, 0), 0);
        for _ in 0..scale.rounds {
            let (seconds, size_of_theirs) = image_builders(&engine, &image, level);
            let more = [("ARTIFACT_NAME", "public/image.tar.zst"), ("DOCKER_IMAGE_ZSTD_LEVEL", level)];
            let made = tail(&engine, &image, &more);
            accepted(&made.archive);
            sizes = (size(&made.archive), size_of_theirs);
            must = sizes.0;
            pairs.push((made.seconds, seconds));
            spent.push(made.cost);
        }
        let mib = |bytes: u64| bytes >> 20;
        let ours = format!("`image.tar.zst`, level {level}: {} MiB", mib(sizes.0));
        let theirs = format!("`skopeo copy`, `zstd -T1 -{level}`: {} MiB", mib(sizes.1));
        ratios.ratio((&ours, &theirs), &pairs, Some(1.8));
        costs.cost(&format!("`run --dry-run`, level {level}"), &spent, Some(Writes::once(must)));
    }
    let words = format!(
        "The same with `ARTIFACT_NAME=public/image.tar.zst`: an image of {} MiB of this machine's own programs and documents. \
         Theirs is what image_builder does after its build: `skopeo copy` into a docker-archive, then zstd on one thread \
         over that file (image_builder does not sum it). `auto` is our way to export.",
        scale.compressible
    );
    Section { words, tables: vec![ratios, costs] }
}

/// An archive, and what it took.
struct Measurement {
    /// From the end of the build.
    seconds: f64,
    cost: Cost,
    archive: PathBuf,
    _output: TempDir,
}

/// A dry run that adds nothing but a setting to an image.
fn tail(engine: &Engine, image: &Image, more: &[(&str, &str)]) -> Measurement {
    let repository = Repository::bare("bench-tail", &format!("FROM {}\nCMD [\"/bin/busybox\", \"true\"]\n", image.tag));
    let output = TempDir::with_prefix("bench-").unwrap();
    let mut environment: Environment = engine.environment();
    let given = [("IMAGE_NAME", "bench-tail"), ("PROJECT", "bench"), ("IMAGE_WORKER_LOG_FORMAT", "json")];
    environment.extend(given.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let (context, out) = (repository.directory(), output.path().join("out"));
    let arguments = ["run", "--dry-run", "--context", path(&context), "--output", path(&out)];
    let what = format!("dry run with {}, {more:?}", engine.name());
    let (cost, finished) = ours(&what, &arguments, &environment);
    let seconds = between(&finished.stderr);
    print_progress("of that, the tail", seconds);
    let name = more.iter().find(|(name, _)| *name == "ARTIFACT_NAME").map_or("public/image.tar", |(_, name)| name);
    let archive = out.join(name.trim_start_matches("public/"));
    Measurement { seconds, cost, archive, _output: output }
}

/// The seconds from the end of the build to the digest of the archive, by the log's own times.
fn between(log: &str) -> f64 {
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a JSON log")).collect();
    let message = |event: &Value| event["fields"]["message"].as_str().unwrap_or_default().to_owned();
    let at = |event: &Value| event["timestamp"].as_str().unwrap_or_default().parse::<Timestamp>().expect("a time");
    let mut after = events.iter().skip_while(|event| !message(event).starts_with("built sha256:"));
    let built = after.next().expect("the line with what was built");
    let digested =
        after.find(|event| message(event).contains(", sha256 ")).expect("the line with the archive's digest");
    at(digested).since(at(built)).unwrap().total(Unit::Second).unwrap()
}

/// The engine's own export into a file.
fn save(engine: &Engine, image: &Image) -> f64 {
    let directory = TempDir::with_prefix("bench-").unwrap();
    let script = format!("tag=$1 out=$2\n{}", engine.get_script());
    let out = directory.path().join("image.tar");
    theirs(&format!("{}'s own export", engine.name()), &script, &[&image.tag, path(&out)])
}

/// What `image_builder` does after its build; gives the size of what it makes, too.
fn image_builders(engine: &Engine, image: &Image, level: &str) -> (f64, u64) {
    let directory = TempDir::with_prefix("bench-").unwrap();
    let out = directory.path().join("image.tar");
    let script = "\
        skopeo copy --quiet --insecure-policy --src-daemon-host \"$1\" \"docker-daemon:$2\" \"docker-archive:$3:$2\"\n\
        zstd --quiet -T1 \"-$4\" \"$3\" -o \"$3.zst\"";
    let arguments = [engine.host(), &image.tag, path(&out), level];
    let seconds = theirs(&format!("image_builder's tail, level {level}"), script, &arguments);
    (seconds, size(&directory.path().join("image.tar.zst")))
}

fn accepted(archive: &Path) {
    program(["check", path(archive)], []).finish().assert_succeeds();
}
