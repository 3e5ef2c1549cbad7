"""A load test: how much batching gains, and what happens under more load than can be served.

    python examples/service/load.py exports/vae --concurrency 64 --seconds 5

Each of `--concurrency` clients asks for `--images` images, waits for them, and asks again; who gets 429 waits for a
tenth of a second first. The service runs twice on this machine, once with batches of one request and once with batches
of up to `--max-batch` images, and they take turns, each for `--seconds` in all.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

ROUNDS = 5  # in each of which both ways have their turn, so that a machine that slows down slows both
PATIENCE = 60  # seconds for the service to start


@dataclass
class Load:
    """What the clients saw, and the sizes of the batches that the service counted."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # of the requests that were answered, in seconds
    refused: int = 0
    batches: Counter[int] = field(default_factory=Counter)  # by images

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def __str__(self) -> str:
        half, most = np.quantile(self.latencies, [0.5, 0.99]) * 1000
        share = self.refused / (self.refused + len(self.latencies))
        sizes: Counter[int] = Counter()
        for size, count in self.batches.items():
            sizes[1 << size.bit_length() - 1] += count
        batches = ", ".join(f"{count} of {size} to {2 * size - 1}" for size, count in sorted(sizes.items()))
        seen = f"{self.rate:.0f} requests/s, p50 {half:.1f} ms, p99 {most:.1f} ms, {share:.1%} refused with 429"
        return f"{seen}\n  images in a batch: {batches}"


@contextmanager
def service(export: str, **settings: int) -> Iterator[str]:
    """The address of a service that runs in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {f"LATENTMILL_{name.upper()}": str(value) for name, value in {"export": export, **settings}.items()}
    server = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(__file__).parent), "--factory", "app:create"]
    process = subprocess.Popen([*server, "--port", str(port), "--log-level", "warning"], env=os.environ | given)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def drive(address: str, load: Load, concurrency: int, seconds: float, images: int) -> None:
    """Ask for `seconds` and add to `load`, after one request of each client that is not counted."""
    async with AsyncExitStack() as opened:
        clients = [  # each with its own connection: a pool that all share takes longer than the service
            await opened.enter_async_context(
                httpx.AsyncClient(base_url=address, timeout=60, verify=False, trust_env=False)
            )
            for _ in range(concurrency)
        ]
        await _started(clients[0])
        await asyncio.gather(*(_ask(client, images, seed=0) for client in clients))
        before, start = await _batches(clients[0]), time.perf_counter()
        await asyncio.gather(*(_client(client, load, start + seconds, images) for client in clients))
        load.seconds += time.perf_counter() - start
        load.batches += await _batches(clients[0]) - before


async def _batches(client: httpx.AsyncClient) -> Counter[int]:
    found = (await client.get("/healthz")).json()["batches"]
    return Counter({int(size): count for size, count in found.items()})


async def _started(client: httpx.AsyncClient) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            (await client.get("/healthz")).raise_for_status()
            return
        except httpx.ConnectError:
            await asyncio.sleep(0.1)
    raise TimeoutError(f"the service must answer within {PATIENCE} s")


async def _client(client: httpx.AsyncClient, load: Load, end: float, images: int) -> None:
    while (start := time.perf_counter()) < end:
        status = await _ask(client, images, seed=len(load.latencies))
        if status == 200:
            load.latencies.append(time.perf_counter() - start)
        else:
            load.refused += 1
            await asyncio.sleep(0.1)


async def _ask(client: httpx.AsyncClient, images: int, seed: int) -> int:
    body = {"n": images, "seed": seed}
    answer = await client.post("/sample", json=body, headers={"accept": "application/x-npy"})
    if answer.status_code not in (200, 429):
        answer.raise_for_status()
    return answer.status_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--max-queue", type=int, default=256)
    given = parser.parse_args()
    with ExitStack() as running:
        loads = {
            running.enter_context(service(given.export, max_batch=size, max_queue=given.max_queue)): (size, Load())
            for size in (1, given.max_batch)
        }
        for _ in range(ROUNDS):
            for address, (_, load) in loads.items():
                asyncio.run(drive(address, load, given.concurrency, given.seconds / ROUNDS, given.images))
    for size, load in loads.values():
        print(f"max_batch={size}: {load}")
    (_, alone), (_, together) = loads.values()
    print(f"batching answers {together.rate / alone.rate:.2f} times as many requests")


if __name__ == "__main__":
    main()
