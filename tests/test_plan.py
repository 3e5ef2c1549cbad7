"""From a ladder to its trials: search spaces, rounds, what is settled, what comes next."""

import statistics

import numpy as np
import pytest
import torch
from records import keep

from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import Params
from latentmill.errors import InputError
from latentmill.trials.auto import with_values_for
from latentmill.trials.ladder import quotas
from latentmill.trials.plan import ATTEMPTS, Plan
from latentmill.trials.results import outcomes, ranking
from latentmill.trials.space import space
from latentmill.trials.store import TrialStore

DIGEST = "a" * 64
SPACE = {
    "samples": 20,
    "beta": {"loguniform": [0.1, 10.0]},
    "latent": [2, 3, 4],
}


def params_of(ladder, **sections):
    empty = {key: {} for key in ("trial", "train", "priors", "evaluation", "export")}
    return Params.model_validate({"data": {"source": "digits"}, "ladder": ladder} | empty | sections)


@pytest.fixture
def plan(tmp_path):
    """Makes a plan on one store."""

    def plan(ladder, trial=None, **train):
        priors = {"normal": {}, "mixture": {"components": [2, 3]}, "flow": {"epochs": 2}}
        priors |= {"chain": {"model": "autoregressive"}}
        params = params_of(ladder, trial=trial or {}, train=train, priors=priors)
        return Plan(params, DIGEST, TrialStore(tmp_path), optuna_rounds)

    return plan


@pytest.fixture
def trials(plan):
    return lambda *given, **named: [planned.trial for planned in plan(*given, **named).planned]


def test_an_entry_without_lists_is_one_trial_with_its_models_defaults(trials):
    (trial,) = trials({"vae": {"latent": 5}})
    assert (trial.model, trial.seed) == ("vae", 0)
    assert trial.config["latent"] == 5
    assert trial.config["beta"] == 1.0
    assert trial.training["epochs"] == 100


def test_an_entry_may_name_its_model_and_override_training(trials):
    (trial,) = trials({"slow": {"model": "vae", "epochs": 7}}, trial={"epochs": 9, "patience": 3})
    assert (trial.model, trial.training["epochs"], trial.training["patience"]) == ("vae", 7, 3)


def test_what_an_entry_says_for_the_evaluation_and_the_report_changes_no_trial(plan):
    said = {"evaluation_samples": 1000, "adds": "codes.", "lacks": "a likelihood."}
    plain, with_words = ([each.fingerprint for each in plan({"vae": entry}).planned] for entry in ({}, said))
    assert plain == with_words


def test_a_closed_form_does_not_depend_on_training(trials):
    (trial,) = trials({"naive_bayes": {}}, trial={"epochs": 9})
    assert trial.training is None


def test_lists_make_a_grid_and_seeds_repeat_it(trials):
    found = trials({"vae": {"latent": [2, 3], "learning_rate": [1e-3, 1e-2, 1e-1]}}, seeds=[0, 1])
    points = {(trial.config["latent"], trial.training["learning_rate"], trial.seed) for trial in found}
    assert len(found) == len(points) == 12


def test_sampled_values_lie_in_their_ranges_and_are_the_same_each_time(trials):
    space = {
        "samples": 50,
        "beta": {"uniform": [0.5, 2.0]},
        "learning_rate": {"loguniform": [1e-4, 1e-1]},
        "latent": {"choice": [2, 3]},
    }
    found = trials({"vae": space})
    assert len(found) == 50
    assert all(0.5 <= trial.config["beta"] <= 2 and 1e-4 <= trial.training["learning_rate"] <= 1e-1 for trial in found)
    assert sum(trial.training["learning_rate"] < 10**-2.5 for trial in found) == pytest.approx(25, abs=10)
    assert {trial.config["latent"] for trial in found} == {2, 3}
    assert len({trial.config["beta"] for trial in found}) == 50
    assert trials({"vae": space}) == found
    assert trials({"vae": space}, sampling_seed=1) != found


