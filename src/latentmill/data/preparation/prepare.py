"""From a collection to a prepared data set: decoded, freed of copies, split, with what was seen on the way."""

import csv
import io
import tempfile
from math import floor, prod
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.config import DataConfig
from latentmill.data import dataset, sources
from latentmill.data.collection import Collection, Item, OnProgress
from latentmill.data.dataset import SPLITS
from latentmill.data.factors import write_factors
from latentmill.data.preparation.classes import class_counts, class_names, without_unlabelled
from latentmill.data.preparation.duplicates import Duplicates, without_copies
from latentmill.data.preparation.factors import known_factors
from latentmill.data.preparation.intake import Intake, decode_all, usable
from latentmill.data.preparation.limit import MIN_IMAGES, limited
from latentmill.data.preparation.requirements import count_unusable, require_readable, require_room
from latentmill.data.preparation.splits import Rows, numbered_groups, split
from latentmill.data.preparation.sufficiency import too_small_for
from latentmill.data.preparation.summary import seen
from latentmill.data.preparation.target import target
from latentmill.data.processes import Spread
from latentmill.errors import InputError
from latentmill.files import write_bytes, write_json, write_text
from latentmill.runtime.cores import cores
from latentmill.runtime.images import grid, png

SHOWN, COLUMNS = 64, 16  # images on the contact sheet


def prepare(
    config: DataConfig,
    folder: Path,
    progress: OnProgress,
    processes: int | None = None,
    elsewhere: Spread | None = None,
) -> dict[str, Any]:
    """Write the data set of `config` into the empty `folder`; returns the manifest.

    `progress` is called now and then; `processes` decode in parallel, by default one per core, or, if given, those
    that are `elsewhere`.

    Raises:
        InputError: the source has no such images, more of them are unreadable than may be, or too few are left.
    """
    listed = sources.load(config)
    collection = limited(listed, config)
    processes = cores() if processes is None else processes
    shape = target(collection, config)
    times = 2 if usable(collection, shape) is None else 1  # decoded, and then in the split
    require_room(folder, times * len(collection.items) * prod(shape.shape))
    with tempfile.TemporaryDirectory(prefix=".decoding-", dir=folder) as scratch:
        intake = decode_all(collection, shape, Path(scratch) / "all.npy", processes, progress, elsewhere)
        unusable, total = count_unusable(intake, listed)
        require_readable(intake, listed.description, unusable, total, config.max_dropped)
        drawn = len(collection.items) / len(listed.items)
        intake = without_unlabelled(intake, floor(drawn * (config.max_dropped * total - unusable)))
        rows, duplicates = _split(intake, config, progress)
        manifest = _write(folder, intake, rows, duplicates, config, collection, progress)
    write_text(folder / dataset.DROPPED, _dropped_csv(intake, duplicates))
    write_json(folder / dataset.MANIFEST, manifest)
    return manifest


def _split(intake: Intake, config: DataConfig, progress: OnProgress) -> tuple[Rows, dict[str, Duplicates]]:
    """Rows of `intake.images` by split, and the copies that were left out."""
    dealt = {name: intake.rows[places] for name, places in split(intake.items, config).items()}
    rows, duplicates = without_copies(intake.images, dealt, config.drop_near_duplicates, progress)
    for name, kept in rows.items():
        if len(kept) < MIN_IMAGES:
            dropped = f"{len(duplicates[name].rows)} dropped as copies from an earlier split"
            found = f"{len(kept)} of {len(intake.rows)} images, {dropped}{_group_count(intake.items)}"
            raise InputError(f"{name} must have at least {MIN_IMAGES} images, but has {found}")
    return rows, duplicates


def _group_count(items: list[Item]) -> str:
    """That images come in groups, where that may be why a split is too small."""
    groups = {item.group for item in items if item.group is not None}
    return f"; each of {len(groups)} groups (data.group) is in one split" if groups else ""


def _write(
    folder: Path,
    intake: Intake,
    rows: Rows,
    duplicates: dict[str, Duplicates],
    config: DataConfig,
    collection: Collection,
    progress: OnProgress,
) -> dict[str, Any]:
    channels = 1 if config.channels == "auto" and intake.is_grey else intake.images.shape[1]
    digests = {
        name: dataset.write_images(folder / f"{name}.npy", intake.images, rows[name], channels, progress)
        for name in SPLITS
    }
    places = {int(row): place for place, row in enumerate(intake.rows)}
    items = {name: [intake.items[places[row]] for row in rows[name].tolist()] for name in SPLITS}
    classes, notes = class_names(items)
    if classes is not None:
        index = {name: place for place, name in enumerate(classes)}
        for name in SPLITS:
            labels = np.array([index[str(item.label)] for item in items[name]], np.int64)
            digests[f"{name}_labels"] = dataset.write_labels(folder / f"{name}_labels.npy", labels)
    factors, factor_notes = known_factors(items)
    for name, of in factors.items():
        write_factors(folder, name, of)
    groups = numbered_groups(items["train"])
    if groups is not None:
        dataset.write_groups(folder, groups)
    _write_contact_sheet(folder, intake.images[:, :channels], rows["train"], config.seed)
    counts = {name: len(rows[name]) for name in SPLITS}
    by_class = {} if classes is None else class_counts(classes, items)
    return {
        "source": config.source,
        "description": collection.description,
        "shape": [channels, *intake.images.shape[2:]],
        "counts": counts,
        "classes": classes,
        "class_counts": by_class,
        "factors": factors["train"].values if factors else {},
        "duplicates_dropped": {name: len(duplicates[name].rows) for name in SPLITS},
        "intake": seen(intake),
        "too_small_for": too_small_for(counts, by_class),
        "notes": notes + factor_notes,
        "digests": digests,
        "digest": dataset.combined_digest(digests, classes),
    }


def _dropped_csv(intake: Intake, duplicates: dict[str, Duplicates]) -> str:
    """Every file that is not in the prepared data set, with its reason."""
    names = {int(row): item.name for row, item in zip(intake.rows, intake.items, strict=True)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "reason"))
    writer.writerows((each.name, each.reason) for each in intake.dropped)
    for name, found in duplicates.items():
        for row, original in zip(found.rows.tolist(), found.originals.tolist(), strict=True):
            writer.writerow((names[row], f"in {name}, but a copy of {names[original]} in an earlier split"))
    return text.getvalue()


def _write_contact_sheet(folder: Path, images: np.ndarray, rows: np.ndarray, seed: int) -> None:
    chosen = np.sort(np.random.default_rng(seed).choice(rows, min(SHOWN, len(rows)), replace=False))
    sheet = grid(images[chosen].astype(np.float32) / 255, COLUMNS)
    write_bytes(folder / dataset.CONTACT_SHEET, png(sheet))
