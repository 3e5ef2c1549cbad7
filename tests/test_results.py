"""The ranking of trials, and the tables of a sweep."""

import pytest
from test_trials import vae

from latentmill.errors import InputError
from latentmill.trials.results import (
    Outcome,
    curves_csv,
    outcomes,
    ranking,
    require_a_model,
    study_failure,
    summary,
    trials_csv,
    without_winner,
)
from latentmill.trials.study import Planned
from latentmill.trials.trained_model import Failure


def outcome(entry, fingerprint, criterion=None, error=None, configuration=None, status="failed"):
    history = [{"train_loss": 2.0, "val_loss": 3.0}, {"train_loss": 1.0, "val_loss": 2.5}]
    record = {"status": "finished", "criterion": criterion, "best_epoch": 2, "seconds": 1.5, "history": history}
    planned = Planned(entry, configuration or fingerprint, vae(), fingerprint, entry)
    return Outcome(planned, record if error is None else {"status": status, "error": error})


def winners(tried):
    return {entry: ranked[0].best.planned.fingerprint for entry, ranked in ranking(tried).items()}


def test_the_winner_is_the_lowest_criterion_and_ties_go_by_fingerprint():
    tried = [outcome("a", "3", 2.0), outcome("a", "2", 1.0), outcome("a", "1", 1.0), outcome("b", "9", 5.0)]
    for order in (tried, tried[::-1]):
        assert winners(order) == {"a": "1", "b": "9"}


def test_configurations_are_ranked_by_the_mean_over_their_seeds():
    lucky = [outcome("a", f"1{seed}", value, configuration="1") for seed, value in enumerate((1.0, 9.0, 8.0))]
    steady = [outcome("a", f"2{seed}", value, configuration="2") for seed, value in enumerate((3.0, 5.0, 4.0))]
    first, second = ranking(lucky + steady)["a"]
    assert (first.mean, first.standard_error) == (4.0, pytest.approx(3**-0.5))
    assert first.best.planned.fingerprint == "20", "of the winning configuration, its best seed"
    assert second.mean == 6.0


def test_a_configuration_that_failed_with_a_seed_comes_after_those_that_did_not():
    flattered = [outcome("a", "10", 1.0, configuration="1"), outcome("a", "11", error="nan", configuration="1")]
    assert winners([*flattered, outcome("a", "20", 9.0), outcome("a", "21", error="x")]) == {"a": "20"}
    assert winners(flattered) == {"a": "10"}


def test_diverged_and_pruned_trials_are_never_ranked():
    tried = [outcome("a", "1", error="x", status=status) for status in ("diverged", "pruned", "out of memory")]
    assert winners([*tried, outcome("a", "9", 1e9)]) == {"a": "9"}
    assert winners(tried) == {}


def test_an_entry_without_a_finished_trial_says_why_each_reason_once():
    tried = [outcome("a", "1", 1.0), outcome("a", "2", error="Boom: x")]
    tried += [outcome("b", "3", error="Bang: y"), outcome("b", "4", error="Bang: y", status="diverged")]
    lost = without_winner(tried, ranking(tried))
    assert {entry: study_failure(trials) for entry, trials in lost.items()} == {"b": Failure("Bang: y")}
    assert summary(lost["b"][1]) == {"fingerprint": "4", "label": "b", "status": "diverged", "error": "Bang: y"}


def test_a_trial_without_a_record_is_unfinished():
    (lost,) = outcomes([Planned("a", "1", vae(), "1", "a")], {"2": {"status": "finished"}})
    assert lost.record == {"status": "unfinished"}
    assert study_failure([lost]) == Failure("unfinished", "to try again, run `dvc repro -f train`")


def test_what_more_memory_or_a_live_worker_may_mend_is_failed_with_advice():
    starved = outcome("a", "1", error="little memory", status="out of memory")
    wrong = outcome("a", "2", error="latent must be below 90")
    dead = Outcome(wrong.planned, wrong.record | {"deaths": 3})
    assert study_failure([wrong]).advice == ""
    for trials in ([starved], [dead], [wrong, starved]):
        assert study_failure(trials).advice == "to try again, run `dvc repro -f train`"


def test_some_entry_must_have_a_model():
    require_a_model({"b": Failure("Bang: y")}, ["a", "b"])
    with pytest.raises(InputError, match=r"but none has: ladder\.a: Boom: x; ladder\.b: Bang: y$"):
        require_a_model({"a": Failure("Boom: x"), "b": Failure("Bang: y")}, ["b", "a"])


def test_the_tables_have_a_row_for_every_trial_and_every_epoch():
    tried = [outcome("a", "1", 1.0), outcome("a", "2", error="Boom: x, y")]
    lines = trials_csv(tried, ranking(tried), tried[:1]).splitlines()
    assert lines[0].startswith(
        "entry,prior,fingerprint,model,seed,status,winner,criterion,mean,standard_error,best_epoch,"
    )
    assert lines[1].startswith("a,,1,vae,0,finished,yes,1.0,1.0,,2,2,1.0,2.5,1.5,,")
    assert lines[2].startswith('a,,2,vae,0,failed,,,,,,,,,,"Boom: x, y",')
    assert ",yes," not in trials_csv(tried, ranking(tried), []), "the first may have no prior that can be fitted"
    assert curves_csv(tried).splitlines()[1:] == ["a,1,1,2.0,3.0", "a,1,2,1.0,2.5"]
