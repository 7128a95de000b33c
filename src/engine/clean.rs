//! Leaving nothing behind: what a job puts into the engine is written down while it happens, and removed on every
//! way out of the job; after a SIGKILL by the next start. What others use, or had before us, stays.

mod patience;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};
use tracing::{debug, info, warn};

use super::connect::in_words;
use super::journal::{self, Fact, Journal};
use super::left::Left;
use super::output::Origin;
use super::{Engine, Kind, Step};
use crate::retry::{Policy, retry};
use patience::{BRIEFLY, GOING_ON, LETTING_GO, ONCE, QUIET, RemovalError, UNPACKING};

/// What a job has put into the engine so far. Shared, so that it can be removed after the build's future is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Traces(Arc<Mutex<Book>>);

/// The same facts twice: here, and where they outlive us.
#[derive(Debug, Default)]
struct Book {
    left: Left,
    journal: Option<Journal>,
    /// What the builder has said of images that it pulled, `NAME@sha256:…`. Nothing of them is ours to remove.
    pulled: Vec<String>,
    /// Whether the build takes steps from images that we have loaded: then those that come from the cache are ours.
    takes_steps: bool,
    /// The images of the steps of the build, as the engine tells them.
    steps: Vec<String>,
}

impl Traces {
    /// A build begins: the image's tag, the first instructions of its stages, what the engine has already, and whether steps
    /// are taken from images that we have loaded.
    pub(super) fn build_begins(&self, tag: &str, firsts: Vec<String>, before: Vec<ImageSummary>, takes_steps: bool) {
        self.change(|book| (book.takes_steps, book.steps) = (takes_steps, Vec::new()));
        let before = before.into_iter().map(|image| image.id).collect();
        self.add(Fact::Build { tag: tag.to_owned(), firsts, before });
    }

    /// An archive begins to go in, of an image with this tag.
    pub(super) fn load_begins(&self, tag: &str) {
        self.add(Fact::Load(tag.to_owned()));
    }

    /// The same, of an image that steps are taken from, with the ids of the images of its steps.
    pub(super) fn cache_begins(&self, tag: &str, steps: Vec<String>) {
        self.add(Fact::Cache(tag.to_owned()));
        for step in steps {
            self.add(Fact::Made(step));
        }
    }

    /// The engine is about to have all of the archive.
    pub(super) fn load_is_sent(&self, tag: &str) {
        self.add(Fact::Sent(tag.to_owned()));
    }

    /// The engine has answered. An image that was there before without a name would go with the name that we gave it.
    pub(super) fn load_ends(&self, tag: &str, was_nameless: bool) {
        self.add(Fact::Loaded { tag: tag.to_owned(), was_nameless });
    }

    /// The name is not there any more, or not ours.
    pub(super) fn forget_tag(&self, tag: &str) {
        self.load_ends(tag, true);
    }

    /// The engine is about to have all of the context.
    pub(super) fn context_is_sent(&self) {
        self.add(Fact::Given);
    }

    /// The build is at this step, or still at it.
    pub(super) fn step(&self, step: Option<&Step>) {
        // Asked for every piece of output.
        if let Some(Step { instruction, .. }) = step
            && self.change(|book| book.left.instruction() != instruction)
        {
            self.add(Fact::Step(instruction.clone()));
        }
    }

    /// A container with this name is about to be made.
    pub(super) fn container(&self, name: &str) {
        self.add(Fact::Container(name.to_owned()));
    }

    pub(super) fn build_ends(&self) {
        self.add(Fact::Ended);
    }

    pub(super) fn image(&self, id: String, origin: Origin) {
        if origin != Origin::Before {
            self.change(|book| book.steps.push(id.clone()));
        }
        // The classic builder puts the image of a step together anew, of an offered image's layer. Those that were there
        // when the build began are not removed.
        let ours = origin == Origin::Made || (origin == Origin::Cached && self.change(|book| book.takes_steps));
        self.add(if ours { Fact::Made(id) } else { Fact::Has(id) });
    }

    /// The builder has this base image from a registry.
    pub(super) fn pulled(&self, name: &str) {
        self.change(|book| book.pulled.push(name.to_owned()));
    }

    /// The base images that the builder has from registries.
    pub(super) fn all_pulled(&self) -> Vec<String> {
        self.change(|book| book.pulled.clone())
    }

    /// The images of the build's steps, as the engine has told them: a few digits of their ids.
    pub(super) fn steps(&self) -> Vec<String> {
        self.change(|book| book.steps.clone())
    }

    /// The image of the last step that the engine told of.
    pub(super) fn last(&self) -> Option<String> {
        self.change(|book| book.left.last().map(str::to_owned))
    }

