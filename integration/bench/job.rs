//! Whole jobs: a task that builds an image and publishes it, beside the floor, which is what the engine and curl need for
//! the same; and beside the shell job that built images in 2015. How a job is set up is the harness's.

use std::path::Path;

use stand_in::{Options, StandIn};
use tempfile::TempDir;

use super::data;
use super::measure::{Cost, Environment, ours, theirs};
use super::place::{Engine, random_step};
use super::scale::Scale;
use super::table::{Section, Table, Way, Writes};
use crate::harness::{Builder, Job, Repository, path};

/// The artifact.
const IMAGE: &str = "public/image.tar";

/// An image, and the context that it is built from.
struct Case {
    what: String,
    name: &'static str,
    base: String,
    /// MiB that a step makes.
    step: u64,
    context: Context,
    /// The ways to export that are measured.
    exports: &'static [&'static str],
    target: Option<f64>,
}

enum Context {
    /// The `Dockerfile` and one file.
    One,
    /// So many files of some 4 KiB.
    Many(u64),
    /// So many MiB in ten files.
    Large(u64),
}

/// From the floor to the ceiling.
pub(super) fn whole(scale: &Scale) -> Section {
    let engine = Engine::of(Builder::Docker);
    let below = engine.random_image("below", scale.base, scale.below_large);
    let (small, middle, large) = (scale.small_image, scale.middle_image, scale.large_image);
    let one = |mib: u64| format!("image of {mib} MiB, context of 1 file");
    let case = |what, name, base: &str, step, context, exports, target| Case {
        what,
        name,
        base: base.to_owned(),
        step,
        context,
        exports,
        target,
    };
    let target = Some(1.05);
    let cases = [
        case(one(small), "bench-small", "scratch", small, Context::One, &["auto"], None),
        case(one(middle), "bench-middle", scale.base, middle, Context::One, &["auto", "engine"], target),
        case(
            one(large),
            "bench-large",
            &below.tag,
            large - scale.below_large,
            Context::One,
            &["auto", "engine", "squash"],
            target,
        ),
        case(
            format!("image of {small} MiB, context of {} files", scale.files),
            "bench-many",
            "scratch",
            small,
            Context::Many(scale.files),
            &["auto"],
            None,
        ),
        case(
            format!("image of {small} MiB, context of {} MiB", scale.context),
            "bench-context",
            "scratch",
            small,
            Context::Large(scale.context),
            &["auto"],
            None,
        ),
    ];
    let (mut ratios, mut costs) = (Table::ratios(Way::Share), Table::costs());
    for case in &cases {
        case.measure(scale.rounds, &engine, &mut ratios, &mut costs);
    }
    let words = format!(
        "`run` in a task of the stand-in: the context downloaded and verified, the image built, exported, uploaded, read back, \
         indexed. The floor is what cannot be left out: the engine's own build of the same packed context from a file \
         (`POST /build`), its export into a file (`GET /images/NAME/get`), and `curl -T` of that file to the same storage; no \
         download, no sum, nothing removed. {} builds both; bytes that nothing can compress. The images of {middle} and \
         {large} MiB are on `{}`, the largest on an image of {} MiB that the engine has, so that building takes less of the \
         whole than it would. What is written is compared with the image and the context together.",
        engine.name(),
        scale.base,
        scale.below_large
    );
    Section { words, tables: vec![ratios, costs] }
}

impl Case {
    fn repository(&self) -> Repository {
        let dockerfile = format!(
            "FROM {}\nENV TEST={}\nCOPY busybox /bin/busybox\n{}",
            self.base,
            self.name,
            random_step("/bytes", self.step)
        );
        let repository = Repository::bare(self.name, &dockerfile);
        let directory = repository.directory();
        std::fs::copy("/bin/busybox", directory.join("busybox")).expect("busybox-static; run scripts/packages");
        match self.context {
            Context::One => {}
            Context::Many(files) => data::many(&directory.join("files"), files),
            Context::Large(mib) => data::text_files(&directory.join("files"), 10, mib),
        }
        repository
    }

    fn measure(&self, rounds: usize, engine: &Engine, ratios: &mut Table, costs: &mut Table) {
        eprintln!("bench: {}", self.what);
        let repository = self.repository();
        let packed = repository.context();
        let context = repository.root.path().join("context.tar.gz");
        let mut all = vec![(Vec::new(), Vec::new()); self.exports.len()];
        let (mut made, context_size) = (0, unpacked(&context));
        for _ in 0..rounds {
            let floor = floor(engine, &context);
            for (export, (pairs, costs)) in self.exports.iter().zip(&mut all) {
                let job = Job::of(StandIn::start(Options::default()), self.name, &packed);
                let mut environment: Environment = engine.environment();
                environment.extend(job.environment());
                environment.insert("EXPORT".to_owned(), (*export).to_owned());
                let (cost, _) = ours(&format!("run, EXPORT={export}"), &["run"], &environment);
                let image = job.taskcluster.artifact_path(&job.claim.task_id, 0, IMAGE).expect("an image");
                made = size(&image);
                pairs.push((cost.seconds, floor));
                costs.push(cost);
            }
        }
        for (export, (pairs, spent)) in self.exports.iter().zip(&all) {
            let name = format!("{}, `EXPORT={export}`", self.what);
            ratios.ratio((&name, "floor"), pairs, self.target);
            // The image is read where the engine has it, or its export is written once.
            let writes = match *export {
                "auto" => Writes::only(context_size, made),
                _ => Writes::once(made + context_size),
            };
            costs.cost(&name, spent, Some(writes));
        }
    }
}

