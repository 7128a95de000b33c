//! An existing image: looked up before any work starts, and made readable from this task too. `lookup` decides which entries of
//! the index count.

use std::path::Path;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::super::{ExistingImage, PublishError, Published, Start, Stored, Wanted};
use super::Task;
use super::upload::Upload;
use crate::config::Reuse;
use crate::config::plan::{Identity, Plan};
use crate::context::ContextHash;
use crate::decision::lookup::{self, FoundEntry, Lookup, LookupError, LookupRequest};
use crate::net::SizedDigest;
use crate::net::retry::{Policy, retry};
use crate::taskcluster::index::Entry;
use crate::taskcluster::queue::TaskLimits;
use crate::taskcluster::{
    ArtifactName, CallErrorKind, CreateArtifact, IndexPayload, InsertTask, Namespace, Project, TaskRun,
};

impl Task {
    /// Usually no query finds anything: in parallel they cost one round trip before the build.
    pub(in super::super) async fn look_up(
        &self,
        plan: &Plan,
        wanted: Option<&Wanted<'_>>,
    ) -> Result<Start, PublishError> {
        // What an earlier start of this run has created.
        let own = async { Ok(self.services.queue.storage_type(&self.run, &plan.artifact.name).await?) };
        let Some(wanted) = wanted else {
            let (own, limits) = tokio::try_join!(own, self.limits(plan))?;
            self.can_create(plan, own.as_deref())?;
            return Ok(Start { found: None, limits });
        };
        let places = places(plan, wanted)?;
        let entries = async {
            let queries = places.iter().map(|place| self.services.index.find_task(&place.namespace));
            Ok(try_join_all(queries).await?)
        };
        let (entries, own, limits) = tokio::try_join!(entries, own, self.limits(plan))?;
        let mut found = self.first_usable(plan, wanted, places.iter().zip(entries), &limits).await?;
        if found.is_none() && own.is_some() {
            found = self.unfinished(plan, wanted.identity).await?;
        }
        if found.as_ref().is_none_or(|found| found.at != self.run) {
            self.can_create(plan, own.as_deref())?;
        }
        Ok(Start { found, limits })
    }

