"""Factors as they are used: those that every image has, with enough images of each value."""

import numpy as np

from latentmill.data.collection import Item
from latentmill.data.factors import Factors
from latentmill.data.preparation.classes import natural
from latentmill.data.preparation.sufficiency import RARE


def known_factors(items: dict[str, list[Item]]) -> tuple[dict[str, Factors], list[str]]:
    """The factors of each split, if there are any, and what there is to say of those that are not used."""
    every = [item.factors or {} for each in items.values() for item in each]
    names = dict.fromkeys(name for each in every for name in each)
    found = {name: [each.get(name) for each in every] for name in names}
    reasons = {name: reason for name, of in found.items() if (reason := _unusable(of))}
    notes = [f"the factor {name} is not used: {reason}" for name, reason in reasons.items()]
    values = {name: sorted(set(map(str, of)), key=natural) for name, of in found.items() if name not in reasons}
    if not values:
        return {}, notes
    places = {name: {value: place for place, value in enumerate(known)} for name, known in values.items()}
    return {split: Factors(values, _indices(each, places)) for split, each in items.items()}, notes


def _unusable(values: list[str | None]) -> str:
    """Why a factor with these values, one an image, is not used; empty where it is."""
    missing, count = values.count(None), len(set(values))
    if missing:
        return f"{missing} of {len(values)} images have none"
    if count * RARE > len(values):
        return f"{count} values of {len(values)} images leave fewer than {RARE} images a value"
    return ""


def _indices(items: list[Item], places: dict[str, dict[str, int]]) -> np.ndarray:
    rows = [[of[str((item.factors or {})[name])] for name, of in places.items()] for item in items]
    return np.array(rows, np.int64).reshape(len(items), len(places))
