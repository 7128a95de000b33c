//! Records what a run creates in the engine, in the engine itself, for the start after a SIGKILL: each event is the label of
//! an empty volume. The records survive the task's directory and its user. Every later start that can access this engine
//! finds them, whatever image it builds, and only those who can remove images anyway can write them: with a file that all
//! users may write, anybody could have anybody's images removed. `state` computes what follows from the events.

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

/// The label that holds a record; records are found by it.
const LABEL: &str = "image-worker.record";

/// A run in another pid namespace, or on another machine, counts as dead after this time: no task takes longer.
const LONGEST_RUN: Duration = Duration::from_hours(25);

/// A run, identified by its process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::engine) struct Run {
    /// The boot id of the machine.
    boot: String,
    /// The pid namespace that the process id belongs to.
    namespace: String,
    /// The process id.
    pid: i32,
    /// The start time of the process, in clock ticks since the machine's boot.
    began: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    run: Run,
    number: usize,
    fact: JournalEvent,
}

/// A record that was read from its volume.
struct JournalRecord {
    number: usize,
    event: JournalEvent,
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
        Some(Self { boot, namespace, pid, began: start_time(pid)? })
    }

    /// Whether the process is alive; `None` if that cannot be seen from here.
    fn is_alive(&self, own: &Self) -> Option<bool> {
        if (&self.boot, &self.namespace) != (&own.boot, &own.namespace) {
            return None;
        }
        match test_kill_process(Pid::from_raw(self.pid)?) {
            Err(Errno::SRCH) => Some(false),
            // This includes processes of other users. The id may have been reused since.
            _ => Some(start_time(self.pid).is_none_or(|time| time == self.began)),
        }
    }
}

/// The start time of a process; 0 for a zombie or a dead one, `None` if it cannot be read.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which can hold anything, ends at the last parenthesis; the state is the first field behind it.
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
    /// The start of the volumes' names.
    prefix: &'static str,
    run: Run,
    /// The volumes' names.
    volumes: Vec<String>,
    /// Whether a record could not be written: nothing more is written after that.
    is_broken: bool,
}

impl Journal {
    /// The journal of this process for its job; `None` if `/proc` does not identify the process.
    pub(super) fn for_job(client: Docker) -> Option<Self> {
        Self::new(client, "image-worker")
    }

    /// The journal of this process for the removal of killed runs' resources.
    pub(super) fn for_cleanup(client: Docker) -> Option<Self> {
        Self::new(client, "image-worker-sweep")
    }

    fn new(client: Docker, prefix: &'static str) -> Option<Self> {
        let run = Run::own();
        if run.is_none() {
            warn!("/proc does not say what this process is: this build's images would outlive a SIGKILL");
        }
        Some(Self { client, prefix, run: run?, volumes: Vec::new(), is_broken: false })
    }

    /// Records an event. The build has priority: a record that cannot be written only causes one warning.
    pub(in crate::engine) async fn write(&mut self, event: &JournalEvent) {
        if self.is_broken {
            return;
        }
        let Run { boot, pid, began, .. } = &self.run;
        let number = self.volumes.len();
        let boot = boot.split('-').next().unwrap_or_default();
        let name = format!("{}-{boot}-{pid}-{began}-{number:03}", self.prefix);
        // The volume can exist although the answer is lost.
        self.volumes.push(name.clone());
        let record = Record { run: self.run.clone(), number, fact: event.clone() };
        let result = match serde_json::to_string(&record) {
            Ok(text) => {
                let labels = Some(HashMap::from([(LABEL.to_owned(), text)]));
                let request = VolumeCreateRequest { name: Some(name), labels, ..VolumeCreateRequest::default() };
                self.client.create_volume(request).await.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            self.is_broken = true;
            warn!("the engine keeps no record of this build, so its images would outlive a SIGKILL: {error}");
        }
    }

    /// Whether all events are recorded.
    pub(in crate::engine) fn is_whole(&self) -> bool {
        !self.is_broken
    }

    /// Removes all records: none of our resources is in the engine.
    pub(in crate::engine) async fn clear(&mut self) {
        remove(&self.client, &std::mem::take(&mut self.volumes)).await;
        self.is_broken = false;
    }

    /// The run that writes this journal.
    pub(in crate::engine) fn run(&self) -> &Run {
        &self.run
    }
}

/// Removes volumes.
pub(in crate::engine) async fn remove(client: &Docker, volumes: &[String]) {
    // From the last to the first: if the process is killed meanwhile, the rest of the journal still makes sense.
    for name in volumes.iter().rev() {
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => debug!("the volume {name} stays: {error}"),
        }
    }
}

/// The records of a run.
#[derive(Debug)]
pub(in crate::engine) struct RecordedRun {
    pub(in crate::engine) run: Run,
    /// In order.
    pub(in crate::engine) events: Vec<JournalEvent>,
    /// The volumes' names, in the same order.
    pub(in crate::engine) volumes: Vec<String>,
    /// Whether the run is alive, or may be.
    pub(in crate::engine) is_alive: bool,
}

/// The records of all runs in an engine.
pub(in crate::engine) async fn read(client: &Docker) -> Result<Vec<RecordedRun>, Error> {
    let filters = Some(HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]));
    let volumes = client.list_volumes(Some(ListVolumesOptions { filters })).await?.volumes.unwrap_or_default();
    let mut runs: BTreeMap<Run, Vec<JournalRecord>> = BTreeMap::new();
    for volume in volumes {
        let Some(text) = volume.labels.get(LABEL) else { continue };
        match serde_json::from_str::<Record>(text) {
            Ok(Record { run, number, fact: event }) => {
                let created = volume.created_at.map(|created| created.timestamp());
                runs.entry(run).or_default().push(JournalRecord { number, event, volume: volume.name, created });
            }
            // A record of another version.
            Err(error) => debug!("the volume {} is no record that is understood: {error}", volume.name),
        }
    }
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let own = Run::own();
    let now = now(client).await;
    let recorded = runs.into_iter().map(|(run, mut records)| {
        records.sort_by_key(|record| record.number);
        let newest = records.iter().filter_map(|record| record.created).max();
        let is_alive = own.as_ref().and_then(|own| run.is_alive(own)).unwrap_or_else(|| {
            let age = now.zip(newest).and_then(|(now, created)| u64::try_from(now - created).ok());
            age.is_none_or(|age| age < LONGEST_RUN.as_secs())
        });
        let (events, volumes) = records.into_iter().map(|record| (record.event, record.volume)).unzip();
        RecordedRun { run, events, volumes, is_alive }
    });
    Ok(recorded.collect())
}

/// The engine's clock, in seconds since 1970: the creation times of the records come from the same clock.
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
        assert_eq!(own.is_alive(&own), Some(true));
        let another = Run { began: own.began + 1, ..own.clone() };
        assert_eq!(another.is_alive(&own), Some(false), "the id was given again");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let run = Run { pid, began: start_time(pid).unwrap(), ..own.clone() };
        child.wait().unwrap();
        assert_eq!(run.is_alive(&own), Some(false));
        let first = Run { pid: 1, began: start_time(1).unwrap(), ..own.clone() };
        assert_eq!(first.is_alive(&own), Some(true), "whoever it belongs to");
        let elsewhere = Run { namespace: "pid:[1]".to_owned(), ..own.clone() };
        assert_eq!(elsewhere.is_alive(&own), None, "nobody can see it");
    }
}
