//! What `--help` says of each verb before and below its flags. The flags' own help is in the table of settings.

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    published, or there already
  1    a bug in image-worker
  2    wrong usage or configuration
  10   the context is not what was promised, or is gone
  20   the image did not build
  30   infrastructure failed: network, registry, engine, disk; another try can help
  31   refused: a missing scope, or published already with other content
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM, after cleaning up";

pub(super) const RUN_HELP: &str = "\
The main job, inside a task: download the context, verify its hash, build the image, upload the archive, index it.
In a task everything comes from the environment; on a laptop, try
    image-worker run --dry-run NAME
which takes arguments, parent and hash from the image tree, publishes nothing, and writes to --output.";

pub(super) const DECIDE_HELP: &str = "\
The decision step. Reads a task graph, JSON or YAML, whose tasks name images, anywhere in their definitions:
    '{{#task_id_for_image}}NAME{{/task_id_for_image}}'  the task that has the task image NAME
    '{{#docker_image}}NAME{{/docker_image}}'            the registry image NAME: REGISTRY/NAME:VERSION
Each task image is looked up by its hash. Where it is missing, the graph gets one task that builds it, its context is
written to --contexts, and the tasks that need it wait for that task. What images there are says the kind.yml, where
there is one. With --offline, dummies stand for what only a decision task knows: for a look. Two forms of graphs are understood: that of 2015,
{\"tasks\": [{\"taskId\", \"task\", \"requires\"}]}, and taskgraph's task-graph.json, of labels or of task ids.";

pub(super) const CHECK_HELP: &str = "\
Says who can load an image archive, plain or packed with gzip, zstd, xz or bzip2: manifest and configuration agree, every
layer is the one that the configuration names, and plain; one name, the same in `repositories`; no member that is unsafe,
or that readers differ about. Prints all problems, each with who breaks on it, and who loads it. The exit code is 10 if
there is a problem.

With --compare it says what differs between two images, of any form and packing: configuration, names, layers, and in layers
file by file, with the likely causes. The exit code is 10 if they differ; --json has all that is cut here.";

pub(super) const LOOKUP_HELP: &str = "\
Says which tasks have these images already: in the central project or, with --project, in that one.
An entry of the index counts only if its artifact is there, whole and unexpired.
Prints `NAME TASK_ID`, or `NAME -`, a line each.";

pub(super) const BUILD_HELP: &str = "\
Builds image directories on this machine, each from exactly the context that a task would build it from, and prints
their tags and context hashes. An image with a VERSION becomes REGISTRY/NAME:VERSION, any other NAME:latest.
Where a Dockerfile says `FROM $DOCKER_IMAGE_PARENT`, the parent's local tag is put in. An executable NAME/build.sh is
run instead, with `-t TAG`.";

pub(super) const PUSH_HELP: &str = "\
Pushes what the engine has as REGISTRY/NAME:VERSION, and prints the digest that it has in the registry.
A tag that stands for other content there is not taken from it, unless you say --force.
Credentials are docker's own, from `docker login`, its helpers included.";

pub(super) const TREE_HELP: &str = "\
Shows every image, of the kind.yml where there is one: its kind, context hash, files and size, and which images it is made of.
All problems are listed at once, and the exit code is 10 if there are any; hints do not count.";

pub(super) const REPLAY_HELP: &str = "\
Fetches a task's definition (from a public deployment without credentials) and does its job here: the same context,
arguments and parent. A dry run, unless --publish. Flags win over the definition; the engine, the output and
credentials are this machine's. When the context has expired, give --context DIR; see also --shell.
    TASKCLUSTER_ROOT_URL=https://tc.example.com image-worker replay TASK_ID --shell";

pub(super) const RERUN_HELP: &str = "\
Tells how an image task stands and whether a rerun can work: runs, deadline, context, retries, the image in the index.
If so, asks (or not, with --yes), has the queue make another run, and follows it. If not, says what to do instead: a
retrigger, a new decision task, nothing. Looking needs no credentials at a public deployment; the rerun needs a scope
queue:rerun-task:SCHEDULER/GROUP/TASK. With --json, stdout has a line about the prospect and one about the run.";

pub(super) const RERUN_EXIT_CODES: &str = "\
Exit codes:
  0    the run completed, or there is nothing to do, or the answer was no
  2    wrong usage or configuration, of the task's definition too; nobody there to ask
  10   a new decision task is needed
  20   the run failed; its log says why
  30   the run ended in an exception, or infrastructure failed: another try can help
  31   the queue refuses a rerun, or it is not the time for it: a retrigger, waiting, a missing scope
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM; the run goes on";