def test_more_samples_grid_values_or_entries_leave_the_trials_there_are(trials):
    space = {"samples": 3, "beta": {"uniform": [0.5, 2.0]}, "latent": [2]}
    before = trials({"vae": space})
    after = trials({"autoencoder": {}, "vae": space | {"samples": 5, "latent": [4, 2]}})
    assert len(after) == 11
    assert all(trial in after for trial in before)


def test_a_configuration_that_is_drawn_twice_is_one_trial_and_no_second_seed(plan):
    made = plan({"vae": {"samples": 6, "latent": {"choice": [10, 20]}}})
    assert [planned.trial.config["latent"] for planned in made.planned] in ([10, 20], [20, 10])
    play(made)
    ranked = ranking(outcomes(made.planned, made.records))["vae"]
    assert [(len(each.trials), each.standard_error) for each in ranked] == [(1, None), (1, None)]


def test_labels_distinguish_the_trials_of_an_entry(plan):
    labels = [item.label for item in plan({"vae": {"latent": [2, 3], "beta": 1.0}}, seeds=[0, 1]).planned]
    assert labels == [f"vae latent={latent} seed={seed}" for latent in (2, 3) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ({"gun": {}}, "ladder.gun: a model must be one of .*vae.*, but got 'gun'"),
        ({"a": {"model": "vea"}}, "ladder.a: a model must be one of .* but got 'vea'"),
        ({"vae": {"model": ["vae", "iwae"]}}, r"ladder.vae: model must be a valid string, but got \[.vae., .iwae.\]"),
        ({"vae": {"latnet": 3}}, "ladder.vae: unknown key 'latnet'; the keys of vae are latent"),
        ({"naive_bayes": {"epochs": 3}}, "ladder.naive_bayes: unknown key 'epochs'"),
        ({"vae": {"beta": -1}}, "ladder.vae: beta must be greater than 0, but got -1"),
        ({"vae": {"latent": "many"}}, "ladder.vae: latent must be a valid integer, but got 'many'"),
        ({"vae": {"latent": 2.5}}, "ladder.vae: latent must be a valid integer, but got 2.5"),
        ({"vae": {"epochs": 0}}, "ladder.vae: epochs must be greater than or equal to 1, but got 0"),
        ({"vae": {"latent": []}}, "ladder.vae.latent must have at least one value to search, but got"),
        ({"vae": {"samples": 2, "beta": {"choice": []}}}, "ladder.vae.beta.choice must be a list with at least one"),
        ({"vae": {"samples": 2, "beta": {"normal": [0, 1]}}}, "ladder.vae.beta must be a value, a list or one of"),
        (
            {"vae": {"samples": 2, "beta": {"uniform": [2, 1]}}},
            r"with low < high, but got \[2, 1\]",
        ),
        ({"vae": {"samples": 2, "beta": {"uniform": [1]}}}, r"with low < high, but got \[1\]"),
        ({"vae": {"samples": 2, "beta": {"loguniform": [0, 1]}}}, "loguniform must have low > 0, but got"),
        ({"vae": {"beta": {"uniform": [1, 2]}}}, "ladder.vae.samples must say how many draws .* but got None"),
        ({"vae": {"samples": 3}}, "ladder.vae.samples must say how many draws .* but got 3 with none sampled"),
        (
            {"vae": {"samples": 0, "beta": {"uniform": [1, 2]}}},
            "a whole number of at least 1, but got 0",
        ),
        ({"vae": {"observation": ["bernoulli", "gaussian"]}}, "ladder.vae.observation must be one value, because"),
        (
            {"vae": {"augment": ["flop"]}},
            r"ladder.vae: augment must .* but got \['flop'\]",
        ),
        ({"vae": {"augment": "flip"}}, r"ladder.vae: augment must be a list of flip, shift, or \[\], but got 'flip'"),
        ({"ppca": {"augment": ["flip"]}}, "ladder.ppca: unknown key 'augment'"),
        (
            {"vae": {"channels": [16, 32]}},
            "^params.yaml: ladder.vae.channels has an effect only where network is conv or residual, "
            "but network is mlp: leave channels out, or set network$",
        ),
        ({"vae": {"network": ["mlp", "conv"], "depth": 2}}, "depth has an effect only .* but network is mlp or conv:"),
        ({"vq": {"hidden": 100}}, "hidden has an effect only where network is mlp, but network is residual:"),
        ({"iwae": {"share": [0.1, 0.2]}}, "share has an effect only where objective is ciwae, but objective is iwae:"),
        ({"vae": {"beta_cycles": 4}}, "only where beta_steps is at least 1, but beta_steps is 0:"),
        ({"autoencoder": {"corruption": 1.0}}, "ladder.autoencoder: corruption must be less than 1, but got 1.0"),
    ],
)
def test_a_wrong_search_space_is_named(plan, ladder, message):
    with pytest.raises(InputError, match=message):
        plan(ladder)


