//! A task as people name it: its id, or the URL of a page about it, as they copy it from a browser.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use super::TaskId;
use crate::net::{HttpUrl, NameError};
use crate::report::Hint;

/// A named task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRef {
    /// The deployment that has it, where the URL names one: Treeherder's do not.
    pub root_url: Option<HttpUrl>,
    /// The task.
    pub task_id: TaskId,
    /// The run that the URL is about.
    pub run: Option<u32>,
}

/// Why a text names no task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefError {
    /// Neither an id nor a URL.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A page about many tasks.
    #[error("the URL is that of a task group, {}{}", .0, Hint("open one of its tasks, and take that URL"))]
    Group(String),
    /// A page of Treeherder without a task id.
    #[error(
        "the URL of Treeherder names no task{}",
        Hint("select the job, and take the URL with selectedTaskRun=…, or the job's task id")
    )]
    Treeherder,
    /// A page about something else.
    #[error("the URL is of no task{}", Hint("expected ROOT_URL/tasks/TASK_ID, or ROOT_URL/api/queue/v1/task/TASK_ID"))]
    NoTask,
}

/// Parameters of Treeherder's URLs that name a task and its run.
const TREEHERDER: [&str; 2] = ["selectedTaskRun", "task"];
/// Parameters and pages of Treeherder, whose jobs have numbers of its own.
const TREEHERDER_JOB: [&str; 2] = ["selectedJob", "job_id"];

impl FromStr for TaskRef {
    type Err = TaskRefError;

    fn from_str(text: &str) -> Result<Self, TaskRefError> {
        if !text.contains("://") {
            return Ok(Self { root_url: None, task_id: text.parse()?, run: None });
        }
        let url: HttpUrl = text.parse()?;
        of_taskcluster(url.reveal()).or_else(|| of_treeherder(url.reveal())).unwrap_or(Err(TaskRefError::NoTask))
    }
}

/// A page of the deployment's own, or a call to its queue.
fn of_taskcluster(url: &Url) -> Option<Result<TaskRef, TaskRefError>> {
    let parts: Vec<_> = url.path_segments()?.collect();
    // The root URL may have a path of its own.
    let at = |words: &[&str]| parts.windows(words.len()).position(|window| window == words);
    let (start, rest) =
        match (at(&["api", "queue", "v1", "task"]), at(&["api", "queue", "v1", "task-group"]), at(&["tasks"])) {
            (Some(start), ..) => (start, &parts[start + 4..]),
            (_, Some(start), _) => return Some(Err(TaskRefError::Group(parts.get(start + 4)?.to_string()))),
            (.., Some(start)) => (start, &parts[start + 1..]),
            _ => return None,
        };
    let [task_id, rest @ ..] = rest else { return None };
    match *task_id {
        "groups" => return Some(Err(TaskRefError::Group(rest.first().unwrap_or(&"").to_string()))),
        // Pages of the same deployment that are about something else.
        "index" | "create" | "" => return None,
        _ => {}
    }
    let run = match rest {
        ["runs", run, ..] => run.parse().ok(),
        _ => None,
    };
    let read = || Ok(TaskRef { root_url: Some(root(url, &parts[..start])?), task_id: task_id.parse()?, run });
    Some(read())
}

/// The URL of what is above a page.
fn root(url: &Url, path: &[&str]) -> Result<HttpUrl, NameError> {
    let mut root = url.clone();
    root.set_query(None);
    root.set_fragment(None);
    // Credentials of a person's have no business in it. These fail only for URLs without a host.
    let _ = root.set_username("");
    let _ = root.set_password(None);
    root.set_path(&path.join("/"));
    root.as_str().trim_end_matches('/').parse()
}

/// A page of Treeherder, of which the queries say which job is selected; older ones have theirs behind a `#`.
fn of_treeherder(url: &Url) -> Option<Result<TaskRef, TaskRefError>> {
    let behind = url.fragment().and_then(|fragment| fragment.split_once('?')).map(|(_, query)| query.to_owned());
    let behind = behind.and_then(|query| Url::parse(&format!("http://localhost/?{query}")).ok());
    let pairs: Vec<_> = url
        .query_pairs()
        .chain(behind.iter().flat_map(Url::query_pairs))
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect();
    if let Some((_, value)) = pairs.iter().find(|(name, _)| TREEHERDER.contains(&name.as_str())) {
        return Some(task_run(value));
    }
    let is_treeherders = pairs.iter().any(|(name, _)| TREEHERDER_JOB.contains(&name.as_str()))
        || url.path().ends_with("/jobs")
        || url.path().ends_with("/logviewer");
    is_treeherders.then_some(Err(TaskRefError::Treeherder))
}

