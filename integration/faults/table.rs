//! The table: the faults of each call of the job, and what comes of them. What the words mean is in `places`.

use super::places::End::{Complete, Copied, Earlier, Partly, Shared};
use super::places::How::{Busy, Closed, Cut, Hangs, Lost, Nonsense, Status, Wrong, WrongArrival, WrongStore};
use super::places::Way::{Always, Once};
use super::places::{CONTEXT, Case, End, FaultPoint, IMAGE, LOG, PROVENANCE, Path, Way, place};

/// A case that retries do not cure: what happens to the call, the exit code, the index.
type Row = (Way, i32, End);

/// A place; how everything ends that another attempt cures, and what that is; and what it does not cure.
type Rows = (FaultPoint, (i32, End), Vec<Way>, Vec<Row>);

const NOTHING: End = Partly(0);
const GOOD: (i32, End) = (0, Complete);

/// What another attempt cures, wherever it happens.
const PASSING: [Way; 4] = [Once(Status(503)), Once(Busy(1)), Once(Closed), Once(Cut(5))];

/// Storage breaks off where the tests decide; and calls of less weight get fewer cases.
const OF_STORAGE: [Way; 3] = [Once(Status(503)), Once(Busy(1)), Once(Closed)];
const FEW: [Way; 2] = [Once(Status(503)), Once(Closed)];

fn and(ways: &[Way], more: &[Way]) -> Vec<Way> {
    [ways, more].concat()
}

/// All cases, in the order of the job.
pub(super) fn cases() -> Vec<Case> {
    let rows = [looking(), fetching(), fetching_parents(), uploading(), uploading_objects(), indexing()];
    let mut cases = Vec::new();
    for (place, (exit, end), passing, rows) in rows.into_iter().flatten() {
        cases.extend(passing.into_iter().map(|way| Case { place, way, exit, end }));
        cases.extend(rows.into_iter().map(|(way, exit, end)| Case { place, way, exit, end }));
    }
    cases
}

/// Looking for the image.
fn looking() -> Vec<Rows> {
    vec![
        (
            // Its answer only saves time.
            place("which scopes the job has: currentScopes", "currentScopes", Path::Any),
            GOOD,
            and(&PASSING, &[Once(Hangs)]),
            [Status(500), Status(403), Status(404), Closed, Hangs, Nonsense]
                .map(|how| (Always(how), 0, Complete))
                .to_vec(),
        ),
        (
            place("looking the image up: findTask", "findTask", Path::Any),
            GOOD,
            and(&PASSING, &[Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Closed), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("is the found image there: getArtifact", "getArtifact", Path::Earlier).earlier(),
            (0, Shared),
            PASSING.to_vec(),
            vec![
                (Always(Status(500)), 30, Earlier),
                (Always(Status(403)), 31, Earlier),
                (Always(Status(404)), 0, Complete),
                (Always(Status(424)), 0, Complete),
            ],
        ),
        (
            place("is the found image there: s3 GET", "s3 GET", Path::Earlier).earlier(),
            (0, Shared),
            and(&OF_STORAGE, &[Once(Hangs), Once(Wrong), Once(Cut(0))]),
            vec![
                (Always(Status(500)), 0, Complete),
                (Always(Status(404)), 0, Complete),
                (Always(Status(403)), 0, Complete),
                (Always(Closed), 0, Complete),
            ],
        ),
        (
            place("how the found image's task stands: status", "status", Path::Earlier).earlier(),
            (0, Shared),
            FEW.to_vec(),
            vec![
                (Always(Status(500)), 30, Earlier),
                (Always(Status(403)), 31, Earlier),
                (Always(Status(404)), 0, Complete),
            ],
        ),
        (
            place("until when the found image is there: artifactInfo", "artifactInfo", Path::Earlier).earlier(),
            (0, Shared),
            FEW.to_vec(),
            vec![
                (Always(Status(500)), 30, Earlier),
                (Always(Status(403)), 31, Earlier),
                (Always(Status(404)), 0, Complete),
            ],
        ),
        (
            place("can everybody read the found image: getArtifact", "getArtifact", Path::Earlier).after(1).earlier(),
            (0, Shared),
            FEW.to_vec(),
            vec![(Always(Status(500)), 30, Earlier), (Once(Status(403)), 0, Copied)],
        ),
        (
            place("pointing at the found image: createArtifact", "createArtifact", Path::Any).earlier(),
            (0, Shared),
            and(&PASSING, &[Once(Lost)]),
            vec![
                (Always(Status(500)), 30, Earlier),
                (Always(Status(403)), 31, Earlier),
                (Always(Status(409)), 31, Earlier),
            ],
        ),
        (
            place("did an earlier start upload: listArtifacts", "listArtifacts", Path::Any),
            GOOD,
            PASSING.to_vec(),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(403)), 31, NOTHING)],
        ),
    ]
}

/// Getting the image that this one is built from.
fn fetching_parents() -> Vec<Rows> {
    vec![
        (
            place("the parent's definition: task", "task", Path::Any).after(1).parent(),
            GOOD,
            FEW.to_vec(),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(404)), 10, NOTHING),
            ],
        ),
        (
            place("the parent in the index: findTask", "findTask", Path::Any).after(1).parent(),
            GOOD,
            FEW.to_vec(),
            vec![(Always(Status(500)), 30, NOTHING)],
        ),
        (
            place("the parent: getLatestArtifact", "getLatestArtifact", IMAGE).parent(),
            GOOD,
            FEW.to_vec(),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(404)), 10, NOTHING),
            ],
        ),
        (
            place("the parent: s3 GET", "s3 GET", IMAGE).parent(),
            GOOD,
            and(&OF_STORAGE, &[Once(Cut(5000)), Once(Hangs)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(404)), 10, NOTHING),
                (Always(Cut(5000)), 30, NOTHING),
                (Always(Wrong), 10, NOTHING),
            ],
        ),
    ]
}

