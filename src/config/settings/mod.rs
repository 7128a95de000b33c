//! The table of settings: for each its flag, its environment variable, its key in the configuration file and
//! its help. The command line, the file reader, the man page and the task definition's test all read this one table.

mod groups;

pub use groups::{ACCESS, INDEXED, LIMITS, MACHINE, PLACE, PUSHING, RETRIES, SettingGroup};

/// One setting, in its three notations.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag without its dashes, which is also the key in the configuration file; unique.
    pub name: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The placeholder of the value in the help; empty for a switch.
    pub value_name: &'static str,
    /// The default value, as the help shows it.
    pub default: Option<&'static str>,
    /// One sentence for `--help`.
    pub help: &'static str,
    /// Another sentence in the help of a subcommand where the setting does something else.
    pub help_in: &'static [(&'static str, &'static str)],
    /// The group in `--help`.
    pub group: &'static str,
    /// Whether the flag can be repeated; then the value has a line for each.
    pub repeatable: bool,
    /// A secret has no flag, because other users of a machine can read command lines.
    pub secret: bool,
    /// Whether `-h` lists it; `--help` lists all.
    pub common: bool,
    /// A right value in place of a wrong or missing one, where other settings hang on it: with it the other problems are found.
    pub example: Option<&'static str>,
}

impl Setting {
    /// The expected form of a number, for settings that are one.
    pub(super) fn number_rule(&self) -> Option<String> {
        let unit = match self.value_name {
            "SECONDS" => "a whole number of seconds",
            "BYTES" => "a whole number of bytes",
            "N" => "a whole number",
            _ => return None,
        };
        let example = self.default.map(|default| format!(", like {default}")).unwrap_or_default();
        Some(format!("expected {unit}{example}"))
    }

    const fn new(name: &'static str, variable: &'static str, value_name: &'static str, help: &'static str) -> Self {
        let (group, repeatable, secret, common) = ("Options", false, false, false);
        Self {
            name,
            variable,
            value_name,
            default: None,
            help,
            help_in: &[],
            group,
            repeatable,
            secret,
            common,
            example: None,
        }
    }

    const fn help_in(mut self, help: &'static [(&'static str, &'static str)]) -> Self {
        self.help_in = help;
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn common(mut self) -> Self {
        self.common = true;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    /// The sentence for the `--help` of a subcommand.
    #[must_use]
    pub fn help_of(&self, subcommand: &str) -> &'static str {
        self.help_in.iter().find(|(name, _)| *name == subcommand).map_or(self.help, |(_, help)| help)
    }

    /// The flag, with its dashes.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        (!self.secret).then(|| format!("--{}", self.name))
    }

    /// What to do about a missing one.
    pub(super) fn way_to_set(&self) -> String {
        match self.flag() {
            Some(flag) if self.is_switch() => format!("give {flag}, or set it to 1"),
            Some(flag) => format!("set it, or give {flag} {}", self.value_name),
            None => "set it".to_owned(),
        }
    }

    /// Whether the setting is a switch, without a value on the command line.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }
}

const GLOBAL: &str = "Everywhere";
const JOB: &str = "The job";
const CONTEXT_GROUP: &str = "The context";
const BUILD: &str = "The build";
const ARTIFACT: &str = "The artifact and its routes";
const TREE: &str = "The image tree";
const DECISION: &str = "The decision";
const LOCAL: &str = "The local build";
const DEPLOYMENT: &str = "The deployment";
const ENGINE_GROUP: &str = "The machine";
const DRY: &str = "Dry run";
const RERUN_GROUP: &str = "The rerun";
const OUTPUT_GROUP: &str = "The output";

/// What `--root-url` is for where something is built.
const ALSO_AN_ARGUMENT: &str = "The deployment; also given to the build as an argument";

