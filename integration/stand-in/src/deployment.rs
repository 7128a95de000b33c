//! The state of the stand-in, all of it under one lock: its clock, clients, tasks, artifacts, objects, index
//! and stored bytes. What the services make of it is for the modules named after them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::Options;
use crate::faults::ArmedFault;
use crate::log::Log;
use crate::queue::task::Task;

/// Where an artifact is: task id, run id, name.
pub(crate) type ArtifactKey = (String, u32, String);

/// The state of all services.
pub(crate) struct Deployment {
    pub(crate) options: Options,
    /// `http://127.0.0.1:PORT` of the API, and of the store.
    pub(crate) root_url: String,
    pub(crate) store_url: String,
    pub(crate) dir: PathBuf,
    /// How far the stand-in's time is ahead of the machine's, by `advance`.
    pub(crate) advanced: Duration,
    /// How wrong the caller's clock is, as Hawk sees it, and as the header `Date` shows it.
    pub(crate) skew: SignedDuration,
    pub(crate) clients: BTreeMap<String, Client>,
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// The tasks that were created to wait for a task, by its id.
    pub(crate) dependents: BTreeMap<String, Vec<String>>,
    pub(crate) artifacts: BTreeMap<ArtifactKey, Artifact>,
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) index: BTreeMap<String, Entry>,
    /// By name: what a secret holds, and when it expires.
    pub(crate) secrets: BTreeMap<String, (Value, Timestamp)>,
    /// By `bucket/key`.
    pub(crate) blobs: BTreeMap<String, Blob>,
    pub(crate) faults: Vec<ArmedFault>,
    pub(crate) log: Log,
    /// Numbers the files in `dir`.
    pub(crate) files: u64,
}

/// A task group.
pub(crate) struct Group {
    pub(crate) scheduler_id: String,
    pub(crate) expires: Timestamp,
}

/// An artifact, as the queue's database has it.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) storage_type: String,
    pub(crate) content_type: String,
    pub(crate) content_length: Option<u64>,
    pub(crate) expires: Timestamp,
    pub(crate) present: bool,
    pub(crate) details: Details,
}

/// What an artifact is made of, by storage type.
#[derive(Clone, PartialEq)]
pub(crate) enum Details {
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
pub(crate) struct Object {
    pub(crate) project_id: String,
    /// Until the upload is finished.
    pub(crate) upload_id: Option<String>,
    pub(crate) expires: Timestamp,
    pub(crate) hashes: BTreeMap<String, String>,
}

/// An entry of the index.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) task_id: String,
    pub(crate) rank: f64,
    pub(crate) data: Value,
    pub(crate) expires: Timestamp,
}

/// A client of the auth service.
pub(crate) struct Client {
    pub(crate) access_token: String,
    pub(crate) scopes: Vec<String>,
}

/// Stored bytes, with the headers that come back with them.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    pub(crate) content_type: String,
    pub(crate) content_encoding: Option<String>,
    pub(crate) md5: [u8; 16],
}

impl Deployment {
    /// A deployment in which nothing has happened yet.
    pub(crate) fn new(
        options: Options,
        root_url: String,
        store_url: String,
        dir: PathBuf,
        clients: BTreeMap<String, Client>,
    ) -> Self {
        Self {
            options,
            root_url,
            store_url,
            dir,
            advanced: Duration::ZERO,
            skew: SignedDuration::ZERO,
            clients,
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
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.advanced
    }

    /// The time that Hawk timestamps are compared with, and that stands in the header `Date`. Advancing the clock lets time pass for everybody, so
    /// only the skew makes a caller's timestamp stale.
    pub(crate) fn caller_now(&self) -> Timestamp {
        Timestamp::now() + self.skew
    }

    /// Removes what has expired, as the services' nightly jobs do.
    pub(crate) fn purge(&mut self) {
        let now = self.now();
        self.tasks.retain(|_, task| task.expires() >= now);
        self.groups.retain(|_, group| group.expires >= now);
        self.artifacts.retain(|_, artifact| artifact.expires >= now);
        self.objects.retain(|_, object| object.expires >= now);
        self.index.retain(|_, entry| entry.expires >= now);
    }

    /// A path for a new file.
    pub(crate) fn new_file(&mut self) -> PathBuf {
        self.files += 1;
        self.dir.join(format!("blob-{}", self.files))
    }
}
