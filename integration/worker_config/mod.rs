//! Every file in worker-config/ is what this version of the program understands: each is parsed here, with the
//! program's own types where it has them, and where two of them set the same thing they must agree.

mod payload;
mod pool;
mod scopes;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use image_worker::config::plan::{ArtifactPlan, ContextPlan, ContextSource, ExportChoice, ImageFile, Plan};
use image_worker::config::settings::{self, Setting};
use image_worker::config::{Config, Destination, Output, ProcessEnvironment, Reuse, SettingLayers};
use image_worker::context::ContextScheme;
use image_worker::decision::task::{
    Content, Environment, TaskDefinition, Template, Values, environment, unread, values,
};
use image_worker::engine::{BuildPlan, BuilderChoice, CacheFrom, TargetArch};
use image_worker::job::CommandError;
use image_worker::job::shutdown::ShutdownReason;
use image_worker::net::ImageId;
use image_worker::taskcluster::{Access, Storage, TaskRun};
use regex::Regex;
use serde_json::Value;

const DECISION: &str = "fN1SbArXTPSVFNUvaOlinQ";
const TOOLCHAIN: &str = "YZXRUnMrR5SNKzLUaTbZEA";

/// What generic-worker puts into every task's environment, and what the feature taskclusterProxy adds.
const BY_THE_WORKER: [(&str, &str); 4] = [
    ("TASK_ID", "QzT3tvS4RFCvLrSQXg0BKg"),
    ("RUN_ID", "2"),
    ("TASKCLUSTER_ROOT_URL", "https://tc.example.com"),
    ("TASKCLUSTER_PROXY_URL", "http://127.0.0.1:8080"),
];

/// The variables of `run` that are promised to task authors.
const PROMISED: [&str; 31] = [
    "TASKCLUSTER_ROOT_URL",
    "TASKCLUSTER_PROXY_URL",
    "TASKCLUSTER_CLIENT_ID",
    "TASKCLUSTER_ACCESS_TOKEN",
    "TASKCLUSTER_CERTIFICATE",
    "TASK_ID",
    "RUN_ID",
    "IMAGE_NAME",
    "PROJECT",
    "HASH",
    "HASH_SCHEME",
    "CONTEXT_TASK_ID",
    "CONTEXT_PATH",
    "CONTEXT_URL",
    "PUSHDATE",
    "INDEX",
    "INDEX_HASH",
    "DOCKER_BUILD_ARGS",
    "DOCKER_BUILD_NETWORK",
    "DOCKER_BUILD_SECRETS",
    "SOURCE_DATE_EPOCH",
    "IMAGE_WORKER_BUILDER",
    "CACHE_FROM",
    "TARGET_ARCH",
    "PARENT_TASK_ID",
    "ARTIFACT_NAME",
    "ARTIFACT_EXPIRES",
    "DOCKER_IMAGE_ZSTD_LEVEL",
    "EXPORT",
    "DOCKER_HOST",
    "MAX_RUN_TIME",
];

/// Settings that are in no file here, because they are set elsewhere.
const ELSEWHERE: [(&[&Setting], &str); 8] = [
    (&[&settings::TASK_ID, &settings::RUN_ID, &settings::WORK_DIR], "generic-worker sets it"),
    (&[&settings::CLIENT_ID, &settings::ACCESS_TOKEN, &settings::CERTIFICATE], "a task has the proxy"),
    (
        &[&settings::REBUILD_TASK, &settings::NEEDED_UNTIL],
        "`decide` puts it into the tasks that need it, of any template",
    ),
    (&[&settings::CONFIG, &settings::JSON], "a person gives it on the command line"),
    (&[&settings::DRY_RUN, &settings::SHELL, &settings::OUTPUT, &settings::CONTEXT, &settings::ROOT], "for dry runs"),
    (&[&settings::DOCKER_AUTH_CONFIG], "a secret stands in no file"),
    (&[&settings::RUN_TASK], "a task's context comes packed"),
    (&[&settings::CHOWN_OUTPUT], "a caller in a container sets the owner of the output"),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("worker-config")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(directory().join(name)).unwrap()
}