/// Getting the context.
fn fetching() -> Vec<Rows> {
    vec![
        (
            place("the task's expiry: task", "task", Path::Any),
            GOOD,
            PASSING.to_vec(),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("where the context is: getLatestArtifact", "getLatestArtifact", Path::Any),
            GOOD,
            and(&PASSING, &[Once(Hangs)]),
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
            GOOD,
            and(&OF_STORAGE, &[Once(Cut(0)), Once(Cut(30_000)), Once(Hangs)]),
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
    ]
}

/// Uploading to S3.
fn uploading() -> Vec<Rows> {
    vec![
        (
            place("the build's log: createArtifact", "createArtifact", LOG),
            GOOD,
            FEW.to_vec(),
            vec![(Always(Status(500)), 0, Complete), (Always(Status(403)), 0, Complete)],
        ),
        (
            place("the build's log: s3 PUT", "s3 PUT", LOG),
            GOOD,
            FEW.to_vec(),
            vec![(Always(Status(500)), 0, Complete), (Always(Nonsense), 0, Complete)],
        ),
        (
            place("creating the artifact: createArtifact", "createArtifact", IMAGE),
            GOOD,
            and(&PASSING, &[Once(Lost), Once(Hangs)]),
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
            GOOD,
            vec![Once(Status(503))],
            vec![(Always(Status(500)), 30, NOTHING), (Once(Status(400)), 0, Complete)],
        ),
        (
            place("the upload: s3 PUT", "s3 PUT", IMAGE),
            GOOD,
            and(&OF_STORAGE, &[Once(Cut(20_000)), Once(Lost), Once(Hangs), Once(Status(403)), Once(WrongArrival)]),
            vec![
                (Always(WrongArrival), 30, NOTHING),
                (Once(WrongStore), 30, NOTHING),
                (Always(Status(500)), 30, NOTHING),
                (Always(Cut(20_000)), 30, NOTHING),
                (Always(Lost), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(400)), 31, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("the provenance: createArtifact", "createArtifact", PROVENANCE),
            GOOD,
            FEW.to_vec(),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(403)), 31, NOTHING)],
        ),
        (
            place("the provenance: s3 PUT", "s3 PUT", PROVENANCE),
            GOOD,
            and(&FEW, &[Once(WrongArrival)]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Nonsense), 30, NOTHING), (Once(WrongStore), 30, NOTHING)],
        ),
    ]
}

/// Uploading through the object service.
fn uploading_objects() -> Vec<Rows> {
    vec![
        (
            place("creating the artifact: createArtifact", "createArtifact", IMAGE).storage("object"),
            GOOD,
            FEW.to_vec(),
            vec![(Always(Status(500)), 30, NOTHING), (Once(Lost), 30, NOTHING), (Always(Status(403)), 31, NOTHING)],
        ),
        (
            place("where to upload: createUpload", "createUpload", IMAGE).storage("object"),
            GOOD,
            and(&PASSING, &[Once(Lost)]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
                (Always(Status(409)), 31, NOTHING),
            ],
        ),
        (
            place("the upload: s3 PUT", "s3 PUT", IMAGE).storage("object"),
            GOOD,
            and(&FEW, &[Once(Cut(20_000)), Once(Lost), Once(Status(403))]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Nonsense), 30, NOTHING), (Once(WrongStore), 30, NOTHING)],
        ),
        (
            place("ending the upload: finishUpload", "finishUpload", IMAGE).storage("object"),
            GOOD,
            and(&FEW, &[Once(Lost)]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(409)), 31, NOTHING)],
        ),
        (
            place("ending the artifact: finishArtifact", "finishArtifact", IMAGE).storage("object"),
            GOOD,
            and(&FEW, &[Once(Lost)]),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(400)), 31, NOTHING)],
        ),
    ]
}

/// Reading back and indexing.
fn indexing() -> Vec<Rows> {
    vec![
        (
            place("reading back: getArtifact", "getArtifact", IMAGE),
            GOOD,
            PASSING.to_vec(),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(404)), 30, NOTHING),
                (Always(Status(403)), 31, NOTHING),
            ],
        ),
        (
            place("reading back: s3 GET", "s3 GET", IMAGE),
            GOOD,
            and(&OF_STORAGE, &[Once(Cut(0)), Once(Wrong), Once(Hangs), Once(Status(404))]),
            vec![
                (Always(Status(500)), 30, NOTHING),
                (Always(Status(404)), 30, NOTHING),
                (Always(Nonsense), 30, NOTHING),
                (Always(Status(403)), 30, NOTHING),
            ],
        ),
        (
            place("does the task still run: status", "status", Path::Any),
            GOOD,
            FEW.to_vec(),
            vec![(Always(Status(500)), 30, NOTHING), (Always(Status(403)), 31, NOTHING)],
        ),
        insert("the first route: insertTask", 0),
        (
            place("is the first route there: findTask", "findTask", Path::Any).after(1),
            GOOD,
            PASSING.to_vec(),
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

fn insert(title: &'static str, before: u32) -> Rows {
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
