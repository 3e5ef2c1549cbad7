"""What card.json must say about a model so that it can be run."""

from typing import Any

from latentmill.errors import InputError


def read_facts(card: dict[str, Any], where: str) -> tuple[tuple[int, int, int], int | None, int, int]:
    """The shape of an image (C, H, W), the latent dimensions if any, the width of the noise, its categorical columns.

    `card` has the words of format 2.

    Raises:
        InputError: one is missing or is not such a number.
    """
    try:
        channels, height, width = (_count(size) for size in card["image_shape"])
        latent = None if card["latent"] is None else _count(card["latent"])
        noise, categorical = _count(card["noise"]["width"]), _count(card["noise"]["categorical"], least=0)
    except (KeyError, TypeError, ValueError) as error:
        rule = "image_shape (C, H, W), latent, noise.width and noise.categorical as whole numbers"
        raise InputError(f"{where} must name {rule}, but: {error!r}") from None
    return (channels, height, width), latent, noise, categorical


def _count(value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{value!r} is no whole number of at least {least}")
    return value