def test_a_key_is_taken_where_some_value_of_another_gives_it_an_effect(trials):
    grid = {"network": ["mlp", "residual"], "channels": 8, "attention": [False, True]}
    assert len(trials({"vae": grid})) == 4
    sampled = {"network": {"choice": ["mlp", "conv"]}, "hidden": 20, "channels": 8, "samples": 2}
    assert trials({"vae": sampled | {"beta_steps": [0, 100], "beta_cycles": 2}})
    assert len(trials({"iwae": {"objective": "ciwae", "share": [0.1, 0.2]}, "ladder_vae": {"beta_cycles": 2}})) == 3


def test_a_list_of_augmentations_is_one_value_and_a_list_of_lists_a_grid(trials):
    def augment(*given, **named):
        return [each.training["augment"] for each in trials(*given, **named)]

    assert augment({"vae": {"augment": ["shift", "flip"]}}) == [["flip", "shift"]]
    assert augment({"vae": {"augment": []}, "gan": {}}, trial={"augment": ["flip"]}) == [[], ["flip"]]
    assert augment({"vae": {"augment": [[], ["flip"]]}}) == [[], ["flip"]]


def test_a_list_of_levels_is_one_value_and_a_list_of_lists_a_grid(trials):
    def levels(value):
        return [each.config["levels"] for each in trials({"fsq": {"levels": value}})]

    assert levels([8, 5]) == [[8, 5]]
    assert levels([[8, 5], [4, 4, 4]]) == [[8, 5], [4, 4, 4]]
    with pytest.raises(InputError, match=r"ladder.fsq: levels.1 must be greater than or equal to 2, but got 1"):
        levels([8, 1])


def test_codes_are_not_augmented(plan):
    made = plan({"vae": {"priors": ["flow"]}}, trial={"augment": ["flip"]})
    finish(made, made.planned[0], 1.0)
    assert [planned.trial.training["augment"] for planned in made.planned] == [["flip"], []]


# What comes next


def settle(plan, fingerprint, criterion=1.0, **record):
    """As a worker would: leave a record, then end."""
    keep(plan.store, fingerprint, **{"criterion": criterion} | record)
    return plan.ended(fingerprint)


def play(plan, criterion=lambda planned: planned.trial.config["beta"]):
    """Run a plan to its end; returns the labels in the order they were started."""
    started = []
    while planned := next(iter(plan.pop_pack()), None):
        started.append(planned.label)
        settle(plan, planned.fingerprint, criterion(planned))
    assert plan.is_over
    return started


def test_long_trials_start_first_and_among_equals_the_later_in_the_ladder(plan):
    made = plan({"naive_bayes": {}, "vae": {"latent": [2, 3]}, "autoencoder": {"epochs": 200}})
    assert play(made, lambda planned: 1.0) == ["autoencoder", "vae latent=3", "vae latent=2", "naive_bayes"]


