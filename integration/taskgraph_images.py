"""The docker-image tasks of fixtures/taskgraph-project, as the real taskgraph makes them, and as it loads their images.

`make FOLDER`, run by scripts/taskgraph-images, writes what a decision task would upload: task-graph.json with every
reference filled in, and docker-contexts/NAME.tar.gz. Nothing is asked of a network. `load NAMESPACE TAG`, run by
taskgraph_images.rs, looks an image up in the index of TASKCLUSTER_ROOT_URL and loads it into the engine.
"""

import json
import os
import shutil
import sys

from taskgraph.docker import load_image_by_task_id
from taskgraph.generator import TaskGraphGenerator
from taskgraph.parameters import Parameters
from taskgraph.util.taskcluster import find_task_id
from taskgraph.util.yaml import load_yaml

# The stand-in's decision task has this id too.
DECISION_TASK = "fN1SbArXTPSVFNUvaOlinQ"


def make(folder):
    project = os.path.join(os.path.abspath(folder), "project")
    fixture = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures/taskgraph-project")
    shutil.copytree(fixture, project)
    # Too large to be kept in the repository, and another one on each machine.
    os.mkdir(os.path.join(project, "tools"))
    shutil.copy("/bin/busybox", os.path.join(project, "tools/busybox"))

    kind = os.path.join(project, "taskcluster/kinds/docker-image/kind.yml")
    parameters = Parameters(
        strict=False,
        repo_root=project,
        project="sample",
        level="3",
        repository_type="hg",
        base_repository="https://hg.example.com/sample",
        head_repository="https://hg.example.com/sample",
        head_rev="0123456789abcdef0123456789abcdef01234567",
        head_ref="default",
        owner="author@example.com",
        # Whatever may be optimized away is looked up in an index.
        do_not_optimize=[f"docker-image-{name}" for name in load_yaml(kind)["tasks"]],
    )
    # Contexts are written below the current directory.
    os.chdir(folder)
    generator = TaskGraphGenerator(
        os.path.join(project, "taskcluster"), parameters, decision_task_id=DECISION_TASK, write_artifacts=True
    )
    graph = generator.morphed_task_graph
    with open("task-graph.json", "w") as file:
        json.dump(graph.to_json(), file, indent=2)


def load(namespace, tag):
    load_image_by_task_id(find_task_id(namespace), tag)


if __name__ == "__main__":
    {"make": make, "load": load}[sys.argv[1]](*sys.argv[2:])
