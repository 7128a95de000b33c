//! The names under fuzz: what is parsed prints as what it was parsed from, and is the same text in JSON; what is refused is
//! refused in one line.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use image_worker::context::{ContextHash, HashScheme, ImageName, RepoPath};
use image_worker::net::{Digest, HttpUrl, NameError};
use image_worker::taskcluster::{ArtifactName, ImageNamespaces, IndexPrefix, Namespace, Project, PushDate, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::Input;

pub(super) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.below(13);
    if kind == 12 {
        return namespaces(&mut input);
    }
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match kind {
        0 => exact::<ImageName>(text),
        1 => exact::<Project>(text),
        2 => exact::<TaskId>(text),
        3 => exact::<ArtifactName>(text),
        4 => exact::<Namespace>(text),
        5 => exact::<IndexPrefix>(text),
        6 => exact::<RepoPath>(text),
        7 => exact::<Digest>(text),
        8 => exact::<ContextHash>(text),
        9 => exact::<HashScheme>(text),
        10 => push_date(text),
        _ => url(text),
    }
}

/// Parses; a refusal is one line that ends.
fn parse<T: FromStr<Err = NameError>>(text: &str) -> Option<T> {
    match text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 2000 && !message.chars().any(char::is_control), "{message:?}");
            None
        }
    }
}

/// One text is one name, and the other way round.
fn exact<T: FromStr<Err = NameError> + Display + PartialEq + Debug + Serialize + DeserializeOwned>(text: &str) {
    if let Some(name) = parse::<T>(text) {
        assert_eq!(name.to_string(), text);
        round(&name);
    }
}

fn round<T: FromStr<Err = NameError> + Display + PartialEq + Debug + Serialize + DeserializeOwned>(name: &T) {
    assert_eq!(name.to_string().parse().as_ref(), Ok(name));
    let json = serde_json::to_string(name).unwrap();
    assert_eq!(json, serde_json::to_string(&name.to_string()).unwrap());
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), name);
}

fn push_date(text: &str) {
    let Some(date) = parse::<PushDate>(text) else { return };
    round(&date);
    let seconds = date.epoch_seconds();
    assert!((0..=i64::from(i32::MAX)).contains(&seconds), "a rank that the index cannot store");
    assert_eq!(seconds.to_string().parse(), Ok(date));
    let tail: String = date.route_tail().chars().filter(char::is_ascii_digit).collect();
    assert_eq!(tail, date.to_string());
}

fn url(text: &str) {
    let Some(url) = parse::<HttpUrl>(text) else { return };
    assert_eq!(url.reveal().as_str().parse(), Ok(url.clone()), "a task gets the URL that its plan has");
    let shown = url.to_string();
    assert_eq!(format!("{url:?}"), shown);
    let shown: HttpUrl = shown.parse().expect("what is shown is a URL too");
    let shown = shown.reveal();
    assert!(shown.query().is_none() && shown.fragment().is_none() && shown.username().is_empty());
    assert!(shown.password().is_none() && shown.host() == url.reveal().host());
}

fn namespaces(input: &mut Input) {
    let hash = ContextHash(Digest::of(b""));
    let names = (input.text().parse(), input.text().parse(), input.text().parse(), input.text().parse());
    let (Ok(index), Ok(project), Ok(image), Ok(date)) = names else { return };
    let (index, project, image): (IndexPrefix, Project, ImageName) = (index, project, image);
    let Ok(all) = ImageNamespaces::new(&index, &project, &image, date, hash) else { return };
    for (namespace, tail) in [(all.latest, "latest"), (all.pushdate, "pushdate"), (all.hash, "hash")] {
        exact::<Namespace>(namespace.as_str());
        let below = index.as_str().strip_prefix("index.").map(|below| format!("{below}.")).unwrap_or_default();
        let start = format!("{below}docker.images.v1.{project}.{image}.{tail}");
        assert!(namespace.as_str().starts_with(&start), "{namespace} is not below {start}");
    }
}