def together(plan, most=lambda planned, waiting: waiting):
    return [planned.label for planned in plan.pop_pack(most)]


def test_trials_that_differ_by_numbers_are_packed(plan):
    """The two entries have the same shapes where `latent` is 3."""
    slow = {"model": "vae", "latent": 3, "beta": 9.0}
    made = plan({"naive_bayes": {}, "vae": {"latent": [2, 3], "beta": [1.0, 2.0]}, "slow": slow})
    packs = [together(made) for _ in range(3)]
    assert packs == [
        ["slow", "vae latent=3 beta=2", "vae latent=3 beta=1"],
        ["vae latent=2 beta=2", "vae latent=2 beta=1"],
        ["naive_bayes"],
    ]
    assert together(made) == []


def test_a_pack_has_at_most_its_limit(plan):
    made, seen = plan({"vae": {"beta": [1.0, 2.0, 3.0]}}), []

    def most(planned, waiting):
        seen.append(waiting)
        return 2

    assert [len(together(made, most)) for _ in range(2)] == [2, 1]
    assert seen == [3], "the last needs no limit"


def test_a_trial_whose_worker_died_is_trained_alone(plan):
    made = plan({"vae": {"beta": [1.0, 2.0, 3.0]}})
    for planned in made.pop_pack(lambda planned, waiting: 2):
        assert made.ended(planned.fingerprint) is None
    packs = [together(made) for _ in range(3)]
    assert [len(each) for each in packs] == [1, 1, 1]


def test_failed_trials_are_tried_again_but_not_settled_ones(plan):
    ladder = {"naive_bayes": {}, "vae": {"latent": [2, 3, 4]}}
    first = plan(ladder)
    by_label = {planned.label: planned.fingerprint for planned in first.planned}
    settle(first, by_label["naive_bayes"])
    settle(first, by_label["vae latent=2"], status="diverged")
    settle(first, by_label["vae latent=3"], status="failed", error="Boom: x")
    again = plan(ladder)
    assert again.missing == 2
    assert play(again) == ["vae latent=4", "vae latent=3"]
    assert plan(ladder).missing == 0


def test_entries_with_the_same_trial_train_it_once(plan):
    made = plan({"vae": {}, "twin": {"model": "vae"}})
    assert len(made.planned) == 2
    assert made.missing == 1
    assert len(play(made)) == 1


def test_a_trial_whose_worker_dies_is_run_again_a_few_times(plan):
    made = plan({"vae": {}})
    for _ in range(ATTEMPTS - 1):
        assert made.ended(made.pop_pack()[0].fingerprint) is None
    last = made.pop_pack()[0]
    record = made.ended(last.fingerprint)
    assert record["status"] == "failed"
    assert record["error"].startswith("3 times its worker died")
    assert made.is_over
    assert plan({"vae": {}}).missing == 1, "a later sweep tries again"


def test_a_failure_of_an_earlier_sweep_is_not_mistaken_for_one_of_this(plan):
    first = plan({"vae": {}})
    settle(first, first.planned[0].fingerprint, status="failed", error="Boom: x")
    made = plan({"vae": {}})
    assert made.ended(made.pop_pack()[0].fingerprint) is None, "the worker died and left no record of its own"


def test_a_trial_pruned_by_asha_is_settled_only_while_asha_is_on(plan):
    first = plan({"vae": {}}, asha={})
    settle(first, first.pop_pack()[0].fingerprint, status="pruned", epoch=10, criterion=5.0)
    assert plan({"vae": {}}, asha={}).missing == 0
    for others in ({"grace": 20}, {"reduction": 4}):
        assert plan({"vae": {}}, asha=others).missing == 1, "others might not prune it"
    assert plan({"vae": {}}).missing == 1


def test_a_trial_that_ran_out_of_memory_is_tried_again(plan):
    first = plan({"vae": {}})
    settle(first, first.planned[0].fingerprint, status="out of memory", error="MemoryError")
    assert plan({"vae": {}}).missing == 1