/// What the engine and curl need.
fn floor(engine: &Engine, context: &Path) -> f64 {
    let image = engine.named("floor");
    let directory = TempDir::with_prefix("bench-").unwrap();
    let (taskcluster, put) = storage();
    let (build, get) = (engine.build_script(), engine.get_script());
    let script = format!(
        "tag=$1 context=$2 out=$3 put=$4\n{build}\n{get}\ncurl --silent --show-error --fail -H Expect: -T \"$out\" \"$put\""
    );
    let out = directory.path().join("image.tar");
    let seconds = theirs("the floor", &script, &[&image.tag, path(context), path(&out), &put]);
    drop(taskcluster);
    seconds
}

/// The storage of a stand-in of its own, and where in it an image may be put.
fn storage() -> (StandIn, String) {
    let taskcluster = StandIn::start(Options::default());
    let task = taskcluster.create_task(stand_in::TaskSpec::default()).task_id;
    let put = format!("{}/stand-in/artifacts/{task}/0/{IMAGE}", taskcluster.root_url());
    (taskcluster, put)
}

pub(super) fn size(file: &Path) -> u64 {
    file.metadata().unwrap_or_else(|error| panic!("{}: {error}", file.display())).len()
}

/// How large a packed file is inside.
fn unpacked(file: &Path) -> u64 {
    let counted = super::measure::run("gzip -dc \"$1\" | wc --bytes", &[path(file)]);
    counted.trim().parse().expect("a number")
}

/// The job as a shell script did it in 2015: taskcluster/scripts/builder/build-docker-image.sh of Gecko, in essence.
const SCRIPT_2015: &str = "\
    context=$1 tag=$2 directory=$3 put=$4\n\
    mkdir \"$directory/context\" && cd \"$directory\"\n\
    curl --silent --show-error --fail --location \"$context\" | tar --extract --gunzip --directory context\n\
    export DOCKER_BUILDKIT=0\n\
    docker build --no-cache --tag \"$tag\" context >log 2>&1\n\
    docker save --output image.tar \"$tag\"\n\
    curl --silent --show-error --fail -H Expect: --upload-file image.tar \"$put\"";

/// Beside the job of 2015.
pub(super) fn shell(scale: &Scale) -> Section {
    let engine = Engine::of(Builder::Docker);
    let mib = scale.middle_image;
    let case = Case {
        what: format!("image of {mib} MiB, context of 1 file"),
        name: "bench-2015",
        base: scale.base.to_owned(),
        step: mib,
        context: Context::One,
        exports: &[],
        target: None,
    };
    let repository = case.repository();
    let packed = repository.context();
    let mut pairs = Vec::new();
    let mut spent: Vec<Cost> = Vec::new();
    let (mut made, context_size) = (0, unpacked(repository.root.path().join("context.tar.gz").as_ref()));
    for _ in 0..scale.rounds {
        let job = Job::of(StandIn::start(Options::default()), case.name, &packed);
        let mut environment = engine.environment();
        environment.extend(job.environment());
        let context = format!(
            "{}/api/queue/v1/task/{}/artifacts/{}",
            job.taskcluster.root_url(),
            environment["CONTEXT_TASK_ID"],
            environment["CONTEXT_PATH"]
        );
        let (image, directory, (taskcluster, put)) =
            (engine.named("2015"), TempDir::with_prefix("bench-").unwrap(), storage());
        let arguments = [context.as_str(), &image.tag, path(directory.path()), &put];
        let theirs = theirs(
            "the shell job of 2015",
            &format!("export DOCKER_HOST={}\n{SCRIPT_2015}", engine.host()),
            &arguments,
        );
        drop((image, directory, taskcluster));
        let (cost, _) = ours("run", &["run"], &environment);
        let image = job.taskcluster.artifact_path(&job.claim.task_id, 0, IMAGE).expect("an image");
        made = size(&image);
        pairs.push((cost.seconds, theirs));
        spent.push(cost);
    }
    let (mut ratios, mut costs) = (Table::ratios(Way::Share), Table::costs());
    ratios.ratio((&case.what, "`curl \\| tar`, `docker build`, `docker save`, `curl -T`"), &pairs, None);
    costs.cost(&case.what, &spent, Some(Writes::only(context_size, made)));
    let words =
        "The same task, beside what Gecko's image tasks of 2015 did in a shell script: nothing of theirs is verified, \
        read back, or tried again."
            .to_owned();
    Section { words, tables: vec![ratios, costs] }
}
