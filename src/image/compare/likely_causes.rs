//! Known causes of differences between two builds of the same context, recognised by their paths, with hints. Other modules
//! find the differences.

use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;

use super::files::Aspect;
use super::{Difference, LayerPair};

/// A likely cause of differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// What was found, with one of the places.
    #[serde(rename = "seen")]
    pub finding: String,
    /// The number of places.
    pub places: usize,
    /// What to do about it.
    #[serde(rename = "wayOut")]
    pub hint: &'static str,
}

/// Paths whose content is known to differ.
struct KnownPath {
    /// A regular expression for the paths.
    pattern: &'static str,
    finding: &'static str,
    hint: &'static str,
}

/// The first match counts.
const KNOWN: [KnownPath; 16] = [
    KnownPath {
        pattern: r"^var/log/|\.log$",
        finding: "logs have dates",
        hint: "remove them in the same RUN step: rm -rf /var/log/*",
    },
    KnownPath {
        pattern: r"^var/cache/ldconfig/aux-cache$",
        finding: "ldconfig's cache has times",
        hint: "remove it in the same RUN step; ldconfig makes it again",
    },
    KnownPath {
        pattern: r"\.pyc$|(^|/)__pycache__(/|$)",
        finding: "compiled Python has its source's time",
        hint: "set PYTHONDONTWRITEBYTECODE=1 in the step, or remove __pycache__",
    },
    KnownPath {
        pattern: r"^etc/machine-id$|^var/lib/dbus/machine-id$",
        finding: "each machine gets an id of its own",
        hint: "empty the file in the same RUN step: : > /etc/machine-id",
    },
    KnownPath {
        pattern: r"^etc/ssh/ssh_host_",
        finding: "host keys are random",
        hint: "remove them, and make them when the container starts",
    },
    KnownPath {
        pattern: r"^etc/shadow-?$",
        finding: "the day of a password's last change",
        hint: "chage -d 0 USER in the same RUN step, or useradd of shadow 4.9 and later with SOURCE_DATE_EPOCH",
    },
    KnownPath {
        pattern: r"^var/lib/apt/lists/|^var/cache/(apt|debconf)/|^var/lib/apt/",
        finding: "lists and caches of the package manager",
        hint: "remove them in the same RUN step: rm -rf /var/lib/apt/lists/* /var/cache/*",
    },
    KnownPath {
        pattern: r"^var/lib/(dpkg|rpm)/|^lib/apk/db/|^usr/lib/sysimage/rpm/",
        finding: "other packages, or other versions of them",
        hint: "pin versions, or a snapshot of the archive such as snapshot.debian.org",
    },
    KnownPath {
        pattern: r"^var/cache/fontconfig/|/\.uuid$",
        finding: "the font cache has times and ids",
        hint: "remove it in the same RUN step, or set SOURCE_DATE_EPOCH for fc-cache",
    },
    KnownPath {
        pattern: r"cacerts$|\.(jks|p12)$",
        finding: "key stores have times",
        hint: "make them when the container starts, or copy one that is made before",
    },
    KnownPath {
        pattern: r"(^|/)\.(npm|cache|cargo/registry|m2|gradle)/|(^|/)node_modules/\.cache/",
        finding: "caches of tools",
        hint: "remove them in the same RUN step, or keep them in a cache mount",
    },
    KnownPath {
        pattern: r"\.(gz|tgz|zip|jar|whl|egg)$",
        finding: "packed files have times of their own",
        hint: "gzip -n; for zip and jar, touch what is packed and use SOURCE_DATE_EPOCH",
    },
    KnownPath {
        pattern: r"\.(a|o|so|rlib)$|^usr/bin/[^.]+$|^usr/local/bin/[^.]+$",
        finding: "compiled files",
        hint: "look for __DATE__, __TIME__, build ids and paths in them; ar needs D",
    },
    KnownPath { pattern: r"^(var/)?tmp/|^run/", finding: "temporary files", hint: "remove them in the same RUN step" },
    KnownPath {
        pattern: r"(^|/)\.git/",
        finding: "a git checkout has times and packs of its own",
        hint: "remove .git, or export the commit: git archive",
    },
    KnownPath {
        pattern: r"^usr/share/info/dir",
        finding: "the directory of info pages depends on the order of installation",
        hint: "remove it in the same RUN step",
    },
];

static PATTERNS: LazyLock<Vec<Option<Regex>>> =
    LazyLock::new(|| KNOWN.iter().map(|known| Regex::new(known.pattern).ok()).collect());

/// Configuration fields that depend on the engine and the time; `--reproducible` removes them.
const OF_THE_MOMENT: [&str; 8] = [
    "created",
    "container",
    "container_config.",
    "config.Image",
    "config.Hostname",
    "config.Domainname",
    "parent",
    "docker_version",
];

/// The likely causes of these differences, the most frequent first.
pub(super) fn causes(configuration: &[Difference], layers: &[LayerPair]) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    let mut add = |what: &str, place: &str, hint: &'static str| match causes.iter_mut().find(|cause| cause.hint == hint)
    {
        Some(cause) => cause.places += 1,
        None => causes.push(Cause { finding: format!("{what} ({place})"), places: 1, hint }),
    };
    for difference in configuration {
        let what = difference.what.as_str();
        let values = [&difference.a, &difference.b].map(|value| value.as_deref().unwrap_or_default());
        let (of_a_step, any) =
            (what.starts_with("history["), |word: &str| values.iter().any(|value| value.contains(word)));
        let of_the_moment = OF_THE_MOMENT.iter().any(|key| what.starts_with(key))
            || of_a_step && (what.ends_with(".created") || what.ends_with(".comment") && any("FROM "));
        if of_the_moment {
            add("the configuration says when and in which container it was built", what, "build with --reproducible");
        } else if of_a_step && what.ends_with(".comment") && any("buildkit") {
            add("only one was built with BuildKit", what, "build both with the same --builder");
        }
    }
    for file in layers.iter().flat_map(|layer| &layer.files) {
        let only = |wanted: fn(&Aspect) -> bool| file.aspects.iter().all(wanted);
        if only(|aspect| matches!(aspect, Aspect::Time(..))) {
            add(
                "only times differ",
                &file.path,
                "build with --reproducible: later times than SOURCE_DATE_EPOCH become it",
            );
        } else if only(|aspect| matches!(aspect, Aspect::Owner(..) | Aspect::Header | Aspect::Time(..))) {
            add(
                "headers differ, files do not",
                &file.path,
                "build both on the same kind of engine, with --reproducible",
            );
        } else if let Some(KnownPath { finding, hint, .. }) = known(&file.path) {
            add(finding, &file.path, hint);
        }
    }
    if let Some(path) = layers.iter().find_map(|layer| layer.order.as_ref()) {
        add("the order of entries differs", path, "build with --reproducible, which puts them in order");
    }
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.places));
    causes
}

fn known(path: &str) -> Option<&'static KnownPath> {
    let fits = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(path));
    PATTERNS.iter().zip(&KNOWN).find(|(pattern, _)| fits(pattern)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one_and_known_paths_are_found() {
        assert!(PATTERNS.iter().all(Option::is_some));
        let what = |path| known(path).map(|known| known.finding);
        assert_eq!(what("var/log/apt/history.log"), Some("logs have dates"));
        assert_eq!(what("usr/lib/python3/__pycache__"), Some("compiled Python has its source's time"));
        assert_eq!(what("etc/shadow-"), Some("the day of a password's last change"));
        assert_eq!(what("root/.npm/_logs"), Some("caches of tools"));
        assert_eq!(what("etc/passwd"), None);
    }
}
