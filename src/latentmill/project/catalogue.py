"""`latentmill models`: the models, networks and priors, each with what it is and can do."""

import sys
from collections.abc import Iterator

from latentmill import contract, networks, registry
from latentmill.contract import Model
from latentmill.project.comments import first_sentence
from latentmill.report.introduction import introduction

ABILITIES = {  # by the class that declares it
    contract.HasCodebook: "codes of indices",
    contract.Encodes: "encode",
    contract.Decodes: "decode",
    contract.HasLikelihood: "likelihood",
    contract.HasEnergy: "likelihood by annealed importance sampling",
    contract.HasBound: "likelihood by a bound",
}


def described() -> list[str]:
    """Lines: the name, what it is by its module's first sentence, what it can do, and what a model adds and lacks."""
    kinds = {name: first_sentence(module.__doc__) for name, module in networks.KINDS.items()}
    return [
        "models, for the section `ladder`:",
        *_listed({name: _line(registry.find("models", name)) + _story(name) for name in registry.names("models")}),
        "networks, for the key `network` of a model:",
        *_listed(kinds),
        "priors, for the section `priors`:",
        *_listed({name: _line(registry.find("priors", name)) for name in registry.names("priors")}),
    ]


def _listed(lines: dict[str, str]) -> Iterator[str]:
    width = max(map(len, lines))
    return (f"  {name:<{width}}  {line}".replace("\n", "\n" + " " * (width + 4)) for name, line in lines.items())


def _story(model: str) -> str:
    """On two more lines."""
    found = introduction(model)
    return f"\nadds {found.adds}\nlacks {found.lacks}"


def _line(model: type[Model]) -> str:
    return f"{first_sentence(sys.modules[model.__module__].__doc__)} [{', '.join(_abilities(model))}]"


def _abilities(model: type[Model]) -> Iterator[str]:
    for ability, word in ABILITIES.items():
        if issubclass(model, ability):
            yield word
    is_prior = model.__module__.startswith("latentmill.priors")
    if issubclass(model, contract.HasPrior):
        yield "has a prior of its own"
    elif issubclass(model, contract.Generates) and not is_prior:
        yield "generates without a prior"
    if issubclass(model, contract.IndexPrior):
        yield "for codes of indices"
    if model.is_conditional or "labels" in model.Config.model_fields:
        yield "labels"
    if issubclass(model, contract.Guides):
        yield "guidance"
    if not model.learns:
        yield "needs no training"
    elif model.closed_form:
        yield "closed form, no epochs"
