//! The matrix itself: the places of the job where something can fail, the ways in which it does, and what comes of
//! each. Playing a case is next door.

use crate::stand_in::Fault;

/// A call of the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// As docs/reliability.md calls it.
    pub(super) title: &'static str,
    call: &'static str,
    path: Path,
    /// How many such calls come before it.
    skip: u32,
    /// `ARTIFACT_STORAGE`
    pub(super) storage: &'static str,
    /// Whether an earlier task has published the image, so that this one finds it.
    pub(super) earlier: bool,
}

/// Which of several calls of one name is meant.
#[derive(Clone, Copy, Debug)]
enum Path {
    Any,
    Part(&'static str),
    Earlier,
}

/// What befalls a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Once(How),
    Always(How),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Status(u16),
    /// 429 with this Retry-After.
    Busy(u32),
    Closed,
    Hangs,
    Cut(u64),
    Wrong,
    Lost,
    /// 200, but nothing was done, and the answer is no answer to this.
    Nonsense,
}

/// How the index stands after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All three routes lead to this run's image.
    Complete,
    /// So many of the routes, in the order of their insertion, do; the others do not exist.
    Partly(usize),
    /// All three lead to the earlier task's image, and so does this task's artifact.
    Shared,
    /// All three lead to the earlier task's image; this task has no artifact.
    Earlier,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) place: Place,
    pub(super) way: Way,
    pub(super) exit: i32,
    pub(super) end: End,
}

use End::{Complete, Earlier, Partly, Shared};
use How::{Busy, Closed, Cut, Hangs, Lost, Nonsense, Status, Wrong};
use Way::{Always, Once};

const NOTHING: End = Partly(0);

const fn place(title: &'static str, call: &'static str, path: Path) -> Place {
    Place { title, call, path, skip: 0, storage: "s3", earlier: false }
}

impl Place {
    const fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    const fn storage(self, storage: &'static str) -> Self {
        Self { storage, ..self }
    }

    const fn earlier(self) -> Self {
        Self { earlier: true, ..self }
    }
}

const CONTEXT: Path = Path::Part("docker-contexts");
const IMAGE: Path = Path::Part("image.tar");
const LOG: Path = Path::Part("build.log");

/// What another try gets over, wherever it happens.
const PASSING: [Way; 5] = [Once(Status(503)), Once(Busy(1)), Once(Closed), Once(Cut(5)), Once(Status(502))];

type Row = (Way, i32, End);

