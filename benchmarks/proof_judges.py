"""The judges of one split of the real images, and what they say of each generator."""

from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.proof_generators import RESERVED, TRAIN, Images, Kind
from latentmill.data.batches import as_float
from latentmill.evaluation.assembly import assemble, calibrate, choose_pool, chosen_features, fit, make_judge
from latentmill.evaluation.controls import LIMITS
from latentmill.evaluation.copy_kinds import UNCHANGED
from latentmill.evaluation.copy_search import CopyFinder, highest_share
from latentmill.evaluation.judge import Judge
from latentmill.evaluation.prepared import PreparedData
from latentmill.proportion import Found

JUDGED = 1_000  # samples of a pool
HELD_OUT = 1_000  # images of val, and as many of test
Json = dict[str, Any]


class Split:
    """One choice of held-out images, for generators that were trained on the images `chosen`."""

    def __init__(self, images: Images, chosen: np.ndarray, seed: int, rules: set[int]) -> None:
        """`chosen` are indices into the training images; `rules` are those of the judge, both or the second alone."""
        self.seed, self.rules = seed, rules
        new = np.random.default_rng([seed, 2]).choice(
            np.arange(TRAIN + RESERVED, len(images.every)), 2 * HELD_OUT, False
        )
        parts = (chosen, new[:HELD_OUT], new[HELD_OUT : 2 * HELD_OUT])
        self.data = PreparedData(*(images.every[part] for part in parts), *(images.labels[part] for part in parts))

    @cached_property
    def judge(self) -> Judge:
        if 1 in self.rules:
            return make_judge(self.data, None, self.seed, JUDGED)
        return copy_judge(self.data, self.seed)

    @cached_property
    def finder(self) -> CopyFinder:
        return CopyFinder(self.data.train, self.data, self.seed)

    @cached_property
    def found_of_kinds(self) -> dict[str, Found]:
        return self.finder.kinds()

    def wanted(self, kind: Kind) -> set[str]:
        """The rules by which generators of a kind are judged here, as keys of `verdicts`."""
        return {str(rule) for rule in self.rules.intersection(kind.rules)}

    def verdicts(self, kind: Kind, pool: np.ndarray, seed: int) -> Json:
        """On `JUDGED` of the samples, uint8 (N, C, H, W), of the generator of that seed."""
        rng = np.random.default_rng([self.seed, seed, 3])
        samples = pool[rng.choice(len(pool), JUDGED, replace=False)]
        verdicts = self.judge.judge(as_float(samples), [int(rule) for rule in sorted(self.wanted(kind))]).verdicts
        found = {str(rule): [each.status, each.evidence] for rule, each in verdicts.items()}
        return found | self.searched(samples, kind.copied)

    def searched(self, samples: np.ndarray, copied: str | None) -> Json:
        """The samples that the search takes for copies; of a known kind, also what the page says of these."""
        seen = self.finder.look(samples)
        exact, near = self.finder.are_exact(seen), self.finder.are_found(seen)
        found = {"exact": int(exact.sum()), "near": int(near.sum())}
        if copied is None:
            return found
        counted = Found(int((exact if copied == UNCHANGED else near).sum()), len(samples))
        rate = self.found_of_kinds[copied]
        return found | {"rate": rate.share, "highest_share": round(highest_share(counted, rate), 4)}


def copy_judge(data: PreparedData, seed: int) -> Judge:
    """The judge that `make_judge` makes, but of Rule 2 alone, which takes a fraction of the time."""
    pool = choose_pool(data, seed)
    names = chosen_features(None, data)[2]
    copied, every = ([fit(name, each, data, pool, seed) for name in names] for each in (True, False))
    calibrated = [calibrate(2, features, data, pool, seed, JUDGED) for features in copied]
    return assemble(data, pool, seed, JUDGED, LIMITS, 0, *calibrated, *every)
