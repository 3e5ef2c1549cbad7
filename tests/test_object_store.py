"""A trial store in an object store, S3 as a server has it, which can't be reached for ten seconds."""

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from sites import Site
from test_mlflow import await_answer, free_port

SECONDS = 10
ACCOUNT = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
LADDER = {"naive_bayes": {}, "vae": {"latent": [2, 3], "epochs": 60, "patience": 60}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The port of an S3 server with a bucket."""
    python, port = Path(sys.prefix, "servers/bin/python"), free_port()
    if not python.exists():
        pytest.skip("needs moto, which `make test-all` sets up")
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as output:
        command = [python, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    await_answer(f"http://127.0.0.1:{port}/moto-api/")
    put(port, "")
    yield port
    running.terminate()
    running.wait(30)


def put(port: int, name: str, content: bytes | None = None) -> None:
    """An object of the bucket, or the bucket, which has no name in it."""
    url, kind = f"http://127.0.0.1:{port}/trials/{name}".rstrip("/"), {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(urllib.request.Request(url, content, kind, method="PUT"), timeout=60).close()


# Connects a port to another one, until it is killed.
LINK = """
import asyncio, sys


async def copy(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def connected(reader, writer):
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)


async def main():
    async with await asyncio.start_server(connected, "127.0.0.1", int(sys.argv[1])) as listening:
        await listening.serve_forever()


asyncio.run(main())
"""


class Link:
    """A way to the server that can be cut: connections end, and new ones are refused."""

    def __init__(self, server: int) -> None:
        self.server, self.port = server, free_port()

    @contextmanager
    def up(self):
        running = subprocess.Popen([sys.executable, "-c", LINK, str(self.port), str(self.server)])
        await_answer(f"http://127.0.0.1:{self.port}/moto-api/")
        try:
            yield
        finally:
            running.kill()
            running.wait()


def stored(server: int, run: str) -> list[str]:
    """The names of all objects of a run."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server}/trials?list-type=2&prefix={run}/&max-keys=1000") as answer:
        return [part.split("</Key>")[0] for part in answer.read().decode().split("<Key>")[1:]]


def site(root: Path, prepared: Path, port: int, run: str) -> Site:
    url = f"s3://trials/{run}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    root.mkdir()
    made = Site(root, url).prepare(prepared, LADDER)
    made.environment |= ACCOUNT
    return made


def await_epoch(running, server: int, run: str, epoch: int) -> None:
    deadline = time.monotonic() + 180
    while not any(f"/checkpoint-{number:06d}" in name for name in stored(server, run) for number in range(epoch, 60)):
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [5, 50])
def test_a_sweep_goes_on_after_its_store_was_away_for_ten_seconds(prepared, tmp_path, server, epoch):
    """The later epoch is so near to the end that results are to be stored meanwhile."""
    link, run = Link(server), f"cut-{epoch}"
    ours = site(tmp_path / "cut", prepared, link.port, run)
    with link.up():
        running = ours.start()
        await_epoch(running, server, run, epoch)
    time.sleep(SECONDS)
    with link.up():
        said, _ = running.communicate(timeout=300)
        assert running.returncode == 0, said
        assert "Traceback" not in said
        assert "[3/3]" in said
    other = site(tmp_path / "other", prepared, server, f"other-{epoch}")
    undisturbed, _ = other.start().communicate(timeout=300)
    assert ours.winners() == other.winners() != {}, undisturbed
    assert [name for name in stored(server, run) if "checkpoint" in name] == []


@pytest.mark.slow
def test_trials_begin_with_the_weights_of_models_in_an_object_store(prepared, tmp_path, server):
    ours = site(tmp_path / "earlier", prepared, server, "first")
    ours.run()
    models, before = ours.root / "models", ours.winners()["vae"]
    for path in (each for each in models.rglob("*") if each.is_file()):
        put(server, f"earlier/{path.relative_to(models)}", path.read_bytes())
    place = ours.storage.replace("trials/first", "trials/earlier")
    ours.write_params({"vae": {"latent": [2, 3], "epochs": 4}}, warm_start=place)
    assert "2 trials: 0 already trained, 2 to train; 1 start warm" in ours.run()
    records = [json.loads(path.read_bytes()) for path in ours.root.glob("models/vae/trial.json")]
    assert [record["trial"]["start"] for record in records] == [hashlib.sha256(before).hexdigest()]