    /// The first entry whose image counts, and makes a build unnecessary.
    async fn first_usable<'a>(
        &self,
        plan: &Plan,
        wanted: &Wanted<'_>,
        entries: impl Iterator<Item = (&'a Place<'a>, Option<Entry>)>,
        limits: &TaskLimits,
    ) -> Result<Option<ExistingImage>, PublishError> {
        let Wanted { identity, central, reuse, now } = *wanted;
        let lookup = Lookup {
            services: self.services.clone(),
            storage: self.storage.clone(),
            index: plan.index.clone(),
            artifact: plan.artifact.name.clone(),
            central: central.clone(),
            project: Some(plan.project.clone()),
            now,
        };
        // What this task would make itself lives no longer than its own artifacts.
        let needed_until = match reuse {
            Reuse::LastingUntil(time) => limits.deadline.max(time),
            Reuse::Any | Reuse::Own | Reuse::Nothing => limits.deadline,
        };
        let needed_until = needed_until.min(limits.expires);
        let (hash, context) = (index_hash(plan, identity), identity.context_hash);
        let request = LookupRequest { image: plan.image.clone(), hash, context, needed_until };
        for (Place { project, namespace }, entry) in entries {
            let counts = |entry: &Entry| {
                self.is_allowed(reuse, needed_until, namespace, entry) && self.is_known(plan, namespace, entry)
            };
            let Some(entry) = entry.filter(counts) else { continue };
            let resolved = lookup.resolve(&request, project, namespace, &entry).await;
            let found = or_in_trouble(resolved)?.and_then(|found| ExistingImage::of(found, limits.expires));
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Refuses to build what could not be uploaded: an artifact of the object service is created once in a run, and a later start
    /// can neither continue its upload nor begin another.
    fn can_create(&self, plan: &Plan, own: Option<&str>) -> Result<(), PublishError> {
        match own {
            Some("object") => Err(PublishError::ObjectLeft { name: plan.artifact.name.clone(), run: self.run.clone() }),
            _ => Ok(()),
        }
    }

    /// Whether an entry's image makes a build unnecessary by the rule of this task. Its artifact is looked at later.
    fn is_allowed(&self, reuse: Reuse, needed_until: Timestamp, namespace: &Namespace, entry: &Entry) -> bool {
        let Entry { task_id, expires, .. } = entry;
        match reuse {
            Reuse::Own if *task_id != self.run.task_id => {
                info!("{namespace} points at task {task_id}: the image is rebuilt");
                false
            }
            Reuse::LastingUntil(_) if *expires < needed_until => {
                info!("{namespace} points at task {task_id} until {expires:.0}, and is needed until {needed_until:.0}");
                false
            }
            Reuse::Any | Reuse::LastingUntil(_) | Reuse::Own | Reuse::Nothing => true,
        }
    }

    /// Whether an entry has enough data about its image: a task that ends without building must know what it refers to.
    fn is_known(&self, plan: &Plan, namespace: &Namespace, entry: &Entry) -> bool {
        let task = &entry.task_id;
        if entry.image().is_none() {
            warn!("{namespace} points at task {task}, which another program indexed: building");
            return false;
        }
        // Under the hash of its context alone, an image of another parent looks like this one.
        let known = plan.parent.is_none() || plan.index_hash.is_some() || *task == self.run.task_id;
        if !known {
            warn!("{namespace} points at task {task}, which may have another parent: building; INDEX_HASH tells");
        }
        known
    }

    /// The image of an earlier start of this run, which was stopped after its first insert. Another build is another image, and
    /// uploading it would change the bytes behind an existing route.
    async fn unfinished(&self, plan: &Plan, identity: &Identity) -> Result<Option<ExistingImage>, PublishError> {
        let artifact = &plan.artifact.name;
        for namespace in [&identity.namespaces.latest, &identity.namespaces.pushdate] {
            let Some(entry) = self.services.index.find_task(namespace).await? else { continue };
            let Some(data) = entry.image() else { continue };
            let at = TaskRun { task_id: entry.task_id, run_id: data.run_id };
            if at == self.run
                && (&data.artifact, data.context_hash) == (artifact, identity.context_hash)
                && self.is_there(artifact, data.size).await?
            {
                return Ok(Some(ExistingImage { at, namespace: namespace.clone(), data, expires: entry.expires }));
            }
        }
        Ok(None)
    }

    /// Whether an artifact of this run can be read; false for any error, because a failing storage may have recovered after the
    /// build.
    async fn is_there(&self, artifact: &ArtifactName, size: u64) -> Result<bool, PublishError> {
        let stored = or_in_trouble(lookup::stored(&self.services, &self.storage, &self.run, artifact).await)?;
        Ok(stored.is_some_and(|stored| stored.can_have(size)))
    }

    /// The properties that the run inherits from the task.
    async fn limits(&self, plan: &Plan) -> Result<TaskLimits, PublishError> {
        let limits = self.services.queue.limits(&self.run.task_id).await?;
        match (plan.artifact.expires, limits.expires) {
            (Some(requested), task) if requested > task => Err(PublishError::ExpiresAfterTask { requested, task }),
            (Some(requested), _) => Ok(TaskLimits { expires: requested, ..limits }),
            (None, _) => Ok(limits),
        }
    }

    /// Makes the image readable from this task too, because tasks that depend on it do not read the index; and inserts the routes
    /// of this push: after a backout, `latest` refers to the right image again. None if that is impossible, and another build can
    /// help.
    pub(in super::super) async fn reuse(
        &self,
        plan: &Plan,
        identity: &Identity,
        found: &ExistingImage,
        directory: &Path,
    ) -> Result<Option<Published>, PublishError> {
        let ExistingImage { at, data, .. } = found;
        let artifact = &data.artifact;
        let names = &identity.namespaces;
        let mut routes = vec![&names.latest, &names.pushdate];
        // This start, or an earlier run of this task, may have been stopped before its last insert.
        if *at == self.run || (at.task_id == self.run.task_id && found.namespace != names.hash) {
            routes.push(&names.hash);
        }
        let story = if *at == self.run {
            // What belongs to the image was published before the first insert.
            format!("nothing was built: {artifact} of an earlier start of this run has all its routes now")
        } else if self.link_existing(plan, found).await? {
            format!("nothing was built: {artifact} of this task leads to {at}")
        } else if self.copy(plan, found, directory).await? {
            format!("nothing was built: {artifact} of this task is a copy of that of {at}")
        } else {
            return Ok(None);
        };
        self.index_all(&found.inserts(plan, &routes)).await?;
        Ok(Some(Published { story }))
    }

    /// Sends readers of this task's artifact on. That is of use only where they can follow: they are sent without credentials
    /// of theirs.
    async fn link_existing(&self, plan: &Plan, found: &ExistingImage) -> Result<bool, PublishError> {
        let ExistingImage { at, data, expires, .. } = found;
        let queue = &self.services.queue;
        if !queue.is_readable_by_all(at, &data.artifact).await? {
            info!("not everybody may read {} of {at}: this task gets a copy", data.artifact);
            return Ok(false);
        }
        let like = plan.artifact.payload(plan.artifact.storage, 0, *expires);
        let url = queue.artifact_address(at, &data.artifact);
        match queue.create_reference(&self.run, &data.artifact, &like, &url).await {
            Ok(()) => Ok(true),
            // An earlier start of this very run uploaded an artifact before it was stopped: perhaps of another build.
            Err(error) if error.kind == CallErrorKind::Conflict => {
                info!("{error}: this task gets a copy of the image");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Uploads a copy of the image as this task's artifact; false if the image does not match the index.
    async fn copy(&self, plan: &Plan, found: &ExistingImage, directory: &Path) -> Result<bool, PublishError> {
        let ExistingImage { at, data, expires, .. } = found;
        let path = directory.join(data.artifact.file_name());
        let downloading = retry("the download of the image", self.storage.retry().policy(Policy::TRANSFER), || async {
            let url = self.services.queue.artifact_url(at, &data.artifact).await?;
            let meter = self.report.meter("downloading the image", Some(data.size));
            Ok::<_, PublishError>(self.storage.download(&url, &path, meter).await?)
        });
        let SizedDigest { sha256, size } = downloading.await?;
        if (sha256, size) != (data.sha256, data.size) {
            warn!("{} of {at} has sha256 {sha256}, and the index says {}: building", data.artifact, data.sha256);
            return Ok(false);
        }
        let storage = plan.artifact.storage;
        let create =
            CreateArtifact { name: data.artifact.clone(), payload: plan.artifact.payload(storage, size, *expires) };
        let stored = Stored::File { path, sha256, size };
        let upload = Upload::of("the image", &stored).await?;
        let created = self.create(&create, storage).await?;
        self.upload_and_verify(upload, &create, created).await?;
        Ok(true)
    }
}

/// Where the index may have the image.
struct Place<'a> {
    /// Whose image it is.
    project: &'a Project,
    namespace: Namespace,
}

/// The places of an image, in the order in which they count.
fn places<'a>(plan: &'a Plan, wanted: &Wanted<'a>) -> Result<Vec<Place<'a>>, LookupError> {
    let Wanted { identity, central, reuse, .. } = *wanted;
    let names = &identity.namespaces;
    let own = |namespace: &Namespace| Place { project: &plan.project, namespace: namespace.clone() };
    let mut places = vec![own(&names.hash)];
    if *central != plan.project {
        let namespace = Namespace::of_hash(&plan.index, central, &plan.image, index_hash(plan, identity))?;
        places.push(Place { project: central, namespace });
    }
    if reuse == Reuse::Own {
        // A newer push's entry may keep this task's image out of the `.hash.` route.
        places.extend([&names.pushdate, &names.latest].map(own));
    }
    Ok(places)
}

/// The hash in the `.hash.` route.
fn index_hash(plan: &Plan, identity: &Identity) -> ContextHash {
    plan.index_hash.unwrap_or(identity.context_hash)
}

impl ExistingImage {
    /// The found image, if the index has all data about it. A reference to it may outlive neither it nor `limit`.
    fn of(found: FoundEntry, limit: Timestamp) -> Option<Self> {
        let FoundEntry { at, namespace, data, expires, .. } = found;
        Some(Self { at, namespace, data: data?, expires: expires.min(limit) })
    }

    /// Its entries for a push.
    fn inserts(&self, plan: &Plan, namespaces: &[&Namespace]) -> Vec<InsertTask> {
        let payload = IndexPayload {
            task_id: Some(self.at.task_id.clone()),
            rank: plan.pushdate.epoch_seconds(),
            data: self.data.clone(),
            expires: self.expires,
        };
        let insert = |namespace: &&Namespace| InsertTask { namespace: (*namespace).clone(), payload: payload.clone() };
        namespaces.iter().map(insert).collect()
    }
}

/// What was found out, where the storage answered: one that is in trouble may be well again after a build.
fn or_in_trouble<T>(found: Result<Option<T>, LookupError>) -> Result<Option<T>, PublishError> {
    match found {
        Err(error @ LookupError::Storage { .. }) => {
            debug!("{error}");
            Ok(None)
        }
        found => Ok(found?),
    }
}