# Limits


def test_max_trials_are_assigned_in_turn_to_the_entries(plan):
    ladder = {"naive_bayes": {}, "vae": {"latent": [2, 3, 4]}, "autoencoder": {"latent": [2, 3, 4]}}
    labels = [planned.label for planned in plan(ladder, max_trials=5).planned]
    assert labels == ["naive_bayes"] + [f"{name} latent={size}" for name in ("vae", "autoencoder") for size in (2, 3)]
    assert len(plan(ladder, max_trials=7, seeds=[0, 1]).planned) == 6, "a configuration is trained with every seed"


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [([1, 9], None, [1, 9]), ([1, 9], 4, [1, 3]), ([4, 4, 1], 6, [3, 2, 1]), ([2], 5, [2])],
)
def test_quotas(sizes, limit, expected):
    assert quotas(sizes, limit) == expected


def test_max_trials_must_leave_every_entry_one(plan):
    with pytest.raises(InputError, match=r"train\.max_trials must leave each of the 2 entries a configuration"):
        plan({"naive_bayes": {}, "vae": {}}, max_trials=3, seeds=[0, 1])


# Adaptive search


def test_optuna_plans_rounds_and_the_order_of_results_decides_nothing(plan, tmp_path):
    first = plan({"vae": SPACE}, search="optuna")
    assert (len(first.planned), first.unplanned) == (8, 12)
    play(first)
    for path in sorted(tmp_path.iterdir()):
        (path / "trial.json").unlink()
    second = plan({"vae": SPACE}, search="optuna")
    while not second.is_over:
        packs = []
        while planned := next(iter(second.pop_pack()), None):
            packs.append(planned)
        for planned in packs[::-1]:
            settle(second, planned.fingerprint, planned.trial.config["beta"])
    assert [planned.trial for planned in first.planned] == [planned.trial for planned in second.planned]
    assert len({planned.fingerprint for planned in first.planned}) == 20
    assert plan({"vae": SPACE}, search="optuna").missing == 0, "a finished search is replayed from the store"
    assert [planned.trial for planned in plan({"vae": SPACE}, search="optuna").planned] == [
        planned.trial for planned in first.planned
    ]


def test_optuna_leaves_keys_alone_that_are_lists(plan):
    space = {"samples": 2, "latent": {"choice": [2, 3]}, "augment": ["shift"]}
    first = plan({"vae": space}, search="optuna").planned[0].trial
    assert first.training["augment"] == ["shift"]
    space = {"samples": 2, "channels": {"choice": [8, 16]}, "levels": [4, 3]}
    assert plan({"fsq": space}, search="optuna").planned[0].trial.config["levels"] == [4, 3]


@pytest.mark.slow
def test_optuna_learns(plan):
    made = plan({"vae": SPACE | {"samples": 48}}, search="optuna")
    play(made)
    betas = [planned.trial.config["beta"] for planned in made.planned]
    assert statistics.median(betas[-16:]) < 0.5 * statistics.median(betas[:8])
    assert all(0.1 <= beta <= 10 for beta in betas)


def test_optuna_sees_failures_and_leaves_grids_alone(plan):
    made = plan({"naive_bayes": {}, "ppca": {"latent": [2, 3]}, "vae": SPACE}, search="optuna")
    assert len(made.planned) == 1 + 2 + 8
    while planned := next(iter(made.pop_pack()), None):
        status = "diverged" if planned.trial.config.get("beta", 0) > 1 else "finished"
        settle(made, planned.fingerprint, status=status)
    assert len(made.planned) == 1 + 2 + 20


def test_every_seed_of_a_configuration_counts_for_the_search(plan):
    made = plan({"vae": SPACE}, search="optuna", seeds=[0, 1, 2])
    assert (len(made.planned), made.unplanned) == (24, 36)
    assert len(play(made)) == 60


# Priors: trials of their own, of the winner of an entry


