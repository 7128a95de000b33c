//! `report.html`: an image on one page that needs nothing else, no network and no other file. A page has the facts as JSON, and
//! `page.js` draws them; the modules above collect the facts.

mod change;
mod of_run;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::metrics::Stage;
use super::work_dir::AtomicFile;
use crate::config::plan::BuildDocument;
use crate::image::inventory::{Inventory, SizeTree, Survey, most_escaped};
use crate::image::sbom::{Contents, Package};
use crate::report::{Bytes, ErrorChain, escaped, shortened};
use crate::taskcluster::ArtifactName;
pub use change::PageChange;
pub(super) use of_run::of_run;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Browsers show a larger page slowly, and Taskcluster's viewer of artifacts is a browser.
const LARGEST: usize = 2_000_000;

/// The most bytes of all packages on a page, as JSON: some 7000 of Debian.
const MOST_PACKAGES: usize = 400_000;

/// Longer texts of a configuration are cut.
const LONGEST_TEXT: usize = 500;

/// More labels, variables or ports than images have.
const MOST_TEXTS: usize = 100;

/// Less waste is nothing to warn of, in percent.
const EFFICIENT: u8 = 90;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It is too large, in bytes.
    #[error("the page would have {}, and at most {} are shown", Bytes(*.0 as u64), Bytes(LARGEST as u64))]
    TooLarge(usize),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// All that a page shows of an image. What is not known is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportPage {
    /// The heading.
    pub title: String,
    /// This program's version.
    version: &'static str,
    /// The content of the image.
    inventory: Inventory,
    /// Its files.
    tree: SizeTree,
    /// Its packages: name, version, package manager.
    packages: Vec<[String; 3]>,
    /// The time of the job that has built it.
    pub time: Option<Times>,
    /// What has changed since the previous image.
    pub change: Option<PageChange>,
    /// Where the image comes from.
    pub provenance: Vec<Fact>,
    /// What a reader should know first.
    pub warnings: Vec<String>,
}

/// The time of a job.
#[derive(Debug, Serialize)]
pub struct Times {
    stages: Vec<StageTime>,
    /// Seconds in all.
    took: f64,
}

/// The time of a stage, in seconds.
#[derive(Debug, Serialize)]
struct StageTime {
    name: &'static str,
    /// After the beginning of the job.
    began: f64,
    took: f64,
}

impl Times {
    /// Of these stages of a job that took so long.
    #[must_use]
    pub fn of(stages: &[Stage], took: Duration) -> Self {
        let seconds = |stage: &Stage| StageTime {
            name: stage.name,
            began: stage.began.as_secs_f64(),
            took: stage.took.as_secs_f64(),
        };
        Self { stages: stages.iter().map(seconds).collect(), took: took.as_secs_f64() }
    }
}

/// A fact about the origin of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about.
    pub name: &'static str,
    /// What is known.
    pub value: String,
    /// Where more is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Fact {
    /// A fact without a link.
    #[must_use]
    pub fn new(name: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        Self { name, value: value.to_string(), link: None }
    }
}

impl ReportPage {
    /// The page of an image, with what its survey has found.
    #[must_use]
    pub fn of(title: String, survey: Survey) -> Self {
        let Survey { mut inventory, tree, packages } = survey;
        let (packages, problem) = match &packages {
            Ok(contents) => (contents.iter().flat_map(Contents::packages).collect(), None),
            Err(error) => (Vec::new(), Some(format!("the packages are not listed: {}", ErrorChain(error)))),
        };
        let unread = inventory.packages.iter().flat_map(|packages| &packages.unread);
        let unread = unread.map(|path| format!("/{path} is there, and its packages are not listed"));
        let mut warnings: Vec<_> = problem.into_iter().chain(unread).collect();
        let wasted = &inventory.wasted;
        if wasted.efficiency < EFFICIENT {
            let lost = 100 - wasted.efficiency;
            warnings.push(format!("{} are wasted, {lost}% of all bytes in files", Bytes(wasted.bytes)));
        }
        let row = |package: &&Package| [&package.name, &package.version, package.manager].map(str::to_owned);
        let listed = rows(packages.iter().map(row), MOST_PACKAGES);
        if listed.len() < packages.len() {
            warnings.push(format!("of {} packages {} are listed here", packages.len(), listed.len()));
        }
        shorten(&mut inventory);
        let version = env!("CARGO_PKG_VERSION");
        let (time, change, provenance) = (None, None, Vec::new());
        Self { title, version, inventory, tree, packages: listed, time, change, provenance, warnings }
    }

    /// The page.
    pub fn html(&self) -> Result<String, PageError> {
        let policy = format!(
            "default-src 'none'; img-src data:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            source(STYLE),
            source(SCRIPT)
        );
        let page = TEMPLATE.replace("{{policy}}", &policy).replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        // Last, so that nothing in it is taken for a placeholder.
        let page = page.replace("{{data}}", &in_html(&serde_json::to_string(self).map_err(io::Error::from)?));
        if page.len() > LARGEST { Err(PageError::TooLarge(page.len())) } else { Ok(page) }
    }

    /// Writes it to a file, atomically.
    pub fn write(&self, path: &Path) -> Result<(), PageError> {
        let draft = AtomicFile::of(path)?;
        io::Write::write_all(&mut draft.file(), self.html()?.as_bytes())?;
        Ok(draft.finish()?)
    }

    /// Writes it into `directory`, to be published with the image.
    pub fn document(&self, directory: &Path) -> Result<BuildDocument, PageError> {
        let (what, name, content_type) = ("the report", ArtifactName::report(), "text/html; charset=utf-8");
        Ok(BuildDocument::write_text(directory, what, name, content_type, &self.html()?)?)
    }
}

/// As many rows as there is room for, in bytes of JSON; the texts in them are escaped and cut.
fn rows<const N: usize>(rows: impl Iterator<Item = [String; N]>, mut room: usize) -> Vec<[String; N]> {
    let rows = rows.map(|row| row.map(|text| shortened(&escaped(&text), LONGEST_TEXT)));
    let fits = |row: &[String; N]| {
        let size: usize = row.iter().map(|text| most_escaped(text.as_bytes()) + 4).sum();
        let left = room.checked_sub(size);
        room = left.unwrap_or(room);
        left.is_some()
    };
    rows.take_while(fits).collect()
}

/// Cuts what can be of any length.
fn shorten(inventory: &mut Inventory) {
    let configuration = &mut inventory.configuration;
    let lists = [
        &mut inventory.names,
        &mut configuration.entrypoint,
        &mut configuration.command,
        &mut configuration.variables,
        &mut configuration.exposed_ports,
        &mut configuration.labels,
    ];
    for list in lists {
        list.truncate(MOST_TEXTS);
        for text in list {
            *text = shortened(text, LONGEST_TEXT);
        }
    }
    let sized = inventory.largest_files.iter_mut().chain(&mut inventory.largest_directories).map(|it| &mut it.path);
    for path in sized.chain(inventory.wasted.paths.iter_mut().map(|it| &mut it.path)) {
        *path = shortened(&escaped(path), LONGEST_TEXT);
    }
    for text in [&mut configuration.user, &mut configuration.working_dir].into_iter().flatten() {
        *text = shortened(text, LONGEST_TEXT);
    }
}

/// JSON as it can stand in a script element: nothing in it ends the element, or begins a comment. All of these can only be in texts,
/// where JSON has another way to write them.
fn in_html(json: &str) -> String {
    let escapes =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    escapes.iter().fold(json.to_owned(), |text, (character, escape)| text.replace(*character, escape))
}

/// A script or a style as a content security policy names it.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
