//! What the stand-in knows, all of it under one lock: its clock, clients, tasks, artifacts, objects, index
//! and stored bytes. What the services make of it is for the rooms named after them.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Options;
use super::auth::Client;
use super::credentials::static_clients;
use super::faults::Armed;
use super::log::Log;
use super::runs::Task;
use super::store::Blob;

/// Where an artifact is: task id, run id, name.
pub(super) type ArtifactKey = (String, u32, String);

/// The state of all services.
pub(super) struct World {
    pub(super) options: Options,
    /// `http://127.0.0.1:PORT` of the API, and of the store.
    pub(super) root_url: String,
    pub(super) store_url: String,
    pub(super) dir: PathBuf,
    /// How far the stand-in's time is ahead of the machine's, by `advance`.
    pub(super) advanced: Duration,
    /// How wrong the caller's clock is, as Hawk sees it.
    pub(super) skew: SignedDuration,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) tasks: BTreeMap<String, Task>,
    pub(super) groups: BTreeMap<String, Group>,
    /// The tasks that were created to wait for a task, by its id.
    pub(super) dependents: BTreeMap<String, Vec<String>>,
    pub(super) artifacts: BTreeMap<ArtifactKey, Artifact>,
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) index: BTreeMap<String, Entry>,
    /// By name: what a secret holds, and when it is forgotten.
    pub(super) secrets: BTreeMap<String, (Value, Timestamp)>,
    /// By `bucket/key`.
    pub(super) blobs: BTreeMap<String, Blob>,
    pub(super) faults: Vec<Armed>,
    pub(super) log: Log,
    /// Numbers the files in `dir`.
    pub(super) files: u64,
}

/// A task group.
pub(super) struct Group {
    pub(super) scheduler_id: String,
    pub(super) expires: Timestamp,
}

/// An artifact, as the queue's database has it.
#[derive(Clone)]
pub(super) struct Artifact {
    pub(super) storage_type: String,
    pub(super) content_type: String,
    pub(super) content_length: Option<u64>,
    pub(super) expires: Timestamp,
    pub(super) present: bool,
    pub(super) details: Details,
}

/// What an artifact is made of, by storage type.
#[derive(Clone, PartialEq)]
pub(super) enum Details {
    /// Bucket and key.
    S3(String, String),
    /// The upload id, until the artifact is finished.
    Object(String),
    Reference(String),
    Link(String),
    /// Reason and message.
    Error(String, String),
}

/// An object, as the object service's database has it.
pub(super) struct Object {
    pub(super) project_id: String,
    /// Until the upload is finished.
    pub(super) upload_id: Option<String>,
    pub(super) expires: Timestamp,
    pub(super) hashes: BTreeMap<String, String>,
}

/// An entry of the index.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) task_id: String,
    pub(super) rank: f64,
    pub(super) data: Value,
    pub(super) expires: Timestamp,
}

impl World {
    /// A deployment in which nothing has happened yet.
    pub(super) fn new(options: Options, root_url: String, store_url: String, dir: PathBuf) -> Self {
        Self {
            options,
            root_url,
            store_url,
            dir,
            advanced: Duration::ZERO,
            skew: SignedDuration::ZERO,
            clients: static_clients().collect(),
            tasks: BTreeMap::new(),
            groups: BTreeMap::new(),
            dependents: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            objects: BTreeMap::new(),
            index: BTreeMap::new(),
            secrets: BTreeMap::new(),
            blobs: BTreeMap::new(),
            faults: Vec::new(),
            log: Log::default(),
            files: 0,
        }
    }

    /// The time that the services believe it is.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now() + self.advanced
    }

    /// The time that Hawk timestamps are compared with. Advancing the clock lets time pass for everybody, so
    /// only the skew makes a caller's timestamp stale.
    pub(super) fn caller_now(&self) -> Timestamp {
        Timestamp::now() + self.skew
    }

    /// Forgets what has expired, as the services' nightly jobs do.
    pub(super) fn purge(&mut self) {
        let now = self.now();
        self.tasks.retain(|_, task| task.expires() >= now);
        self.groups.retain(|_, group| group.expires >= now);
        self.artifacts.retain(|_, artifact| artifact.expires >= now);
        self.objects.retain(|_, object| object.expires >= now);
        self.index.retain(|_, entry| entry.expires >= now);
    }

    /// A path for a new file.
    pub(super) fn new_file(&mut self) -> PathBuf {
        self.files += 1;
        self.dir.join(format!("blob-{}", self.files))
    }
}

/// A time as JavaScript's `toJSON` writes it.
pub(super) fn json_time(time: Timestamp) -> String {
    format!("{:.3}", to_millis(time))
}

/// A time as JavaScript reads it: what is finer than a millisecond is cut off.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(to_millis)
}

fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// A new slugid that starts with a letter, as JavaScript's `slugid.nice()` makes them.
pub(super) fn slugid() -> String {
    let mut bytes = [0; 16];
    // The standard library's hash keys are random per process and differ per call: enough for ids in tests,
    // and one dependency less.
    for half in bytes.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    bytes[0] &= 0x7f;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether `text` is a slugid, by the queue's own pattern.
pub(super) fn is_slugid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    // Of a version 4 UUID, the version and the variant show in the ninth and eleventh character, the end in the last.
    bytes.len() == 22
        && bytes.iter().all(plain)
        && b"QRST".contains(&bytes[8])
        && b"CGKOSWaeimquy26-".contains(&bytes[10])
        && b"AQgw".contains(&bytes[21])
}
