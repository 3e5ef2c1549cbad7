"""Can the verdicts be believed? Generators whose answer is known, judged over and over: `make calibration`.

Each repetition splits real images anew. A fifth, which the judge never sees, stands for a perfect generator; the same
images spoilt stand for one that blurs, drops a mode, makes noise or means, or copies training images. Not of the
controls of the judge itself: those come from the training and validation images.

Every repetition is kept in a journal as soon as it has ended, so that a run that is interrupted goes on from there.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from benchmarks.target import Result, Target
from latentmill.config import DataConfig, checked
from latentmill.data.batches import as_float
from latentmill.data.collection import Loaded
from latentmill.data.dataset import SPLITS, read_labels, read_split
from latentmill.data.sources import load
from latentmill.evaluation import controls, corruptions
from latentmill.evaluation.assembly import judge_of
from latentmill.evaluation.entry import Material
from latentmill.evaluation.groups import Classes
from latentmill.evaluation.judge import Judge
from latentmill.files import write_json
from latentmill.sweep.cluster import cluster
from latentmill.sweep.tasks import in_order_of_end, result, share, start
from latentmill.training.code import digest, imported_files

RESULTS = Path(__file__).with_name("calibration.json")
JOURNAL = Path(".latentmill/calibration.jsonl")
REPETITIONS = {"digits": 200, "mnist-5k": 200, "fashion-mnist": 50}
OTHER_REPETITIONS = 50
LARGEST = 16_000  # images of a source that a repetition splits, for its time
SHARES = {"out": 0.2, "val": 0.12, "test": 0.12}  # the rest is for training
JUDGED = 0.75  # of those out: a generator that drops a mode has fewer
HELD_OUT, BLURRED, COPIES, NEAR, DROPPED = (
    "held-out images",
    "held-out images, blurred",
    "5 % exact copies",
    "20 % near copies",
    "one mode dropped",
)
SPOILT = ("strongly blurred", "held-out images with noise", "independent pixels", "mean images", "blends of two")
RULES = {HELD_OUT: (1, 2), BLURRED: (1, 2), DROPPED: (1,)} | dict.fromkeys((COPIES, NEAR, *SPOILT), (2,))
Verdicts = dict[tuple[str, int], tuple[str, str]]  # by generator and rule: status and evidence


@dataclass(frozen=True)
class Asked:
    """How often the verdict on a generator may, or must, be this one, in percent."""

    words: str
    generator: str
    rules: tuple[int, ...]  # all of them
    status: str
    at_most: float = float("inf")
    at_least: float = float("-inf")

    def is_met(self, verdicts: Verdicts) -> bool:
        return all(verdicts[self.generator, rule][0] == self.status for rule in self.rules)


ASKED = (
    Asked("held-out images called copies", HELD_OUT, (2,), "broken", at_most=2),
    Asked("blurred held-out images called copies", BLURRED, (2,), "broken", at_most=2),
    *(Asked(f"{name} called copies", name, (2,), "broken", at_most=2) for name in SPOILT),
    Asked("5 % exact copies found", COPIES, (2,), "broken", at_least=99),
    Asked("20 % near copies found", NEAR, (2,), "broken", at_least=99),
    Asked("a dropped mode found", DROPPED, (1,), "broken", at_least=99),
    Asked("blur found", BLURRED, (1,), "broken", at_least=99),
    Asked("held-out images called not drawn from the data", HELD_OUT, (1,), "broken", at_most=2),
    Asked("held-out images pass both rules", HELD_OUT, (1, 2), "holds", at_least=90),
)


@dataclass(frozen=True)
class Source:
    """Real images, each once, uint8 (N, C, H, W), and their labels (N), if any."""

    name: str
    images: np.ndarray
    labels: np.ndarray | None


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", help=f"of {', '.join(REPETITIONS)}; all of them if left out")
    parser.add_argument(
        "--images", type=Path, help="others: a prepared folder, or .npz of images (N, C, H, W), labels (N)"
    )
    parser.add_argument("--name", help="what they are called in the results")
    parser.add_argument("--without-labels", action="store_true")
    parser.add_argument("--repetitions", type=int, help="200 of the small sources, 50 of others if left out")
    parser.add_argument("--workers", type=int, help="at a time; all cores if left out")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps each repetition; a later run goes on")
    asked = parser.parse_args()
    results = [line for source in chosen(asked) for line in measure(source, asked)]
    return 0 if all(line.holds for line in results) else 1


def chosen(asked: argparse.Namespace) -> Iterator[Source]:
    """Each read when it is its turn."""
    names = asked.sources or REPETITIONS
    sources = map(everything, names) if asked.images is None else [elsewhere(asked.images, asked.name)]
    for source in sources:
        yield Source(f"{source.name}, without labels", source.images, None) if asked.without_labels else source


def everything(name: str) -> Source:
    found = load(checked(DataConfig, {"source": name}, "data"))
    assert isinstance(found, Loaded)
    return once(name, found.images, np.unique([str(item.label) for item in found.items], return_inverse=True)[1])


def elsewhere(path: Path, name: str | None) -> Source:
    """What `prepare` made of any source, in a folder; or an .npz file."""
    if path.is_dir():
        images = np.concatenate([read_split(path, split) for split in SPLITS])
        labels = [found for split in SPLITS if (found := read_labels(path, split)) is not None]
        return once(name or path.stem, images, np.concatenate(labels) if labels else None)
    with np.load(path, allow_pickle=False) as found:
        return once(name or path.stem, found["images"], found.get("labels"))


def once(name: str, images: np.ndarray, labels: np.ndarray | None) -> Source:
    """Of equal images the first, as `prepare` has it: a copy across splits would be no copying."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(images):
        first.setdefault(image.tobytes(), index)
    kept = np.array(list(first.values()))
    return Source(name, images[kept], None if labels is None else labels[kept])


