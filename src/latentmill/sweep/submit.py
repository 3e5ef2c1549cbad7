"""The sweep as a Ray job on a cluster: what it trains lands in the trial store, where `dvc repro` finds it.

The job is sent this code and params.yaml; the prepared data goes through the store, because both sides see that.
"""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from ruamel.yaml import YAML

from latentmill.config import load_params
from latentmill.data.dataset import read_manifest
from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.sweep.cluster import PACKAGE
from latentmill.sweep.job import data_folder

NEEDED = ("pipeline",)  # of the working tree, beside params.yaml and the package
LIMIT = 512 * 2**20  # bytes that Ray takes for a job's working directory


def submit(address: str, root: Path) -> None:
    """Run the train stage of the project in `root` as a job of the cluster whose dashboard is at `address`.

    Prints the job's log as it grows. A signal stops the job; what it has trained is kept.

    Raises:
        InputError: the cluster does not answer or let us in, or the job fails.
    """
    logging.getLogger("ray").setLevel(logging.WARNING)  # its own account of the upload
    params = load_params(root / "params.yaml")
    read_manifest(root / "data/prepared")  # whether the data is prepared is asked first
    client = _client(address)
    storage = Storage(root / params.train.storage if "://" not in params.train.storage else params.train.storage)
    digest = send_data(root / "data/prepared", storage)
    with tempfile.TemporaryDirectory() as folder:
        pack(root, storage, Path(folder))
        job = _start(client, Path(folder), digest)
    print(f"job {job} on {address}, trials in {storage}", flush=True)
    with _stopped_by_signals(client, job):
        asyncio.run(_follow(client, job))
    _require_success(client, job)


def send_data(prepared: Path, storage: Storage) -> str:
    """Put the prepared data into the store, unless it is there; returns its digest.

    Raises:
        InputError: the data is not prepared, or the store can't be written.
    """
    digest: str = read_manifest(prepared)["digest"]
    folder = data_folder(digest)
    try:
        there = storage.names(folder)
        for path in sorted(prepared.iterdir(), key=lambda path: path.name == "manifest.json"):  # which says it is whole
            if "manifest.json" not in there:
                storage.write(f"{folder}/{path.name}", path.read_bytes())
    except OSError as error:
        raise InputError(f"train.storage must be a place that can be written, but {storage}: {error}") from None
    return digest


def pack(root: Path, storage: Storage, folder: Path) -> None:
    """Copy what the job's driver needs into `folder`; the store is named as the cluster is to see it.

    Raises:
        InputError: it is more than Ray takes.
    """
    for name in NEEDED:
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    yaml = YAML()
    content = yaml.load(root / "params.yaml")
    content["train"]["storage"] = storage.url
    yaml.dump(content, folder / "params.yaml")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT:
        names = ", ".join(NEEDED)
        raise InputError(f"{names} and params.yaml must have at most {LIMIT} bytes for a job, but have {size}")


def _client(address: str) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address)
    except (OSError, RuntimeError, ValueError, AuthenticationError) as error:
        raise InputError(_refused(address, error)) from None


def _refused(address: str, error: Exception) -> str:
    said = " ".join(str(error).split())
    if isinstance(error, AuthenticationError):
        return f"the cluster at {address} must be given its token, as RAY_AUTH_TOKEN or in the file ~/.ray/auth_token"
    return f"--address must be the dashboard of a Ray cluster, such as http://head:8265, but got {address}: {said}"


def _start(client: JobSubmissionClient, folder: Path, digest: str) -> str:
    try:
        return client.submit_job(
            entrypoint=f"python -m latentmill.sweep.job {digest} && python pipeline/train.py",
            runtime_env={"working_dir": str(folder), "py_modules": [str(PACKAGE)]},
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"the cluster must accept the job, but {' '.join(str(error).split())}") from None


async def _follow(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


@contextmanager
def _stopped_by_signals(client: JobSubmissionClient, job: str) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        client.stop_job(job)
        raise InputError(f"job {job} was stopped; what it has trained is kept, and the next one goes on from there")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_success(client: JobSubmissionClient, job: str) -> None:
    status = client.get_job_status(job)
    if status != JobStatus.SUCCEEDED:
        raise InputError(f"the job must succeed, but {job} has {status.value.lower()}; its log is above")
