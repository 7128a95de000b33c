//! What a run puts into the engine, recorded in the engine itself, for the start after a SIGKILL: each fact is the label of an
//! empty volume. So it outlives the task's folder and its user, every later start that can talk to this engine finds it,
//! of whatever image, and nobody can write it who could not remove images anyway: a file that all users may write would let
//! anybody have anybody's images removed. What follows from the facts is for `left`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::state::JournalEvent;

/// The label that holds a record, and by which it is found.
const LABEL: &str = "image-worker.record";

/// A run that is in another pid namespace, or on another machine, is taken for dead after so long: no task takes longer.
const LONGEST_RUN: Duration = Duration::from_hours(25);

/// A run, by its process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::engine) struct Run {
    /// The machine's start that it belongs to.
    boot: String,
    /// The pid namespace that its id is of.
    namespace: String,
    /// The process's id.
    pid: i32,
    /// When the process began, in clock ticks since the machine's start.
    began: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    run: Run,
    number: usize,
    fact: JournalEvent,
}

/// A record, in its volume.
struct JournalRecord {
    number: usize,
    fact: JournalEvent,
    volume: String,
    /// In seconds since 1970.
    created: Option<i64>,
}

impl Run {
    /// This process.
    fn own() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { boot, namespace, pid, began: began(pid)? })
    }

    /// Whether it lives; none where it cannot be seen from here.
    fn lives(&self, own: &Self) -> Option<bool> {
        if (&self.boot, &self.namespace) != (&own.boot, &own.namespace) {
            return None;
        }
        match test_kill_process(Pid::from_raw(self.pid)?) {
            Err(Errno::SRCH) => Some(false),
            // Another user's process is one too. Its id may have been given again since.
            _ => Some(began(self.pid).is_none_or(|began| began == self.began)),
        }
    }
}

/// When a process began; a dead one that nobody has asked about has not begun. None where that cannot be read.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which can hold anything, ends at the last brace; the state is the first field behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Some(0);
    }
    fields.nth(18)?.parse().ok()
}

/// The records of this process in an engine.
#[derive(Debug)]
pub(super) struct Journal {
    client: Docker,
    /// How the volumes' names begin.
    prefix: &'static str,
    run: Run,
    /// The volumes' names.
    written: Vec<String>,
    /// Nothing more is written after what could not be.
    broken: bool,
}

impl Journal {
    /// What this process does for its job; none where a process cannot tell what it is.
    pub(super) fn of_a_job(client: Docker) -> Option<Self> {
        Self::new(client, "image-worker")
    }

    /// What it does about killed runs.
    pub(super) fn of_a_cleanup(client: Docker) -> Option<Self> {
        Self::new(client, "image-worker-sweep")
    }

    fn new(client: Docker, prefix: &'static str) -> Option<Self> {
        let run = Run::own();
        if run.is_none() {
            warn!("/proc does not say what this process is: this build's images would outlive a SIGKILL");
        }
        Some(Self { client, prefix, run: run?, written: Vec::new(), broken: false })
    }

