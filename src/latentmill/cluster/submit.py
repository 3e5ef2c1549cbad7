"""The sweep as a Ray job on a cluster: its trials go to the trial store, where `dvc repro` finds them.

The job gets this code and params.yaml; the prepared data goes through the store, which both sides see.
"""

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from latentmill.cluster.job import DATA
from latentmill.cluster.staging import send
from latentmill.cluster.upload import STAGE, Sent, storage_in
from latentmill.config import load_params
from latentmill.data.dataset import TRAINING, intact_digest, read_split, stored_as
from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.trials.auto import with_values_for

MARK = "latentmill"  # the key of a job's metadata with the digest of its content


def submit(address: str, root: Path) -> None:
    """Run the train stage of the project in `root` as a job of the cluster whose dashboard is at `address`.

    Prints the job's log as it grows. A signal stops the job; finished trials are kept. A running job with the same
    content, such as after a broken connection, is followed instead.

    Raises:
        InputError: the cluster does not answer or refuses access, or the job fails.
    """
    digest = intact_digest(root / "data/prepared", TRAINING)  # fails early where the data is not prepared
    params = with_values_for(read_split(root / "data/prepared", "train"), load_params(root / "params.yaml"), print)
    client = _client(address)
    storage = storage_in(root, params.train.storage)
    send_data(root / "data/prepared", digest, storage)
    with tempfile.TemporaryDirectory() as folder:
        sent = Sent.of(root, params, storage, Path(folder))
        mark = sent.mark(digest)
        job = _running(client, mark) or _start(client, sent, digest, mark)
    print(f"job {job} on {address}, trials in {storage}", flush=True)
    follow(client, job)


def send_data(prepared: Path, digest: str, storage: Storage) -> None:
    """Put the prepared data with this digest into the store, except files that are there as they should be.

    Raises:
        InputError: the store can't be written.
    """
    for name in DATA:
        if (prepared / name).exists():  # labels may be missing
            send(prepared / name, storage, f"{stored_as(digest)}/{name}")


def follow(client: JobSubmissionClient, job: str) -> None:
    """Print the job's log as it grows, until the job ends.

    Raises:
        InputError: the job does not succeed, or the connection breaks.
    """
    try:
        with _signals_stop(client, job):
            asyncio.run(_print_log(client, job))
        ended = client.get_job_info(job)
    except (OSError, RuntimeError, ClientError) as error:
        raise InputError(
            f"the dashboard must answer until the job ends, but {_line(error)}; job {job} goes on where the cluster "
            "does, and the same command follows it again"
        ) from None
    if ended.status == JobStatus.STOPPED:
        raise InputError(f"job {job} was stopped; what it has trained is kept, and the next one goes on from there")
    if ended.status != JobStatus.SUCCEEDED:
        reason = _line(ended.message or "").partition(", last available logs")[0]  # which are printed already
        raise InputError(f"the job must succeed, but {job} has {ended.status.value.lower()}: {reason}")


def _client(address: str) -> JobSubmissionClient:
    rule = f"--address must be the dashboard of a Ray cluster, such as http://head:8265, but got {address}"
    if not address.startswith(("http://", "https://")):
        raise InputError(rule)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # else Ray would use RAY_ADDRESS
    for name in ("ray.dashboard", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)  # no messages about uploads and connections
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        got = "a wrong one" if "incorrect" in str(error) else "none"
        where = "as RAY_AUTH_TOKEN or in the file ~/.ray/auth_token"
        raise InputError(f"the cluster at {address} must be given its token, {where}, but got {got}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{rule}: {_line(error)}") from None


def _running(client: JobSubmissionClient, mark: str) -> str | None:
    """The job with this digest that has not ended."""
    jobs = [job for job in client.list_jobs() if (job.metadata or {}).get(MARK) == mark]
    return next((job.submission_id for job in jobs if not job.status.is_terminal()), None)


def _start(client: JobSubmissionClient, sent: Sent, digest: str, mark: str) -> str:
    try:
        return client.submit_job(
            entrypoint=f"python -m latentmill.cluster.job {digest} && python {STAGE}",
            runtime_env={"working_dir": str(sent.project), "py_modules": [str(sent.package)]},
            metadata={MARK: mark},
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"the cluster must accept the job, but {_line(error)}") from None


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


@contextmanager
def _signals_stop(client: JobSubmissionClient, job: str) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops the job, and so ends its log; a second one ends this process."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        client.stop_job(job)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(message: object) -> str:
    return " ".join(str(message).split())
