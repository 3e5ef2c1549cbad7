"""What a sweep has to do: which trials there are, which of them are settled, and which comes next.

Nothing here depends on when a trial ends, only on what it came to. A grid or random search is one round of
configurations; a search that learns gets its later rounds after the earlier ones; and when the search of an entry has
ended, its winner's priors follow. So what trials come to makes the plan, on any number of workers and however often it
is interrupted.
"""

from collections.abc import Callable, Iterator

from latentmill import registry
from latentmill.config import Params
from latentmill.contract import Decodes, Encodes
from latentmill.errors import InputError
from latentmill.trials.ranking import is_ranked_by_distance
from latentmill.trials.results import outcomes, ranking
from latentmill.trials.space import Configuration, Space, space
from latentmill.trials.store import SETTLED, TrialStore
from latentmill.trials.study import Planned, Rounds, Scores, Study, Suggest, length, quotas, score
from latentmill.trials.trained_model import Record
from latentmill.trials.trial import identity

RESERVED = 0.2  # of `max_seconds`, for priors
ATTEMPTS = 3  # of a trial whose worker dies
DEFAULT_PRIORS = ["normal"]  # of an entry whose model has codes and that lists none


class Plan:
    """The trials of every entry of the ladder, and what became of them."""

    def __init__(
        self, params: Params, data_digest: str, store: TrialStore, suggest: Suggest, features: str | None = None
    ) -> None:
        """`suggest` makes the rounds where `train.search` learns from results.

        `features` is the digest of those in which trials are ranked; None where none is ranked by distance.

        Raises:
            InputError: an entry names an unknown model, prior or key, or a search space breaks a rule.
        """
        self.params, self.config, self.data_digest, self.store = params, params.train, data_digest, store
        self.planned: list[Planned] = []  # every trial known so far, in the ladder's order within a round
        self.records: dict[str, Record] = {}  # of settled trials, as this run sees them
        self.waiting: list[Planned] = []  # the next to start is the last
        self.replays: list[Planned] = []  # settled ones, whose results pruning wants to see
        self._suggest, self._features = suggest, features
        self._by_fingerprint: dict[str, Planned] = {}
        self._deaths: dict[str, int] = {}  # of workers, by trial
        self._kept = store.fingerprints()
        self._without_trials: dict[str, list[Space]] = {}  # by entry, the priors that learn nothing
        self._entries = {name: params.entry(name) for name in params.ladder}
        self._priors = {name: self._prior_spaces(name) for name in params.ladder}  # those not yet planned
        self.studies: list[Study] = self._entry_studies()
        for study in list(self.studies):
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
        """Trials that will be planned when the results of the open rounds are known: more configurations, priors."""
        priors = sum(self._size(each) for spaces in self._priors.values() for each in spaces)
        return sum(study.left * len(study.seeds) for study in self.studies) + priors

    @property
    def search_seconds(self) -> float | None:
        """For how long trials of models are planned; None where they may take all the time there is."""
        limit = self.config.max_seconds
        return None if limit is None or not self.unasked else (1 - RESERVED) * limit

    def summary(self) -> str:
        """`12 trials: 9 already trained, 3 to train`."""
        total = len(self._by_fingerprint)
        more = f", up to {self.unasked} more when their results are known" if self.unasked else ""
        return f"{total} trials: {total - self.missing} already trained, {self.missing} to train{more}"

    def take(self, most: Callable[[Planned, int], int] | None = None) -> list[Planned]:
        """The trial to start next, long ones first, and those that can be packed with it.

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
        """The next trial, and those that can be packed with it; none with one that something happened to."""
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

    def end_search(self) -> None:
        """Plan no more trials of models, so that the winners' priors have their time; those under way may end."""
        dropped = {planned.fingerprint for planned in self.waiting if planned.prior is None}
        self.waiting = [planned for planned in self.waiting if planned.fingerprint not in dropped]
        for study in list(self.studies):
            if study.parent is None and (study.open & dropped or study.left):
                study.open -= dropped
                study.left = 0
                study.rounds.close()
                if not study.open:
                    self._plan_priors(study)

    def _out_of_memory(self, planned: Planned) -> Record:
        """Keep that a trial had too little memory."""
        record = identity(planned.trial, planned.fingerprint, self.data_digest)
        record |= {"status": "out of memory", "error": "its worker was ended because the machine ran low on memory"}
        self.store.end(planned.fingerprint, record)
        return record

    def earlier(self, fingerprint: str) -> Record | None:
        """How the trial ended in an earlier sweep."""
        return self.store.find(fingerprint) if fingerprint in self._kept else None

    def priors_without_trials(self, winner: Planned) -> list[Planned]:
        """Of an entry's winner, the priors that learn nothing, and so need no training."""
        found = []
        for each in self._without_trials[winner.entry]:
            (point,) = each.points(self.config.sampling_seed)
            trial = each.configuration(point, self.params.trial).trial(winner.trial.seed, None, winner.fingerprint)
            fingerprint, name = trial.fingerprint(self.data_digest), f"{winner.entry}/{each.name}"
            found.append(Planned(name, fingerprint, trial, fingerprint, name))
        return found

    def _entry_studies(self) -> list[Study]:
        spaces = [space(name, content) for name, content in self.params.ladder.items()]
        limit, seeds = self.config.max_trials, self.config.seeds
        counts = quotas([self._size(each) for each in spaces], None if limit is None else limit // len(seeds))
        return [
            Study(each.name, each, self._rounds(each, count), count, seeds, self._ranked_in(each))
            for each, count in zip(spaces, counts, strict=True)
        ]

    def _ranked_in(self, each: Space) -> str | None:
        return self._features if is_ranked_by_distance(self._entries[each.name]) else None

    def _prior_spaces(self, name: str) -> list[Space]:
        """Raises InputError where priors are named for a model that has no codes of images."""
        entry = self._entries[name]
        model = registry.find("models", space(name, self.params.ladder[name]).model)
        has_codes = issubclass(model, Encodes) and issubclass(model, Decodes)
        if entry.priors and not has_codes:
            rule = "must be left out where a model has no codes of images to learn from"
            raise InputError(f"params.yaml: ladder.{name}.priors {rule}, but got {entry.priors} for {entry.model}")
        chosen = (entry.priors or DEFAULT_PRIORS) if has_codes else []
        spaces = [space(prior, self.params.priors.get(prior, {}), "priors") for prior in chosen]
        self._without_trials[name] = [each for each in spaces if not registry.find("priors", each.model).learns]
        return [each for each in spaces if each not in self._without_trials[name]]

    def _size(self, each: Space) -> int:
        return (each.samples or 1) if self._learns(each) else len(each)

    def _learns(self, each: Space) -> bool:
        return self.config.search != "random" and bool(each.sampled)

    def _rounds(self, each: Space, count: int) -> Rounds:
        if self._learns(each):
            return self._suggest(each, count, self.config.sampling_seed)
        return self._one_round(each, count)

    def _one_round(self, each: Space, count: int) -> Rounds:
        points = [point for point, _ in zip(each.points(self.config.sampling_seed), range(count), strict=False)]
        yield points

    def _next_round(self, study: Study, scores: Scores) -> None:
        """Open rounds until one has a trial to train, or the search has ended."""
        while not study.open:
            try:
                points = study.rounds.send(scores) if study.configurations else next(study.rounds)
            except StopIteration:
                self._plan_priors(study)
                return
            study.left -= len(points)
            made = [study.space.configuration(point, self.params.trial) for point in points]
            study.configurations = [list(self._trials(study, configuration)) for configuration in made]
            for planned in (planned for trials in study.configurations for planned in trials):
                self._add(planned, study)
            self.waiting.sort(key=length)  # among equals the later in the ladder first, as a rule the larger model
            scores = self._scores(study) if not study.open else []

    def _plan_priors(self, study: Study) -> None:
        """Those of the winner of an entry, whose search has ended."""
        if study.parent is not None:
            return
        spaces, ranked = self._priors.pop(study.name, []), ranking(outcomes(self.planned, self.records))
        for each in spaces if study.name in ranked else []:
            winner, count = ranked[study.name][0].best.planned, self._size(each)
            name, seeds = f"{study.name}/{each.name}", [winner.trial.seed]
            found = Study(name, each, self._rounds(each, count), count, seeds, parent=winner.fingerprint)
            self.studies.append(found)
            self._next_round(found, [])

    def _trials(self, study: Study, configuration: Configuration) -> Iterator[Planned]:
        trials = [configuration.trial(seed, study.features, study.parent) for seed in study.seeds]
        fingerprints = [trial.fingerprint(self.data_digest) for trial in trials]
        for trial, fingerprint in zip(trials, fingerprints, strict=True):
            seed = f"seed={trial.seed}" if len(trials) > 1 else ""
            label = " ".join(filter(None, (study.name, configuration.told, seed)))
            yield Planned(study.name, fingerprints[0], trial, fingerprint, label)

    def _add(self, planned: Planned, study: Study) -> None:
        fingerprint = planned.fingerprint
        self.planned.append(planned)
        asked_before = self._by_fingerprint.setdefault(fingerprint, planned) is not planned
        record = self.records.get(fingerprint) or self.earlier(fingerprint)
        if record and self._is_settled(planned, record):
            self.records[fingerprint] = record
            if self.config.asha and planned.trial.training:
                self.replays.append(planned)
            return
        study.open.add(fingerprint)
        if not asked_before:
            self.waiting.append(planned)

    def _is_settled(self, planned: Planned, record: Record) -> bool:
        if record["status"] == "pruned":
            return self.config.asha is not None
        parent = planned.trial.parent
        # A prior must be of the codes of the weights that its parent has now.
        known = parent is None or record.get("parent_weights_sha256") == self.records[parent]["weights_sha256"]
        return known and record["status"] in SETTLED

    def _scores(self, study: Study) -> Scores:
        found = [[self.records.get(planned.fingerprint) for planned in trials] for trials in study.configurations]
        return [None if None in records else score([each for each in records if each]) for records in found]


def rows(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """For each trial its fingerprint, how far it has come, and its label."""
    for planned in plan.planned:
        record = plan.records.get(planned.fingerprint) or plan.earlier(planned.fingerprint)
        yield planned.fingerprint, record["status"] if record else "to train", planned.label