    /// Writes a fact down. The build matters more: what cannot be written is said once.
    pub(in crate::engine) async fn write(&mut self, fact: &JournalEvent) {
        if self.broken {
            return;
        }
        let Run { boot, pid, began, .. } = &self.run;
        let number = self.written.len();
        let boot = boot.split('-').next().unwrap_or_default();
        let name = format!("{}-{boot}-{pid}-{began}-{number:03}", self.prefix);
        // It can be there although the answer is lost.
        self.written.push(name.clone());
        let record = Record { run: self.run.clone(), number, fact: fact.clone() };
        let written = match serde_json::to_string(&record) {
            Ok(text) => {
                let labels = Some(HashMap::from([(LABEL.to_owned(), text)]));
                let request = VolumeCreateRequest { name: Some(name), labels, ..VolumeCreateRequest::default() };
                self.client.create_volume(request).await.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            self.broken = true;
            warn!("the engine keeps no record of this build, so its images would outlive a SIGKILL: {error}");
        }
    }

    /// Whether all facts are written.
    pub(in crate::engine) fn is_whole(&self) -> bool {
        !self.broken
    }

    /// Forgets all facts: nothing of ours is in the engine.
    pub(in crate::engine) async fn clear(&mut self) {
        remove(&self.client, &std::mem::take(&mut self.written)).await;
        self.broken = false;
    }

    /// Which run this is.
    pub(in crate::engine) fn run(&self) -> &Run {
        &self.run
    }
}

/// Removes volumes.
pub(in crate::engine) async fn remove(client: &Docker, volumes: &[String]) {
    // From the last on: what is left of a journal when this is killed still makes sense.
    for name in volumes.iter().rev() {
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => debug!("the volume {name} stays: {error}"),
        }
    }
}

/// What a run has recorded.
#[derive(Debug)]
pub(in crate::engine) struct Recorded {
    pub(in crate::engine) run: Run,
    /// In their order.
    pub(in crate::engine) facts: Vec<JournalEvent>,
    /// The volumes' names, in the same order.
    pub(in crate::engine) volumes: Vec<String>,
    /// Whether the run still lives, or may.
    pub(in crate::engine) lives: bool,
}

/// All that runs have recorded in an engine.
pub(in crate::engine) async fn read(client: &Docker) -> Result<Vec<Recorded>, Error> {
    let filters = Some(HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]));
    let volumes = client.list_volumes(Some(ListVolumesOptions { filters })).await?.volumes.unwrap_or_default();
    let mut runs: BTreeMap<Run, Vec<JournalRecord>> = BTreeMap::new();
    for volume in volumes {
        let Some(text) = volume.labels.get(LABEL) else { continue };
        match serde_json::from_str::<Record>(text) {
            Ok(Record { run, number, fact }) => {
                let created = volume.created_at.map(|created| created.timestamp());
                runs.entry(run).or_default().push(JournalRecord { number, fact, volume: volume.name, created });
            }
            // Another version's.
            Err(error) => debug!("the volume {} is no record that is understood: {error}", volume.name),
        }
    }
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let own = Run::own();
    let now = now(client).await;
    let recorded = runs.into_iter().map(|(run, mut records)| {
        records.sort_by_key(|found| found.number);
        let newest = records.iter().filter_map(|found| found.created).max();
        let lives = own.as_ref().and_then(|own| run.lives(own)).unwrap_or_else(|| {
            let age = now.zip(newest).and_then(|(now, created)| u64::try_from(now - created).ok());
            age.is_none_or(|age| age < LONGEST_RUN.as_secs())
        });
        let (facts, volumes) = records.into_iter().map(|found| (found.fact, found.volume)).unzip();
        Recorded { run, facts, volumes, lives }
    });
    Ok(recorded.collect())
}

/// The engine's time, in seconds since 1970: the records have times of the same clock.
async fn now(client: &Docker) -> Option<i64> {
    let now = client.info().await.ok()?.system_time?;
    now.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends_and_its_id_is_not_enough() {
        let own = Run::own().unwrap();
        assert_eq!(own.lives(&own), Some(true));
        let another = Run { began: own.began + 1, ..own.clone() };
        assert_eq!(another.lives(&own), Some(false), "the id was given again");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let run = Run { pid, began: began(pid).unwrap(), ..own.clone() };
        child.wait().unwrap();
        assert_eq!(run.lives(&own), Some(false));
        let first = Run { pid: 1, began: began(1).unwrap(), ..own.clone() };
        assert_eq!(first.lives(&own), Some(true), "whoever it belongs to");
        let elsewhere = Run { namespace: "pid:[1]".to_owned(), ..own.clone() };
        assert_eq!(elsewhere.lives(&own), None, "nobody can see it");
    }
}