/// The table. A place's rows are what passes (all end as the first says), and what does not.
fn table() -> Vec<(Place, (i32, End), Vec<Way>, Vec<Row>)> {
    let good = (0, Complete);
    let shared = (0, Shared);
    let some = |ways: &[usize]| ways.iter().map(|way| PASSING[*way]).collect::<Vec<_>>();
    let all = || some(&[0, 1, 2, 3]);
    let and = |mut ways: Vec<Way>, more: &[Way]| {
        ways.extend(more);
        ways
    };
    vec![
        (
            place("looking the image up: findTask", "findTask", Path::Any),
            good,
            and(all(), &[Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Closed), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("is the found image there: getArtifact", "getArtifact", Path::Earlier).earlier(),
            shared,
            all(),
            vec![
                (Always(Status(500)), 30, Earlier),
                (Always(Status(403)), 31, Earlier),
                (Always(Status(404)), 0, Complete),
                (Always(Status(424)), 0, Complete),
            ],
        ),
        (
            place("is the found image there: s3 GET", "s3 GET", Path::Earlier).earlier(),
            shared,
            and(some(&[0, 1, 2]), &[Once(Hangs), Once(Wrong), Once(Cut(0))]),
            vec![
                (Always(Status(500)), 0, Complete),
                (Always(Status(404)), 0, Complete),
                (Always(Status(403)), 0, Complete),
                (Always(Closed), 0, Complete),
            ],
        ),
        (
            place("pointing at the found image: createArtifact", "createArtifact", Path::Any).earlier(),
            shared,
            and(all(), &[Once(Lost)]),
            vec![
                (Always(Status(500)), 30, Earlier),
                (Always(Status(403)), 31, Earlier),
                (Always(Status(409)), 31, Earlier),
            ],
        ),
        (
            place("did an earlier start upload: getArtifact", "getArtifact", IMAGE),
            good,
            all(),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(403)), 31, NOTHING)],
        ),
        (
            place("the task's expiry: task", "task", Path::Any),
            good,
            all(),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("where the context is: getLatestArtifact", "getLatestArtifact", Path::Any),
            good,
            and(all(), &[Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(404)), 10, NOTHING),
                (Always(Status(410)), 10, NOTHING),
            ],
        ),
        (
            place("the context: s3 GET", "s3 GET", CONTEXT),
            good,
            and(some(&[0, 1, 2]), &[Once(Cut(0)), Once(Cut(30_000)), Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Closed), 30, NOTHING),
                (Always(Cut(0)), 30, NOTHING),
                (Always(Cut(1000)), 30, NOTHING),
                (Once(Wrong), 10, NOTHING),
                (Once(Nonsense), 10, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(404)), 10, NOTHING),
            ],
        ),
        (
            place("the build's log: createArtifact", "createArtifact", LOG),
            good,
            some(&[0, 2]),
            vec![(Always(Status(500)), 0, Complete), (Always(Status(403)), 0, Complete)],
        ),
        (
            place("the build's log: s3 PUT", "s3 PUT", LOG),
            good,
            some(&[0, 2]),
            vec![(Always(Status(500)), 0, Complete), (Always(Nonsense), 0, Complete)],
        ),
        (
            place("creating the artifact: createArtifact", "createArtifact", IMAGE),
            good,
            and(all(), &[Once(Lost), Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Lost), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(400)), 31, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(409)), 31, NOTHING),
            ],
        ),
        (
            place("creating the artifact: createArtifact", "createArtifact", IMAGE).storage("auto"),
            good,
            some(&[0]),
            vec![(Always(Status(500)), 30, NOTHING), (Once(Status(400)), 0, Complete)],
        ),
        (
            place("the upload: s3 PUT", "s3 PUT", IMAGE),
            good,
            and(some(&[0, 1, 2]), &[Once(Cut(20_000)), Once(Lost), Once(Hangs), Once(Status(403))]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Cut(20_000)), 30, NOTHING),
                (Always(Lost), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(400)), 31, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("creating the artifact: createArtifact", "createArtifact", IMAGE).storage("object"),
            good,
            some(&[0, 2]),
            vec![(Always(Status(500)), 30, NOTHING), (Once(Lost), 30, NOTHING), (Always(Status(403)), 31, NOTHING)],
        ),
        (
            place("where to upload: createUpload", "createUpload", IMAGE).storage("object"),
            good,
            and(all(), &[Once(Lost)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(409)), 31, NOTHING),
            ],
        ),
        (
            place("the upload: s3 PUT", "s3 PUT", IMAGE).storage("object"),
            good,
            and(some(&[0, 2]), &[Once(Cut(20_000)), Once(Lost), Once(Status(403))]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Nonsense), 30, NOTHING)],
        ),
        (
            place("ending the upload: finishUpload", "finishUpload", IMAGE).storage("object"),
            good,
            and(some(&[0, 2]), &[Once(Lost)]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(409)), 31, NOTHING)],
        ),
        (
            place("ending the artifact: finishArtifact", "finishArtifact", IMAGE).storage("object"),
            good,
            and(some(&[0, 2]), &[Once(Lost)]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(400)), 31, NOTHING)],
        ),
        (
            place("reading back: getArtifact", "getArtifact", IMAGE).after(1),
            good,
            all(),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(404)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("reading back: s3 GET", "s3 GET", IMAGE),
            good,
            and(some(&[0, 1, 2]), &[Once(Cut(0)), Once(Wrong), Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(404)), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        insert("the first route: insertTask", 0),
        (
            place("is the first route there: findTask", "findTask", Path::Any).after(1),
            good,
            all(),
            vec![
                (Once(Status(404)), 0, Complete),
                (Always(Status(404)), 30, Partly(1)),
                (Always(Status(500)), 30, Partly(1)),
                (Always(Status(403)), 31, Partly(1)),
            ],
        ),
        insert("the second route: insertTask", 1),
        insert("the third route: insertTask", 2),
    ]
}

