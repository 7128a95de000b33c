"""Random image directories, hashed by image-worker and by the real taskgraph: every answer must be the same.

Run by scripts/compare-taskgraph. The scheme `tar` is compared with the installed package, `contents` with the four
steps of taskgraph's documentation, written down below. A tree that one side refuses, the other must refuse as well;
the few documented exceptions are trees that taskgraph takes (or hangs on) and image-worker refuses on purpose.
`# %include-run-task` takes the files of the same package: it is the `taskgraph` on PATH.
"""

import argparse
import collections
import hashlib
import importlib.metadata
import inspect
import io
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import unicodedata

from taskgraph.util import docker
from taskgraph.util.docker import generate_context_hash, stream_context_tar

IMAGE = "testing/docker/image"
# Releases before 19.1 take these along; image-worker does as newer ones do.
LEAVES_CACHES_OUT = "__pycache__" in inspect.getsource(docker)
SIZES = [0, 1, 100, 511, 512, 513, 1024, 7679, 7680, 7681, 8703, 8704, 8705, 9728, 10239, 10240, 10241, 20480]
SIZES += [16383, 16384, 16385, 65535, 65536, 65537, 200000]
MODES = [0o644] * 6 + [0o755] * 4 + [0o600, 0o400, 0o777, 0o666, 0o664, 0o1644, 0o1755, 0o640, 0o444, 0o555]
# Pairs that sort differently by bytes, by code points, by UTF-16 units or with `/` as a separator.
NAMES = ["a", "b", "A", "B", "a.b", "a-b", "a b", "a0", "ab", "_", "-x", ".hidden", "Dockerfile.in", "dockerfile"]
NAMES += ["é", "e\u0301", "ß", "字", "\ud7ff", "\ue000", "\uffee", "\U0001f600", "\U00010000"]
NAMES += ["q'\"\\*?$"]
# `run` refuses contexts with these, so that only some trees have any.
UNSAFE_NAMES = ["new\nline"]
UNSAFE_NAMES += [os.fsdecode(raw) for raw in (b"\x80", b"\xff", b"a\xff", b"\xed\xa0\x80", b"\xe2\x28", b"\xc3", b"\xf0\x9f")]
ARG_NAMES = ["A", "B", "AB", "_x", "PY3", "É", "字", "A-", "a b", "9"]
VALUES = ["", "debian:12", "3.11", "a=b", "$A", "$B", "x$A$B", "&", "%s", "é字\U0001f600", " spaced "]
VALUES += ["one\ntwo", "cr\rx", "tab\t", '"quoted"', "'", "{}", "# %include ", "# %ARG B", "#", "a/./b", "\u2028"]
VALUES += ["long" * 60]
ESCAPES = [r"a\\b", r"\n", r"\t\a\b\f\r\v", r"\g<0>", r"[\g<00>]", r"\0", r"\07", r"\101", r"\0101", r"\377"]
ESCAPES += [r"\.\-\é"]
BAD_ESCAPES = ["C:\\dir", "end\\", r"\1", r"\99", r"\400", r"\g<1>", r"\g<x>", r"\g", r"\g<", r"\x41", r"\18", r"\8"]
SPACES = ["", "", "", "", " ", "\t", "  ", "\x0b", "\x1f", "\u2003", "\xa0"]


