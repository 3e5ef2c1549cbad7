"""How often are the verdicts right? Generators whose verdict is known, judged repeatedly: `make calibration`.

Each repetition splits the real images in a new way. A fifth, which the judge never sees, stands for a perfect
generator. The same images, spoilt, stand for generators that blur, drop a mode, make noise or means, or copy training
images. The controls of the judge are other images, from the training and validation sets.

Each repetition is written to a journal as soon as it has ended, so that an interrupted run continues from there.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.target import Result
from benchmarks.verdicts import Journal, Requirement, Row, Verdicts, code_digest
from latentmill.cluster.connection import cluster
from latentmill.cluster.tasks import in_order_of_end, result, share, start
from latentmill.config import DataConfig, checked
from latentmill.data.augmentation import mirrored
from latentmill.data.batches import as_float
from latentmill.data.collection import Loaded
from latentmill.data.dataset import SPLITS, read_labels, read_split
from latentmill.data.sources import load
from latentmill.evaluation import controls, corruptions
from latentmill.evaluation.assembly import make_judge
from latentmill.evaluation.groups import Classes
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.prepared import PreparedData
from latentmill.files import write_json

RESULTS = Path(__file__).with_name("calibration.json")
JOURNAL = Path(".latentmill/calibration.jsonl")
REPETITIONS = {"digits": 200, "mnist-5k": 200, "fashion-mnist": 50}
OTHER_REPETITIONS = 50
LARGEST = 16_000  # images of a source that a repetition splits, to limit its time
SHARES = {"out": 0.2, "val": 0.12, "test": 0.12}  # the rest is for training
JUDGED = 0.75  # of those out, because a generator that drops a mode has fewer
HELD_OUT, BLURRED, COPIES, NEAR, DROPPED = (
    "held-out images",
    "held-out images, blurred",
    "5 % exact copies",
    "20 % near copies",
    "one mode dropped",
)
SPOILT = ("strongly blurred", "held-out images with noise", "independent pixels", "mean images", "blends of two")
RULES = {HELD_OUT: (1, 2), BLURRED: (1, 2), DROPPED: (1,)} | dict.fromkeys((COPIES, NEAR, *SPOILT), (2,))

REQUIREMENTS = (
    Requirement("held-out images called copies", HELD_OUT, (2,), "fail", at_most=2),
    Requirement("blurred held-out images called copies", BLURRED, (2,), "fail", at_most=2),
    *(Requirement(f"{name} called copies", name, (2,), "fail", at_most=2) for name in SPOILT),
    Requirement("5 % exact copies found", COPIES, (2,), "fail", at_least=99),
    Requirement("20 % near copies found", NEAR, (2,), "fail", at_least=99),
    Requirement("a dropped mode found", DROPPED, (1,), "fail", at_least=99),
    Requirement("blur found", BLURRED, (1,), "fail", at_least=99),
    Requirement("held-out images called not drawn from the data", HELD_OUT, (1,), "fail", at_most=2),
    Requirement("held-out images pass both rules", HELD_OUT, (1, 2), "pass", at_least=90),
)


@dataclass(frozen=True)
class Source:
    """Real images, each once, uint8 (N, C, H, W), and their labels (N), if any."""

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    flip: bool = False  # whether half of the copies are mirrored, and the judge is told that they may be


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", help=f"of {', '.join(REPETITIONS)}; all of them if left out")
    parser.add_argument(
        "--images", type=Path, help="other images: a prepared data set, or an .npz of images (N, C, H, W), labels (N)"
    )
    parser.add_argument("--name", help="of these images in the results")
    parser.add_argument("--without-labels", action="store_true")
    parser.add_argument("--flip", action="store_true", help="half of the copies are mirrored, as by models with `flip`")
    parser.add_argument("--repetitions", type=int, help="default: 200 of small sources, 50 of others")
    parser.add_argument("--workers", type=int, help="at a time; default: all cores")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="of the repetitions, which a later run continues")
    options = parser.parse_args()
    results = [line for source in chosen_sources(options) for line in measure(source, options)]
    return 0 if all(line.holds for line in results) else 1


def chosen_sources(options: argparse.Namespace) -> Iterator[Source]:
    """The sources, each read when it is needed."""
    names = options.sources or REPETITIONS
    sources = map(bundled, names) if options.images is None else [own_images(options.images, options.name)]
    for source in sources:
        if options.without_labels:
            source = replace(source, name=f"{source.name}, without labels", labels=None)
        yield replace(source, name=f"{source.name}, flipped", flip=True) if options.flip else source


def bundled(name: str) -> Source:
    found = load(checked(DataConfig, {"source": name}, "data"))
    assert isinstance(found, Loaded)
    labels = np.unique([str(item.label) for item in found.items], return_inverse=True)[1]
    return without_duplicates(name, found.images, labels)


def own_images(path: Path, name: str | None) -> Source:
    """A prepared data set in a folder, or an .npz file."""
    if path.is_dir():
        images = np.concatenate([read_split(path, split) for split in SPLITS])
        labels = [found for split in SPLITS if (found := read_labels(path, split)) is not None]
        return without_duplicates(name or path.stem, images, np.concatenate(labels) if labels else None)
    with np.load(path, allow_pickle=False) as found:
        return without_duplicates(name or path.stem, found["images"], found.get("labels"))


def without_duplicates(name: str, images: np.ndarray, labels: np.ndarray | None) -> Source:
    """The first of equal images, as in `prepare`: held-out images must not be copies of training images."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(images):
        first.setdefault(image.tobytes(), index)
    kept = np.array(list(first.values()))
    return Source(name, images[kept], None if labels is None else labels[kept])


