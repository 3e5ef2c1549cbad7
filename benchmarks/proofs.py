"""Is the judge right about generators that nobody trained to please it? `python -m benchmarks.proofs [kind…]`.

Three generators of each kind (proof_generators.py) are judged on many splits: held-out images are chosen anew, and so
are the samples of a generator's pool. What each verdict must be is in `requirements`, and was written down before any
was measured; that changed copies must fail, when the search for them was built. Kinds without a requirement are
measured all the same. It needs the extra `bench` and smalldiffusion; kinds of which a package is missing are left out,
with a line. It continues from a journal, writes proofs.json, prints the table of docs/judge.md, and exits with 1 where
a requirement is missed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import proof_generators, proof_judges
from benchmarks.calibration import bundled
from benchmarks.proof_generators import NEED_FLIP, SEEDS, Images, Kind, kinds
from benchmarks.proof_judges import JUDGED, Json, Split
from benchmarks.target import Result
from benchmarks.verdicts import Journal, Requirement, Verdicts, code_digest, wilson
from latentmill.cluster.process import use_one_core
from latentmill.data.sources.fashion_mnist import FOLDER
from latentmill.errors import InputError, one_line_errors
from latentmill.files import write_json

RESULTS = Path(__file__).with_name("proofs.json")
JOURNAL = Path(".latentmill/proofs.jsonl")
SPLITS = {1: 50, 2: 50}  # by rule
TOLD_APART = 0.6  # accuracy of a classifier from which on samples don't look drawn from the data
SEARCHED = ("exact", "near", "rate")
STATUSES = ("pass", "fail", "inconclusive")


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.proofs", description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="words in the names of the kinds to measure; all if left out")
    for rule, count in SPLITS.items():
        parser.add_argument(f"--splits-{rule}", type=int, default=count, help=f"by Rule {rule} ({count})")
    options = parser.parse_args()
    if not FOLDER.exists():
        raise InputError(f"Fashion-MNIST must be in {FOLDER}: install Debian's package dataset-fashion-mnist")
    use_one_core()
    chosen = available(options.kinds)
    found = measured(chosen, {1: options.splits_1, 2: options.splits_2})
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    lines = {kind.name: list(results(kind, found[kind.name])) for kind in chosen}
    for name, each in found.items():
        known[name] = summary(each) | {"requirements": [asdict(line) for line in lines[name]]}
    write_json(RESULTS, {kind.name: known[kind.name] for kind in kinds() if kind.name in known})
    every = [line for each in lines.values() for line in each]
    print(*(f"{line}  {line.note}" for line in every), *table(known), sep="\n")
    return 0 if all(line.holds for line in every) else 1


def available(words: list[str]) -> list[Kind]:
    """The kinds whose names have one of the words, all if there is none, without those that lack a package."""
    chosen = [each for each in kinds() if not words or any(word in each.name for word in words)]
    missing = [each for each in chosen if each.needs and not find_spec(each.needs)]
    for each in missing:
        print(f"left out: {each.name}, which needs pip install {each.needs}")
    return [each for each in chosen if each not in missing]


def requirements(kind: Kind) -> Iterator[Requirement]:
    """What the verdicts on generators of a kind must be."""
    if kind.copied is not None:
        if kind.copied not in NEED_FLIP:
            yield Requirement("copies found", kind.name, (2,), "fail", at_least=99)
    elif kind.few:
        yield Requirement("images learnt by heart found", kind.name, (2,), "fail", at_least=99)
    else:
        yield Requirement("called copies", kind.name, (2,), "fail", at_most=2)
        if kind.lacks_classes:
            yield Requirement("two lost classes found", kind.name, (1,), "fail", at_least=99)
        elif not kind.is_trained:
            yield Requirement("called not drawn from the data", kind.name, (1,), "fail", at_most=2)
        else:
            yield Requirement("told apart by a classifier, but pass", kind.name, (1,), "pass", at_most=0)


def measured(chosen: list[Kind], splits: dict[int, int]) -> dict[str, Json]:
    """By the name of each kind its `accuracy`, one a seed, and its `verdicts`, of each seed a list, one a split."""
    images = fashion_mnist()
    journal = Journal(JOURNAL, code_digest(*(Path(str(each.__file__)) for each in (proof_generators, proof_judges))))
    pools = {(kind, seed): kind.pool(images, seed) for kind in chosen for seed in SEEDS}
    known = {case: journal.known(case[0].generator(case[1])) for case in pools}
    for index in range(max(splits.values())):
        rules = {rule for rule, count in splits.items() if index < count}
        for own in (None, *SEEDS):
            cases = [(kind, seed) for kind, seed in pools if own == (seed if kind.few else None)]
            split = Split(
                images, images.seen_by(own), index, rules & {rule for kind, _ in cases for rule in kind.rules}
            )
            for kind, seed in cases:
                if not split.wanted(kind) <= known[kind, seed].get(index, {}).keys():
                    known[kind, seed][index] = split.verdicts(kind, pools[kind, seed].samples, seed)
                    journal.add(kind.generator(seed), index, known[kind, seed][index])
        print(f"  split {index + 1} of {max(splits.values())}", flush=True)
    return {
        kind.name: {
            "accuracy": [pools[kind, seed].accuracy for seed in SEEDS],
            "verdicts": [list(known[kind, seed].values()) for seed in SEEDS],
        }
        for kind in chosen
    }


def fashion_mnist() -> Images:
    source = bundled("fashion-mnist")
    assert source.labels is not None
    order = np.random.default_rng(0).permutation(len(source.images))
    return Images(source.images[order], source.labels[order])


def results(kind: Kind, found: Json) -> Iterator[Result]:
    """Of each requirement, over all seeds and splits."""
    for each in requirements(kind):
        (rule,) = each.rules
        apart = [accuracy is not None and accuracy > TOLD_APART for accuracy in found["accuracy"]]
        verdicts: list[Verdicts] = [
            {(kind.name, rule): tuple(row[str(rule)])}
            for is_apart, rows in zip(apart, found["verdicts"], strict=True)
            for row in rows
            if str(rule) in row and (is_apart or each.status != "pass")
        ]
        if verdicts:
            yield each.result(kind.name, verdicts)


def summary(found: Json) -> Json:
    """The verdicts of each seed, counted by rule; means of what the search found, and its lowest `highest_share`."""
    rules = sorted({rule for rows in found["verdicts"] for row in rows for rule in row if rule.isdecimal()})
    cells = {rule: [counted(rows, rule) for rows in found["verdicts"]] for rule in rules}
    every = [row for rows in found["verdicts"] for row in rows]
    searched = {key: round(float(np.mean([row[key] for row in every])), 4) for key in SEARCHED if key in every[0]}
    bounds = {"highest_share": min(row["highest_share"] for row in every)} if "highest_share" in every[0] else {}
    return {"accuracy": found["accuracy"], "rules": cells, "search": searched | bounds}


def counted(rows: list[Json], rule: str) -> dict[str, int]:
    counts = Counter(row[rule][0] for row in rows if rule in row)
    return {status: counts[status] for status in STATUSES}


def table(known: Json) -> Iterator[str]:
    """Markdown, a row of each kind and rule; a cell has the counts of verdicts, and the interval of those that fail."""
    seeds = " | ".join(f"seed {seed}" for seed in SEEDS)
    yield f"| generator | told from real images | taken for copies | rule | {seeds} |"
    yield "|---|---|---|---|" + "---|" * len(SEEDS)
    for name, kind in known.items():
        apart = "" if None in kind["accuracy"] else f"{100 * min(kind['accuracy']):.0f} %"
        about = f"| {name} | {apart} | {100 * kind['search']['near'] / JUDGED:.1f} % |"
        for rule, cells in kind["rules"].items():
            yield f"{about} {rule} | " + " | ".join(map(cell, cells)) + " |"
            about = "| | | |"


def cell(counts: dict[str, int]) -> str:
    low, high = wilson(counts["fail"], sum(counts.values()))
    return f"{' / '.join(str(counts[status]) for status in STATUSES)} ({low:.0f} to {high:.0f} %)"


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
