//! Groups of settings that several subcommands share. The table above defines the settings; each subcommand's file lists those it
//! takes.

use super::{
    ACCESS_TOKEN, ARTIFACT_NAME, CALL_TIMEOUT, CENTRAL, CERTIFICATE, CLIENT_ID, CONTEXT_MAX_BYTES, CONTEXT_MAX_ENTRIES,
    DOCKER_AUTH_CONFIG, DOCKER_CERT_PATH, DOCKER_CONFIG, DOCKER_CONTEXT, DOCKER_HOST, DOCKER_TLS_VERIFY, ENGINE, FORCE,
    IMAGES_DIR, KIND, PIN, PROJECT, PROXY_URL, REGISTRY_AUTH_FILE, ROOT, ROOT_URL, RUN_TASK, SILENCE, Setting, TRIES,
};

/// Settings that are taken together.
pub type SettingGroup = &'static [&'static Setting];

/// Where the images of a repository are.
pub const PLACE: SettingGroup = &[&ROOT, &RUN_TASK, &IMAGES_DIR, &KIND];
/// The settings of a context's limits.
pub const LIMITS: SettingGroup = &[&CONTEXT_MAX_BYTES, &CONTEXT_MAX_ENTRIES];
/// Where images are looked up.
pub const INDEXED: SettingGroup = &[&PROJECT, &CENTRAL, &ARTIFACT_NAME];
/// How calls are made.
pub const ACCESS: SettingGroup = &[&ROOT_URL, &PROXY_URL, &CLIENT_ID, &ACCESS_TOKEN, &CERTIFICATE];
/// How long and how often to try.
pub const RETRIES: SettingGroup = &[&TRIES, &CALL_TIMEOUT, &SILENCE];
/// Where an engine is.
pub const MACHINE: SettingGroup = &[
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
pub const PUSHING: SettingGroup = &[&FORCE, &PIN];