    /// An image that is not ours to remove from now on.
    pub(super) fn let_stay(&self, id: String) {
        self.add(Fact::Stays(id));
    }

    /// Takes a fact down, in the journal first: a fact that is only there costs a look, one that is not there an image.
    fn add(&self, fact: Fact) {
        self.change(|book| {
            if let Some(journal) = &mut book.journal {
                journal.write(&fact);
            }
            book.left.add(fact);
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        // A list that somebody panicked over is still the list of what to remove.
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// What has become of what a killed run has left in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing is there any more, but for what others use: the journal can go.
    Gone,
    /// Something, which another start can remove.
    Stays,
    /// All of it, as the engine can still be at a step: later it will be known.
    AskLater,
}

/// How long the removing may take. Nothing interrupts it, and an engine that hangs would keep the program for ever: after
/// a signal too. Enough for the images of a large build on a slow disk.
const CLEANING_MAY_TAKE: Duration = Duration::from_mins(2);

impl Engine {
    /// Writes down what this program puts into the engine, from now on, in a file that is gone when all of it is.
    pub fn keep_journal(&self, path: PathBuf) {
        // Our own engine goes with us: there is nothing to find in it later.
        if self.managed.is_none() {
            self.traces.change(|book| book.journal = Some(Journal::new(path, self.place.url().to_owned())));
        }
    }

    /// Removes what this program has left in the engine: tags of built and of loaded images, and the images of steps,
    /// the youngest first. What others use, or had before us, stays.
    pub async fn clean(&self) {
        self.clean_within(CLEANING_MAY_TAKE).await;
    }

    async fn clean_within(&self, limit: Duration) {
        let left = self.traces.change(|book| std::mem::take(&mut book.left));
        if let Some(managed) = &self.managed {
            managed.stop().await;
            return;
        }
        if self.remove_within(limit, left, "this build").await {
            self.traces.change(|book| book.journal.iter_mut().for_each(Journal::forget));
        }
    }

    /// Removes what a killed run has left in the engine, by its journal. Where the engine can still be at a step of that
    /// run, and there is time to ask `later`, nothing is removed yet: the image of a step whose base is removed meanwhile
    /// has none, and nobody knows whose it is.
    pub async fn clean_after(&self, journal: &Path, later: bool) -> After {
        let left = match journal::read(journal) {
            Ok(found) => Left::from(found),
            Err(error) => {
                warn!("cannot read {}, which names what a killed run has left: {error}", journal.display());
                return After::Stays;
            }
        };
        if let Some(other) = left.engine.as_ref().filter(|place| *place != self.place.url()) {
            let (ours, journal) = (&self.place, journal.display());
            warn!("what a killed run left in the engine at {other} stays there: this one is at {ours} ({journal})");
            return After::Stays;
        }
        if later && left.can_wait() {
            return After::AskLater;
        }
        if self.remove_within(CLEANING_MAY_TAKE, left, "a killed run").await { After::Gone } else { After::Stays }
    }

    async fn remove_within(&self, limit: Duration, left: Left, whose: &str) -> bool {
        let Ok(done) = tokio::time::timeout(limit, self.remove_all(left, whose)).await else {
            warn!("the engine has not removed the images of {whose} within {} s: going on", limit.as_secs());
            return false;
        };
        done
    }

    /// Whether nothing is left that another try could remove.
    async fn remove_all(&self, left: Left, whose: &str) -> bool {
        let patience = if left.is_let_go_of() { LETTING_GO } else { BRIEFLY };
        let (mut removed, mut done) = (0, true);
        for container in left.containers() {
            done &= self.remove_container(container).await;
        }
        let mut look = match (left.expects_more(), left.is_of_a_killed_run()) {
            (false, _) => ONCE,
            (true, false) => LETTING_GO,
            (true, true) => GOING_ON,
        };
        let mut force = false;
        if self.kind == Kind::Podman && left.is_cut_short() {
            self.wait_for_quiet(&left).await;
        }
        // Twice, where the engine has ended a step while we waited for it to let go of what is below.
        for again in [false, true] {
            let untold = self.untold(&left, look).await;
            // Who cannot look does not know.
            done &= untold.is_ok();
            let untold = untold.unwrap_or_default();
            if again && untold.is_empty() {
                break;
            }
            let mut kept = false;
            for name in &left.names(untold, &self.images().await) {
                let (patience, unpacking) = if left.is_unpacking(name) { (UNPACKING, true) } else { (patience, false) };
                let removing = retry("removing an image", patience, || async {
                    self.remove(name, force).await.map_err(|error| match error.status() {
                        Some(404) if unpacking => RemovalError::NotYet,
                        Some(409) if !left.is_let_go_of() => RemovalError::Used,
                        _ => error,
                    })
                });
                let mut end = removing.await;
                if self.kind == Kind::Podman
                    && left.is_cut_short()
                    && matches!(&end, Err(used) if used.status() == Some(409))
                {
                    // Podman does not end the command of a build that nobody waits for any more. The containers of the
                    // build's steps go with the images; the command goes on in what was its container.
                    warn!(
                        "Podman goes on with a step's command although nobody waits for it: removing its image all the same"
                    );
                    force = true;
                    end = self.remove(name, force).await;
                }
                match end {
                    Ok(()) => removed += 1,
                    Err(error @ (RemovalError::NotYet | RemovalError::Used)) => debug!("{name}: {error}"),
                    // Never made, removed with its tag, or used by somebody else.
                    Err(error) if matches!(error.status(), Some(404 | 409)) => {
                        debug!("{name} stays: {error}");
                        kept |= error.status() == Some(409);
                    }
                    // The engine is gone, or too ill to answer: once said is enough.
                    Err(error) if error.status().is_none() => {
                        warn!("what {whose} left in the engine stays there: {}", in_words(&error));
                        return false;
                    }
                    Err(error) => {
                        warn!("cannot remove {name} from the engine: {error}");
                        done = false;
                    }
                }
            }
            if !kept {
                break;
            }
            look = ONCE;
        }
        if removed > 0 {
            info!("removed {removed} images of {whose} from the engine");
        }
        done
    }

    /// Waits until Podman makes no more images of a build that nobody waits for: it goes on, step by step, to the next with a
    /// command. What it makes on top of an image that is gone meanwhile could be anybody's.
    async fn wait_for_quiet(&self, left: &Left) {
        let (began, mut since, mut seen) = (Instant::now(), Instant::now(), None);
        while since.elapsed() < QUIET && began.elapsed() < LETTING_GO.limit {
            let now = self.untold(left, ONCE).await.ok();
            if now != seen {
                (since, seen) = (Instant::now(), now);
            }
            tokio::time::sleep(LETTING_GO.first_pause).await;
        }
    }

    /// All images that the engine has. For knowing what was there before us: an engine that does not tell costs
    /// nothing but a step's image that stays.
    pub(super) async fn images(&self) -> Vec<ImageSummary> {
        self.all_images().await.unwrap_or_default()
    }

    async fn all_images(&self) -> Result<Vec<ImageSummary>, RemovalError> {
        // Docker fails to list images while others remove some.
        retry("listing the images", BRIEFLY, || async {
            let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
            self.client.list_images(Some(options)).await.map_err(RemovalError::Engine)
        })
        .await
    }

    /// The ids of the images that the engine has not told of, the youngest first.
    async fn untold(&self, left: &Left, patience: Policy) -> Result<Vec<String>, RemovalError> {
        if !left.is_cut_short() {
            return Ok(Vec::new());
        }
        let looking = retry("looking for the last step's image", patience, || async {
            let images = self.all_images().await?;
            let mut made_by = BTreeMap::new();
            for id in left.unproven(&images) {
                made_by.insert(id, self.made_by(id).await?);
            }
            let ids = left.untold(&images, &made_by);
            if ids.is_empty() { Err(RemovalError::NotYet) } else { Ok(ids) }
        });
        match looking.await {
            Err(RemovalError::NotYet) => Ok(Vec::new()),
            found => found,
        }
    }

    /// What made an image, in the engine's words.
    async fn made_by(&self, id: &str) -> Result<String, RemovalError> {
        match self.client.image_history(id).await.map_err(RemovalError::Engine) {
            Ok(history) => Ok(history.into_iter().next().map(|layer| layer.created_by).unwrap_or_default()),
            // Another build's, which has removed it since it was listed.
            Err(error) if error.status() == Some(404) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), RemovalError> {
        // `noprune`: without it the engine would also remove the parents, which can be somebody's build cache.
        let options = RemoveImageOptions { force, noprune: true, ..RemoveImageOptions::default() };
        self.client.remove_image(name, Some(options), None).await.map(drop).map_err(RemovalError::Engine)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{About, Kind};
    use super::*;

    #[tokio::test]
    async fn an_engine_that_hangs_keeps_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let place = super::super::Address::of_socket(&socket);
        let client = super::super::connection::client(&place, Duration::from_hours(1)).unwrap();
        let (kind, about, traces) = (Kind::Docker, About::default(), Traces::default());
        let access = super::super::pulling::Access::default();
        let engine = Engine { client, access, place, traces, kind, about, managed: None };
        engine.traces.build_begins("builder:1234", Vec::new(), Vec::new(), false);
        let cleaning = engine.clean_within(Duration::from_millis(100));
        tokio::time::timeout(Duration::from_secs(20), cleaning).await.expect("it ends by itself");
    }
}