def measure(source: Source, options: argparse.Namespace) -> Iterator[Result]:
    """A line for each of the `REQUIREMENTS`, written to `RESULTS`."""
    count = options.repetitions or REPETITIONS.get(source.name, OTHER_REPETITIONS)
    verdicts = list(repeated(source, range(count), options.workers, options.journal))
    results = []
    for each in REQUIREMENTS:
        results.append(each.result(source.name, verdicts))
        print(f"{results[-1]}  {results[-1].note}  {each.statuses(verdicts)}", flush=True)
        yield results[-1]
    keep(source.name, results)


def repeated(source: Source, seeds: Iterable[int], workers: int | None, path: Path) -> Iterator[Verdicts]:
    """The verdicts of each repetition, computed on all cores; wrong ones are printed with their evidence."""
    journal = Journal(path, code_digest(Path(__file__)))
    known = journal.known(source.name)
    yield from (from_rows(known[seed]) for seed in seeds if seed in known)
    missing = [seed for seed in seeds if seed not in known]
    if not missing:
        return
    started = time.perf_counter()
    with cluster(workers):
        shared = share(source)
        running = {start(repetition, shared, seed): seed for seed in missing}
        for done, ended in enumerate(in_order_of_end(list(running)), start=1):
            found: Verdicts = result(ended)
            journal.add(source.name, running[ended], [(*key, *verdict) for key, verdict in found.items()])
            for each in REQUIREMENTS:
                each.print_if_wrong(running[ended], found)
            if done % 10 == 0:
                print(f"  {done} of {len(missing)} in {time.perf_counter() - started:.0f} s", flush=True)
            yield found


def from_rows(rows: Iterable[Row]) -> Verdicts:
    """Verdicts, from the rows of the journal."""
    return {(generator, rule): (status, evidence) for generator, rule, status, evidence in rows}


def repetition(source: Source, seed: int) -> Verdicts:
    """The verdicts on each generator by the judge of one split of all images and their labels."""
    rng = np.random.default_rng([seed, 0])
    images, labels = source.images, source.labels
    order = rng.permutation(len(images))[:LARGEST]
    out, *splits = np.split(order, np.cumsum([int(share * len(order)) for share in SHARES.values()]))
    val, test, train = splits
    parts = (train, val, test)
    split_labels = (None if labels is None else labels[part] for part in parts)
    data = PreparedData(*(images[part] for part in parts), *split_labels, flip=source.flip)
    judge = make_judge(data, None, seed, int(JUDGED * len(out)))
    groups = modes(images[out], None if labels is None else labels[out], judge)
    found: Verdicts = {}
    copied = images[train]
    if source.flip:
        copied[::2] = mirrored(copied[::2])
    for name, make in generators(images[out], groups, copied, judge.size, seed).items():
        samples = make(rng)
        verdicts = judge.judge(samples[rng.permutation(len(samples))], RULES[name]).verdicts
        found |= {(name, rule): (each.status, each.evidence) for rule, each in verdicts.items()}
    return found


def modes(out: np.ndarray, labels: np.ndarray | None, judge: Judge) -> np.ndarray:
    """The mode of each image (N): its class, classes that the judge has joined, or a cluster of features."""
    space = judge.fidelity_spaces[-1]
    if labels is not None and isinstance(space.groups, Classes):
        return space.groups.assign_labels(labels)
    return space.view(out).groups


def generators(
    out: np.ndarray, groups: np.ndarray, train: np.ndarray, fewest: int, seed: int
) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    """Functions that make images float32 (N, C, H, W) in [0, 1], at least `fewest`, from held-out ones, uint8."""
    images = as_float(out)

    def copies(rng: np.random.Generator) -> np.ndarray:
        return as_float(train[rng.integers(len(train), size=len(out))])

    made = {
        HELD_OUT: lambda rng: images,
        BLURRED: lambda rng: corruptions.blurred(images),
        COPIES: lambda rng: corruptions.mixed(images, copies(rng), 0.05),
        NEAR: lambda rng: corruptions.mixed(images, corruptions.noisy(copies(rng), rng), 0.2),
        DROPPED: lambda rng: without_a_mode(images, groups, fewest, rng),
    }
    spoilt = controls.spoilt_images(out, groups, seed)
    return made | {name: lambda rng, each=each: each.make(np.arange(each.count)) for name, each in spoilt.items()}


def without_a_mode(images: np.ndarray, groups: np.ndarray, fewest: int, rng: np.random.Generator) -> np.ndarray:
    """All images except those of one mode; drawn with replacement if these are fewer than `fewest`."""
    kept = images[groups != rng.choice(np.unique(groups))]
    return kept if len(kept) >= fewest else kept[rng.integers(len(kept), size=fewest)]


def keep(source: str, results: list[Result]) -> None:
    """Write the results, and leave those of other sources as they are."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    write_json(RESULTS, known | {source: [asdict(each) for each in results]})


if __name__ == "__main__":
    sys.exit(main())
