"""The studies of params.yaml: one for each entry of the ladder, then one for each prior of an entry's winner."""

from collections.abc import Mapping
from functools import partial

from latentmill import registry
from latentmill.config import AUTO, OWN, EntryConfig, Params
from latentmill.contract import Decodes, Encodes, HasCodebook, HasPrior, IndexPrior, Model
from latentmill.errors import InputError
from latentmill.runtime.text import plural
from latentmill.trials.ranking import is_ranked_by_distance
from latentmill.trials.space import Space, space
from latentmill.trials.study import Allowance, ChooseStart, Planned, Rounds, Study, Suggest, cold
from latentmill.trials.trial import Trial
from latentmill.trials.warm_start import WarmStart

DEFAULT_PRIORS = ("normal", "autoregressive")  # of an entry that lists none: where codes are real numbers, or indices


class Ladder:
    """Makes studies. Priors that learn nothing, such as `normal`, need no trial and are kept apart."""

    def __init__(
        self,
        params: Params,
        suggest: Suggest,
        features: str | None,
        allowances: Mapping[str, Allowance] | None = None,
        warm_start: WarmStart | None = None,
    ) -> None:
        """`suggest` makes the rounds of an adaptive search. `allowances`, by study, are those of `train.budget`.

        `features` is the digest of those that rank trials; None where none is ranked by distance.

        Raises:
            InputError: an entry names an unknown model, prior or key, or a search space breaks a rule.
        """
        self.params, self.config, self.defaults, self._suggest = params, params.train, params.trial, suggest
        self._allowances, self._warm_start = allowances or {}, warm_start
        entries = {name: params.entry(name) for name in params.ladder}
        self._spaces = {name: space(name, content) for name, content in params.ladder.items()}
        self._features = {
            name: features if is_ranked_by_distance(name, entry) else None for name, entry in entries.items()
        }
        self._priors = {name: self._prior_spaces(name, entry) for name, entry in entries.items()}

    def entry_studies(self) -> list[Study]:
        """Raises InputError where `train.max_trials` leaves an entry no trial."""
        limit, seeds = self.config.max_trials, self.config.seeds
        sizes = [self._size(each, name) for name, each in self._spaces.items()]
        counts = quotas(sizes, None if limit is None else limit // len(seeds))
        return [
            Study(
                name,
                each,
                self._rounds(each, count),
                count,
                seeds,
                self._features[name],
                allowance=self._allowances.get(name),
                start=self._start(name),
            )
            for (name, each), count in zip(self._spaces.items(), counts, strict=True)
        ]

    def prior_studies(self, winner: Planned, learn: bool = True) -> list[Study]:
        """The studies of the priors of an entry's winner: of those that learn, or of the others."""
        studies = []
        for each in self._select_priors(winner.entry, learn):
            name, seeds = f"{winner.entry}/{each.name}", [winner.trial.seed]
            count, own = self._size(each, name), self._allowances.get(name)
            rounds, start = self._rounds(each, count), self._start(name, winner.trial)
            studies.append(Study(name, each, rounds, count, seeds, None, winner.fingerprint, own, start))
        return studies

    def prior_trials(self, entry: str) -> dict[str, int]:
        """How many trials the priors of an entry's winner will have, by study."""
        names = {f"{entry}/{each.name}": each for each in self._select_priors(entry, learn=True)}
        return {name: self._size(each, name) for name, each in names.items()}

    def _start(self, study: str, parent: Trial | None = None) -> ChooseStart:
        return partial(self._warm_start.start, study, parent=parent) if self._warm_start else cold

    def _select_priors(self, entry: str, learn: bool) -> list[Space]:
        return [each for each in self._priors[entry] if _class(each).learns == learn]

    def _prior_spaces(self, name: str, entry: EntryConfig) -> list[Space]:
        """The priors that an entry lists, or the default of its model.

        Raises:
            InputError: its model has no codes, or those of the other kind, or the prior to export is another.
        """
        model = registry.find("models", entry.model)
        own = [OWN] if issubclass(model, HasPrior) else []
        chosen = entry.priors or ([] if own else [DEFAULT_PRIORS[issubclass(model, HasCodebook)]])
        if entry.prior not in (AUTO, *own, *chosen):
            rule = "must be auto or one of its priors"
            raise InputError(f"params.yaml: ladder.{name}.prior {rule}, but got {entry.prior!r}")
        if issubclass(model, Encodes) and issubclass(model, Decodes):
            spaces = [space(prior, self.params.priors.get(prior, {}), "priors") for prior in chosen]
            for each in spaces:
                _require_its_kind_of_codes(name, entry.model, model, each)
            return spaces
        if entry.priors:
            rule = "must be left out where a model has no codes of images to learn from"
            raise InputError(f"params.yaml: ladder.{name}.priors {rule}, but got {entry.priors} for {entry.model}")
        return []

    def _size(self, searched: Space, study: str) -> int:
        """The number of its configurations in a study."""
        size = (searched.samples or 1) if self._is_adaptive(searched) else len(searched)
        return min(size, self._allowances[study].configurations) if study in self._allowances else size

    def _is_adaptive(self, searched: Space) -> bool:
        """Whether its later configurations depend on the scores of earlier ones."""
        return self.config.search != "random" and bool(searched.sampled)

    def _rounds(self, searched: Space, count: int) -> Rounds:
        if self._is_adaptive(searched):
            return self._suggest(searched, count, self.config.sampling_seed)
        return _one_round(searched, count, self.config.sampling_seed)


def _require_its_kind_of_codes(entry: str, name: str, model: type[Model], prior: Space) -> None:
    """Raises InputError where a prior of numbers is to draw code indices, or the reverse."""
    has_codebook, draws_indices = issubclass(model, HasCodebook), issubclass(_class(prior), IndexPrior)
    if has_codebook != draws_indices:
        kinds = {True: "code indices", False: "real numbers"}
        rule = f"must draw {kinds[has_codebook]}, as {name} has"
        raise InputError(f"params.yaml: ladder.{entry}.priors {rule}, but {prior.name} draws {kinds[draws_indices]}")


def _class(searched: Space) -> type[Model]:
    return registry.find(searched.family, searched.model)


def _one_round(searched: Space, count: int, seed: int) -> Rounds:
    yield [point for point, _ in zip(searched.points(seed), range(count), strict=False)]


def quotas(sizes: list[int], limit: int | None) -> list[int]:
    """How many of each entry's configurations fit into `limit`, assigned in turn so that no entry is left out.

    Raises:
        InputError: there are more entries than `limit`.
    """
    if limit is None or sum(sizes) <= limit:
        return sizes
    if limit < len(sizes):
        raise InputError(
            f"params.yaml: train.max_trials must leave each of the {len(sizes)} entries a configuration with every "
            f"seed, but leaves {plural(limit, 'configuration')}"
        )
    assigned = [0] * len(sizes)
    while limit:
        for index, size in enumerate(sizes):
            if assigned[index] < size and limit:
                assigned[index] += 1
                limit -= 1
    return assigned