fn insert(title: &'static str, before: u32) -> (Place, (i32, End), Vec<Way>, Vec<Row>) {
    let there = Partly(before as usize);
    // The route that was being inserted is there, its answer is not.
    let lost = if before == 2 { Complete } else { Partly(before as usize + 1) };
    (
        place(title, "insertTask", Path::Any).after(before),
        (0, Complete),
        vec![Once(Status(503)), Once(Busy(1)), Once(Closed), Once(Cut(5)), Once(Lost), Once(Hangs)],
        vec![
            (Always(Status(500)), 30, there),
            (Always(Lost), 30, lost),
            (Always(Status(403)), 31, there),
            (Always(Status(400)), 31, there),
        ],
    )
}

/// All cases, in the order of the job.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, (exit, end), passing, rows) in table() {
        cases.extend(passing.into_iter().map(|way| Case { place, way, exit, end }));
        cases.extend(rows.into_iter().map(|(way, exit, end)| Case { place, way, exit, end }));
    }
    cases
}

impl Case {
    pub(super) fn name(&self) -> String {
        format!("{} ({}): {}", self.place.title, self.place.storage, self.way.words())
    }

    /// The fault, when the earlier task is `earlier`.
    pub(super) fn fault(&self, earlier: &str) -> Fault {
        let Place { call, path, skip, .. } = self.place;
        let (how, times) = match self.way {
            Once(how) => (how, 1),
            Always(how) => (how, u32::MAX),
        };
        let fault = match how {
            // The services explain a 4xx in JSON; storage, and the load balancers behind a 5xx, do not.
            Status(status @ 400..500) if !call.starts_with("s3") => {
                let body =
                    format!("{{\"code\": \"Scripted\", \"message\": \"scripted {status}\\n\\n---\\n\\n* method: x\"}}");
                Fault::status(call, status).body(&body)
            }
            Status(status) => Fault::status(call, status),
            Busy(seconds) => Fault::status(call, 429).retry_after(seconds),
            Closed => Fault::drop(call),
            Hangs => Fault::hang(call),
            Cut(bytes) => Fault::cut_body(call, bytes),
            Wrong => Fault::wrong_bytes(call),
            Lost => Fault::reply_lost(call),
            Nonsense => Fault::status(call, 200).body("<html>please log in</html>"),
        };
        let fault = match path {
            Path::Any => fault,
            Path::Part(part) => fault.path(part),
            Path::Earlier => fault.path(earlier),
        };
        fault.skip(skip).times(times)
    }

    /// Whether the fault is one of the connection: taskcluster-proxy would turn it into a 5xx.
    pub(super) fn needs_direct_calls(&self) -> bool {
        let (Once(how) | Always(how)) = self.way;
        matches!(how, Closed | Cut(_) | Lost)
    }

    pub(super) fn hangs(&self) -> bool {
        let (Once(how) | Always(how)) = self.way;
        matches!(how, Hangs)
    }
}

impl Way {
    pub(super) fn words(self) -> String {
        let (how, often) = match self {
            Once(how) => (how, "once"),
            Always(how) => (how, "always"),
        };
        let how = match how {
            Status(status) => format!("{status}"),
            Busy(seconds) => format!("429, Retry-After {seconds}"),
            Closed => "connection closed".to_owned(),
            Hangs => "no answer".to_owned(),
            Cut(bytes) => format!("cut after {bytes} bytes"),
            Wrong => "one byte wrong".to_owned(),
            Lost => "done, but the answer is lost".to_owned(),
            Nonsense => "200, but nothing done".to_owned(),
        };
        format!("{how}, {often}")
    }
}
