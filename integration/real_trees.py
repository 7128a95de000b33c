"""Checkouts of real repositories, as image-worker and their own taskgraph see them: one table in Markdown.

Run by scripts/real-trees, which says more. The taskgraph that a repository pins is installed into a virtual environment
of its own, kept by version. `images DIRECTORY` is run with that environment's Python: what the kind.yml lists, and the
context hashes of taskgraph itself.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

KINDS = ["taskcluster/kinds/docker-image/kind.yml", "taskcluster/ci/docker-image/kind.yml"]
# Firefox's own copy, and where others pin a version: what a decision task installs, and the image that it runs in.
VENDORED = "third_party/python/taskcluster_taskgraph"
PINS = [
    ("taskcluster/requirements.txt", r"^taskcluster[-_]taskgraph(?:\[.*?\])?==([0-9.]+)"),
    (".taskcluster.yml", r"taskgraph:decision-v([0-9.]+)"),
    ("uv.lock", r'^name = "taskcluster-taskgraph"\nversion = "([0-9.]+)"'),
]
# Before this version the hash is of the packed bytes, which are another machine's zlib's.
FIRST_WITH_TAR = 12
# For those, and for repositories that pin nothing.
NEWEST = "24.5.1"
COLUMNS = ["repository", "commit", "taskgraph", "images", "equal", "decided", "refused (why)", "tree"]


def main():
    parser = argparse.ArgumentParser(prog="scripts/real-trees", description=__doc__)
    parser.add_argument("--program", default="target/debug/image-worker", help="image-worker's binary")
    parser.add_argument("--kind", help="another kind.yml than the usual one, from the checkout's root")
    shown = "a checkout; OWNER+NAME is shown as OWNER/NAME"
    parser.add_argument("checkouts", nargs="+", metavar="DIRECTORY", help=shown)
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    full = True
    for checkout in options.checkouts:
        row = Row(os.path.abspath(options.program), os.path.abspath(checkout), options.kind)
        print(row.line(), flush=True)
        for line in row.details():
            print(f"{row.repository}: {line}", file=sys.stderr)
        full &= row.is_full()
    return 0 if full else 1


class Row:
    """One checkout, compared."""

    def __init__(self, program, checkout, kind):
        self.program = program
        self.checkout = checkout
        self.given_kind = kind
        self.repository = os.path.basename(checkout).replace("+", "/")
        # What keeps the whole checkout from being compared.
        self.skipped = None
        # What the program says to images that taskgraph hashes otherwise, and when it decides, with their names.
        self.different, self.refused = {}, {}
        self.equal, self.decided, self.images, self.own_transforms = 0, 0, [], []
        self.tree = "-"
        self.commit = run(["git", "-C", checkout, "rev-parse", "--short=10", "HEAD"]).stdout.strip() or "-"
        self.compare()

    def compare(self):
        kinds = [self.given_kind] if self.given_kind else KINDS
        kind = next((kind for kind in kinds if os.path.exists(os.path.join(self.checkout, kind))), None)
        if kind is None:
            self.taskgraph, self.skipped = "-", "no docker-image kind"
            return
        version, self.taskgraph = pinned(self.checkout)
        python = environment(version)
        if python is None:
            self.skipped = f"taskcluster-taskgraph=={version} cannot be installed"
            return
        listed = run([python, os.path.abspath(__file__), "images", self.checkout, kind], cwd=self.checkout)
        if listed.returncode:
            self.skipped = f"taskgraph cannot read the kind: {last_line(listed.stderr)}"
            return
        listed = json.loads(listed.stdout)
        self.images, self.own_transforms = listed["images"], listed["ownTransforms"]
        # The files of `# %include-run-task` are those of the taskgraph on PATH.
        self.environment = {**os.environ, "PATH": f"{os.path.dirname(python)}:{os.environ['PATH']}"}
        if self.given_kind:
            self.environment["IMAGE_WORKER_KIND"] = kind
        for image in self.images:
            self.compare_hash(image)
        self.decide()
        tree = self.ask("tree")
        self.tree = f"{tree.returncode}" + (f": {self.reason(tree)}" if tree.returncode else "")

    def ask(self, *arguments, **options):
        return run([self.program, *arguments], cwd=self.checkout, env=self.environment, **options)

    def reason(self, answer):
        """The one line that says why a command failed."""
        lines = answer.stderr.strip().splitlines()
        marks = r"(error:|\[taskcluster-image-build:error\])\s*"
        errors = [re.sub(marks, "", line) for line in lines if re.match(marks, line)]
        return (errors or lines or ["no message"])[0].replace(self.checkout + "/", "")

    def compare_hash(self, image):
        answer = self.ask("hash", image["name"])
        own = answer.stdout.strip() if answer.returncode == 0 else None
        if own == image["hash"]:
            # An image that both refuse is not counted.
            self.equal += own is not None
        else:
            why = own or self.reason(answer).replace(image["name"], "NAME")
            why += f", taskgraph: {image['hash'] or image['error']}" if own else ""
            self.different.setdefault(why, []).append(image["name"])

    def decide(self):
        """A graph that names every image; where that is refused, one graph each says which images are the reason."""
        images = self.healthy()
        if self.decide_images(images) is None:
            self.decided = len(images)
            return
        for image in images:
            why = self.decide_images([image])
            if why is None:
                self.decided += 1
            else:
                self.refused.setdefault(why.replace(image["name"], "NAME"), []).append(image["name"])

    def decide_images(self, images):
        """Why it was refused, if it was."""
        graph = {
            f"uses-{image['name']}": {
                "task": {"payload": {"image": "{{#task_id_for_image}}" + image["name"] + "{{/task_id_for_image}}"}},
                "dependencies": {},
            }
            for image in images
        }
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["decide", "--offline", "-", "-o", f"{folder}/graph.json", "--contexts", f"{folder}/contexts"]
            answer = self.ask(*arguments, "--project", "real-trees", input=json.dumps(graph))
            if answer.returncode:
                return f"exit {answer.returncode}: {self.reason(answer)}"
            with open(f"{folder}/graph.json", encoding="utf-8") as file:
                tasks = json.load(file)
        for image in images:
            task = tasks.get(f"docker-image-{image['name']}", {}).get("task", {})
            found = task.get("payload", {}).get("env", {}).get("HASH")
            if found != image["hash"]:
                return f"the HASH of the task of {image['name']} is {found}"
        return None

    def healthy(self):
        return [image for image in self.images if image["hash"]]

    def is_full(self):
        if self.skipped:
            return True
        # What a project's own transforms make of an entry is not known here; said, and no fault.
        excused = bool(self.own_transforms)
        whole = len(self.healthy()) == len(self.images)
        is_decided = self.decided == len(self.healthy()) or excused
        return not self.different and is_decided and (self.tree == "0" or excused or not whole)

    def line(self):
        if self.skipped:
            return self.cells(["-", "-", "-", f"skipped: {self.skipped}", "-"])
        unhealthy = len(self.images) - len(self.healthy())
        images = f"{len(self.images)}" + (f", {unhealthy} of them refused by taskgraph" if unhealthy else "")
        why = [f"{len(names)} × {shortened(text)}" for text, names in list(self.refused.items())[:2]]
        why += ["…"] * (len(self.refused) > 2)
        why += [f"own transforms: {', '.join(self.own_transforms)}"] * bool(self.own_transforms)
        return self.cells([images, str(self.equal), str(self.decided), "; ".join(why) or "-", shortened(self.tree)])

    def details(self):
        """What the table has no room for."""
        yield from (f"differs: {', '.join(names)}: {text}" for text, names in self.different.items())
        yield from (f"refused: {', '.join(names)}: {text}" for text, names in self.refused.items())
        yield from [f"tree: exit {self.tree}"] * (self.tree not in ("-", "0"))

    def cells(self, rest):
        cells = [self.repository, f"`{self.commit}`", self.taskgraph, *rest]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def pinned(checkout):
    """The version to compare with, and what the table says of it."""
    vendored = os.path.join(checkout, VENDORED)
    names = os.listdir(vendored) if os.path.isdir(vendored) else []
    found = [match for match in (re.fullmatch(r".*-([0-9.]+)\.dist-info", name) for name in names) if match]
    for name, pattern in PINS:
        path = os.path.join(checkout, name)
        if not found and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found = list(re.finditer(pattern, file.read(), re.MULTILINE))
    return judged(found[0][1]) if found else (NEWEST, f"no version pinned; {NEWEST}")


def judged(version):
    if int(version.split(".")[0]) < FIRST_WITH_TAR:
        return NEWEST, f"{version} hashes packed bytes; {NEWEST}"
    return version, version


def environment(version):
    """The Python that has this taskgraph; it is installed the first time."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.path.join(cache, "image-worker", f"taskgraph-{version}")
    python = os.path.join(home, "bin/python")
    works = [python, "-c", "import taskgraph.util.docker"]
    if os.path.exists(python) and run(works).returncode == 0:
        return python
    print(f"installing taskcluster-taskgraph=={version} into {home}", file=sys.stderr)
    steps = [
        [sys.executable, "-m", "venv", "--clear", home],
        [f"{home}/bin/pip", "install", "--quiet", f"taskcluster-taskgraph=={version}"],
        works,
    ]
    for step in steps:
        answer = run(step)
        if answer.returncode:
            print(f"skipped: {last_line(answer.stderr)}", file=sys.stderr)
            return None
    return python


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def last_line(text):
    return (text.strip().splitlines() or ["no message"])[-1]


