//! A stand-in for Taskcluster: auth, queue, index, secrets, object service, S3 and taskcluster-proxy on local sockets, as strict
//! as the real ones and able to misbehave. Its behaviour is that which was measured on the real services
//! (docs/taskcluster.md) or, of calls about tasks, read in their source; what the program makes of it is for the tests.
//!
//! ```ignore
//! let taskcluster = StandIn::start(Options::default());
//! let claim = taskcluster.create_task(TaskSpec::scopes(["index:insert-task:docker.images.*"]));
//! taskcluster.fault(Fault::status("createArtifact", 503));
//! // … run the program with taskcluster.root_url() and claim.credentials …
//! assert_eq!(taskcluster.artifact_bytes(&claim.task_id, 0, "public/image.tar"), Some(image));
//! ```

#![allow(clippy::too_many_arguments, clippy::too_many_lines, reason = "the limits are for src/ of the program")]
#![allow(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "only tests call it")]
#![allow(clippy::missing_panics_doc, reason = "a request that cannot work ends the test")]

mod admin;
mod api;
mod auth;
mod auth_service;
mod credentials;
mod deployment;
mod faults;
mod http;
mod index;
mod log;
mod object;
mod paging;
mod presign;
mod proxy;
mod queue;
mod reference;
mod schema;
mod scopes;
mod secrets;
mod server;
mod shared;
mod store;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use taskcluster::Credentials;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub use admin::ENDPOINTS;
pub use faults::{Fault, Gate};
pub use log::Call;
pub use queue::task::RunState;
pub use queue::tasks::{Claim, TaskSpec};

use self::deployment::{Artifact, Deployment, Details};
use self::queue::{create_artifact, create_task, runs, tasks};
use self::server::{api_and_admin, serve};
use self::shared::Shared;

/// A callback for calls.
pub type OnCall = Arc<dyn Fn(&Call) + Send + Sync>;

/// The longest `Options::delay`: callers give up after 30 seconds, and that is what the fault `hang` is for.
pub const SLOWEST: Duration = Duration::from_secs(10);

/// How a stand-in is set up.
#[derive(Clone)]
pub struct Options {
    /// Whether the queue takes `storageType: s3`. Without, it answers 500.
    pub s3: bool,
    /// Whether there is an object service with a backend. Without, `storageType: object` answers 500.
    pub object_service: bool,
    /// The scopes of everybody, the role `anonymous`.
    pub anonymous_scopes: Vec<String>,
    /// Whether buckets encrypt with keys of a service, so that an `ETag` is no MD5.
    pub encrypted_buckets: bool,
    /// How long the proxy goes on trying a call that answers 5xx or 429, as the real one does for 15 minutes.
    pub proxy_retry_time: Duration,
    /// How long each call to the API takes at least, calls at the same time each for itself. At most `SLOWEST`.
    pub delay: Duration,
    /// Where stored bytes go; a temporary directory if none is given.
    pub dir: Option<PathBuf>,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the store listens.
    pub store_listen: SocketAddr,
    /// Called with each call when it is answered.
    pub on_call: Option<OnCall>,
}

impl Default for Options {
    fn default() -> Self {
        let scopes = [
            "auth:current-scopes",
            "queue:get-artifact:public/*",
            "queue:get-task:*",
            "queue:status:*",
            "queue:list-artifacts:*",
            "queue:list-task-group:*",
            "index:find-task:*",
            "index:list-tasks:*",
            "index:list-namespaces:*",
        ];
        Self {
            s3: true,
            object_service: true,
            encrypted_buckets: false,
            anonymous_scopes: scopes.map(str::to_owned).to_vec(),
            proxy_retry_time: Duration::ZERO,
            delay: Duration::ZERO,
            dir: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            store_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            on_call: None,
        }
    }
}

/// A running stand-in. It listens until it is dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _dir: Option<TempDir>,
}