fn yaml<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("worker-config/{name}: {error}"))
}

/// The two templates: the program publishes, or the worker.
const TEMPLATES: [&str; 2] = ["task.yml", "task-payload.yml"];
const BY_PAYLOAD: &str = TEMPLATES[1];

fn template(file: &str) -> Template {
    Template::new(yaml(file))
}

/// A plan with a value wherever a plan can have one.
fn plan() -> Plan {
    let root_url = ("TASKCLUSTER_ROOT_URL".to_owned(), BY_THE_WORKER[2].1.to_owned());
    let nasty = ("GREETING".to_owned(), "\"{{image_name}}\": 'ü'\n".to_owned());
    Plan {
        image: "builder".parse().unwrap(),
        project: "mozilla-central".parse().unwrap(),
        task: Some(TaskRun { task_id: BY_THE_WORKER[0].1.parse().unwrap(), run_id: 2 }),
        pushdate: "20151209123456".parse().unwrap(),
        context: ContextPlan {
            source: ContextSource::Artifact {
                task_id: DECISION.parse().unwrap(),
                name: "public/docker-contexts/builder.tar.gz".parse().unwrap(),
            },
            scheme: ContextScheme::Tar,
            hash: Some("ab".repeat(32).parse().unwrap()),
            directory: None,
            max_bytes: settings::CONTEXT_MAX_BYTES.default.unwrap().parse().unwrap(),
            max_entries: settings::CONTEXT_MAX_ENTRIES.default.unwrap().parse().unwrap(),
        },
        build: BuildPlan {
            args: [root_url, nasty].into(),
            network: Some("host".to_owned()),
            builder: BuilderChoice::BuildKit,
            secrets: r#"{"npm":{"taskcluster":"project/x/npm","key":"token"}}"#.parse().unwrap(),
            cache_from: Some(CacheFrom::Latest),
            target_arch: Some(TargetArch::Arm64),
        },
        parent: Some(TOOLCHAIN.parse().unwrap()),
        artifact: ArtifactPlan {
            name: "public/image.tar.zst".parse().unwrap(),
            expires: Some("2016-12-08T12:34:56.789Z".parse().unwrap()),
            storage: Storage::Auto,
            zstd_level: Some(10),
            export: ExportChoice::Squash,
        },
        index: "index.garbage.staging".parse().unwrap(),
        index_hash: Some("cd".repeat(32).parse().unwrap()),
        // The tests' clock stands there, and a later one is refused.
        dry_run: None,
        reproducible: Some(0),
    }
}

/// A plan with as few values as a plan can have, and with its context from a URL.
fn small_plan() -> Plan {
    let mut plan = plan();
    plan.context.source = ContextSource::Url("https://hg.example.com/context.tar.gz".parse().unwrap());
    (plan.context.scheme, plan.context.directory) =
        (ContextScheme::Contents, Some("testing/docker/builder".parse().unwrap()));
    plan.build.args.remove("GREETING");
    (plan.build.network, plan.build.cache_from, plan.parent) = (None, None, None);
    plan.build.target_arch = None;
    plan.artifact.name = "public/image.tar".parse().unwrap();
    (plan.artifact.expires, plan.artifact.zstd_level, plan.artifact.export) = (None, None, ExportChoice::Auto);
    plan.index = "index".parse().unwrap();
    (plan.index_hash, plan.reproducible) = (None, None);
    plan
}

