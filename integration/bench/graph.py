"""Makes a repository with IMAGES image directories of FILES files each and a task graph of TASKS tasks that use them.

    graph.py FOLDER IMAGES TASKS FILES

Every fifth image is built from the one before it; every task names two images, and has a payload of some 2 KB, as
Gecko's have. Standard library only.
"""

import json
import pathlib
import sys
import uuid
from base64 import urlsafe_b64encode

folder, (images, tasks, files) = pathlib.Path(sys.argv[1]), map(int, sys.argv[2:])
(folder / ".hg").mkdir(parents=True)
for n in range(images):
    image = folder / f"taskcluster/docker/image-{n}"
    image.mkdir(parents=True)
    start = "FROM scratch\n"
    if n % 5 == 4:
        start = f"ARG DOCKER_IMAGE_PARENT=image-{n - 1}\nFROM $DOCKER_IMAGE_PARENT\n"
    (image / "Dockerfile").write_text(f"{start}COPY . /setup\n")
    for file in range(files - 1):
        (image / f"script-{file}.sh").write_text(f"# {n} {file}\n" + "echo one more line of a setup script\n" * 100)


def slugid():
    raw = bytearray(uuid.uuid4().bytes)
    raw[0] &= 0x7F
    return urlsafe_b64encode(raw).decode().rstrip("=")


def image_of(n):
    return {
        "type": "task-image",
        "path": "public/image.tar",
        "taskId": f"{{{{#task_id_for_image}}}}image-{n % images}{{{{/task_id_for_image}}}}",
    }


def definition(n):
    return {
        "provisionerId": "gecko-1",
        "workerType": "linux",
        "schedulerId": "gecko-level-1",
        "priority": "low",
        "created": "2026-11-23T07:00:00.000Z",
        "deadline": "2026-11-24T07:00:00.000Z",
        "expires": "2026-12-23T07:00:00.000Z",
        "routes": ["tc-treeherder.v2.try.0123456789abcdef"],
        "scopes": [f"queue:something:{i}" for i in range(10)],
        "payload": {
            "image": image_of(n),
            "sidecar": image_of(n * 7 + 1),
            "env": {f"VARIABLE_{i}": "a value of usual length" for i in range(20)},
            "command": ["/bin/bash", "-c", "for x in ${#array[@]}; do echo $x; done && " * 4],
        },
        "metadata": {"name": f"task-{n}", "owner": "owner@example.com", "source": "https://example.com/source"},
    }


graph = {"tasks": [{"taskId": slugid(), "task": definition(n), "requires": []} for n in range(tasks)]}
(folder / "graph.json").write_text(json.dumps(graph, indent=1))