impl StandIn {
    /// Starts on a thread and a runtime of its own, so that tests can be synchronous, and asynchronous ones
    /// cannot starve it.
    ///
    /// # Panics
    /// When there is no port, thread or directory left: a test cannot go on without.
    pub fn start(options: Options) -> Self {
        let (dir, temp) = if let Some(dir) = &options.dir {
            std::fs::create_dir_all(dir).expect("the stand-in's directory");
            (dir.clone(), None)
        } else {
            let temp = TempDir::with_prefix("stand-in-").expect("a temporary directory");
            (temp.path().to_owned(), Some(temp))
        };
        let (started, ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let shared = bind(options, dir).await;
                started.send((shared, Handle::current())).expect("somebody who waits");
                // Both are an end: the signal to stop, or a dropped handle.
                let _ = stopped.await;
            });
            // Calls that hang, as scripted, never end by themselves.
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let thread = thread.expect("a thread");
        let (shared, runtime) = ready.recv().expect("a stand-in that starts");
        Self { shared, runtime, stop: Some(stop), thread: Some(thread), _dir: temp }
    }

    /// `http://127.0.0.1:PORT`, the deployment.
    pub fn root_url(&self) -> String {
        self.shared.lock().root_url.clone()
    }

    /// The URL of the S3-like store.
    pub fn store_url(&self) -> String {
        self.shared.lock().store_url.clone()
    }

    /// The URL of a taskcluster-proxy for the run, which starts with the first call.
    pub fn proxy_url(&self, claim: &Claim) -> String {
        let _runtime = self.runtime.enter();
        proxy::open(&self.shared, claim)
    }

    /// Makes a task and claims its first run.
    pub fn create_task(&self, spec: TaskSpec) -> Claim {
        let task_id = self.create_pending_task(spec);
        self.claim(&task_id)
    }

    /// Makes a task whose first run stays pending. Answers its id.
    pub fn create_pending_task(&self, spec: TaskSpec) -> String {
        let task_id = tasks::create(&mut self.shared.lock(), spec);
        task_id.unwrap_or_else(|error| panic!("{}", error.into_parts().1))
    }

    /// What `createTask` does with a definition, for a caller with all scopes: schema, dates, group and
    /// dependencies are checked. Answers the task's status, or why the queue refuses it.
    pub fn submit(&self, task_id: &str, definition: &Value) -> Result<Value, String> {
        create_task::submit_unchecked(&mut self.shared.lock(), task_id, definition)
            .map_err(|error| error.into_parts().1)
    }

    /// A task's status structure. Answers none for a task that is not there.
    pub fn status(&self, task_id: &str) -> Option<Value> {
        let mut deployment = self.shared.lock();
        runs::settle(&mut deployment);
        deployment.tasks.get(task_id).map(|task| task.status(task_id))
    }

    /// A task's definition.
    pub fn definition(&self, task_id: &str) -> Option<Value> {
        self.shared.lock().tasks.get(task_id).map(|task| task.definition.clone())
    }

    /// The tasks that a worker could claim now, in the order in which they were scheduled.
    pub fn pending_tasks(&self) -> Vec<String> {
        let mut deployment = self.shared.lock();
        runs::settle(&mut deployment);
        tasks::pending(&deployment)
    }

    /// Claims the last run if it is pending; of a running one, gives fresh credentials, as a reclaim does.
    pub fn claim(&self, task_id: &str) -> Claim {
        let claim = tasks::claim(&mut self.shared.lock(), task_id);
        claim.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Adds a run and claims it. One that still runs is resolved as failed first.
    pub fn rerun(&self, task_id: &str) -> Claim {
        let rerun = tasks::rerun(&mut self.shared.lock(), task_id);
        rerun.unwrap_or_else(|why| panic!("{why}"));
        self.claim(task_id)
    }

    /// Resolves a run. A completed one's `index.` routes are then in the index, and tasks that waited for nothing
    /// else are pending.
    pub fn resolve(&self, task_id: &str, run_id: u32, state: RunState) {
        runs::resolve(&mut self.shared.lock(), task_id, run_id, state);
    }

    /// Resolves a run as an exception for a reason of the queue's. After `worker-shutdown`, `claim-expired` and
    /// `intermittent-task` there is a new pending run, if the task has a retry left.
    pub fn resolve_exception(&self, task_id: &str, run_id: u32, reason: &str) {
        let reason = runs::exception(reason).unwrap_or_else(|| panic!("the queue has no exception {reason}"));
        runs::resolve_exception(&mut self.shared.lock(), task_id, run_id, reason);
    }

    /// Cancels a task, as a sheriff does: the queue knows it at once, and the worker not before it checks.
    pub fn cancel(&self, task_id: &str) {
        runs::cancel(&mut self.shared.lock(), task_id);
    }

    /// Puts a secret there, which everybody with its scope can read for a day.
    pub fn put_secret(&self, name: &str, value: Value) {
        secrets::put(&mut self.shared.lock(), name, value);
    }

    /// Puts an artifact there, as the task would have uploaded it to s3. It expires with its task.
    pub fn put_artifact(
        &self,
        task_id: &str,
        run_id: u32,
        name: &str,
        content_type: &str,
        content_encoding: Option<&str>,
        bytes: &[u8],
    ) {
        let mut deployment = self.shared.lock();
        let place = record_artifact(&mut deployment, task_id, run_id, name, content_type);
        let (bucket, key) = place.split_once('/').expect("bucket and key");
        store::put_bytes(&mut deployment, bucket, key, Some(content_type), content_encoding, bytes);
    }

    /// The calls so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().log.calls().to_vec()
    }

    /// The most of these calls that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.lock().log.most_at_once()
    }

    /// Removes the calls so far from the log.
    pub fn clear_calls(&self) {
        self.shared.lock().log.clear();
    }

    /// The index entry of a namespace, expired or not, as the index would answer it.
    pub fn index_entry(&self, namespace: &str) -> Option<Value> {
        self.shared.lock().index.get(namespace).map(|entry| index::describe(namespace, entry))
    }

    /// The file that holds an artifact's bytes as they were uploaded.
    pub fn artifact_path(&self, task_id: &str, run_id: u32, name: &str) -> Option<PathBuf> {
        let deployment = self.shared.lock();
        let key = (task_id.to_owned(), run_id, name.to_owned());
        let blob = create_artifact::blob_key(deployment.artifacts.get(&key)?, &key)?;
        deployment.blobs.get(&blob).map(|blob| blob.path.clone())
    }

    /// An artifact's bytes as they were uploaded.
    pub fn artifact_bytes(&self, task_id: &str, run_id: u32, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.artifact_path(task_id, run_id, name)?).ok()
    }

    /// New permanent credentials with these scopes.
    pub fn permanent_credentials<S: Into<String>>(&self, scopes: impl IntoIterator<Item = S>) -> Credentials {
        permanent_credentials(&mut self.shared.lock(), scopes.into_iter().map(Into::into).collect())
    }

    /// Scripts a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.push(fault.into());
    }

    /// Removes the faults that have not struck yet.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Lets time pass, for the stand-in and for those who call it: URLs and credentials grow old, deadlines pass.
    pub fn advance(&self, time: Duration) {
        self.shared.lock().advanced += time;
    }

    /// Removes what has expired: tasks, artifacts, index entries. Until then the services still have them.
    pub fn purge(&self) {
        self.shared.lock().purge();
    }

    /// Changes `Options::delay`.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.lock().options.delay = delay.min(SLOWEST);
    }

    /// Makes the stand-in's clock differ from its callers', as Hawk and the header `Date` see it.
    pub fn set_skew(&self, skew: SignedDuration) {
        self.shared.lock().skew = skew;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: that was printed, and a second panic here would abort the test binary.
            let _ = thread.join();
        }
    }
}

