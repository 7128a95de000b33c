//! Which subcommand takes which settings. What a setting is stands in the table above; what a subcommand takes besides is
//! `cli`'s.

use super::{
    ACCESS_TOKEN, ARTIFACT_NAME, BUILDER, CALL_TIMEOUT, CENTRAL, CERTIFICATE, CLIENT_ID, CONTEXT_MAX_BYTES,
    CONTEXT_MAX_ENTRIES, CONTEXTS, DECISION_TASK, DENY_SECRET_ARGS, DOCKER_AUTH_CONFIG, DOCKER_BUILD_NETWORK,
    DOCKER_CERT_PATH, DOCKER_CONFIG, DOCKER_CONTEXT, DOCKER_HOST, DOCKER_TLS_VERIFY, DOT, ENGINE, FORCE, IMAGES_DIR,
    INDEX, KIND, LIST, LONGEST_PAUSE, NO_CACHE, NO_FOLLOW, OFFLINE, OUT, PARENT, PIN, PROJECT, PROXY_URL, PUSH,
    PUSHDATE, REGISTRY_AUTH_FILE, REPLACE, ROOT, ROOT_URL, RUN, RUN_TASK, SCHEME, SECRET, SILENCE, Setting, TAG,
    TASK_TEMPLATE, TRIES, VALUES, WITH_PARENTS, WORK_DIR, YES, ZSTD_LEVEL,
};

/// Settings that are taken together.
type Taken = &'static [&'static Setting];

/// Where the images of a repository are.
const PLACE: Taken = &[&ROOT, &RUN_TASK, &IMAGES_DIR, &KIND];
/// What a context may have.
const LIMITS: Taken = &[&CONTEXT_MAX_BYTES, &CONTEXT_MAX_ENTRIES];
/// Where images are looked up.
const INDEXED: Taken = &[&PROJECT, &CENTRAL, &ARTIFACT_NAME];
/// How calls are made.
const ACCESS: Taken = &[&ROOT_URL, &PROXY_URL, &CLIENT_ID, &ACCESS_TOKEN, &CERTIFICATE];
/// How long and how often to try.
const RETRIES: Taken = &[&TRIES, &CALL_TIMEOUT, &SILENCE];
/// Where an engine is.
const MACHINE: Taken = &[
    &ENGINE,
    &DOCKER_HOST,
    &DOCKER_CONTEXT,
    &DOCKER_TLS_VERIFY,
    &DOCKER_CERT_PATH,
    &DOCKER_CONFIG,
    &REGISTRY_AUTH_FILE,
    &DOCKER_AUTH_CONFIG,
];
/// What pushing takes.
const PUSHING: Taken = &[&FORCE, &PIN];

/// Every subcommand that has settings, with them.
pub const SUBCOMMANDS: &[(&str, &[Taken])] = &[
    ("run", &[RUN, &[&IMAGES_DIR, &KIND, &PARENT]]),
    ("replay", &[RUN]),
    ("rerun", &[&[&YES, &NO_FOLLOW, &LONGEST_PAUSE], ACCESS, RETRIES]),
    ("hash", &[PLACE, LIMITS, &[&SCHEME, &OUT]]),
    ("context", &[PLACE, LIMITS, &[&SCHEME, &LIST, &OUT]]),
    ("lookup", &[PLACE, LIMITS, &[&SCHEME], INDEXED, &[&INDEX], ACCESS, RETRIES]),
    // Its --index is a route; the prefix of the routes has its variable and its key only.
    ("load", &[PLACE, LIMITS, &[&SCHEME], INDEXED, &[&TAG, &REPLACE], ACCESS, RETRIES, MACHINE]),
    (
        "decide",
        &[
            PLACE,
            LIMITS,
            &[&PUSHDATE, &DECISION_TASK, &CONTEXTS, &TASK_TEMPLATE, &VALUES, &OFFLINE, &OUT],
            INDEXED,
            &[&INDEX, &ZSTD_LEVEL],
            ACCESS,
            RETRIES,
        ],
    ),
    (
        "build",
        &[
            PLACE,
            LIMITS,
            &[&SCHEME, &WITH_PARENTS, &PARENT, &NO_CACHE, &PUSH],
            PUSHING,
            &[&DOCKER_BUILD_NETWORK, &BUILDER, &SECRET, &DENY_SECRET_ARGS, &WORK_DIR],
            INDEXED,
            &[&INDEX],
            ACCESS,
            MACHINE,
            RETRIES,
        ],
    ),
    ("push", &[PLACE, PUSHING, MACHINE, RETRIES]),
    ("tree", &[PLACE, LIMITS, &[&SCHEME, &DOT]]),
];

/// The settings that a subcommand takes.
pub fn of(subcommand: &str) -> impl Iterator<Item = &'static Setting> {
    let taken = SUBCOMMANDS.iter().filter(move |(name, _)| *name == subcommand);
    taken.flat_map(|(_, groups)| groups.iter().flat_map(|group| group.iter().copied()))
}
