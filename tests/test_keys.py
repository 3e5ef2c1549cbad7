"""`latentmill params` and `latentmill models`: what can be set, and what models can do, as the code has it."""

import re

import pytest
from ruamel.yaml import YAML

from latentmill import networks, registry
from latentmill.cli import main
from latentmill.config import EntryConfig, LimitsConfig, Params, Settings, checked
from latentmill.project import catalogue, keys
from latentmill.project.comments import descriptions, first_sentence


@pytest.fixture(scope="module")
def found() -> dict[str, keys.Key]:
    return {key.name: key for _, section in keys._sections() for key in section}


def test_every_key_is_there_with_a_description(found):
    assert [name for name, key in found.items() if not key.description or not key.values] == []
    expected = {"train.asha.grace", "train.asha.reduction", "priors.<name>.model", "priors.<name>.samples", "note"}
    expected |= {f"evaluation.limits.{name}" for name in LimitsConfig.model_fields}
    for section in Params.model_fields.keys() - keys.PLACES.keys() - {"note"}:
        expected |= {f"{section}.{name}" for name in Params.model_fields[section].annotation.model_fields}
    for section, family in keys.PLACES.items():
        for model in registry.names(family):
            expected |= {f"{section}.{model}.{name}" for name in registry.find(family, model).Config.model_fields}
    expected |= {f"ladder.<name>.{name}" for name in EntryConfig.model_fields}
    assert found.keys() == expected


def test_every_default_is_one_that_its_config_takes(found):
    for section, family in keys.PLACES.items():
        for model in registry.names(family):
            own = {name: key for name, key in found.items() if name.startswith(f"{section}.{model}.")}
            given = {key.part: YAML(typ="safe").load(key.default) for key in own.values()}
            given = {name: value for name, value in given.items() if value != "auto"}
            checked(registry.find(family, model).Config, given, model)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("trial.warmup", "trial.warmup: 0.0  # number >= 0, < 1; share of the steps in which the learning rate rises"),
        ("ladder.vae.latent", "ladder.vae.latent: 20  # whole number >= 1 | auto; dimensions of a code"),
        ("vae.observation", "ladder.vae.observation: auto  # bernoulli | gaussian | discretized_logistic | auto; not"),
        ("evaluation.features", "evaluation.features: null  # [text, …] | null; pixels, classifier"),
        ("export.formats", "export.formats: {}  # {fp16 | int8 | uint8: number > 0}; more decoders"),
        ("data.size", "data.size: null  # a side or [height, width], each a whole number of pixels from 4 to 4096;"),
        ("note", 'note: ""  # text; of whoever runs this'),
        ("data.source", "data.source: (must be there)  # folder | archive | table"),
        ("train.asha.reduction", "train.asha.reduction: 3  # whole number >= 2; one in so many"),
        ("ladder.<name>.model", "ladder.<name>.model: <name>  # aae | autoencoder | bernoulli_mixture"),
    ],
)  # fmt: skip
def test_a_line_says_what_a_key_may_be(name, line):
    heading, told = keys.described([name])
    assert heading.startswith("# ")
    assert told.startswith(line)


def test_a_part_of_a_name_selects(capsys):
    main(["params", "flow", "train.asha"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0] for line in lines if line and not line.startswith("# ")]
    assert names[:3] == ["train.asha", "train.asha.grace", "train.asha.reduction"]
    assert set(names[3:]) == {f"priors.flow.{name}" for name in registry.find("priors", "flow").Config.model_fields}
    with pytest.raises(SystemExit):
        main(["params", "ash"])
    assert "but got 'ash': `latentmill params` has all" in capsys.readouterr().err


class Outer(Settings):
    beside: int = 1  # beside  it
    # above it
    above: int = 1
    several: int = 1  # within
    nothing: int = 1


class Inner(Outer):
    above: int = 2
    nothing: int = 2  # here


def test_a_description_is_the_comment_of_the_field_or_of_that_which_it_replaces():
    assert descriptions(Outer) == {"beside": "beside  it", "above": "above it", "several": "within", "nothing": ""}
    assert descriptions(Inner) == descriptions(Outer) | {"nothing": "here"}


@pytest.mark.parametrize(
    ("text", "first"),
    [("One\ntwo. Three.", "One two"), ("One; two", "One"), ("1.5 of it\n\nmore", "1.5 of it"), (None, "")],
)
def test_the_first_sentence(text, first):
    assert first_sentence(text) == first


def test_every_model_network_and_prior_is_listed_with_what_it_can_do(capsys):
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    names = [*registry.names("models"), *networks.KINDS, *registry.names("priors")]
    named = [line for line in lines if re.match(r"  \S", line)]
    assert [line.split()[0] for line in named] == names
    can = {line.split()[0]: line.rpartition("[")[2] for line in named}
    after = lines.index(next(line for line in named if line.split()[0] == "naive_bayes"))
    assert lines[after + 1].split()[:2] == ["adds", "each"]
    assert lines[after + 2].split()[:2] == ["lacks", "any"]
    assert can["naive_bayes"] == "likelihood, generates without a prior, closed form, no epochs]"
    assert can["conditional_vae"] == "encode, decode, likelihood by a bound, labels]"
    assert can["gan"] == "decode, generates without a prior]"
    assert can["flow"] == "labels, guidance]"
    assert can["normal"] == "needs no training]"
    assert "codes of indices" in can["vq"]
    assert "for codes of indices" in can["autoregressive"]
    assert len(catalogue.described()) == len(names) + 3