/// Starts the listeners of the API and the store.
async fn bind(options: Options, dir: PathBuf) -> Arc<Shared> {
    let api = TcpListener::bind(options.listen).await.expect("a port for the API");
    let store = TcpListener::bind(options.store_listen).await.expect("a port for the store");
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
    let deployment = Deployment::new(options, url(&api), url(&store), dir, credentials::static_clients().collect());
    let shared = Arc::new(Shared::new(deployment));
    tokio::spawn(serve(api, api_and_admin(&shared)));
    tokio::spawn(serve(store, server::store(&shared)));
    shared
}

/// Writes an s3 artifact into the queue's database. Answers where its bytes belong.
fn record_artifact(deployment: &mut Deployment, task_id: &str, run_id: u32, name: &str, content_type: &str) -> String {
    let key = (task_id.to_owned(), run_id, name.to_owned());
    let (bucket, path) = create_artifact::s3_place(&key);
    let artifact = Artifact {
        storage_type: "s3".to_owned(),
        content_type: content_type.to_owned(),
        content_length: None,
        expires: deployment.tasks.get(task_id).expect("a task of this stand-in").expires(),
        present: true,
        details: Details::S3(bucket.to_owned(), path.clone()),
    };
    deployment.artifacts.insert(key, artifact);
    format!("{bucket}/{path}")
}

fn permanent_credentials(deployment: &mut Deployment, scopes: Vec<String>) -> Credentials {
    let id = format!("static/stand-in/{}", deployment.clients.len());
    let access_token = wire::slugid() + &wire::slugid();
    deployment.clients.insert(id.clone(), deployment::Client { access_token: access_token.clone(), scopes });
    Credentials { client_id: id, access_token, certificate: None }
}
