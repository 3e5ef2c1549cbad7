"""From a ladder to its trials."""

import pytest

from latentmill.config import Params
from latentmill.errors import InputError
from latentmill.training.plan import plan


def planned(ladder, training=None, **sweep):
    content = {"data": {"source": "digits"}, "training": training or {}, "sweep": sweep, "evaluation": {}}
    return plan(Params.model_validate(content | {"ladder": ladder}))


def trials(ladder, **rest):
    return [item.trial for item in planned(ladder, **rest)]


def test_an_entry_without_lists_is_one_trial_with_its_variants_defaults():
    (trial,) = trials({"vae": {"latent": 5}})
    assert (trial.variant, trial.seed) == ("vae", 0)
    assert trial.model["latent"] == 5
    assert trial.model["beta"] == 1.0
    assert trial.training["epochs"] == 100


def test_an_entry_may_name_its_variant_and_override_training():
    (trial,) = trials({"slow": {"variant": "vae", "epochs": 7}}, training={"epochs": 9, "patience": 3})
    assert (trial.variant, trial.training["epochs"], trial.training["patience"]) == ("vae", 7, 3)


def test_a_closed_form_variant_does_not_depend_on_training():
    (trial,) = trials({"naive_bayes": {}}, training={"epochs": 9})
    assert trial.training is None


def test_lists_make_a_grid_and_seeds_repeat_it():
    found = trials({"vae": {"latent": [2, 3], "learning_rate": [1e-3, 1e-2, 1e-1]}}, seeds=[0, 1])
    points = {(trial.model["latent"], trial.training["learning_rate"], trial.seed) for trial in found}
    assert len(found) == len(points) == 12


def test_sampled_values_lie_in_their_ranges_and_are_the_same_each_time():
    space = {
        "samples": 50,
        "beta": {"uniform": [0.5, 2.0]},
        "learning_rate": {"loguniform": [1e-4, 1e-1]},
        "latent": {"choice": [2, 3]},
    }
    found = trials({"vae": space})
    assert len(found) == 50
    assert all(0.5 <= trial.model["beta"] <= 2 and 1e-4 <= trial.training["learning_rate"] <= 1e-1 for trial in found)
    assert sum(trial.training["learning_rate"] < 10**-2.5 for trial in found) == pytest.approx(25, abs=10)
    assert {trial.model["latent"] for trial in found} == {2, 3}
    assert len({trial.model["beta"] for trial in found}) == 50
    assert trials({"vae": space}) == found
    assert trials({"vae": space}, sampling_seed=1) != found


def test_more_samples_grid_values_or_entries_leave_the_trials_there_are():
    space = {"samples": 3, "beta": {"uniform": [0.5, 2.0]}, "latent": [2]}
    before = trials({"vae": space})
    after = trials({"autoencoder": {}, "vae": space | {"samples": 5, "latent": [4, 2]}})
    assert len(after) == 11
    assert all(trial in after for trial in before)


def test_labels_tell_the_trials_of_an_entry_apart():
    labels = [item.label for item in planned({"vae": {"latent": [2, 3], "beta": 1.0}}, seeds=[0, 1])]
    assert labels == ["vae latent=2", "vae latent=2 seed=1", "vae latent=3", "vae latent=3 seed=1"]


@pytest.mark.parametrize(
    ("ladder", "told"),
    [
        ({"gan": {}}, "ladder.gan: a variant must be one of .*vae.*, but got 'gan'"),
        ({"a": {"variant": "vea"}}, "ladder.a: a variant must be one of .* but got 'vea'"),
        ({"vae": {"latnet": 3}}, "ladder.vae: unknown key 'latnet'; the keys of vae are latent"),
        ({"naive_bayes": {"epochs": 3}}, "ladder.naive_bayes: unknown key 'epochs'"),
        ({"vae": {"beta": -1}}, "ladder.vae: beta: Input should be greater than 0, but got -1"),
        ({"vae": {"latent": "many"}}, "ladder.vae: latent: Input should be a valid integer, but got 'many'"),
        ({"vae": {"latent": 2.5}}, "ladder.vae: latent: Input should be a valid integer, but got 2.5"),
        ({"vae": {"epochs": 0}}, "ladder.vae: epochs: .* greater than or equal to 1, but got 0"),
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
        ({"autoencoder": {"corruption": 1.0}}, "ladder.autoencoder: corruption: .* less than 1, but got 1.0"),
    ],
)
def test_a_wrong_search_space_is_named(ladder, told):
    with pytest.raises(InputError, match=told):
        planned(ladder)
