"""Checks configs/cluster by schemas that others publish; prints {file: {object: [what is wrong]}}.

    check_cluster.py FOLDER COMPOSE_SCHEMA MISTAKE

Kubernetes' own kinds by its schemas of the oldest and newest version that we name, without a field that they do not know; a JobSet by the model of
its API that Kubeflow publishes, which must give back every field; Compose by its specification. With MISTAKE a field of that name is added to
every object, so that a check that finds nothing shows.
"""
import json
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

VERSIONS = ("1.31", "1.37")
folder, compose_schema, mistake = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def lost(given, kept, path=""):
    """Paths of what the model did not take over."""
    if isinstance(given, dict):
        for key, value in given.items():
            if key not in (kept or {}):
                yield f"{path}.{key}"
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list):
        for i, value in enumerate(given):
            yield from lost(value, kept[i], f"{path}[{i}]")
    elif given != kept:
        yield path


def wrong_in_kubernetes(thing):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {error.message}"


def wrong_in_job_set(thing):
    yield from lost(thing, JobsetV1alpha2JobSet.from_dict(thing).to_dict())
    for replicated in thing["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": replicated["template"]["spec"]}
        yield from wrong_in_kubernetes(job)


def wrong_in_compose(thing):
    with open(compose_schema, encoding="utf-8") as file:
        schema = json.load(file)
    for error in jsonschema.Draft7Validator(schema).iter_errors(thing):
        yield error.message


found = {}
for file in sorted(folder.glob("*.yaml")):
    found[file.name] = {}
    for thing in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        kind = thing.get("kind", "Compose")
        check = {"JobSet": wrong_in_job_set, "Compose": wrong_in_compose}.get(kind, wrong_in_kubernetes)
        if mistake:
            (thing["spec"] if "spec" in thing else thing["services"]["dtrain"])[mistake] = 1
        found[file.name][kind] = list(check(thing))
print(json.dumps(found))