def finish(plan, planned, criterion=1.0, weights=b"w"):
    """As a worker would, with weights, and for a prior the digest of its parent's."""
    parent, more = planned.trial.parent, {}
    if parent:
        more = {"parent_weights_sha256": plan.records[parent]["weights_sha256"]}
    keep(plan.store, planned.fingerprint, weights=weights, criterion=criterion, **more)
    return plan.ended(planned.fingerprint)


def by_label(plan):
    return {planned.label: planned for planned in plan.planned}


PRIORS = ["normal", "mixture", "flow"]


def test_priors_are_planned_when_the_search_of_their_entry_has_ended_and_for_its_winner_only(plan):
    made = plan({"naive_bayes": {}, "vae": {"beta": [1.0, 2.0], "priors": PRIORS}})
    assert (len(made.planned), made.unplanned) == (3, 3), "two mixtures and a flow; the normal one learns nothing"
    trials = by_label(made)
    finish(made, trials["vae beta=1"], 5.0)
    assert len(made.planned) == 3
    finish(made, trials["vae beta=2"], 4.0)
    priors = made.planned[3:]
    assert [each.label for each in priors] == ["vae/mixture components=2", "vae/mixture components=3", "vae/flow"]
    assert {each.trial.parent for each in priors} == {trials["vae beta=2"].fingerprint}
    assert {(each.entry, each.trial.family, each.trial.features) for each in priors} == {("vae", "priors", None)}
    assert priors[2].trial.training["epochs"] == 2
    assert made.unplanned == 0
    (normal,) = made.untrained_priors(trials["vae beta=2"])
    assert (normal.prior, normal.trial.model, normal.trial.parent) == ("normal", "normal", priors[0].trial.parent)
    for each in (*priors, trials["naive_bayes"]):
        finish(made, each)
    assert made.missing == 0
    assert plan({"naive_bayes": {}, "vae": {"beta": [1.0, 2.0], "priors": PRIORS}}).missing == 0


def test_one_more_prior_trains_nothing_else(plan):
    first = plan({"vae": {"priors": ["mixture"]}})
    while planned := next(iter(first.pop_pack()), None):
        finish(first, planned)
    again = plan({"vae": {"priors": ["mixture", "flow"]}})
    assert [again.records.get(planned.fingerprint) is None for planned in again.planned] == [False, False, False, True]
    assert [planned.label for planned in again.pop_pack()] == ["vae/flow"]


def test_a_prior_of_other_weights_is_trained_again(plan):
    first = plan({"vae": {"priors": ["flow"]}})
    vae = first.pop_pack()[0]
    finish(first, vae)
    finish(first, first.pop_pack()[0])
    assert plan({"vae": {"priors": ["flow"]}}).missing == 0
    first.store.save_result(vae.fingerprint, first.records[vae.fingerprint], b"others")
    again = plan({"vae": {"priors": ["flow"]}})
    assert [planned.label for planned in again.pop_pack()] == ["vae/flow"]


@pytest.mark.parametrize(("name", "prior"), [("fsq", "autoregressive"), ("vq", "autoregressive"), ("vae", None)])
def test_the_default_prior_is_one_of_the_codes_that_a_model_has(plan, name, prior):
    """The normal one, which is no trial, or an autoregressive one."""
    made = plan({name: {}})
    finish(made, made.planned[0])
    assert [each.prior for each in made.planned[1:]] == ([prior] if prior else [])