/// `ID.RUN` or `ID-RUN`; an id may have a `-` itself.
fn task_run(text: &str) -> Result<TaskRef, TaskRefError> {
    const LENGTH: usize = 22;
    let (task_id, rest) = text.split_at_checked(LENGTH).unwrap_or((text, ""));
    let run = rest.strip_prefix(['.', '-']).and_then(|run| run.parse().ok());
    if run.is_none() && !rest.is_empty() {
        return Err(TaskRefError::Treeherder);
    }
    Ok(TaskRef { root_url: None, task_id: task_id.parse()?, run })
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task_id.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "fN1SbArXTPSVFNUvaOlinQ";
    /// One with dashes.
    const DASHES: &str = "-N1SbArXTPSVFNUv-OlinQ";

    fn read(text: &str) -> Result<(Option<String>, String, Option<u32>), String> {
        let named: TaskRef = text.parse().map_err(|error: TaskRefError| error.to_string())?;
        Ok((named.root_url.map(|url| url.to_string()), named.task_id.to_string(), named.run))
    }

    #[test]
    fn a_task_is_named_by_its_id_or_by_what_a_browser_shows() {
        let root = "https://tc.example.com";
        let of = |id: &str, run| Ok((Some(root.to_owned()), id.to_owned(), run));
        assert_eq!(read(ID), Ok((None, ID.to_owned(), None)));
        for rest in ["", "/", "?x", "#artifacts", "/definition", "/runs", "/runs/x"] {
            assert_eq!(read(&format!("{root}/tasks/{ID}{rest}")), of(ID, None), "{rest}");
        }
        for rest in ["", "/", "/logs/live/public/logs/live.log#L12", "/artifacts/public/image.tar"] {
            assert_eq!(read(&format!("{root}/tasks/{DASHES}/runs/2{rest}")), of(DASHES, Some(2)), "{rest}");
        }
        let api = format!("{root}/api/queue/v1/task/{ID}");
        assert_eq!(read(&api), of(ID, None));
        assert_eq!(read(&format!("{api}/artifacts/public/tasks/x")), of(ID, None));
        assert_eq!(read(&format!("{api}/runs/1/artifacts/public/logs/live_backing.log")), of(ID, Some(1)));
        let (port, path) = ("http://127.0.0.1:8080", "https://example.com/tc");
        assert_eq!(read(&format!("{port}/tasks/{ID}")).unwrap().0.unwrap(), port);
        assert_eq!(read(&format!("{path}/tasks/{ID}")).unwrap().0.unwrap(), path);
        assert_eq!(read(&format!("https://me:pw@tc.example.com/tasks/{ID}")), of(ID, None));
    }

    #[test]
    fn treeherder_names_a_task_and_no_deployment() {
        let page = "https://treeherder.example.com";
        for (id, query) in [
            (ID, format!("/jobs?repo=try&revision=abc&selectedTaskRun={ID}.1")),
            (DASHES, format!("/jobs?repo=try&selectedTaskRun={DASHES}-1&searchStr=x")),
            (DASHES, format!("/#/jobs?repo=try&selectedTaskRun={DASHES}.1")),
            (ID, format!("/logviewer?job_id=7&repo=try&task={ID}.1&lineNumber=3")),
        ] {
            assert_eq!(read(&format!("{page}{query}")), Ok((None, id.to_owned(), Some(1))), "{query}");
        }
        assert_eq!(read(&format!("{page}/jobs?selectedTaskRun={ID}")), Ok((None, ID.to_owned(), None)));
        for query in
            ["/jobs?repo=try", "/jobs?repo=try&selectedJob=7", "/#/jobs?repo=try&selectedJob=7", "/logviewer?job_id=7"]
        {
            assert!(read(&format!("{page}{query}")).unwrap_err().contains("of Treeherder names no task"), "{query}");
        }
        assert!(read(&format!("{page}/jobs?selectedTaskRun={ID}x1")).is_err());
    }

    #[test]
    fn what_names_no_task_is_refused_by_its_name() {
        let root = "https://tc.example.com";
        for group in ["tasks/groups", "tasks/groups/x", "api/queue/v1/task-group"] {
            let group = format!("{root}/{group}/{ID}");
            assert!(read(&group).unwrap_err().contains("of a task group, "), "{group}");
        }
        for page in ["", "/tasks", "/tasks/", "/tasks/index/x", "/provisioners", "/x?y=z"] {
            assert!(read(&format!("{root}{page}")).unwrap_err().contains("of no task"), "{page}");
        }
        assert!(read("nonsense").unwrap_err().contains("\"nonsense\" is not a task id"));
        assert!(read(&format!("{root}/tasks/nonsense")).unwrap_err().contains("\"nonsense\" is not a task id"));
        assert!(read(&format!("ftp://tc.example.com/tasks/{ID}")).is_err());
    }
}
