"""`train.budget`: the steps that fit it, and the forecast of a sweep."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from conftest import CLASSES
from test_plan import DIGEST, finish, params_of

from latentmill.cluster import measuring
from latentmill.cluster.costs import plan_and_forecast
from latentmill.cluster.images import Images
from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import SweepConfig, checked
from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.trials import cost
from latentmill.trials.budget import Forecast, expected_studies, makespan
from latentmill.trials.cost import Cost, Sample
from latentmill.trials.ladder import Ladder
from latentmill.trials.plan import Plan
from latentmill.trials.ranking import pinned_features
from latentmill.trials.store import TrialStore

IMAGES, BATCH, EPOCHS = 1_000, 100, 40
COST = Cost(start=0.0, epoch=0.1, step=0.01, weights=10**6, checkpoint=4 * 10**6, workers=2, memory=2**29)
PRIORS = {"normal": {}, "mixture": {}, "flow": {"epochs": 10, "batch_size": 200}}
LADDER = {
    "naive_bayes": {},
    "quick": {"model": "autoencoder", "latent": 2, "priors": ["normal", "mixture"]},
    "slow": {"model": "vae", "latent": 4, "priors": ["flow"]},
}
STEPS = {"naive_bayes": 0.0, "quick": 0.002, "quick/mixture": 0.0, "slow": 0.2, "slow/flow": 0.02}  # seconds


def params(ladder=LADDER, **train):
    return params_of(ladder, trial={"epochs": EPOCHS, "batch_size": BATCH}, priors=PRIORS, train=train)


def forecast_of(given, steps=STEPS, workers=2):
    """With measured costs that differ by the seconds of a step."""
    studies = expected_studies(Ladder(given, optuna_rounds, None), IMAGES)
    found = {each.name: [replace(COST, step=steps[each.name])] * len(each.trials) for each in studies}
    return Forecast(studies, found, given.train.asha, workers)


def shares(given, seconds, **named):
    return {name: each.share for name, each in forecast_of(given, **named).allowances(seconds).items()}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), (45, 45), (0.5, 0.5), (None, None)]
)
def test_a_budget_is_a_duration_or_a_number_of_seconds(text, seconds):
    assert SweepConfig(budget=text).budget == seconds


@pytest.mark.parametrize("text", ["10 min", "", "m", "-5m", "1:30", 0, -1, True, float("inf"), "0s", []])
def test_another_budget_is_refused_in_one_line(text):
    rule = r"train: budget must be a time such as 90s, 10m or 1h30m, .* or null, but got"
    with pytest.raises(InputError, match=rule) as error:
        checked(SweepConfig, {"budget": text}, "params.yaml: train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("budget", [40, 60, 100])
def test_the_chosen_steps_fit_the_budget_and_use_most_of_it(budget):
    forecast = forecast_of(params())
    whole = forecast.seconds({each.name: each.all for each in forecast.studies})
    chosen = forecast.seconds(forecast.allowances(budget))
    assert chosen <= budget < whole
    assert chosen - forecast.outside > 0.75 * (budget - forecast.outside)


def test_what_is_quick_keeps_its_steps_and_what_is_slow_has_most_of_the_time():
    given = params()
    found, forecast = shares(given, 50), forecast_of(given)
    assert found["naive_bayes"] == found["quick"] == found["quick/mixture"] == 1
    assert 0 < found["slow"] < found["slow/flow"] < 1
    allowed, lengths = forecast.allowances(50), {}
    for each in forecast.studies:
        lengths[each.name] = sum(forecast.lengths(each, allowed[each.name]))
    assert lengths["slow"] > lengths["slow/flow"] > lengths["quick"]


def test_more_time_never_means_fewer_steps():
    by_budget = [shares(params(), budget) for budget in range(20, 200, 20)]
    for less, more in itertools.pairwise(by_budget):
        assert all(less[name] <= more[name] for name in less)


def test_a_budget_that_is_too_short_for_all_leaves_each_trial_an_epoch():
    forecast = forecast_of(params())
    allowed = forecast.allowances(1.0)
    assert {allowed[each.name].length(each.trials[0])[0] for each in forecast.studies} == {0, 1}
    assert "train.budget, 1.0 s, is too short for an epoch" in forecast.summary({"slow": 1}, allowed, 1.0)


def test_fewer_configurations_are_sampled_before_trials_become_too_short():
    ladder = {"slow": {"model": "vae", "samples": 8, "beta": {"uniform": [0.5, 2.0]}, "latent": 2}}
    forecast = forecast_of(params(ladder))
    whole = forecast.seconds({each.name: each.all for each in forecast.studies})
    (few,), (all_of_them,) = (forecast.allowances(seconds).values() for seconds in (60, 0.9 * whole))
    assert few.configurations < all_of_them.configurations == 8
    assert few.share >= 0.4


def test_as_many_configurations_are_sampled_as_workers_train_side_by_side():
    ladder = {"slow": {"model": "vae", "samples": 8, "beta": {"uniform": [0.5, 2.0]}, "latent": 2}}
    found = [forecast_of(params(ladder), workers=workers).allowances(35)["slow"] for workers in (1, 2, 4)]
    assert [each.configurations for each in found] == [1, 2, 4]
    assert found[0].share == pytest.approx(found[1].share, rel=0.2)
    assert found[0].share == pytest.approx(found[2].share, rel=0.2)


def test_a_grid_is_the_users_choice_and_stays_whole():
    ladder = {"slow": {"model": "vae", "latent": [2, 3, 4, 5]}}
    (allowed,) = forecast_of(params(ladder)).allowances(40).values()
    assert (allowed.configurations, allowed.share < 0.4) == (4, True)


def test_pruned_trials_leave_their_time_to_others():
    ladder = {"slow": {"model": "vae", "latent": [2, 3, 4, 5, 6, 7]}}
    alone = shares(params(ladder), 90)["slow"]
    assert shares(params(ladder, asha={"grace": 2, "reduction": 3}), 90)["slow"] > 1.5 * alone


def test_priors_wait_for_their_entry_and_workers_run_side_by_side():
    lengths, follows = {"a": [4.0, 2.0], "b": [3.0], "a/flow": [5.0]}, {"a/flow": "a"}
    assert makespan(lengths, follows, 1) == 14
    assert makespan(lengths, follows, 2) == 10  # a: 4 beside b: 3 and a: 2, then the flow
    assert makespan(lengths, follows, 9) == 9
    assert makespan({"a": [], "a/flow": [5.0]}, follows, 2) == 5
    assert makespan({}, {}, 2) == 0


# With a store


@pytest.fixture
def images():
    """Enough for the number of them; nothing is measured on them here."""
    made = np.zeros((IMAGES, 1, 8, 8), np.uint8)
    return Images(made, made[:100])


@pytest.fixture
def planned(tmp_path, images, monkeypatch):
    """Makes a plan and its forecast on one store; what is measured takes a time that differs at each call."""
    calls = []

    def measured(missing, *_):
        calls.append(len(missing))
        for name in missing:
            cost.save(name, replace(COST, step=0.05 + 0.01 * len(calls)), Storage(tmp_path))
        return {name: cost.load(name, Storage(tmp_path)) for name in missing}

    def planned(ladder=LADDER, measure=False, **train):
        return plan_and_forecast(params(ladder, **train), DIGEST, images, TrialStore(tmp_path), measure=measure)

    monkeypatch.setattr(measuring, "measured", measured)
    planned.calls = calls
    return planned


def fingerprints(plan: Plan) -> list[str]:
    return [each.fingerprint for each in plan.planned]


def test_a_budget_with_time_to_spare_is_the_same_as_none(planned):
    assert fingerprints(planned(budget="2h")[0]) == fingerprints(planned()[0])


def test_no_trial_has_more_steps_than_params_yaml_says(planned):
    plain = {each.label: each.trial.training for each in planned()[0].planned}
    for budget in ("20s", "40s", "2h"):
        for each in planned(budget=budget)[0].planned:
            if each.trial.training:
                assert each.trial.training["max_steps"] <= plain[each.label]["max_steps"]
                assert each.trial.training | {"max_steps": 0} == plain[each.label] | {"max_steps": 0}


def test_steps_are_whole_epochs_over_which_a_schedule_runs(planned):
    plan, _ = planned(budget="25s")
    (slow,) = (each.trial.training for each in plan.planned if each.entry == "slow")
    assert slow["max_steps"] % (IMAGES / BATCH) == 0
    assert slow["max_steps"] < EPOCHS * IMAGES / BATCH


def test_an_interrupted_sweep_goes_on_with_the_same_trials(planned):
    """The pace is measured once: measured again, it would be another, and all trials with it."""
    plan, _ = planned(budget="25s")
    entry = next(each for each in plan.planned if each.entry == "slow")
    finish(plan, entry)
    resumed, _ = planned(budget="25s")
    assert len(planned.calls) == 1
    assert fingerprints(resumed) == fingerprints(plan)
    assert resumed.records[entry.fingerprint]["status"] == "finished"
    assert resumed.missing_by_study["slow"] == 0


def test_priors_are_planned_with_their_share_too(planned):
    def max_steps(**train):
        plan, _ = planned(**train)
        entry = next(each for each in plan.planned if each.entry == "slow")
        finish(plan, entry)
        return next(each.trial.training["max_steps"] for each in plan.planned if each.study == "slow/flow")

    assert max_steps(budget="25s") < max_steps()


def test_the_forecast_counts_what_is_missing(planned):
    plan, before = planned(measure=True)
    assert "about" in before
    assert "on 2 workers, or less where trials end early, 0.5 GiB a worker, 13 MB of disk" in before
    for each in list(plan.planned):
        finish(plan, each)
    assert plan.missing_by_study == {"naive_bayes": 0, "quick": 0, "slow": 0, "quick/mixture": 1, "slow/flow": 1}
    plan, after = planned()
    assert "10 MB of disk" in after


def test_what_was_not_measured_is_said_to_be_unknown(planned):
    _, line = planned()
    assert line == "time, memory and disk are not known yet: `latentmill plan` measures them"
    assert planned.calls == []


def test_nothing_is_measured_where_all_is_trained(planned):
    ladder = {"naive_bayes": {}}
    plan, _ = planned(ladder)
    finish(plan, plan.planned[0])
    assert planned(ladder, measure=True)[1] == ""
    assert planned.calls == []


def test_a_budget_needs_a_pace_that_is_measured(planned):
    with pytest.raises(InputError, match=r"train\.budget must be null where several workers share a trial"):
        planned(budget="10m", workers_per_trial=2)


def test_long_trials_start_first_whatever_their_epochs(tmp_path):
    ladder = {"slow": {"model": "vae", "epochs": 2, "latent": 2}, "quick": {"model": "autoencoder", "latent": 2}}
    lengths = {"slow": 100.0, "quick": 1.0}
    plans = [Plan(params(ladder), DIGEST, TrialStore(tmp_path), optuna_rounds, lengths=each) for each in (lengths, {})]
    assert [plan.pop_pack()[0].entry for plan in plans] == ["slow", "quick"]


# What is measured


@pytest.fixture
def sample(digits):
    return Sample(digits[:300], None, CLASSES, 3_000, 600)


def test_costs_are_those_of_training_and_of_files(sample, tmp_path):
    studies = expected_studies(Ladder(params(), optuna_rounds, None), sample.train)
    given = sample, "cpu", 1, 2, Storage(tmp_path)
    found = {each.name: cost.measured(each.trials[0], each.parent, *given) for each in studies}
    assert {name for name, each in found.items() if each.step and each.epoch} == {"quick", "slow", "slow/flow"}
    assert {name for name, each in found.items() if each.start} == {"naive_bayes", "quick/mixture", "slow/flow"}
    assert all((each.checkpoint > each.weights > 0) == (each.step > 0) for each in found.values())
    assert all((each.workers, each.memory > 2**26) == (2, True) for each in found.values())
    assert list((tmp_path / ".costs").iterdir()) == []  # the checkpoint that was written to measure it


def test_a_model_of_several_phases_is_measured_in_all_and_has_an_epoch_of_the_last(sample, tmp_path):
    ladder = {"dbn": {"hidden": 20, "top": 10, "chains": 70, "greedy": 3}}
    pinned = pinned_features(sample.images, "0" * 64, Storage(tmp_path))
    (each,) = expected_studies(Ladder(params(ladder), optuna_rounds, pinned.digest), sample.train)
    found = cost.measured(each.trials[0], None, replace(sample, features=pinned), "cpu", 1, 2, Storage(tmp_path))
    assert found.untrained == 6
    assert found.step > found.first_step > 0, "the last phase moves both layers"
    known = replace(found, start=1.0, epoch=0.1, first_step=0.01, step=0.02)
    assert known.seconds(8, 10) == pytest.approx(1 + 8 * 0.1 + 10 * (6 * 0.01 + 2 * 0.02))
    forecast = Forecast([each], {each.name: [known]}, None, workers=2)
    assert forecast.allowances(1.0)["dbn"].length(each.trials[0])[0] == 7


def test_a_trial_that_cannot_be_trained_costs_nothing(sample, tmp_path):
    ladder = {"ppca": {"latent": 64}}  # as many factors as pixels
    (each,) = expected_studies(Ladder(params(ladder), optuna_rounds, None), sample.train)
    found = cost.measured(each.trials[0], each.parent, sample, "cpu", 1, 2, Storage(tmp_path))
    assert (found.seconds(0, 0), found.weights) == (0, 0)


def test_costs_are_stored_by_what_they_depend_on(tmp_path):
    ladder = {"vae": {"latent": [2, 3], "beta": [1.0, 2.0]}, "other": {"model": "vae", "latent": 2, "epochs": 3}}
    ladder |= {"perceptual": {"model": "vae", "latent": 2, "perceptual": 1.0}}
    vae, other, perceptual = expected_studies(Ladder(params(ladder), optuna_rounds, None), IMAGES)
    keys = [cost.key(trial, None, DIGEST, "machine") for trial in vae.trials]
    assert keys[0] == keys[1] == cost.key(other.trials[0], None, DIGEST, "machine")  # beta and epochs cost nothing
    others = [(vae.trials[0], "other machine"), (perceptual.trials[0], "machine")]
    assert len({*keys, *(cost.key(trial, None, DIGEST, machine) for trial, machine in others)}) == 4
    cost.save(keys[0], COST, Storage(tmp_path))
    assert cost.load(keys[0], Storage(tmp_path)) == COST
    assert cost.load(keys[2], Storage(tmp_path)) is None
    (tmp_path / ".costs" / f"{keys[0]}.json").write_text("damaged")
    assert cost.load(keys[0], Storage(tmp_path)) is None