def test_an_entry_without_a_winner_has_no_priors(plan):
    made = plan({"vae": {"priors": ["flow"]}})
    settle(made, made.pop_pack()[0].fingerprint, status="diverged", error="nan")
    assert made.is_over
    assert len(made.planned) == 1


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ({"gan": {"priors": ["flow"]}}, "ladder.gan.priors must be left out where a model has no codes of images"),
        ({"vae": {"priors": ["flaw"]}}, "ladder.vae.priors must be of normal, mixture, flow, chain, but one is 'flaw'"),
        ({"vae": {"prior": "flow"}}, "ladder.vae.prior must be auto or one of its priors, but got 'flow'"),
        (
            {"vae": {"prior": "autoregressive"}},  # the default of models with a codebook
            "ladder.vae.prior must be auto or one of its priors, but got 'autoregressive'",
        ),
        ({"vae": {"variant": "vae"}}, "ladder.vae: the key 'variant' is now called 'model'"),
        ({"vae": {"components": 3}}, "unknown key 'components'; the keys of vae are latent"),
        ({"gan": {"rank_by": "criterion"}}, "rank_by must be distance for a model without a criterion"),
        (
            {"vae": {"priors": ["normal", "chain"]}},
            "ladder.vae.priors must draw real numbers, as vae has, but chain draws code indices",
        ),
        (
            {"discrete": {"model": "fsq", "priors": ["flow"]}},
            "ladder.discrete.priors must draw code indices, as fsq has, but flow draws real numbers",
        ),
        (
            {"vq": {"rank_by": "distance"}},
            "rank_by must be criterion where codes are indices, .* but got distance for vq",
        ),
        ({"vae": {"rank_by": "taste"}}, "ladder.vae: rank_by must be 'criterion' or 'distance'"),
        (
            {"vae": {"evaluation_samples": 0}},
            "ladder.vae: evaluation_samples must be greater than or equal to 1, but got 0",
        ),
        ({"vae": {"adds": ""}}, "ladder.vae: adds must have at least 1 character, but got ''"),
    ],
)
def test_what_an_entry_says_of_priors_and_ranking_is_checked(plan, ladder, message):
    with pytest.raises(InputError, match=message):
        plan(ladder)


@pytest.mark.parametrize("family", ["models", "priors"])
def test_a_list_is_no_name_of_a_model_or_prior(family):
    with pytest.raises(InputError, match=r"\.x: model must be a valid string, but got \['a', 'b'\]"):
        space("x", {"model": ["a", "b"]}, family)


def test_what_only_an_entry_may_say_is_an_unknown_key_of_a_prior(tmp_path):
    params = params_of({"vae": {"priors": ["flow"]}}, priors={"flow": {"rank_by": "distance"}})
    with pytest.raises(InputError, match=r"priors.flow: unknown key 'rank_by'; the keys of flow are"):
        Plan(params, DIGEST, TrialStore(tmp_path), optuna_rounds)


def test_trials_ranked_by_distance_have_the_digest_of_the_features_in_their_fingerprints(tmp_path):
    ladder = {"gan": {}, "vae": {}, "other": {"model": "vae", "rank_by": "distance"}}
    params = params_of(ladder)
    plans = [Plan(params, DIGEST, TrialStore(tmp_path), optuna_rounds, features) for features in ("f", "g")]
    found = [{planned.entry: planned for planned in each.planned} for each in plans]
    assert {name: each.trial.features for name, each in found[0].items()} == {"gan": "f", "vae": None, "other": "f"}
    same = {name for name in ladder if found[0][name].fingerprint == found[1][name].fingerprint}
    assert same == {"vae"}


def test_time_is_reserved_for_priors_and_the_search_ends_before(plan):
    assert plan({"vae": {"priors": ["flow"]}}).search_seconds is None
    assert plan({"vae": {"priors": ["normal"]}}, max_seconds=100).search_seconds is None, "there is nothing to train"
    made = plan({"vae": {"beta": [1.0, 2.0, 3.0], "priors": ["flow"]}}, max_seconds=100)
    assert made.search_seconds == 80
    first, second = (made.pop_pack()[0] for _ in range(2))
    finish(made, first, 5.0)
    made.end_search()
    assert not made.waiting, "the third is given up"
    keep(made.store, second.fingerprint, "unfinished", error="out of time")
    made.ended(second.fingerprint)
    (flow,) = made.pop_pack()
    assert (flow.prior, flow.trial.parent) == ("flow", first.fingerprint)
    finish(made, flow)
    assert made.is_over
    assert plan({"vae": {"beta": [1.0, 2.0, 3.0], "priors": ["flow"]}}).missing == 2, "without a limit they go on"


