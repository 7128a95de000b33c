//! The vocabulary of the matrix: the places of the job where something can fail, the ways in which it does, and how the index
//! stands afterwards. Which case ends how is in the table.

use stand_in::Fault;

/// A call of the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultPoint {
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
    /// Whether the image is built from another task's.
    pub(super) parent: bool,
}

/// Which of several calls of one name is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    Any,
    Part(&'static str),
    Earlier,
}

/// What happens to a call.
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
    /// Of an upload: a byte is wrong when it arrives.
    WrongArrival,
    /// Of an upload: a byte is wrong in what is stored, and the answer is 200.
    WrongStore,
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
    /// The same, and this task's artifact is a copy.
    Copied,
    /// All three lead to the earlier task's image; this task has no artifact.
    Earlier,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) place: FaultPoint,
    pub(super) way: Way,
    pub(super) exit: i32,
    pub(super) end: End,
}

use How::{Busy, Closed, Cut, Hangs, Lost, Nonsense, Status, Wrong, WrongArrival, WrongStore};
use Way::{Always, Once};

pub(super) const fn place(title: &'static str, call: &'static str, path: Path) -> FaultPoint {
    FaultPoint { title, call, path, skip: 0, storage: "s3", earlier: false, parent: false }
}

impl FaultPoint {
    pub(super) const fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    pub(super) const fn storage(self, storage: &'static str) -> Self {
        Self { storage, ..self }
    }

    pub(super) const fn earlier(self) -> Self {
        Self { earlier: true, ..self }
    }

    pub(super) const fn parent(self) -> Self {
        Self { parent: true, ..self }
    }
}

pub(super) const CONTEXT: Path = Path::Part("docker-contexts");
pub(super) const IMAGE: Path = Path::Part("image.tar");
pub(super) const PROVENANCE: Path = Path::Part("provenance.json");
pub(super) const LOG: Path = Path::Part("build.log");

impl Case {
    pub(super) fn name(&self) -> String {
        format!("{} ({}): {}", self.place.title, self.place.storage, self.way.words())
    }

    /// The fault, when the earlier task is `earlier`.
    pub(super) fn fault(&self, earlier: &str) -> Fault {
        let FaultPoint { call, path, skip, .. } = self.place;
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
            WrongArrival => Fault::wrong_arrival(call),
            WrongStore => Fault::wrong_store(call),
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
            WrongArrival => "one byte wrong on arrival".to_owned(),
            WrongStore => "one byte stored wrong, and 200".to_owned(),
            Lost => "done, but the answer is lost".to_owned(),
            Nonsense => "200, but nothing done".to_owned(),
        };
        format!("{how}, {often}")
    }
}