/// The values of the decision task besides the plan.
fn around() -> Values {
    let sha256 = "ef".repeat(32);
    [
        ("decision_task_id", DECISION),
        ("task_group_id", DECISION),
        ("scheduler_id", "gecko-level-3"),
        ("priority", "medium"),
        ("provisioner_id", "gecko-3"),
        ("worker_type", "images"),
        ("image_worker_task_id", TOOLCHAIN),
        ("image_worker_sha256", &sha256),
        ("created", "2015-12-09T12:35:00.000Z"),
        ("deadline", "2015-12-10T12:35:00.000Z"),
        ("expires", "2016-12-08T12:35:00.000Z"),
        ("image_expires", "2016-12-08T12:34:56.789Z"),
        ("owner", "author@example.com"),
        ("source", "https://hg.example.com/mozilla-central/file/0123456789ab/testing/docker/builder"),
        ("revision", "0123456789ab"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn definition(plan: &Plan) -> TaskDefinition {
    definition_by(TEMPLATES[0], plan)
}

fn definition_by(file: &str, plan: &Plan) -> TaskDefinition {
    let mut all = around();
    all.extend(values(plan).unwrap());
    template(file).fill(&all).unwrap_or_else(|error| panic!("worker-config/{file}: {error}: {error:?}"))
}

/// The flags of the task's command.
fn flags(definition: &TaskDefinition) -> BTreeMap<&'static str, String> {
    image_worker::cli::parse(definition.payload.command[0].iter().map(OsString::from)).unwrap().flags
}

/// What `config` makes of a task's environment, and the variables that it looked at.
fn read_back(environment: &Environment, flags: BTreeMap<&'static str, String>) -> (Config, BTreeSet<String>) {
    let read_variables = RefCell::new(BTreeSet::new());
    let look_up = |name: &str| {
        read_variables.borrow_mut().insert(name.to_owned());
        let by_the_worker = BY_THE_WORKER.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        environment.get(name).map(String::as_str).or(by_the_worker).map(OsString::from)
    };
    let settings = SettingLayers::new(flags, &look_up).unwrap();
    let (directory, temporary) = (directory(), std::env::temp_dir());
    let environment = ProcessEnvironment { variable: &look_up, now: jiff::Timestamp::UNIX_EPOCH, directory, temporary };
    let config = Config::read(&settings, &environment).unwrap();
    (config, read_variables.into_inner())
}

/// Taskcluster's rule: a scope is satisfied by itself, or by a beginning of it that ends in `*`.
fn satisfied(scopes: &[String], needed: &str) -> bool {
    scopes.iter().any(|scope| scope == needed || scope.strip_suffix('*').is_some_and(|start| needed.starts_with(start)))
}

/// What a run is about to do, and the task that does it.
#[test]
fn a_plan_and_its_task() {
    insta::assert_json_snapshot!("plan", plan());
    insta::assert_json_snapshot!("task", definition(&plan()));
    insta::assert_json_snapshot!("task_whose_worker_publishes", definition_by(BY_PAYLOAD, &small_plan()));
}

/// Whether it builds, and what works in it, is tried in `managed`.
#[test]
fn the_worker_image_has_what_unprivileged_containers_need() {
    let dockerfile = std::fs::read_to_string(directory().join("Dockerfile")).unwrap();
    let lines: Vec<_> = dockerfile.lines().collect();
    assert!(lines.contains(&"USER worker"), "its programs are not root");
    for words in ["podman", "uidmap", "setcap cap_setuid+ep /usr/bin/newuidmap", "/etc/subuid", "/etc/subgid"] {
        assert!(dockerfile.contains(words), "{words}");
    }
}

#[test]
fn every_file_here_is_parsed_by_a_test_below() {
    let parsed = [
        "Dockerfile",
        "README.md",
        "image-worker.toml",
        "scopes.yml",
        "task-payload.yml",
        "task.yml",
        "worker-pool.yml",
    ];
    let mut files: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files, parsed,
        "a new file in worker-config/ needs a test here that parses it, and a place in this list"
    );
    let readme = read("README.md");
    for file in parsed.iter().filter(|file| **file != "README.md") {
        assert!(readme.contains(&format!("]({file})")), "worker-config/README.md must explain {file}");
    }
}

#[test]
fn what_a_plan_writes_into_a_task_is_read_as_the_same_plan() {
    let out = Destination::Payload(Output { directory: "out".into(), owner: None, file: None });
    for (file, destination) in TEMPLATES.into_iter().zip([Destination::Task, out]) {
        for plan in [plan(), small_plan()] {
            let definition = definition_by(file, &plan);
            let env = &definition.payload.env;
            assert_eq!(unread(env), [""; 0], "worker-config/{file} sets variables that no setting reads");
            let (config, read_variables) = read_back(env, flags(&definition));
            let ignored: Vec<_> = env.keys().filter(|variable| !read_variables.contains(*variable)).collect();
            assert!(ignored.is_empty(), "{file} sets {ignored:?}, which `run` has a setting for but never looks at");
            assert_eq!(serde_json::to_value(&config.plan).unwrap(), serde_json::to_value(&plan).unwrap());
            assert_eq!(
                config.max_run_time,
                Some(definition.payload.max_run_time),
                "MAX_RUN_TIME and maxRunTime differ"
            );
            assert!(matches!(config.deployment.unwrap().access, Access::Proxy(_)), "a task signs through the proxy");
            assert_eq!((config.destination, config.reuse), (destination.clone(), Reuse::Any), "a task publishes");
        }
    }
}

#[test]
fn the_task_has_all_variables_of_a_plan_and_none_of_the_workers() {
    let mut expected = environment(&plan()).unwrap();
    expected.insert("MAX_RUN_TIME".to_owned(), definition(&plan()).payload.max_run_time.to_string());
    assert_eq!(
        definition(&plan()).payload.env,
        expected,
        "task.yml and task::environment must have the same variables"
    );
    for (variable, _) in BY_THE_WORKER {
        assert!(!expected.contains_key(variable), "generic-worker overwrites {variable}: take it out of task.yml");
    }
}

#[test]
fn placeholders_in_the_environment_are_called_like_their_variables() {
    let task: Value = yaml("task.yml");
    for (variable, value) in task["payload"]["env"].as_object().unwrap() {
        let expected = format!("{{{{{}}}}}", variable.to_lowercase());
        assert!(variable == "MAX_RUN_TIME" || *value == expected, "task.yml: {variable} should be '{expected}'");
    }
    for file in TEMPLATES {
        let explained = read(file).lines().filter(|line| line.starts_with('#')).collect::<String>();
        for placeholder in template(file).placeholders().unwrap() {
            let is_variable = task["payload"]["env"].get(placeholder.to_uppercase()).is_some();
            let explains = explained.contains(&format!("{{{{{placeholder}}}}}"));
            assert!(is_variable || explains, "the head of {file} must explain {placeholder}");
        }
    }
}

#[test]
fn every_promised_variable_has_a_setting_and_every_setting_a_place() {
    let read_by_run: Vec<_> =
        settings::EVERYWHERE.iter().chain(settings::RUN.iter().copied().flatten()).copied().collect();
    for variable in PROMISED {
        let found = read_by_run.iter().any(|setting| setting.variable == variable);
        assert!(found, "{variable} was promised to task authors: it needs a setting that `run` takes");
    }
    let task = definition(&plan()).payload.env;
    let file: toml::Table = uncommented().parse().unwrap();
    for setting in read_by_run {
        let elsewhere = ELSEWHERE.iter().any(|(settings, _)| settings.contains(&setting));
        let places = [task.contains_key(setting.variable), file.contains_key(setting.name), elsewhere];
        assert!(
            places.contains(&true),
            "--{} ({}) is new: set it in worker-config/task.yml when a task decides it, in image-worker.toml when a \
             deployment does, or in this test's list ELSEWHERE",
            setting.name,
            setting.variable
        );
        assert!(!(elsewhere && (places[0] || places[1])), "take {} out of ELSEWHERE", setting.variable);
    }
}

#[test]
fn the_tasks_scopes_satisfy_its_index_inserts() {
    for plan in [plan(), small_plan()] {
        let scopes = definition(&plan).scopes;
        let identity = plan.identity(plan.context.hash.unwrap()).unwrap();
        let image = ImageFile { sha256: "ab".repeat(32).parse().unwrap(), size: 1, image_id: ImageId::of(b"") };
        let publication = plan.publication(&identity, &image, &[], jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(publication.insert_task.len(), 3);
        for insert in publication.insert_task {
            let needed = format!("index:insert-task:{}", insert.namespace);
            assert!(satisfied(&scopes, &needed), "worker-config/task.yml: {scopes:?} do not satisfy {needed}");
        }
        let other = "index:insert-task:docker.images.v1.mozilla-central.builder2.latest";
        assert!(!satisfied(&scopes, other), "a task could index another image: {scopes:?} satisfy {other}");
    }
}

#[test]
fn the_definition_is_one_that_the_worker_accepts() {
    for file in TEMPLATES {
        accepted_by_the_worker(&definition_by(file, &plan()));
    }
}

fn accepted_by_the_worker(definition: &TaskDefinition) {
    let TaskDefinition { payload, dependencies, .. } = definition;
    let path = PathBuf::from("image.tar");
    let infrastructure = CommandError::Write { path, source: std::io::ErrorKind::StorageFull.into() }.exit_code();
    let too_slow = CommandError::Stopped { reason: ShutdownReason::Deadline, stage: "building" }.exit_code();
    assert_eq!(payload.on_exit_status.retry, [infrastructure], "only what another run can fix is retried");
    assert!(!payload.on_exit_status.retry.contains(&too_slow), "six runs of the whole time would be spent");
    assert!(payload.features.taskcluster_proxy);
    for mount in &payload.mounts {
        let Content::Artifact { task_id, .. } = &mount.content else { continue };
        assert!(dependencies.contains(task_id), "generic-worker refuses to mount artifacts of {task_id}: depend on it");
    }
    let (program, arguments) = payload.command[0].split_first().unwrap();
    let (mounted, binary) = program.split_once('/').unwrap();
    assert_eq!((mounted, binary, payload.command.len()), (payload.mounts[0].directory.as_str(), "image-worker", 1));
    let typed = [&["image-worker".to_owned()], arguments].concat();
    image_worker::cli::parse(typed.into_iter().map(OsString::from)).unwrap();
    for group in &payload.os_groups {
        let TaskDefinition { provisioner_id, worker_type, scopes, .. } = definition;
        let needed = format!("generic-worker:os-group:{provisioner_id}/{worker_type}/{group}");
        assert!(satisfied(scopes, &needed), "the worker refuses the group {group} without the scope {needed}");
    }
    assert!(definition.created < definition.deadline && definition.deadline <= definition.expires);
}

/// The example file with its keys in force: what follows `# ` on lines that are TOML.
fn uncommented() -> String {
    let key = Regex::new(r"^# ([a-z][a-z-]* = .*)$").unwrap();
    let lines = read("image-worker.toml");
    lines
        .lines()
        .map(|line| key.captures(line).map_or(line, |found| found.get(1).unwrap().as_str()).to_owned() + "\n")
        .collect()
}

#[test]
fn the_example_file_is_accepted_as_it_is_and_with_all_its_keys_in_force() {
    let as_it_is: toml::Table = read("image-worker.toml").parse().unwrap();
    assert!(as_it_is.is_empty(), "an example changes nothing until somebody edits it");
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in [read("image-worker.toml"), uncommented()] {
        std::fs::write(&file, text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        // The task of a small plan, on a machine with the file: the task's own values win.
        let env = definition(&small_plan()).payload.env;
        let (config, _) = read_back(&env, [("config", path)].into());
        let mut expected = small_plan();
        expected.build.network = config.plan.build.network.clone();
        assert_eq!(serde_json::to_value(&config.plan).unwrap(), serde_json::to_value(&expected).unwrap());
    }
}

#[test]
fn the_example_file_shows_the_defaults() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, uncommented()).unwrap();
    let flags = [("config", file.path().to_str().unwrap().to_owned())].into();
    let settings = SettingLayers::new(flags, &|_| None).unwrap();
    let mut shown = 0;
    for setting in settings::ALL {
        let Some(given) = settings.get(setting).unwrap().filter(|_| **setting != settings::CONFIG) else { continue };
        let default = setting.default.or(setting.is_switch().then_some("false"));
        let same = default.is_none_or(|default| default == given.text);
        assert!(same, "image-worker.toml shows {} = {}, but the default is {default:?}", setting.name, given.text);
        shown += 1;
    }
    assert!(shown > 10, "the keys in image-worker.toml are written in another way now: fix `uncommented`");
}
