"""Settings that not every source can follow: set where they would be ignored, they are refused."""

from collections.abc import Sequence
from typing import Any

from latentmill.config import DataConfig
from latentmill.errors import InputError

TREES = ("folder", "archive")
NAMING = (*TREES, "table")  # sources whose files name labels, groups and splits
FOLLOWED: dict[str, tuple[Sequence[Any], Sequence[str], str]] = {
    "group": ((None,), NAMING, "arrays has groups where its .npz file holds `groups`"),
    "splits": (("random",), NAMING, "no folders lie in it"),
    "white": ((None,), ("arrays",), "the values of its images have one meaning"),
    "image": (("image",), ("table",), "it has no columns of images"),
    "factors": ([[]], ("table",), "it has no columns of factors"),
    "label": (("auto", None), NAMING, "its labels have one place, so data.label is auto, or null for none"),
}


def require_followed(config: DataConfig) -> None:
    """Raises InputError where the source does not have a setting."""
    for key, (plain, sources, why) in FOLLOWED.items():
        value = getattr(config, key)
        if value not in plain and config.source not in sources:
            rule = f"data.{key} must be left out for the source {config.source}, which can't follow it"
            raise InputError(f"{rule}, but got {value!r}: {why}")