class Tree:
    """One repository with one image directory, made from a seed."""

    def __init__(self, base, seed):
        self.rng = random.Random(seed)
        self.base = base
        self.root = os.path.join(base, "repo")
        self.image = os.path.join(self.root, IMAGE)
        self.args = {}
        # Why image-worker refuses this tree and taskgraph does not, by scheme.
        self.deviation = {}
        self.has_unsafe_names = self.chance(15)
        self.files = []
        self.directories = []
        os.makedirs(self.image)
        self.fill(self.image, self.rng.randrange(0, 9))
        for name in ("tools", "testing/docker/other", "python mod"):
            path = os.path.join(self.root, name)
            os.makedirs(path)
            self.directories.append(name)
            self.fill(path, self.rng.randrange(0, 6))
        if self.chance(15):
            # Its files of the same names are replaced, if the Dockerfile includes run-task.
            path = os.path.join(self.image, "run-task")
            if not os.path.lexists(path):
                os.mkdir(path)
                for name in ("run-task", "hgrc", "other"):
                    self.write(os.path.join(path, name))
        self.write_dockerfile()
        self.odd_things()

    def chance(self, percent):
        return self.rng.random() * 100 < percent

    def name(self, below):
        kind = self.rng.randrange(10)
        if kind < 7:
            return self.rng.choice(NAMES + UNSAFE_NAMES if self.has_unsafe_names else NAMES)
        if kind == 7:
            return self.rng.choice(["é", "x"]) * self.rng.randrange(1, 60)
        # So long that the name in the archive is about as long as a limit of the tar format.
        inside = os.path.relpath(below, self.image if below.startswith(self.image) else self.root) + "/"
        limit = self.rng.choice([98, 99, 100, 101, 102, 154, 155, 156, 255, 256, 257, 512, 513])
        length = limit - (len(os.fsencode(inside)) if not inside.startswith("./") else 0)
        if not below.startswith(self.image):
            length -= len("topsrcdir/")
        return "n" * max(1, min(length, 255))

    def fill(self, directory, count, depth=0):
        for _ in range(count):
            path = os.path.join(directory, self.name(directory))
            if os.path.lexists(path) or os.path.basename(path) == "Dockerfile":
                continue
            inside = os.path.relpath(path, self.root)
            kind = self.rng.randrange(20)
            if kind < 4 and depth < 4:
                os.mkdir(path)
                self.directories.append(inside)
                self.fill(path, self.rng.randrange(0, 5), depth + 1)
            elif kind == 4 and depth < 4 and LEAVES_CACHES_OUT:
                cache = os.path.join(directory, "__pycache__")
                if not os.path.lexists(cache):
                    self.make_cache(cache, depth)
            elif kind < 7 and (self.files or self.directories):
                self.link(path)
            else:
                self.write(path)
                self.files.append(inside)

    def make_cache(self, cache, depth):
        kind = self.rng.randrange(5)
        if kind == 0:
            self.write(cache)
        elif kind == 1 and self.directories:
            os.symlink(os.path.join(self.root, self.rng.choice(self.directories)), cache)
        else:
            os.mkdir(cache)
            self.directories.append(os.path.relpath(cache, self.root))
            self.fill(cache, 2, depth + 1)

    def write(self, path):
        with open(path, "wb") as file:
            file.write(self.rng.randbytes(self.rng.choice(SIZES)))
        os.chmod(path, self.rng.choice(MODES))

    def link(self, path):
        target = os.path.join(self.root, self.rng.choice(self.files + self.directories))
        is_file = os.path.isfile(target) and not os.path.islink(target)
        if self.chance(50):
            target = os.path.relpath(target, os.path.dirname(path))
        if is_file and self.chance(20):
            os.link(os.path.join(os.path.dirname(path), target), path)
        elif self.chance(8):
            os.symlink("/dev/null", path)
        else:
            os.symlink(target, path)

    def include(self):
        """The path of an `# %include` line, mostly of something that is there."""
        known = [p for p in self.files + self.directories if p.isprintable() and p.strip() == p] or ["tools"]
        path = self.rng.choice(known)
        parts = path.split("/")
        kind = self.rng.randrange(0 if self.has_unsafe_names else 7, 40)
        if kind < 4:
            parts.insert(self.rng.randrange(len(parts)), self.rng.choice([".", "", "x/..", "tools/../", "none/.."]))
        elif kind < 6:
            parts.append(self.rng.choice(["", ".", "/"]))
        elif kind == 6:
            parts = ["..", "repo"] + parts
        path = "/".join(parts)
        if kind == 7 and self.chance(50):
            path = self.rng.choice(["none", "..", "../other", "/etc/passwd", "tools/../../..", "tools/none", "nul\0"])
        return path.lstrip("/") if kind < 4 else path

    def write_dockerfile(self):
        lines = []
        for name in self.rng.sample(ARG_NAMES, self.rng.choice([0, 0, 1, 2, 4])):
            self.args[name] = self.rng.choice(VALUES + (ESCAPES if self.chance(30) else []))
            if self.chance(3):
                self.args[name] = self.rng.choice(BAD_ESCAPES)
        for _ in range(self.rng.randrange(0, 12)):
            lines.append(self.line())
        if self.chance(2):
            lines.append("# %ARG MISSING")
        # A value is only looked at where a line follows its definition: one always does.
        lines.append("CMD $A ${A} $AB $B_ $É $字x $A- $A-b $a b $9")
        ends = self.rng.choice([["\n"], ["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r", "\n\r"]])
        text = "".join(line + self.rng.choice(ends) for line in lines)
        if self.chance(20):
            text = text.rstrip("\r\n")
        if self.chance(4):
            text = "\ufeff" + text
        raw = text.encode()
        if self.chance(2):
            raw += self.rng.choice([b"\xff", b"\xed\xa0\x80", b"\xc3"])
        path = os.path.join(self.image, "Dockerfile")
        if self.chance(10):
            os.symlink("../other.Dockerfile", path)
            path = os.path.join(self.root, "testing/docker/other.Dockerfile")
        with open(path, "wb") as file:
            file.write(raw)
        os.chmod(path, self.rng.choice(MODES + [0o4755]))

    def line(self):
        kind = self.rng.randrange(13)
        if kind == 12:
            return self.run_task()
        if kind < 3 and self.args:
            return "# %ARG " + self.rng.choice(SPACES) + self.rng.choice(list(self.args)) + self.rng.choice(SPACES)
        if kind < 5:
            return "# %include " + self.rng.choice(SPACES) + self.include() + self.rng.choice(SPACES)
        if kind == 5 and self.args:
            # The path of an include may come from an argument.
            name = self.rng.choice(list(self.args))
            if self.chance(70):
                self.args[name] = self.rng.choice(self.directories)
                self.args[name] = self.args[name] if self.args[name].isprintable() else "tools"
            return f"# %ARG {name}\r\n# %include ${name}"
        names = self.rng.choices(ARG_NAMES + ["", "{A}", "AX", "A.B", "A\u0301", "A½", "AⒶ"], k=3)
        return self.rng.choice(
            [
                "FROM scratch",
                "",
                "# comment",
                "#%include none",
                " # %include none",
                "# %Include none",
                "RUN a\x0bb\x0cc\x1cd\x85e\u2028f",
                "RUN " + " ".join("$" + name for name in names),
                "RUN " + self.rng.choice(["", "x", "/"]).join("$" + name for name in names),
                f"$A {self.include()}",
                f"# %includeX{self.include()}",
                f"# %include-{self.include()}",
            ]
        )

    def run_task(self):
        """A line `# %include-run-task`, or one that looks like it."""
        kind = self.rng.randrange(8)
        if kind == 0:
            return self.rng.choice([" # %include-run-task", "#%include-run-task", "# %INCLUDE-run-task"])
        if kind == 1:
            self.args["W"] = "run-task"
            return "# %ARG W\n# %include-$W"
        return "# %include-run-task" + self.rng.choice(SPACES)

    def odd_things(self):
        """Now and then something that one side or both refuse."""
        kind = self.rng.randrange(200)
        path = os.path.join(self.image, "odd")
        dockerfile = os.path.join(self.image, "Dockerfile")
        if kind < 3:
            os.symlink(self.rng.choice(["nowhere", "odd", "/nowhere/x"]), path)
        elif kind < 6:
            self.write(path)
            os.chmod(path, self.rng.choice([0o4755, 0o2755, 0o6644]))
        elif kind == 6:
            with socket.socket(socket.AF_UNIX) as unix:
                here = os.getcwd()
                os.chdir(self.image)
                unix.bind("odd")
                os.chdir(here)
        elif kind == 7:
            os.remove(dockerfile)
        elif kind < 10:
            os.mkfifo(path)
            self.deviation["tar"] = self.deviation["contents"] = "a named pipe: taskgraph waits for it forever"
        elif kind < 13:
            os.mkdir(self.root + "-evil")
            self.append(dockerfile, "# %include ../repo-evil\n")
            self.deviation["tar"] = "an include of /repo-evil is not inside /repo"
        elif kind < 15:
            self.args["A.B"] = "x"
            self.append(dockerfile, "# %ARG A.B\nRUN $A.B $AxB\n")
            self.deviation["tar"] = "an argument name that is a regular expression"

    @staticmethod
    def append(path, text):
        with open(path, "ab") as file:
            file.write(b"\n" + text.encode())