macro_rules! settings {
    ($($name:ident = $setting:expr;)*) => {
        $(#[doc = concat!("The setting `", stringify!($name), "`.")] pub const $name: Setting = $setting;)*
        /// Every setting there is.
        pub const ALL: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
    CONFIG = Setting::new("config", "IMAGE_WORKER_CONFIG", "FILE", "Read settings from a TOML file; flags and variables win over it").group(GLOBAL);
    JSON = Setting::new("json", "IMAGE_WORKER_JSON", "", "Print the answer on stdout as JSON").group(GLOBAL).common();
    VERBOSE = Setting::new("verbose", "IMAGE_WORKER_VERBOSE", "", "Verbose logging on stderr").group(GLOBAL).common();
    LOG_FORMAT = Setting::new("log-format", "IMAGE_WORKER_LOG_FORMAT", "FORMAT", "Log format on stderr: text or json").default("text").group(GLOBAL);
    PROGRESS = Setting::new("progress", "IMAGE_WORKER_PROGRESS", "HOW", "Progress on stderr: tty, steps and transfers redrawn in place, on a terminal only; plain, line by line; auto, tty outside of tasks on a terminal that is fit for it").default("auto").group(GLOBAL);

    IMAGE_NAME = Setting::new("image-name", "IMAGE_NAME", "NAME", "The image's name, the name of its directory").group(JOB).example("image");
    PROJECT = Setting::new("project", "PROJECT", "PROJECT", "The project that the image is indexed for").group(JOB).example("project").common();
    TASK_ID = Setting::new("task-id", "TASK_ID", "ID", "The task that publishes").group(JOB).example("AAAAAAAAQAqAAAAAAAAAAA");
    RUN_ID = Setting::new("run-id", "RUN_ID", "N", "The run of the task that publishes").group(JOB).example("0");
    PUSHDATE = Setting::new("pushdate", "PUSHDATE", "DATE", "The push: YYYYMMDDHHMMSS in UTC, or seconds since 1970").group(JOB).example("20200101000000");
    FORCE = Setting::new("force", "IMAGE_WORKER_FORCE", "", "Build even where the index has the image already").help_in(&[("build", "Push over a tag that has other content"), ("push", "Push over a tag that has other content")]).group(JOB).common();
    REBUILD_TASK = Setting::new("rebuild-task", "REBUILD", "", "Build although the index has the image already, unless this task itself has made it; `decide --rebuild` sets it").group(JOB);
    NEEDED_UNTIL = Setting::new("needed-until", "NEEDED_UNTIL", "TIME", "Take an image of the index only if it lasts until then, RFC 3339; `decide --renew-within` sets it [default: the task's deadline]").group(JOB);
    MAX_RUN_TIME = Setting::new("max-run-time", "MAX_RUN_TIME", "SECONDS", "The task's maxRunTime; the program stops by itself, cleanly, shortly before").group(JOB);

    CONTEXT_TASK_ID = Setting::new("context-task-id", "CONTEXT_TASK_ID", "ID", "The task that has the context as an artifact, usually the decision task").group(CONTEXT_GROUP).example("AAAAAAAAQAqAAAAAAAAAAA");
    CONTEXT_PATH = Setting::new("context-path", "CONTEXT_PATH", "PATH", "With CONTEXT_TASK_ID the artifact's name; with CONTEXT_URL the image directory in the repository").group(CONTEXT_GROUP).example("public/docker-contexts/image.tar.gz");
    CONTEXT_URL = Setting::new("context-url", "CONTEXT_URL", "URL", "Where the context can be downloaded directly").group(CONTEXT_GROUP).example("https://example.com/context.tar.gz");
    CONTEXT = Setting::new("context", "IMAGE_WORKER_CONTEXT", "DIR|FILE|URL", "The context for a dry run: an image directory, a context archive, or its URL").group(CONTEXT_GROUP).example("https://example.com/context.tar.gz").common();
    HASH = Setting::new("hash", "HASH", "SHA256", "The expected context hash").group(CONTEXT_GROUP).example("0000000000000000000000000000000000000000000000000000000000000000");
    HASH_SCHEME = Setting::new("hash-scheme", "HASH_SCHEME", "SCHEME", "How the hash is computed: tar (taskgraph), gz (taskgraph before 12, which is also tried where tar does not match) or contents (Gecko in 2015)").default("tar").group(CONTEXT_GROUP);
    CONTEXT_MAX_BYTES = Setting::new("context-max-bytes", "CONTEXT_MAX_BYTES", "BYTES", "Refuse a context with more uncompressed bytes").default("2147483648").group(CONTEXT_GROUP);
    CONTEXT_MAX_ENTRIES = Setting::new("context-max-entries", "CONTEXT_MAX_ENTRIES", "N", "Refuse a context with more entries").default("100000").group(CONTEXT_GROUP);

    ROOT = Setting::new("root", "IMAGE_WORKER_ROOT", "DIR", "The repository's root [default: the enclosing checkout]").group(TREE);
    RUN_TASK = Setting::new("run-task", "IMAGE_WORKER_RUN_TASK", "DIR", "The directory run-task of an installed taskgraph, which has the files of `# %include-run-task` [default: of the repository's own taskgraph, or of the one on PATH]").group(TREE);
    IMAGES_DIR = Setting::new("images-dir", "IMAGE_WORKER_IMAGES_DIR", "DIR", "The directory of the image directories, from the root; can be repeated, or a list with colons: an image is taken from the first that has it [default: testing/docker or taskcluster/docker, whichever is there; with a kind.yml the docker directory beside it]").group(TREE).repeatable();
    KIND = Setting::new("kind", "IMAGE_WORKER_KIND", "FILE", "The kind.yml of taskgraph's docker-image kind, which says what images there are; can be repeated, or a list with colons; `none`: take every image directory [default: taskcluster/kinds/docker-image/kind.yml or taskcluster/ci/docker-image/kind.yml, where there is one]").group(TREE).repeatable();

    EXPIRES_WITHIN = Setting::new("expires-within", "IMAGE_WORKER_EXPIRES_WITHIN", "SPAN", "List only images that the index will not have any more after this time, like 14d, or does not have now; without a NAME of all images of the tree; the exit code is 10 if there is one").group(TREE).common();

    DOT = Setting::new("dot", "IMAGE_WORKER_DOT", "", "Print a graph for Graphviz instead of a drawing").group(TREE).common();

    DECISION_TASK = Setting::new("decision-task", "IMAGE_WORKER_DECISION_TASK", "ID", "The decision task, which has the contexts as artifacts [default: TASK_ID]").group(DECISION).example("AAAAAAAAQAqAAAAAAAAAAA");
    CONTEXTS = Setting::new("contexts", "IMAGE_WORKER_CONTEXTS", "DIR", "Where the contexts of missing images are written, as NAME.tar.gz, to become the artifacts public/docker-contexts/NAME.tar.gz").default("docker-contexts").group(DECISION).common();
    TASK_TEMPLATE = Setting::new("task-template", "IMAGE_WORKER_TASK_TEMPLATE", "FILE", "The image task's definition with placeholders [default: worker-config/task.yml of this version]").group(DECISION);
    VALUES = Setting::new("values", "IMAGE_WORKER_VALUES", "JSON", "Values of the template's placeholders, a JSON object of strings, by NAME or ARCH:NAME; --value wins over it").default("{}").group(DECISION);
    OFFLINE = Setting::new("offline", "IMAGE_WORKER_OFFLINE", "", "Look nothing up, for a look at the graph: every image that it names gets a task, with dummies for what only a decision task knows").group(DECISION).common();

    RENEW_WITHIN = Setting::new("renew-within", "IMAGE_WORKER_RENEW_WITHIN", "SPAN", "Add a task for each image of the graph that the index will not have any more after this time, like 7d; the graph's tasks use the image that is there").group(DECISION).common();
    REBUILD = Setting::new("rebuild", "IMAGE_WORKER_REBUILD", "NAME|PATH", "Add a task for this image although the index has it, and let the graph's tasks use the new one; what is built from it is built again only if it is named, too; can be repeated, or a list with colons").group(DECISION).repeatable().common();

    WITH_PARENTS = Setting::new("with-parents", "IMAGE_WORKER_WITH_PARENTS", "", "Also build the images of the tree that these need, in order; what the engine has of the same content is not built again").group(LOCAL).common();
    NO_CACHE = Setting::new("no-cache", "IMAGE_WORKER_NO_CACHE", "", "Rebuild every step, and every image").group(LOCAL).common();

    JOBS = Setting::new("jobs", "IMAGE_WORKER_JOBS", "N", "How many images are built at once, each after those that it is built from").default("2").group(LOCAL).common();

    PUSH = Setting::new("push", "IMAGE_WORKER_PUSH", "", "Push the images afterwards, as `push` does").group(LOCAL).common();
    PIN = Setting::new("pin", "IMAGE_WORKER_PIN", "", "Write the digest of a pushed image to its file HASH").group(LOCAL).common();

    DOCKER_BUILD_ARGS = Setting::new("docker-build-args", "DOCKER_BUILD_ARGS", "JSON", "Build arguments, a JSON object of strings").default("{}").group(BUILD);
    DOCKER_BUILD_NETWORK = Setting::new("docker-build-network", "DOCKER_BUILD_NETWORK", "NETWORK", "Network of RUN steps, as the engine names it: host, none [default: the engine's]").group(BUILD);
    SECRET = Setting::new("secret", "DOCKER_BUILD_SECRETS", "id=ID,src=FILE", "A secret for RUN --mount=type=secret,id=ID; can be repeated; also id=ID,taskcluster=SECRET,key=KEY; in the variable a JSON object: {\"ID\": {\"file\": FILE}}").group(BUILD).repeatable();
    DENY_SECRET_ARGS = Setting::new("deny-secret-args", "IMAGE_WORKER_DENY_SECRET_ARGS", "", "Refuse build arguments that look secret, which would be in the image's history for everybody to read; --secret passes them to one step only").group(BUILD);
    BUILDER = Setting::new("builder", "IMAGE_WORKER_BUILDER", "BUILDER", "Who builds: classic, buildkit (stages side by side, RUN --mount), or auto: the one that the Dockerfile needs, else the engine's own").default("auto").group(BUILD);
    REPRODUCIBLE = Setting::new("reproducible", "IMAGE_WORKER_REPRODUCIBLE", "", "Make the image the same bytes whenever and wherever it is built: no time in it is later than SOURCE_DATE_EPOCH, or else than 2016-01-01, the time of all files of a context").group(BUILD);
    SOURCE_DATE_EPOCH = Setting::new("source-date-epoch", "SOURCE_DATE_EPOCH", "SECONDS", "The latest time in the image, seconds since 1970, not in the future; also given to the build as an argument; implies --reproducible").group(BUILD);
    CACHE_FROM = Setting::new("cache-from", "CACHE_FROM", "FROM", "Where steps may be taken from that have been built before: latest, the newest image of this name in the index; parent, the parent image; off, as is the default with --force, REBUILD and --reproducible").default("latest").group(BUILD);
    TARGET_ARCH = Setting::new("target-arch", "TARGET_ARCH", "ARCH", "The architecture of the image: amd64 or arm64 [default: the engine's]; RUN steps for another than the engine's need an emulator").group(BUILD);
    PARENT = Setting::new("parent", "IMAGE_WORKER_PARENT", "FROM", "Where the parent image of the tree comes from: index, CI's image of the same hash; build, built here as `build --with-parents` does; a dry run takes index where TASKCLUSTER_ROOT_URL is set, else build").group(BUILD);
    PARENT_TASK_ID = Setting::new("parent-task-id", "PARENT_TASK_ID", "ID", "The task whose image is the parent, $DOCKER_IMAGE_PARENT in the Dockerfile").group(BUILD).example("AAAAAAAAQAqAAAAAAAAAAA");

    ARTIFACT_NAME = Setting::new("artifact-name", "ARTIFACT_NAME", "NAME", "The image artifact; a name ending in .tar.zst compresses it; with --publish payload public/image.tar.zst").default("public/image.tar").group(ARTIFACT);
    ARTIFACT_EXPIRES = Setting::new("artifact-expires", "ARTIFACT_EXPIRES", "TIME", "When the artifact and its index entries expire, RFC 3339 [default: with the task]").group(ARTIFACT);
    ARTIFACT_STORAGE = Setting::new("artifact-storage", "ARTIFACT_STORAGE", "TYPE", "Storage type of the artifact: s3, object, or auto (s3, and object where the deployment refuses s3)").default("auto").group(ARTIFACT);
    ZSTD_LEVEL = Setting::new("zstd-level", "DOCKER_IMAGE_ZSTD_LEVEL", "1-19", "Compression level of a .tar.zst artifact").default("3").group(ARTIFACT);
    EXPORT = Setting::new("export", "EXPORT", "HOW", "How the image comes out of the engine: engine, by its export; storage, read where the engine keeps it, which is faster; auto, storage where that can be read; squash, another image of the same files in one layer").default("auto").group(ARTIFACT);
    PUBLISH = Setting::new("publish", "IMAGE_WORKER_PUBLISH", "HOW", "Who publishes: api, this program; payload, the worker, from where the task's payload declares the artifact; `replay` without it is a dry run").default("api").group(ARTIFACT).example("payload");
    CHOWN_OUTPUT = Setting::new("chown-output", "CHOWN_OUTPUT", "UID:GID", "Owner of what is written to --output").group(ARTIFACT);
    INDEX = Setting::new("index", "INDEX", "PREFIX", "Prefix of the routes").default("index").group(ARTIFACT);
    CENTRAL = Setting::new("central", "IMAGE_WORKER_CENTRAL", "PROJECT", "The project whose images every project may use").default("mozilla-central").group(ARTIFACT);
    INDEX_HASH = Setting::new("index-hash", "INDEX_HASH", "SHA256", "Hash used in the index route and the tag [default: HASH]").group(ARTIFACT);

    ROOT_URL = Setting::new("root-url", "TASKCLUSTER_ROOT_URL", "URL", "The deployment").help_in(&[("run", ALSO_AN_ARGUMENT), ("replay", ALSO_AN_ARGUMENT), ("build", ALSO_AN_ARGUMENT)]).group(DEPLOYMENT).example("https://example.com").common();
    PROXY_URL = Setting::new("proxy-url", "TASKCLUSTER_PROXY_URL", "URL", "taskcluster-proxy; API calls go there, unsigned").group(DEPLOYMENT).example("http://taskcluster");
    CLIENT_ID = Setting::new("client-id", "TASKCLUSTER_CLIENT_ID", "ID", "Client that signs API calls where there is no proxy").group(DEPLOYMENT).example("client");
    ACCESS_TOKEN = Setting::new("access-token", "TASKCLUSTER_ACCESS_TOKEN", "TOKEN", "Its access token").group(DEPLOYMENT).secret().example("token");
    CERTIFICATE = Setting::new("certificate", "TASKCLUSTER_CERTIFICATE", "JSON", "Its certificate, for temporary credentials").group(DEPLOYMENT).secret();
    TRIES = Setting::new("tries", "IMAGE_WORKER_TRIES", "N", "How often a call or a transfer is tried, the first time included [default: 6, a transfer 5]").group(DEPLOYMENT);
    CALL_TIMEOUT = Setting::new("call-timeout", "IMAGE_WORKER_CALL_TIMEOUT", "SECONDS", "How long one call to Taskcluster may take").default("60").group(DEPLOYMENT);
    SILENCE = Setting::new("silence", "IMAGE_WORKER_SILENCE", "SECONDS", "How long a storage service may say nothing before it is taken for dead").default("120").group(DEPLOYMENT);

    ENGINE = Setting::new("engine", "IMAGE_WORKER_ENGINE", "ENGINE", "The engine that builds: auto, docker, podman, or managed (a Podman that is started for the job)").default("auto").group(ENGINE_GROUP).common();
    DOCKER_HOST = Setting::new("docker-host", "DOCKER_HOST", "URL", "The engine's socket, unix://PATH or tcp://HOST:PORT [default: that of the current docker context, or the first that answers]").group(ENGINE_GROUP).example("unix:///var/run/docker.sock");
    DOCKER_CONTEXT = Setting::new("docker-context", "DOCKER_CONTEXT", "NAME", "The docker context whose engine builds, where DOCKER_HOST is not set; default takes none [default: docker's current one]").group(ENGINE_GROUP);
    DOCKER_TLS_VERIFY = Setting::new("docker-tls-verify", "DOCKER_TLS_VERIFY", "", "Speak TLS with the engine of DOCKER_HOST, and verify its certificate; the variable turns it on whatever its value").group(ENGINE_GROUP);
    DOCKER_CERT_PATH = Setting::new("docker-cert-path", "DOCKER_CERT_PATH", "DIR", "The directory with ca.pem, cert.pem and key.pem for TLS with the engine [default: docker's own configuration]").group(ENGINE_GROUP).example("/certs");
    DOCKER_CONFIG = Setting::new("docker-config", "DOCKER_CONFIG", "DIR", "The directory of docker's own configuration: contexts, credentials for registries, proxies for RUN steps [default: ~/.docker]").group(ENGINE_GROUP);
    REGISTRY_AUTH_FILE = Setting::new("registry-auth-file", "REGISTRY_AUTH_FILE", "FILE", "Credentials for registries, as `podman login` and `skopeo login` write them; they come before those of docker's configuration").group(ENGINE_GROUP);
    DOCKER_AUTH_CONFIG = Setting::new("docker-auth-config", "DOCKER_AUTH_CONFIG", "JSON", "Credentials for registries as in docker's config.json; they come before those of all files").group(ENGINE_GROUP).secret();
    WORK_DIR = Setting::new("work-dir", "TASK_WORKDIR", "DIR", "Directory for unfinished files, with room for the image [default: TMPDIR]").group(ENGINE_GROUP);

    DRY_RUN = Setting::new("dry-run", "IMAGE_WORKER_DRY_RUN", "", "Do the whole job but publish nothing: write image.tar and publish.json").group(DRY).common().example("1");
    SHELL = Setting::new("shell", "IMAGE_WORKER_SHELL", "", "When a step fails, keep the last good step's image, and open a shell in it where there is a terminal").group(DRY).common();
    OUTPUT = Setting::new("output", "IMAGE_WORKER_OUTPUT", "DIR", "Where a dry run writes; --publish payload writes to where the task's payload declares the image, or else to /workspace/out").default("./image-worker-out").group(DRY).common();

    YES = Setting::new("yes", "IMAGE_WORKER_YES", "", "Assume yes; do not ask").group(RERUN_GROUP).common();
    NO_FOLLOW = Setting::new("no-follow", "IMAGE_WORKER_NO_FOLLOW", "", "Do not wait for the end of the new run").group(RERUN_GROUP).common();
    LONGEST_PAUSE = Setting::new("longest-pause", "IMAGE_WORKER_LONGEST_PAUSE", "SECONDS", "The longest pause between two looks at the new run; it begins with a second").default("30").group(RERUN_GROUP);

    TAG = Setting::new("tag", "IMAGE_WORKER_TAG", "NAME[:TAG]", "The name that the image is to have in the engine [default: NAME:latest]").group(OUTPUT_GROUP).common();
    REPLACE = Setting::new("replace", "IMAGE_WORKER_REPLACE", "", "Give the image the archive's name, also if another image has it").group(OUTPUT_GROUP).common();
    LIST = Setting::new("list", "IMAGE_WORKER_LIST", "", "Print instead what goes into the context: mode, size, name, and the file that it is made from").group(OUTPUT_GROUP).common();
    LIMIT = Setting::new("limit", "IMAGE_WORKER_LIMIT", "N", "The most pushes to list").default("20").group(OUTPUT_GROUP).common();
    SINCE = Setting::new("since", "IMAGE_WORKER_SINCE", "DATE", "List no earlier pushes: YYYY-MM-DD in UTC, or a time").group(OUTPUT_GROUP).common();
    HTML = Setting::new("html", "IMAGE_WORKER_HTML", "FILE", "Also write a page for a browser, with charts; it needs no network").group(OUTPUT_GROUP).common();
    OUT = Setting::new("out", "IMAGE_WORKER_OUT", "FILE", "The file to write").help_in(&[("context", "The file to write: the context, a .tar.gz"), ("hash", "The file to write: the hash"), ("decide", "The file to write: the graph")]).group(OUTPUT_GROUP).common();
    SCHEME = Setting::new("scheme", "IMAGE_WORKER_SCHEME", "SCHEME", "tar (taskgraph) or contents (Gecko in 2015)").default("tar").group(CONTEXT_GROUP);
}

/// What every subcommand takes.
pub const EVERYWHERE: &[&Setting] = &[&CONFIG, &JSON, &VERBOSE, &LOG_FORMAT, &PROGRESS];

/// What only the image task's job takes.
pub const JOB_SETTINGS: SettingGroup = &[
    &IMAGE_NAME,
    &PROJECT,
    &TASK_ID,
    &RUN_ID,
    &PUSHDATE,
    &FORCE,
    &REBUILD_TASK,
    &NEEDED_UNTIL,
    &MAX_RUN_TIME,
    &CONTEXT_TASK_ID,
    &CONTEXT_PATH,
    &CONTEXT_URL,
    &CONTEXT,
    &HASH,
    &HASH_SCHEME,
    &CONTEXT_MAX_BYTES,
    &CONTEXT_MAX_ENTRIES,
    &ROOT,
    &RUN_TASK,
    &DOCKER_BUILD_ARGS,
    &DOCKER_BUILD_NETWORK,
    &BUILDER,
    &SECRET,
    &DENY_SECRET_ARGS,
    &REPRODUCIBLE,
    &SOURCE_DATE_EPOCH,
    &CACHE_FROM,
    &TARGET_ARCH,
    &PARENT_TASK_ID,
    &ARTIFACT_NAME,
    &ARTIFACT_EXPIRES,
    &ARTIFACT_STORAGE,
    &ZSTD_LEVEL,
    &EXPORT,
    &PUBLISH,
    &CHOWN_OUTPUT,
    &INDEX,
    &INDEX_HASH,
    &CENTRAL,
    &WORK_DIR,
    &DRY_RUN,
    &SHELL,
    &OUTPUT,
];

/// What the image task's job takes.
pub const RUN: &[SettingGroup] = &[JOB_SETTINGS, ACCESS, RETRIES, MACHINE];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_variables_are_unique() {
        let names: HashSet<_> = ALL.iter().map(|s| s.name).collect();
        let variables: HashSet<_> = ALL.iter().map(|s| s.variable).collect();
        assert_eq!((names.len(), variables.len()), (ALL.len(), ALL.len()));
    }
}