def measure(source: Source, asked: argparse.Namespace) -> Iterator[Result]:
    """A line for each of `ASKED`, kept in `RESULTS`."""
    count = asked.repetitions or REPETITIONS.get(source.name, OTHER_REPETITIONS)
    verdicts = list(repeated(source, range(count), asked.workers, asked.journal))
    results = []
    for each in ASKED:
        met = sum(each.is_met(of) for of in verdicts)
        interval = binomtest(met, count).proportion_ci(method="wilson")
        target = Target(f"{source.name}, {count} times: {each.words}", "%", each.at_least, each.at_most)
        note = f"{met} of {count}, 95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f} %"
        results.append(target.result(100 * met / count, note))
        statuses = Counter(" and ".join(of[each.generator, rule][0] for rule in each.rules) for of in verdicts)
        print(f"{results[-1]}  {note}  {dict(statuses)}", flush=True)
        yield results[-1]
    keep(source.name, results)


def repeated(source: Source, seeds: Iterable[int], workers: int | None, journal: Path) -> Iterator[Verdicts]:
    """The verdicts of each repetition, on all cores; those that are wrong are printed with their evidence."""
    code = code_digest()
    known = dict(in_journal(journal, source.name, code))
    yield from (known[seed] for seed in seeds if seed in known)
    missing = [seed for seed in seeds if seed not in known]
    if not missing:
        return
    started = time.perf_counter()
    journal.parent.mkdir(parents=True, exist_ok=True)
    with cluster(workers):
        shared = share(source)
        running = {start(repetition, shared, seed): seed for seed in missing}
        for done, ended in enumerate(in_order_of_end(list(running)), start=1):
            found: Verdicts = result(ended)
            line = [source.name, code, running[ended], [[*key, *said] for key, said in found.items()]]
            with journal.open("a") as file:
                file.write(json.dumps(line) + "\n")
            tell(running[ended], found)
            if done % 10 == 0:
                print(f"  {done} of {len(missing)} in {time.perf_counter() - started:.0f} s", flush=True)
            yield found


def code_digest() -> str:
    """Of all code that a verdict follows from."""
    here = Path(__file__)
    return hashlib.sha256(here.read_bytes() + digest(imported_files(here) - {here}).encode()).hexdigest()[:16]


def tell(seed: int, found: Verdicts) -> None:
    """What is not as it should be."""
    for each in ASKED:
        if each.is_met(found) != (each.at_least > 0):
            said = "; ".join(f"{found[each.generator, rule]}" for rule in each.rules)
            print(f"  seed {seed}, {each.words}: {said}", flush=True)


def in_journal(journal: Path, source: str, code: str) -> Iterator[tuple[int, Verdicts]]:
    """What the same code has said of the source."""
    for line in journal.read_text().splitlines() if journal.exists() else []:
        of, by, seed, verdicts = json.loads(line)
        if (of, by) == (source, code):
            yield seed, {(generator, rule): (status, evidence) for generator, rule, status, evidence in verdicts}


def repetition(source: Source, seed: int) -> Verdicts:
    """What the judge of one split of all images and their labels says of each generator."""
    rng = np.random.default_rng([seed, 0])
    images, labels = source.images, source.labels
    order = rng.permutation(len(images))[:LARGEST]
    out, *splits = np.split(order, np.cumsum([int(share * len(order)) for share in SHARES.values()]))
    val, test, train = splits
    parts = (train, val, test)
    given = Material(*(images[part] for part in parts), *(None if labels is None else labels[part] for part in parts))
    judge = judge_of(given, None, seed, int(JUDGED * len(out)))
    groups = groups_of(images[out], None if labels is None else labels[out], judge)
    found: Verdicts = {}
    for name, make in generators(images[out], groups, images[train], judge.size, seed).items():
        samples = make(rng)
        verdicts = judge.judge(samples[rng.permutation(len(samples))], RULES[name]).verdicts
        found |= {(name, rule): (each.status, each.evidence) for rule, each in verdicts.items()}
    return found


def groups_of(out: np.ndarray, labels: np.ndarray | None, judge: Judge) -> np.ndarray:
    """What a mode is (N): a class, or several that can't be told apart; where most can't be, a cluster of features."""
    space = judge.fidelity_spaces[-1]
    if labels is not None and isinstance(space.groups, Classes):
        return space.groups.of_labels(labels)
    return space.view(out).groups


def generators(
    out: np.ndarray, groups: np.ndarray, train: np.ndarray, fewest: int, seed: int
) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    """Images float32 (N, C, H, W) in [0, 1], at least `fewest`, from those held out, uint8 (N, C, H, W)."""
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
    return made | {name: lambda rng, of=of: of.make(np.arange(of.count)) for name, of in spoilt.items()}


def without_a_mode(images: np.ndarray, groups: np.ndarray, fewest: int, rng: np.random.Generator) -> np.ndarray:
    """All others; again and again where these are fewer than `fewest`."""
    kept = images[groups != rng.choice(np.unique(groups))]
    return kept if len(kept) >= fewest else kept[rng.integers(len(kept), size=fewest)]


def keep(source: str, results: list[Result]) -> None:
    """Beside what is known of the other sources."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    write_json(RESULTS, known | {source: [asdict(each) for each in results]})


if __name__ == "__main__":
    sys.exit(main())