def contents_hash(root, directory):
    """The four documented steps."""
    open(os.path.join(directory, "Dockerfile")).close()
    found = [os.path.join(place, file) for place, _, files in os.walk(directory) for file in files]
    lines = b""
    for path in sorted(map(os.fsencode, found)):
        with open(path, "rb") as file:
            lines += hashlib.sha256(file.read()).hexdigest().encode() + b"\t" + path[len(os.fsencode(root)) :] + b"\n"
    return hashlib.sha256(lines).hexdigest()


def names(tree, scheme):
    """What the files are called in the context."""
    if scheme == "contents":
        found = [os.path.join(place, file) for place, _, files in os.walk(tree.image) for file in files]
        return [os.path.relpath(path, tree.image) for path in found]
    packed = io.BytesIO()
    stream_context_tar(tree.root, IMAGE, packed, dict(tree.args))
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        return [member.name for member in archive.getmembers()]


def clean(name):
    """The name as engines understand it."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def is_refused(name, clean_names):
    """Whether `run` refuses a context for this name: image-worker does so before it names the context."""
    parts = clean(name).split("/")
    above = ["/".join(parts[:end]) for end in range(1, len(parts))]
    return (
        ".." in parts
        or name.endswith("/")
        or clean_names[clean(name)] > 1
        or any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
        or any(place in clean_names for place in above)
    )


def expected(tree, scheme):
    """The hash, or None and why there is none."""
    if scheme in tree.deviation:
        return None, tree.deviation[scheme]
    try:
        if scheme == "tar":
            want = generate_context_hash(tree.root, IMAGE, dict(tree.args))
        else:
            want = contents_hash(tree.root, tree.image)
    except Exception as error:  # noqa: BLE001 - taskgraph raises whatever comes
        return None, repr(error)
    all_names = names(tree, scheme)
    clean_names = collections.Counter(map(clean, all_names))
    if any(is_refused(name, clean_names) for name in all_names):
        tree.deviation[scheme] = "a name that `run` refuses"
        return None, tree.deviation[scheme]
    return want, ""


def command(program, tree, scheme):
    args = [part for name, value in tree.args.items() for part in ("--arg", f"{name}={value}")]
    return [program, "hash", tree.image, "--root", tree.root, "--scheme", scheme, *args]


def main():
    parser = argparse.ArgumentParser(prog="compare-taskgraph", description=__doc__)
    parser.add_argument("--program", required=True, help="the image-worker to compare (default: built from this tree)")
    parser.add_argument("--trees", type=int, default=400, help="how many (default: 400)")
    parser.add_argument("--seed", type=int, default=1, help="the first tree; one tree a number (default: 1)")
    options = parser.parse_args()
    program = os.path.abspath(options.program)

    base = os.path.realpath(tempfile.mkdtemp(prefix="compare-taskgraph-"))
    # This very package, wherever else there is one.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    with_run_task = 0
    counts = {"equal": 0, "refused": 0, "deviation": 0}
    for seed in range(options.seed, options.seed + options.trees):
        place = os.path.join(base, str(seed))
        tree = Tree(place, seed)
        for scheme in ("tar", "contents"):
            want, why = expected(tree, scheme)
            run = subprocess.run(command(program, tree, scheme), capture_output=True, timeout=60, env=environment)
            said = run.stdout.decode(errors="replace")
            # A refusal is exit 2 or 10 and nothing on stdout, not a crash.
            fine = said == want + "\n" and run.returncode == 0 if want else not said and run.returncode in (2, 10)
            if not fine:
                print(f"tree {seed}, scheme {scheme}: DIFFERENT; the tree is kept")
                print(f"taskgraph: {want or 'refused: ' + why}")
                print(f"image-worker: exit {run.returncode}, {said!r}, {run.stderr.decode(errors='replace')}")
                print("again:", shlex.join(command(program, tree, scheme)))
                return 1
            with_run_task += b"takes the files of taskgraph" in run.stderr
            counts["equal" if want else "deviation" if scheme in tree.deviation else "refused"] += 1
        shutil.rmtree(place)
    shutil.rmtree(base)
    print(
        f"taskgraph {importlib.metadata.version('taskcluster-taskgraph')}: {options.trees} trees, {sum(counts.values())} hashes: all equal ({counts['equal']} times the same hash, "
        f"{counts['refused']} refused by both, {counts['deviation']} refused by image-worker as documented; "
        f"{with_run_task} with run-task)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
