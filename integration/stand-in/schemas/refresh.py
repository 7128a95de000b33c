#!/usr/bin/env python3
"""Takes from Taskcluster's generated references what the stand-in answers: refresh.py REFERENCES [SERVICE.CALL…]

REFERENCES is generated/references.json of a checkout of taskcluster/taskcluster. Calls that references.json beside this
script has already are taken again; those that are named are added. Text for people is left out.
"""

import json
import pathlib
import posixpath
import sys

OURS = pathlib.Path(__file__).with_name("references.json")
FOR_PEOPLE = ("description", "title", "category", "stability")


def without_text(value, names=False):
    """The value without its prose; the names of properties are no keywords."""
    if isinstance(value, list):
        return [without_text(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if names or key not in FOR_PEOPLE}
    return {key: without_text(item, key in ("properties", "definitions")) for key, item in kept.items()}


def referenced(schema):
    """The files that a schema names."""
    if isinstance(schema, list):
        return set().union(*map(referenced, schema))
    if not isinstance(schema, dict):
        return set()
    files = set().union(*map(referenced, schema.values()))
    return files | {schema["$ref"].split("#")[0]} - {""} if isinstance(schema.get("$ref"), str) else files


def main(references, *calls):
    theirs = {file["filename"]: file["content"] for file in json.loads(pathlib.Path(references).read_text())}
    wanted = set(calls)
    for file in json.loads(OURS.read_text()) if OURS.exists() else []:
        content = file["content"]
        wanted |= {f"{content['serviceName']}.{entry['name']}" for entry in content.get("entries", [])}
    taken = {}
    for service in sorted({call.split(".")[0] for call in wanted}):
        api = theirs[f"references/{service}/v1/api.json"]
        entries = [entry for entry in api["entries"] if f"{service}.{entry['name']}" in wanted]
        wanted -= {f"{service}.{entry['name']}" for entry in entries}
        taken[f"references/{service}/v1/api.json"] = without_text({**api, "entries": entries})
        files = {entry[side].rstrip("#") for entry in entries for side in ("input", "output") if side in entry}
        while files:
            name = f"schemas/{service}/{files.pop()}"
            if name not in taken:
                taken[name] = without_text(theirs[name])
                files |= {posixpath.normpath(f"v1/{file}") for file in referenced(taken[name])}
    assert not wanted, f"Taskcluster has no {', '.join(sorted(wanted))}"
    OURS.write_text(json.dumps([{"filename": name, "content": taken[name]} for name in sorted(taken)], indent=1) + "\n")


main(*sys.argv[1:])
