"""One call of the real taskgraph's, timed: prints its seconds and its answer.

    of_taskgraph.py hash ROOT DIRECTORY
    of_taskgraph.py context ROOT DIRECTORY FILE
    of_taskgraph.py load TASK TAG

Run by taskgraph.rs, through scripts/taskgraph.
"""

import sys
import time

from taskgraph.docker import load_image_by_task_id
from taskgraph.util.docker import create_context_tar, generate_context_hash

CALLS = {"hash": generate_context_hash, "context": create_context_tar, "load": load_image_by_task_id}

begun = time.perf_counter()
answer = CALLS[sys.argv[1]](*sys.argv[2:])
print(time.perf_counter() - begun, answer)
