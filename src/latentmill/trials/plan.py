"""What a sweep has to do: which trials there are, which of them are settled, and which comes next.

Nothing here depends on when a trial ends, only on what it came to. A grid or random search is one round of
configurations; a search that learns gets its later rounds after the earlier ones, so what trials come to makes the
plan, on any number of workers and however often it is interrupted.
"""

from collections.abc import Callable, Iterator

from latentmill.config import Params
from latentmill.trials.space import Configuration, Space, space
from latentmill.trials.store import SETTLED, TrialStore
from latentmill.trials.study import Planned, Rounds, Scores, Study, Suggest, length, quotas, score
from latentmill.trials.trained_model import Record
from latentmill.trials.trial import identity

ATTEMPTS = 3  # of a trial whose worker dies


class Plan:
    """The trials of every entry of the ladder, and what became of them."""

    def __init__(self, params: Params, data_digest: str, store: TrialStore, suggest: Suggest) -> None:
        """`suggest` makes the rounds of an entry where `train.search` learns from results.

        Raises:
            InputError: an entry names an unknown variant or key, or a search space breaks a rule.
        """
        self.params, self.config, self.data_digest, self.store = params, params.train, data_digest, store
        self.planned: list[Planned] = []  # every trial known so far, in the ladder's order within a round
        self.records: dict[str, Record] = {}  # of settled trials, as this run sees them
        self.waiting: list[Planned] = []  # the next to start is the last
        self.replays: list[Planned] = []  # settled ones, whose results early stopping across trials wants to see
        self._by_fingerprint: dict[str, Planned] = {}
        self._deaths: dict[str, int] = {}  # of workers, by trial
        self._kept = store.fingerprints()
        self.studies: list[Study] = self._studies(suggest)
        for study in self.studies:
            self._next_round(study, [])

    @property
    def open(self) -> set[str]:
        """The fingerprints of the trials to train in the open rounds; a search that learns may add more."""
        return set[str]().union(*(study.open for study in self.studies))

    @property
    def missing(self) -> int:
        """How many these are."""
        return len(self.open)

    @property
    def unasked(self) -> int:
        """Trials that a search will ask for when it has seen the results of the open round."""
        return sum(study.left for study in self.studies) * len(self.config.seeds)

    def summary(self) -> str:
        """`12 trials: 9 already trained, 3 to train`."""
        total = len(self._by_fingerprint)
        more = f", up to {self.unasked} more when their results are known" if self.unasked else ""
        return f"{total} trials: {total - self.missing} already trained, {self.missing} to train{more}"

    def take(self, most: Callable[[Planned, int], int] | None = None) -> list[Planned]:
        """The trial to start next, long ones first, and those that can be one program with it.

        Empty while all that are known have been taken.
        `most` says how many at the most, of a trial and the number of those waiting that are alike, itself included.
        """
        if not self.waiting:
            return []
        alike = self._alike() if most else []
        taken = alike[: most(alike[0], len(alike))] if most and len(alike) > 1 else self.waiting[-1:]
        gone = {planned.fingerprint for planned in taken}
        self.waiting = [planned for planned in self.waiting if planned.fingerprint not in gone]
        for planned in taken:
            self._forget_failure(planned)
        return taken

    def _alike(self) -> list[Planned]:
        """The next trial, and those that can be one program with it; none with one that something happened to."""
        first, alone = self.waiting[-1], self._deaths.keys()
        if first.shape is None or first.fingerprint in alone:
            return [first]
        return [
            planned
            for planned in reversed(self.waiting)
            if planned.shape == first.shape and planned.fingerprint not in alone
        ]

    def _forget_failure(self, planned: Planned) -> None:
        if planned.fingerprint in self._kept:
            self.store.forget_end(planned.fingerprint)  # of an earlier failure, so that this run's can be told from it

    def is_over(self) -> bool:
        return not self.waiting and not self.missing

    def ended(self, fingerprint: str, starved: bool = False) -> Record | None:
        """Take in that a trial has ended; returns its record, or None where there is none and it is tried again.

        `starved` says that its worker, which had no other trial, was ended because the machine ran low on memory.
        """
        record = self.store.find(fingerprint)
        if record is None and starved:
            record = self._out_of_memory(self._by_fingerprint[fingerprint])
        if record is None:
            self._deaths[fingerprint] = self._deaths.get(fingerprint, 0) + 1
            if self._deaths[fingerprint] < ATTEMPTS:
                self.waiting.insert(0, self._by_fingerprint[fingerprint])
                return None
            error = f"{ATTEMPTS} times its worker died, or could not keep its result"
            record = {"status": "failed", "error": error, "deaths": ATTEMPTS}
        self.records[fingerprint] = record
        for study in self.studies:
            if fingerprint in study.open:
                study.open.remove(fingerprint)
                if not study.open:
                    self._next_round(study, self._scores(study))
        return record

    def _out_of_memory(self, planned: Planned) -> Record:
        """Keep that a trial had too little memory."""
        record = identity(planned.trial, planned.fingerprint, self.data_digest)
        record |= {"status": "out of memory", "error": "its worker was ended because the machine ran low on memory"}
        self.store.end(planned.fingerprint, record)
        return record

    def earlier(self, fingerprint: str) -> Record | None:
        """How the trial ended in an earlier sweep."""
        return self.store.find(fingerprint) if fingerprint in self._kept else None

    def _studies(self, suggest: Suggest) -> list[Study]:
        spaces = [space(entry, content) for entry, content in self.params.ladder.items()]
        limit = self.config.max_trials
        sizes = [(each.samples or 1) if self._learns(each) else len(each) for each in spaces]
        asked = quotas(sizes, None if limit is None else limit // len(self.config.seeds))
        return [
            Study(
                each,
                suggest(each, count, self.config.sampling_seed) if self._learns(each) else self._one_round(each, count),
                count,
            )
            for each, count in zip(spaces, asked, strict=True)
        ]

    def _learns(self, each: Space) -> bool:
        return self.config.search != "random" and bool(each.sampled)

    def _one_round(self, each: Space, count: int) -> Rounds:
        points = [point for point, _ in zip(each.points(self.config.sampling_seed), range(count), strict=False)]
        yield points

    def _next_round(self, study: Study, scores: Scores) -> None:
        """Open rounds until one has a trial to train, or the search has ended."""
        while not study.open:
            try:
                points = study.rounds.send(scores) if study.configurations else next(study.rounds)
            except StopIteration:
                return
            study.left -= len(points)
            made = [study.space.configuration(point, self.params.trial) for point in points]
            study.configurations = [list(self._trials(configuration)) for configuration in made]
            for planned in (planned for trials in study.configurations for planned in trials):
                self._add(planned, study)
            self.waiting.sort(key=length)  # among equals the later in the ladder first, as a rule the larger model
            scores = self._scores(study) if not study.open else []

    def _trials(self, configuration: Configuration) -> Iterator[Planned]:
        trials = [configuration.trial(seed) for seed in self.config.seeds]
        fingerprints = [trial.fingerprint(self.data_digest) for trial in trials]
        for trial, fingerprint in zip(trials, fingerprints, strict=True):
            label = f"{configuration.label} seed={trial.seed}" if len(trials) > 1 else configuration.label
            yield Planned(configuration.entry, fingerprints[0], trial, fingerprint, label)

    def _add(self, planned: Planned, study: Study) -> None:
        fingerprint = planned.fingerprint
        self.planned.append(planned)
        asked_before = self._by_fingerprint.setdefault(fingerprint, planned) is not planned
        record = self.records.get(fingerprint) or self.earlier(fingerprint)
        if record and self._is_settled(record):
            self.records[fingerprint] = record
            if self.config.asha and planned.trial.training:
                self.replays.append(planned)
            return
        study.open.add(fingerprint)
        if not asked_before:
            self.waiting.append(planned)

    def _is_settled(self, record: Record) -> bool:
        return record["status"] in SETTLED or (record["status"] == "stopped" and self.config.asha is not None)

    def _scores(self, study: Study) -> Scores:
        return [score([self.records[planned.fingerprint] for planned in trials]) for trials in study.configurations]


def rows(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """For each trial its fingerprint, how far it has come, and its label."""
    for planned in plan.planned:
        record = plan.records.get(planned.fingerprint) or plan.earlier(planned.fingerprint)
        yield planned.fingerprint, record["status"] if record else "to train", planned.label
