"""The files for Slurm and Kubernetes, as far as they can be checked without either."""

import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import symmetric_run
from ruamel.yaml import YAML

DEPLOY = Path(__file__).parents[1] / "deploy"


def fields(required=(), **properties):
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def many(schema):
    return {"type": "array", "items": schema, "minItems": 1}


TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ENV = many(fields(["name", "value"], name=TEXT, value=TEXT))
FROM = many(fields(secretRef=fields(["name"], name=TEXT, optional=FLAG)))
RESOURCES = fields(requests=TEXTS, limits=TEXTS)
MOUNTS = many(fields(["name", "mountPath"], name=TEXT, mountPath=TEXT, subPath=TEXT))
VOLUMES = many(fields(["name", "configMap"], name=TEXT, configMap=fields(["name"], name=TEXT)))
CONTAINER = fields(
    ["name", "image"], name=TEXT, image=TEXT, env=ENV, envFrom=FROM, resources=RESOURCES, volumeMounts=MOUNTS
)
POD = fields(
    ["spec"],
    spec=fields(["containers"], containers=many(CONTAINER), volumes=VOLUMES, terminationGracePeriodSeconds=COUNT),
)
GROUP = {"rayStartParams": TEXTS, "template": POD}
# Of ray.io/v1 RayJob, the fields in use, with the types that the KubeRay API reference gives them.
RAYJOB = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields(["name"], name=TEXT),
    spec=fields(
        ["entrypoint", "rayClusterSpec"],
        entrypoint=TEXT,
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=fields(
            ["headGroupSpec"],
            rayVersion=TEXT,
            authOptions=fields(mode={"enum": ["disabled", "token"]}),
            headGroupSpec=fields(["rayStartParams", "template"], **GROUP),
            workerGroupSpecs=many(
                fields(
                    ["groupName", "rayStartParams", "template"],
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    **GROUP,
                )
            ),
        ),
    ),
)


@pytest.fixture
def manifest():
    return YAML(typ="safe").load(DEPLOY / "rayjob.yaml")


def test_the_manifest_has_only_fields_that_kuberay_documents(manifest):
    jsonschema.validate(manifest, RAYJOB)


def test_the_manifest_names_the_ray_that_is_tested(manifest):
    constraints = (DEPLOY.parent / "constraints.txt").read_text()
    assert f"ray=={manifest['spec']['rayClusterSpec']['rayVersion']}\n" in constraints


def test_the_entrypoint_runs_the_stages_in_the_pod_that_ray_gives_the_job(manifest, tmp_path):
    """Run as KubeRay's submitter would, with `ray` and `python` replaced by something that tells its arguments."""
    commands = {"ray": 'shift 3; cmd="$(printf "%q " "$@")"; echo job; sh -c "$cmd"', "python": 'echo ran "$1"'}
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    entrypoint = manifest["spec"]["entrypoint"].replace("cd /latentmill", f"cd {tmp_path}")
    script = f"ray job submit -- {entrypoint} ; echo logs"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=environment, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["job", "ran pipeline/prepare.py", "ran pipeline/train.py", "logs"]


def test_the_head_has_the_params_that_the_documentation_makes(manifest):
    pod = manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,), (mount,) = pod["volumes"], pod["containers"][0]["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert mount["mountPath"] == f"/latentmill/{mount['subPath']}"
    command = f"kubectl create configmap {volume['configMap']['name']} --from-file={mount['subPath']}"
    assert command in (DEPLOY.parent / "docs/cluster.md").read_text()


def test_the_image_has_nothing_that_git_ignores_but_the_page_and_the_users_images():
    """A line of .gitignore names what is made: at the root where it begins with a slash, else anywhere."""
    excluded, made = ((DEPLOY.parent / name).read_text().splitlines() for name in (".dockerignore", ".gitignore"))
    patterns = [line.removeprefix("**/") for line in excluded if not line.startswith("#")]
    names = {line.strip("/") for line in made if not line.startswith("#")} - {"src/latentmill/browser/ort", "data"}
    assert {name for name in names if not any(Path(name).match(pattern) for pattern in patterns)} == set()


def test_the_slurm_script_is_sound_bash():
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", DEPLOY / "slurm.sh"], check=True)


def test_the_slurm_script_uses_options_that_this_ray_has():
    script = (DEPLOY / "slurm.sh").read_text().replace("\\\n", " ")
    (options,) = re.findall(r"ray symmetric-run (--.*?) -- ", script)
    used = set(re.findall(r"(--[a-z-]+)", options))
    known = {option for command in (start, symmetric_run) for each in command.params for option in each.opts}
    assert used
    assert used <= known


def test_the_slurm_script_runs_the_pipeline_on_the_nodes_of_its_job(tmp_path):
    """With Slurm's commands replaced; `srun` runs what one node is given, and `ray` tells what it was given."""
    commands = {
        "scontrol": "echo node7; echo node8",
        "srun": 'echo "$1"; shift; exec "$@"',
        "ray": 'echo "$RAY_ADDRESS" "$RAY_AUTH_MODE" "${#RAY_AUTH_TOKEN}" "$@"',
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = {"NODELIST": "node[7-8]", "ID": "10001", "NUM_NODES": "2"}
    environment = {f"SLURM_JOB_{name}": value for name, value in given.items()}
    environment |= {"SLURM_CPUS_PER_TASK": "8", "PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)}
    done = subprocess.run(["bash", DEPLOY / "slurm.sh"], env=environment, text=True, capture_output=True, check=True)
    cpus, address, mode, length, *command = done.stdout.split()
    assert (cpus, address, mode, length) == ("--cpus-per-task=8", "node7:20001", "token", "64")
    assert command[0] == "symmetric-run"
    assert command[-3:] == ["--", "dvc", "repro"]


def test_the_lock_has_the_versions_that_are_pinned():
    """`make lock` writes it; what it holds beyond them, torch's CUDA build or another system needs."""
    root, pin = DEPLOY.parent, re.compile(r"^([\w.-]+)(?:\[\w+\])?==([\w.+-]+)", re.M)
    pinned, locked = (
        {re.sub(r"[._]", "-", name).lower(): version for name, version in pin.findall((root / path).read_text())}
        for path in ("constraints.txt", "requirements.lock")
    )
    assert {name: locked.get(name) for name in pinned.keys() - {"uv"}} == {
        name: version for name, version in pinned.items() if name != "uv"
    }
