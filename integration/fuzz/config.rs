//! The configuration under fuzz: any environment, flags and file are read or refused by name; and what is read comes
//! out the same when a task is made of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;

use image_worker::config::settings::{self, Setting};
use image_worker::config::{Config, ConfigError, Destination, ProcessEnvironment, SettingLayers};
use image_worker::decision::task;
use image_worker::report;

use super::input::Input;

/// A part of every secret; it must not be printed.
const SECRET: &str = "swordfish";

const VALUES: [&str; 36] = [
    "",
    "builder",
    "mozilla-central",
    "fN1SbArXTPSVFNUvaOlinQ",
    "0",
    "1",
    "20151209123456",
    "1449664496",
    "true",
    "maybe",
    "public/docker-contexts/builder.tar.gz",
    "testing/docker/builder",
    "https://example.com/context.tar.gz?version=3",
    "https://me:pw@example.com/",
    "http://taskcluster",
    "tar",
    "contents",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    r#"{"BASE":"debian:12"}"#,
    r#"{"A":1}"#,
    "[",
    "host",
    "public/image.tar",
    "public/image.tar.zst",
    "2016-12-09T12:34:56.789Z",
    "2016-12-09T12:34:56.7891+01:00",
    "-009999-01-02T01:59:59Z",
    "9999-12-30T22:00:00.999999999Z",
    "object",
    "19",
    "20",
    "index.garbage.staging",
    "podman",
    "18446744073709551616",
    "payload",
    "1000:1000",
];

type Variables = BTreeMap<String, OsString>;

pub(super) fn target(data: &[u8]) {
    if data.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        return;
    }
    let mut input = Input::new(data);
    let mut variables = usual();
    let mut flags = BTreeMap::new();
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    match input.below(4) {
        0 => file.write_all(input.bytes()).expect("space for a small file"),
        1 => {
            for _ in 0..input.below(5) {
                let line = format!("{} = {:?}\n", setting(&mut input).name, value(&mut input).to_string_lossy());
                file.write_all(line.as_bytes()).expect("space for a small file");
            }
        }
        _ => {}
    }
    // Which file is read is not for the input to decide: it could name a device.
    variables.insert("IMAGE_WORKER_CONFIG".to_owned(), file.path().into());
    while !input.is_empty() {
        let setting = setting(&mut input);
        match input.below(4) {
            0 => drop(variables.remove(setting.variable)),
            1 if !setting.secret => {
                drop(flags.insert(setting.name, value(&mut input).to_string_lossy().into_owned()));
            }
            _ if setting.secret => drop(variables.insert(setting.variable.to_owned(), SECRET.into())),
            _ => drop(variables.insert(setting.variable.to_owned(), value(&mut input))),
        }
    }
    let config = match read(&variables, flags) {
        Ok(config) => config,
        Err(error) => return refused(&error, file.path().to_str().expect("a plain name")),
    };
    assert!(!format!("{config:?}").contains(SECRET), "a secret in {config:?}");
    let Ok(mut environment) = task::environment(&config.plan) else {
        assert_ne!(config.destination, Destination::Task, "only a dry run has a plan that no task can have");
        return;
    };
    assert_eq!(task::unread(&environment), [""; 0]);
    let _ = task::values(&config.plan);
    // The settings of the worker, and of the deployment.
    let run = config.plan.task.as_ref();
    let mut set = |setting: &Setting, value: String| drop(environment.insert(setting.variable.to_owned(), value));
    set(&settings::TASK_ID, run.map(|run| run.task_id.to_string()).unwrap_or_default());
    set(&settings::RUN_ID, run.map(|run| run.run_id.to_string()).unwrap_or_default());
    set(&settings::CONTEXT_MAX_BYTES, config.plan.context.max_bytes.to_string());
    set(&settings::CONTEXT_MAX_ENTRIES, config.plan.context.max_entries.to_string());
    set(
        &settings::ARTIFACT_STORAGE,
        serde_json::to_value(config.plan.artifact.storage).unwrap().as_str().unwrap().into(),
    );
    let root_url = config.deployment.as_ref().map(|deployment| deployment.root_url.reveal().to_string());
    set(&settings::ROOT_URL, root_url.unwrap_or_default());
    set(&settings::PROXY_URL, "http://taskcluster".to_owned());
    let (dry, by) = match config.destination {
        Destination::Task => ("0", "api"),
        Destination::Payload(_) => ("0", "payload"),
        Destination::DryRun(_) => ("1", "api"),
    };
    set(&settings::DRY_RUN, dry.to_owned());
    set(&settings::PUBLISH, by.to_owned());
    let environment = environment.into_iter().map(|(name, value)| (name, value.into())).collect();
    let again = read(&environment, BTreeMap::new()).expect("what was written can be read");
    let plan = |config: &Config| serde_json::to_value(&config.plan).unwrap();
    assert_eq!(plan(&again), plan(&config));
    assert_eq!(task::environment(&again.plan).unwrap(), task::environment(&config.plan).unwrap());
}

/// An environment as a task has it.
fn usual() -> Variables {
    [
        (&settings::IMAGE_NAME, "builder"),
        (&settings::PROJECT, "try"),
        (&settings::TASK_ID, "fN1SbArXTPSVFNUvaOlinQ"),
        (&settings::RUN_ID, "0"),
        (&settings::PUSHDATE, "20151209123456"),
        (&settings::CONTEXT_URL, "https://example.com/context.tar.gz"),
        (&settings::HASH, VALUES[17]),
        (&settings::ROOT_URL, "https://tc.example.com"),
        (&settings::PROXY_URL, "http://taskcluster"),
    ]
    .map(|(setting, value)| (setting.variable.to_owned(), value.into()))
    .into()
}

fn setting(input: &mut Input) -> &'static Setting {
    let readers = [settings::EVERYWHERE, &settings::RUN.concat()].concat();
    let setting = input.pick(&readers);
    if setting.name == "config" { &settings::VERBOSE } else { setting }
}

/// Variables have no NUL, in any system.
fn value(input: &mut Input) -> OsString {
    if input.below(4) > 0 {
        return input.pick(&VALUES).into();
    }
    OsString::from_vec(input.bytes().iter().copied().filter(|byte| *byte != 0).collect())
}

fn read(variables: &Variables, flags: BTreeMap<&'static str, String>) -> Result<Config, ConfigError> {
    let environment = |name: &str| variables.get(name).cloned();
    let settings = SettingLayers::new(flags, &environment)?;
    let environment = ProcessEnvironment {
        variable: &environment,
        // Later than the time that a reproducible image takes for itself.
        now: "2020-01-01T00:00:00Z".parse().unwrap(),
        directory: "/nowhere".into(),
        temporary: "/tmp".into(),
    };
    Config::read(&settings, &environment)
}

/// An error names the flag, the variable, or the file and its place in it; it has no secret and stays on its line.
fn refused(error: &ConfigError, file: &str) {
    let message = error.to_string();
    if let ConfigError::Several(problems) = error {
        for problem in problems {
            refused(problem, file);
        }
    }
    let mut all = [settings::EVERYWHERE, &settings::RUN.concat()].concat().into_iter();
    let named = all.any(|it| message.contains(it.variable) || message.contains(&format!("--{}", it.name)));
    assert!(named || message.contains(&format!("{file}: ")), "no setting is named: {message}");
    assert!(!format!("{message} {error:?}").contains(SECRET), "a secret: {message}");
    let line = report::error_line(&message);
    assert!(!line.chars().any(char::is_control), "an unsafe line: {line:?}");
}
