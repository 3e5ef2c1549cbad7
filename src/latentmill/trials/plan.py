"""What a sweep has to do: which trials there are, which of them are settled, and which comes next.

The plan depends only on the results of trials, never on when they end, so it is the same on any number of workers and
however often it is interrupted. A grid or random search is one round of configurations; an adaptive search plans later
rounds from earlier results; when the search of an entry has ended, the priors of its winner follow.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from latentmill.config import Params
from latentmill.runtime.text import plural
from latentmill.trials.ladder import Ladder
from latentmill.trials.record import Record
from latentmill.trials.results import outcomes, ranking
from latentmill.trials.store import SETTLED, TrialStore
from latentmill.trials.study import Allowance, Planned, Study, Suggest
from latentmill.trials.trial import identity
from latentmill.trials.warm_start import WarmStart

RESERVED = 0.2  # of `max_seconds`, for priors
ATTEMPTS = 3  # of a trial whose worker dies

PackLimit = Callable[[Planned, int], int]  # (the next trial, trials of its shape that wait) -> how many to pack


class Plan:
    """The trials of every entry of the ladder, and their results."""

    def __init__(
        self,
        params: Params,
        data_digest: str,
        store: TrialStore,
        suggest: Suggest,
        features: str | None = None,
        allowances: Mapping[str, Allowance] | None = None,
        lengths: Mapping[str, float] | None = None,
        warm_start: WarmStart | None = None,
    ) -> None:
        """Arguments and errors are those of `Ladder`; `data_digest` is that of the prepared data set.

        `lengths` are the seconds of the trials of each study, as far as they are known: long ones start first.
        """
        self.config, self.data_digest, self.store, self.warm_start = params.train, data_digest, store, warm_start
        self.planned: list[Planned] = []  # every trial known so far, in the ladder's order within a round
        self.records: dict[str, Record] = {}  # of settled trials, as this run sees them
        self.waiting: list[Planned] = []  # the next to start is the last
        self.replays: list[Planned] = []  # settled trials that ASHA does not know yet
        self._ladder, self._lengths = Ladder(params, suggest, features, allowances, warm_start), lengths or {}
        self._by_fingerprint: dict[str, Planned] = {}
        self._known: set[tuple[str, str]] = set()  # studies, each with the fingerprints of its trials
        self._deaths: dict[str, int] = {}  # of workers, by trial
        self._stored = store.fingerprints()
        self._searching = set(params.ladder)  # entries whose search has not ended
        self.studies = self._ladder.entry_studies()
        for study in list(self.studies):
            self._next_round(study)

    @property
    def open(self) -> set[str]:
        """The fingerprints of the trials to train in the open rounds; an adaptive search may add more."""
        return set[str]().union(*(study.open for study in self.studies))

    @property
    def missing(self) -> int:
        """The number of `open` trials."""
        return len(self.open)

    @property
    def unplanned(self) -> int:
        """Trials that depend on the results of the open rounds, at most: more configurations, priors."""
        return sum(self.missing_by_study.values()) - sum(len(study.open) for study in self.studies)

    @property
    def missing_by_study(self) -> Counter[str]:
        """The number of trials to train, those included that depend on the results of the open rounds."""
        found = Counter({study.name: len(study.open) + study.left * len(study.seeds) for study in self.studies})
        for entry in self._searching:
            found.update(self._ladder.prior_trials(entry))
        return found

    @property
    def is_over(self) -> bool:
        return not self.waiting and not self.missing

    @property
    def search_seconds(self) -> float | None:
        """The time for trials of models; None where they may use all of `max_seconds`."""
        limit = self.config.max_seconds
        return None if limit is None or not self.unplanned else (1 - RESERVED) * limit

    def summary(self) -> str:
        """`12 trials: 9 already trained, 3 to train`."""
        total = len(self._by_fingerprint)
        more = f", up to {self.unplanned} more when their results are known" if self.unplanned else ""
        warm = f"; {sum(each.trial.start is not None for each in self.planned)} start warm" if self.warm_start else ""
        return f"{plural(total, 'trial')}: {total - self.missing} already trained, {self.missing} to train{more}{warm}"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """The fingerprint, status and label of each trial, with a note how it starts."""
        for planned in self.planned:
            record = self.records.get(planned.fingerprint) or self._stored_record(planned)
            label = f"{planned.label} ({planned.note})" if planned.note else planned.label
            yield planned.fingerprint, record["status"] if record else "to train", label

    def pop_pack(self, limit: PackLimit | None = None) -> list[Planned]:
        """The trial to start next, long ones first, and those to pack with it; empty while none waits."""
        if not self.waiting:
            return []
        packable = self._packable() if limit else []
        pack = packable[: limit(packable[0], len(packable))] if limit and len(packable) > 1 else self.waiting[-1:]
        fingerprints = {planned.fingerprint for planned in pack}
        self.waiting = [planned for planned in self.waiting if planned.fingerprint not in fingerprints]
        for fingerprint in fingerprints & self._stored:
            self.store.delete_result(fingerprint)  # a failure of an earlier sweep, which is not this one's
        return pack

    def _packable(self) -> list[Planned]:
        """The next trial and those of its shape; a trial whose worker has died is trained alone."""
        first = self.waiting[-1]
        if first.shape is None or first.fingerprint in self._deaths:
            return [first]
        same = [planned for planned in reversed(self.waiting) if planned.shape == first.shape]
        return [planned for planned in same if planned.fingerprint not in self._deaths]

    def ended(self, fingerprint: str, starved: bool = False) -> Record | None:
        """Record that a trial has ended; returns None where it left no result and is tried again.

        `starved`: its worker trained only this trial, and was killed because the machine ran low on memory.
        """
        record = self.store.find(fingerprint)
        if record is None and starved:
            record = self._save_starved(self._by_fingerprint[fingerprint])
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
                self._next_round(study)
        return record

    def _save_starved(self, planned: Planned) -> Record:
        record = identity(planned.trial, planned.fingerprint, self.data_digest)
        record |= {"status": "out of memory", "error": "its worker was ended because the machine ran low on memory"}
        self.store.save_result(planned.fingerprint, record)
        return record

    def end_search(self) -> None:
        """Drop the waiting trials of models, so that there is time for priors; those that run may end."""
        dropped = {planned.fingerprint for planned in self.waiting if planned.prior is None}
        self.waiting = [planned for planned in self.waiting if planned.fingerprint not in dropped]
        for study in list(self.studies):
            if study.parent is None and (study.open & dropped or study.left):
                study.open -= dropped
                study.stop()
                self._next_round(study)

    def untrained_priors(self, winner: Planned) -> list[Planned]:
        """The priors of an entry's winner that learn nothing, and so need no training."""
        found = []
        for study in self._ladder.prior_studies(winner, learn=False):
            ((point,),) = study.rounds
            found += study.trials(point, self._ladder.defaults, self.data_digest)
        return found

    def _next_round(self, study: Study) -> None:
        """Open rounds until one has a trial to train, or the search has ended."""
        while not study.open:
            points = study.next_points(study.scores(self.records))
            if points is None:
                self._plan_priors(study)
                return
            study.configurations = [study.trials(point, self._ladder.defaults, self.data_digest) for point in points]
            for planned in itertools.chain(*study.configurations):
                self._add(planned, study)
            self.waiting.sort(key=self._length)  # stable: the last, as a rule larger, entry first

    def _length(self, planned: Planned) -> tuple[float, int]:
        return self._lengths.get(planned.study, 0.0), planned.epochs

    def _plan_priors(self, study: Study) -> None:
        if study.name not in self._searching:  # itself a prior, or its priors are planned already
            return
        self._searching.remove(study.name)
        ranked = ranking(outcomes(self.planned, self.records)).get(study.name)
        for prior in self._ladder.prior_studies(ranked[0].best.planned) if ranked else []:
            self.studies.append(prior)
            self._next_round(prior)

    def _add(self, planned: Planned, study: Study) -> None:
        fingerprint = planned.fingerprint
        if (study.name, fingerprint) in self._known:
            return  # drawn again, which is no further seed
        self._known.add((study.name, fingerprint))
        self.planned.append(planned)
        is_new = self._by_fingerprint.setdefault(fingerprint, planned) is planned
        record = self.records.get(fingerprint) or self._stored_record(planned)
        if record and self._is_settled(planned, record):
            self.records[fingerprint] = record
            if self.config.asha and planned.trial.training:
                self.replays.append(planned)
            return
        study.open.add(fingerprint)
        if is_new:
            self.waiting.append(planned)

    def _stored_record(self, planned: Planned) -> Record | None:
        """The result of an earlier sweep."""
        return self.store.find(planned.fingerprint) if planned.fingerprint in self._stored else None

    def _is_settled(self, planned: Planned, record: Record) -> bool:
        if record["status"] == "pruned":
            return self.config.asha is not None and record["asha"] == self.config.asha.model_dump()
        parent = planned.trial.parent
        # A prior must be trained on codes of its parent's present weights.
        is_current = parent is None or record.get("parent_weights_sha256") == self.records[parent]["weights_sha256"]
        return is_current and record["status"] in SETTLED
