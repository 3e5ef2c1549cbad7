"""The rounds of an adaptive search; Ray and Optuna are imported only where one is planned."""

from collections.abc import Generator
from typing import Any

from latentmill.trials.space import Point, Space
from latentmill.trials.study import Scores

ROUND = 8  # configurations of an adaptive search that are planned at a time
CRITERION = "criterion"


def optuna_rounds(space: Space, count: int, seed: int) -> Generator[list[Point], Scores, None]:
    """Configurations by Optuna's tree-structured Parzen estimator, over every searched key of `space`.

    They come in rounds, and the sampler sees a round's scores in its order, so that neither the number of workers nor
    the order in which trials end has an influence.
    """
    from optuna.logging import WARNING, set_verbosity
    from optuna.samplers import TPESampler
    from ray.tune.search.optuna import OptunaSearch

    set_verbosity(WARNING)  # the display shows trials
    sampler = TPESampler(
        seed=seed, constant_liar=True
    )  # counts the open members of a round as poor, so that they spread
    domains = {key: _domain(space.keys[key]) for key in space.searched}
    search = OptunaSearch(OptunaSearch.convert_search_space(domains), CRITERION, "min", sampler=sampler)
    for start in range(0, count, ROUND):
        names = [str(index) for index in range(start, min(start + ROUND, count))]
        scores = yield [space.fixed | (search.suggest(name) or {}) for name in names]
        for name, score in zip(names, scores, strict=True):
            search.on_trial_complete(name, None if score is None else {CRITERION: score}, error=score is None)


def _domain(value: Any) -> Any:
    from ray import tune

    if isinstance(value, list):
        return tune.choice(value)
    ((sampler, bounds),) = value.items()
    return tune.choice(bounds) if sampler == "choice" else getattr(tune, sampler)(*bounds)
