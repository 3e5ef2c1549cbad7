"""Factors of a prepared data set: what varies from image to image, where the source knows it. They train nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentmill.data.dataset import Labels, read_manifest
from latentmill.data.numpy_files import read_npy
from latentmill.errors import InputError


@dataclass(frozen=True)
class Factors:
    """Of N images: such as shape, size, place and colour."""

    values: dict[str, list[str]]  # those that each factor takes, by its name
    indices: Labels  # (N, F), into the values, a column for each factor

    def of(self, chosen: Labels) -> "Factors":
        """Those of the images `chosen`, indices."""
        return Factors(self.values, np.asarray(self.indices)[chosen])


def write_factors(folder: Path, split: str, factors: Factors) -> None:
    """Write which values the images of a split have; the manifest has their names."""
    np.save(_path(folder, split), factors.indices, allow_pickle=False)


def read_factors(folder: Path, split: str) -> Factors | None:
    """The factors of the images of a split, or None where the source knows of none.

    Raises:
        InputError: `folder` does not hold a prepared data set, or its factors are not those of its images.
    """
    manifest = read_manifest(folder)
    values: dict[str, list[str]] = manifest.get("factors") or {}
    if not values:
        return None
    path, shape = _path(folder, split), (manifest["counts"][split], len(values))
    found = Factors(values, read_npy(path))
    if found.indices.shape != shape:
        raise InputError(f"{path} must have shape {shape}, but has {found.indices.shape}: run `dvc repro -f prepare`")
    return found


def _path(folder: Path, split: str) -> Path:
    return folder / f"{split}_factors.npy"
