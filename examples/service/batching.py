"""Requests that wait are computed together, because a graph takes little more for several rows than for one.

The queue is bounded, in images: what finds no room is refused at once, and who waits does not wait long.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from latentmill.errors import InputError

Rows = tuple[np.ndarray, ...]  # one array (N, …) for each input: noise or codes, and labels if there are classes
Run = Callable[..., np.ndarray]  # rows -> images (N, C, H, W), each of its own row alone


class FullError(Exception):
    """The queue has no room."""


@dataclass(eq=False)
class Job:
    """A request that waits."""

    run: Run
    rows: Rows
    since: float
    images: asyncio.Future[np.ndarray]

    def __len__(self) -> int:
        """Its number of images."""
        return len(self.rows[0])


class Batcher:
    """Computes jobs in the order in which they came, each together with those behind it that run the same."""

    def __init__(self, max_batch: int, max_queue: int, delay: float) -> None:
        """Nothing is computed before `work` runs.

        Args:
            max_batch: images that are put together; a job of more is computed alone.
            max_queue: images that may wait.
            delay: seconds that the first of a batch waits for others.
        """
        self.max_batch, self.max_queue, self.delay = max_batch, max_queue, delay
        self.sizes: Counter[int] = Counter()  # how many batches there were of so many images
        self._jobs: deque[Job] = deque()
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "batch")  # so that the event loop stays free

    @property
    def queued(self) -> int:
        """Images that wait."""
        return sum(map(len, self._jobs))

    async def compute(self, run: Run, rows: Rows) -> np.ndarray:
        """The images `run(*rows)`, computed in a batch. A task that is cancelled while it waits leaves the queue.

        Raises:
            FullError: the queue has no room for `rows`.
            InputError: the graph makes no images of `rows`, because its numbers grow too large, say.
            RuntimeError: it failed otherwise.
        """
        loop = asyncio.get_running_loop()
        job = Job(run, rows, loop.time(), loop.create_future())
        if self.queued + len(job) > self.max_queue:
            raise FullError
        self._jobs.append(job)
        self._came.set()
        try:
            return await job.images
        finally:
            if job in self._jobs:  # given up before a batch took it
                self._jobs.remove(job)

    async def work(self) -> None:
        """Compute one batch after the other, until cancelled."""
        while True:
            await self._wait()
            if jobs := self._taken():
                await self._compute(jobs)

    async def _wait(self) -> None:
        """Return when there is a full batch, or a job that has waited for others long enough."""
        while not self._jobs:
            await self._another()
        with suppress(TimeoutError):  # its time is up
            async with asyncio.timeout_at(self._jobs[0].since + self.delay):
                while self.queued < self.max_batch:
                    await self._another()

    async def _another(self) -> None:
        self._came.clear()
        await self._came.wait()

    def _taken(self) -> list[Job]:
        """The first job and what goes with it, no longer in the queue; none if they were given up."""
        jobs: list[Job] = []
        for job in list(self._jobs):
            size = sum(map(len, jobs)) + len(job)
            if not jobs or (job.run == jobs[0].run and size <= self.max_batch):
                self._jobs.remove(job)
                jobs.append(job)
        return jobs

    async def _compute(self, jobs: list[Job]) -> None:
        """Answer each job. Where a batch fails each is computed alone, so that none fails because of another."""
        batch = await self._ran(jobs)
        if batch.exception() is None or len(jobs) == 1:
            _answer(jobs, batch)
            return
        for job in jobs:
            if not job.images.done():  # given up meanwhile
                _answer([job], await self._ran([job]))

    async def _ran(self, jobs: list[Job]) -> asyncio.Future[np.ndarray]:
        """Their images one after the other, or the error."""
        self.sizes[sum(map(len, jobs))] += 1
        batch = asyncio.get_running_loop().run_in_executor(self._thread, _images, jobs)
        await asyncio.wait([batch])
        return batch


def _images(jobs: list[Job]) -> np.ndarray:
    rows = [np.concatenate(column) for column in zip(*(job.rows for job in jobs), strict=True)]
    return jobs[0].run(*rows)


def _answer(jobs: list[Job], batch: asyncio.Future[np.ndarray]) -> None:
    """Each job with its images, or with the error that the batch ended in."""
    error = batch.exception()
    for job, end in zip(jobs, accumulate(map(len, jobs)), strict=True):
        if job.images.done():  # given up meanwhile
            continue
        if error is None:
            job.images.set_result(batch.result()[end - len(job) : end])
        elif isinstance(error, InputError):
            job.images.set_exception(error)
        else:
            failure = RuntimeError(f"a batch must be computed, but: {error}")
            failure.__cause__ = error
            job.images.set_exception(failure)
