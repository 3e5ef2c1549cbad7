"""Can the verdicts be believed? Generators whose answer is known, judged over and over: `make calibration`.

Each repetition splits real images anew. A fifth, which the judge never sees, stands for a perfect generator; the same
images spoilt stand for one that blurs, drops a class, or copies training images. Not of the controls of the judge
itself: those come from the training and validation images.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.target import Result, Target
from latentmill.config import DataConfig, checked
from latentmill.data.batches import as_float
from latentmill.data.collection import Loaded
from latentmill.data.sources import load
from latentmill.evaluation import controls
from latentmill.evaluation.entry import Material
from latentmill.evaluation.run import judge_of, usual_features
from latentmill.files import write_json
from latentmill.sweep.cluster import cluster
from latentmill.sweep.tasks import in_order_of_end, result, share, start

RESULTS = Path(__file__).with_name("calibration.json")
SOURCES = ("digits", "mnist-5k")
SHARES = {"out": 0.2, "val": 0.12, "test": 0.12}  # the rest is for training
HELD_OUT, BLURRED, COPIES, NEAR, DROPPED = (
    "held-out images",
    "held-out images, blurred",
    "5 % exact copies",
    "20 % near copies",
    "one class dropped",
)
# What is asked, of which generator and rule, the verdict that is counted, and its bounds in percent.
ASKED = (
    ("held-out images called copies", HELD_OUT, 2, "broken", {"at_most": 2}),
    ("blurred held-out images called copies", BLURRED, 2, "broken", {"at_most": 2}),
    ("5 % exact copies found", COPIES, 2, "broken", {"at_least": 99}),
    ("20 % near copies found", NEAR, 2, "broken", {"at_least": 99}),
    ("a dropped class found", DROPPED, 1, "broken", {"at_least": 99}),
    ("blur found", BLURRED, 1, "broken", {"at_least": 99}),
    ("held-out images called not drawn from the data", HELD_OUT, 1, "broken", {"at_most": 2}),
)
Verdicts = dict[tuple[str, int], tuple[str, str]]  # by generator and rule: status and evidence


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--workers", type=int, help="at a time; all cores if left out")
    parser.add_argument("--journal", type=Path, help="a file that keeps each repetition; a later run goes on from it")
    parser.add_argument("sources", nargs="*", default=SOURCES, help=f"of {', '.join(SOURCES)}")
    asked = parser.parse_args()
    results = [line for source in asked.sources for line in measure(source, asked)]
    return 0 if all(line.holds for line in results) else 1


def measure(source: str, asked: argparse.Namespace) -> Iterator[Result]:
    """A line for each of `ASKED`, kept in `RESULTS`."""
    repetitions = asked.repetitions
    verdicts = list(repeated(source, range(repetitions), asked.workers, asked.journal))
    results = []
    for words, generator, rule, status, bounds in ASKED:
        found = Counter(each[generator, rule][0] for each in verdicts)
        target = Target(f"{source}, {repetitions} times: {words}", "%", **bounds)
        results.append(target.result(100 * found[status] / repetitions))
        print(f"{results[-1]}  {dict(found)}", flush=True)
        yield results[-1]
    keep(source, results)


def repeated(source: str, seeds: Iterable[int], workers: int | None, journal: Path | None) -> Iterator[Verdicts]:
    """The verdicts of each repetition, on all cores; those that are wrong are printed with their evidence."""
    known = {} if journal is None or not journal.exists() else dict(in_journal(journal, source))
    yield from (known[seed] for seed in seeds if seed in known)
    started = time.perf_counter()
    with cluster(workers):
        shared = share(everything(source))
        missing = {start(repetition, shared, seed): seed for seed in seeds if seed not in known}
        for done, ended in enumerate(in_order_of_end(list(missing)), start=1):
            found: Verdicts = result(ended)
            if journal is not None:
                line = [source, missing[ended], [[*key, *said] for key, said in found.items()]]
                journal.open("a").write(json.dumps(line) + "\n")
            for words, generator, rule, status, bounds in ASKED:
                said, evidence = found[generator, rule]
                if (said == status) != ("at_least" in bounds):
                    print(f"  seed {missing[ended]}, {words}: {said}: {evidence}", flush=True)
            if done % 10 == 0:
                print(f"  {done} of {len(missing)} in {time.perf_counter() - started:.0f} s", flush=True)
            yield found


def in_journal(journal: Path, source: str) -> Iterator[tuple[int, Verdicts]]:
    for line in journal.read_text().splitlines():
        of, seed, verdicts = json.loads(line)
        if of == source:
            yield seed, {(generator, rule): (status, evidence) for generator, rule, status, evidence in verdicts}


def repetition(known: tuple[np.ndarray, np.ndarray], seed: int) -> Verdicts:
    """What the judge of one split of all images and their labels says of each generator."""
    images, labels = known
    rng = np.random.default_rng([seed, 0])
    parts = np.split(rng.permutation(len(images)), np.cumsum([int(share * len(images)) for share in SHARES.values()]))
    out, val, test, train = parts
    splits = (train, val, test)
    given = Material(*(images[part] for part in splits), *(labels[part] for part in splits))
    judge = judge_of(given, usual_features(given), seed)
    found: Verdicts = {}
    for name, make in generators(as_float(images[out]), labels[out], as_float(images[train])).items():
        samples = make(rng)
        verdicts = judge.judge(samples[rng.permutation(len(samples))]).verdicts
        found |= {(name, rule): (each.status, each.evidence) for rule, each in verdicts.items()}
    return found


def generators(
    out: np.ndarray, labels: np.ndarray, train: np.ndarray
) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    """Images float32 (N, C, H, W) in [0, 1], from those held out."""

    def copies(rng: np.random.Generator) -> np.ndarray:
        return train[rng.integers(len(train), size=len(out))]

    return {
        HELD_OUT: lambda rng: out,
        BLURRED: lambda rng: controls.blurred(out),
        COPIES: lambda rng: controls.mixed(out, copies(rng), 0.05),
        NEAR: lambda rng: controls.mixed(out, controls.noisy(copies(rng), rng), 0.2),
        DROPPED: lambda rng: out[labels != rng.choice(np.unique(labels))],
    }


def everything(source: str) -> tuple[np.ndarray, np.ndarray]:
    """All images of a source, uint8 (N, C, H, W), and their labels (N)."""
    found = load(checked(DataConfig, {"source": source}, "data"))
    assert isinstance(found, Loaded)
    return found.images, np.unique([str(item.label) for item in found.items], return_inverse=True)[1]


def keep(source: str, results: list[Result]) -> None:
    """Beside what is known of the other sources."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    write_json(RESULTS, known | {source: [asdict(each) for each in results]})


if __name__ == "__main__":
    sys.exit(main())