@pytest.mark.parametrize(("white", "name"), [(0.9, "bernoulli"), (0.5, "gaussian")])
def test_entries_that_leave_the_observation_open_get_what_suits_the_images(white, name):
    images = np.full((10, 1, 10, 10), 128, dtype=np.uint8)
    images.reshape(-1)[: round(white * images.size)] = 255
    ladder = {"vae": {}, "b": {"model": "vae", "observation": "auto"}, "ppca": {}}
    chosen = ladder | {"c": {"model": "vae", "observation": "discretized_logistic"}}
    notes = []
    found = with_values_for(images, params_of(chosen), notes.append).ladder
    assert found == chosen | {"vae": {"observation": name}, "b": {"model": "vae", "observation": name}}
    assert notes == [f"observation: auto is {name}, as {white:.0%} of values are nearly black or white"]
    assert with_values_for(images, params_of({"ppca": {}}), notes.append).ladder
    assert len(notes) == 1, "nothing is said where no entry asks"


@pytest.mark.parametrize(
    ("count", "latent", "note"),
    [(19_999, 16, "16, 2 times the longer side of 19,999"), (20_000, 32, "32, 4 times the longer side of 20,000")],
)
def test_entries_may_leave_the_dimensions_of_codes_to_size_and_number_of_the_images(count, latent, note):
    images, notes = np.zeros((count, 3, 6, 8), dtype=np.uint8), []
    chosen = {"autoencoder": {"latent": "auto"}, "ppca": {"latent": [2, 3]}}
    found = with_values_for(images, params_of(chosen), notes.append).ladder
    assert found == chosen | {"autoencoder": {"latent": latent}}
    assert notes == [f"latent: auto is {note} images"]


@pytest.mark.parametrize(
    "content",
    [
        {"model": "vae", "network": "residual", "code": "image"},
        {"model": "vae", "network": "residual", "code": ["vector", "image"]},
        {"model": "vae", "network": "residual", "code": {"choice": ["vector", "image"]}, "samples": 2},
        {"model": "vq"},
    ],
    ids=str,
)
def test_the_channels_of_codes_that_are_images_are_not_left_open(content):
    images = np.zeros((9, 1, 8, 8), dtype=np.uint8)
    rule = r"^params.yaml: ladder\.a\.latent must be a number where code is image, .*, but got auto$"
    with pytest.raises(InputError, match=rule):
        with_values_for(images, params_of({"a": content | {"latent": "auto"}}), print)


@pytest.mark.parametrize(
    ("gpu", "processor", "gpus", "name", "reason"),
    [
        (None, True, 0.5, "bfloat16", "the processor computes in it"),
        (None, False, 0.5, "float32", "the processor has no bfloat16"),
        (True, False, 0.5, "bfloat16", "the GPU computes in it"),
        (False, True, 0.5, "float32", "the GPU has no bfloat16"),
        (True, False, 0, "float32", "the processor has no bfloat16"),
    ],
)
def test_entries_and_priors_may_leave_the_precision_to_the_machine(monkeypatch, gpu, processor, gpus, name, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": processor})
    ladder = {"vae": {"observation": "gaussian", "precision": "auto", "priors": ["flow"]}}
    params = params_of(ladder, train={"gpus_per_trial": gpus})
    params = params.model_copy(update={"priors": {"flow": {"precision": "auto", "hidden": 8}}})
    notes = []
    found = with_values_for(np.zeros((10, 1, 8, 8), dtype=np.uint8), params, notes.append)
    assert found.ladder["vae"]["precision"] == found.priors["flow"]["precision"] == name
    assert notes == [f"precision: auto is {name}, as {reason}"]