def shortened(text):
    return text if len(text) <= 120 else text[:119] + "…"


def images(checkout, kind):
    """The images of a checkout's kind, with the hashes that taskgraph's docker_image transform would give its tasks."""
    from taskgraph.util.docker import generate_context_hash

    config, entries = read_kind(checkout, kind)
    listed = []
    for name, (directory, entry) in entries.items():
        image = {"name": name, "hash": None, "error": None}
        try:
            path = os.path.join(directory, entry.get("definition", name))
            image["hash"] = generate_context_hash(checkout, path, entry.get("args", {}))
        except Exception as error:  # whatever keeps taskgraph from hashing it
            image["error"] = f"{type(error).__name__}: {error}"
        listed.append(image)
    transforms = [transform.partition(":")[0] for transform in config.get("transforms", [])]
    known = [n for n, name in enumerate(transforms) if re.match(r"(gecko_)?taskgraph\..*docker_image$", name)]
    # Those behind it change tasks that are done; what an image is made from stays.
    return {"images": listed, "ownTransforms": transforms[: known[0] if known else None]}


def read_kind(checkout, kind):
    """A kind.yml, and its entries by name, each with the directory that its image's directory is in."""
    from taskgraph.util.templates import merge
    from taskgraph.util.yaml import load_yaml

    directory = os.path.dirname(kind)
    docker = os.path.normpath(os.path.join(directory, "../../docker"))
    config = load_yaml(checkout, kind)
    entries = {}
    if "reference-base-path" in config:
        # Thunderbird takes images of Firefox's, around it.
        other = os.path.join(config["reference-base-path"], os.path.basename(directory), "kind.yml")
        if os.path.normpath(other) == os.path.normpath(kind):
            raise ValueError("its reference-tasks are another project's, which is not around this checkout")
        found = read_kind(checkout, other)[1]
        entries = {name: entry for name, entry in found.items() if name in config["reference-tasks"]}
    defaults = config.get("task-defaults", config.get("job-defaults", {}))
    files = [config.get("tasks", config.get("jobs", {}))]
    files += [load_yaml(checkout, directory, name) for name in config.get("tasks-from", config.get("jobs-from", []))]
    for file in files:
        # A file's own defaults are for its own entries.
        own = merge(defaults, file.pop("task-defaults", file.pop("job-defaults", {})))
        entries.update({name: (docker, merge(own, entry or {})) for name, entry in file.items()})
    return config, entries


if __name__ == "__main__":
    if sys.argv[1:2] == ["images"]:
        json.dump(images(*sys.argv[2:]), sys.stdout)
    else:
        sys.exit(main())
