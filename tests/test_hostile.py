"""Each of the hostile files ends as it must, in a folder, a zip, a tar and a table: right pixels, or its reason."""

import csv
import io
import os
import re
import socket
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import hostile_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import Case, picture, saved

from latentmill.config import DataConfig
from latentmill.data import dataset, sources
from latentmill.data.preparation.fitting import Target
from latentmill.data.preparation.intake import Intake, decode_all
from latentmill.data.preparation.prepare import prepare
from latentmill.errors import InputError

CASES = hostile_files.cases()
GOOD = {f"good/{number}.png": picture(1000 + number) for number in range(200)}
SQUARE = Target(3, hostile_files.SIDE, hostile_files.SIDE, "crop", (255, 255, 255))


def quiet(*told: Any) -> None:
    pass


def contents() -> dict[str, bytes]:
    return {name: case.content for name, case in CASES.items()} | {
        name: saved(pixels, "PNG") for name, pixels in GOOD.items()
    }


def in_a_folder(root: Path) -> DataConfig:
    for name, content in contents().items():
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return DataConfig(source="folder", path=str(root / "images"), label=None, max_dropped=1)


def in_a_zip(root: Path) -> DataConfig:
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for number, (name, content) in enumerate(contents().items()):
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)
    return DataConfig(source="archive", path=str(root / "images.zip"), label=None, max_dropped=1)


def in_a_tar(root: Path) -> DataConfig:
    with tarfile.open(root / "images.tar", "w") as archive:
        for name, content in contents().items():
            entry = tarfile.TarInfo("./" + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return DataConfig(source="archive", path=str(root / "images.tar"), label=None, max_dropped=1)


def in_a_table(root: Path) -> DataConfig:
    pq.write_table(pa.table({"image": list(contents().values())}), root / "images.parquet")
    return DataConfig(source="table", path=str(root / "images.parquet"), max_dropped=1)


@pytest.mark.parametrize("source", [in_a_folder, in_a_zip, in_a_tar, in_a_table])
def test_every_file_ends_as_it_must(tmp_path: Path, source: Any) -> None:
    config = source(tmp_path)
    collection = sources.load(config)
    intake = decode_all(collection, SQUARE, tmp_path / "all.npy", processes=2, progress=quiet)
    names = list(contents()) if config.source == "table" else [item.name for item in collection.items]
    by_item = {item.name: name for item, name in zip(collection.items, names, strict=True)}
    kept = {by_item[item.name]: row for item, row in zip(intake.items, intake.rows.tolist(), strict=True)}
    reasons = {by_item[each.name]: each.reason for each in intake.dropped}
    assert kept.keys() | reasons.keys() == contents().keys()
    wrong = [complaint for name, case in CASES.items() if (complaint := _wrong(name, case, kept, reasons, intake))]
    assert wrong == []
    for name, pixels in GOOD.items():
        np.testing.assert_array_equal(intake.images[kept[name]].transpose(1, 2, 0), pixels)


def _wrong(name: str, case: Case, kept: dict[str, int], reasons: dict[str, str], intake: Intake) -> str:
    if case.pixels is None:
        return (
            ""
            if re.match(case.reason, reasons.get(name, "")) or case.reason in reasons.get(name, "")
            else (f"{name} must be dropped ({case.reason}), but: {reasons.get(name, 'kept')}")
        )
    if name in reasons:
        return f"{name} must be read, but: {reasons[name]}"
    expected = np.asarray(case.pixels, float)
    expected = expected if expected.ndim == 3 else expected[..., None]
    off = np.abs(intake.images[kept[name]].transpose(1, 2, 0) - expected).max()
    return "" if off <= case.tolerance else f"{name} must be within {case.tolerance}, but is {off} off"


def test_prepare_ends_well_with_all_of_them(tmp_path: Path) -> None:
    config = in_a_folder(tmp_path)
    root = tmp_path / "images"
    os.mkfifo(root / "pipe.png")
    (root / "loop").symlink_to(root)
    (root / "nowhere.png").symlink_to("/nowhere/at all.png")
    (root / "link.png").symlink_to(root / "good" / "3.png")
    (root / ".hidden.png").write_bytes(saved(picture(1), "PNG"))
    (root / "caption.txt").write_text("of an image")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
    with open(os.fsencode(root) + b"/not \xff text.png", "wb") as file:  # noqa: PTH123  # no Path of bytes
        file.write(saved(picture(2), "PNG"))
    (tmp_path / "prepared").mkdir()
    manifest = prepare(config, tmp_path / "prepared", quiet, processes=2)
    with (tmp_path / "prepared/dropped.csv").open(newline="", encoding="utf-8") as rows:
        reasons = {row["name"]: row["reason"] for row in csv.DictReader(rows)}
    expected = {
        "pipe.png": "no regular file",
        "socket": "no regular file",
        "loop": "a link to a folder that it lies in",
        "nowhere.png": "unreadable: No such file or directory",
        ".hidden.png": "a hidden file",
        "caption.txt": "not an image of a known format",
        "not \\udcff text.png": "its name is not UTF-8",
    }
    assert expected.items() <= reasons.items()
    bad = [name for name, case in CASES.items() if case.pixels is None]
    assert set(bad) <= reasons.keys()
    twins = [name for name, reason in reasons.items() if "copy of" in reason]
    assert len(reasons) == len(expected) + len(bad) + len(twins)
    read = len(CASES) - len(bad) + len(GOOD) + 1
    assert sum(manifest["counts"].values()) == read - len(twins)
    assert manifest["intake"]["files"] == read + len(bad) + len(expected)
    assert manifest["intake"]["formats"].keys() == {"PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "MPO"}
    assert len(dataset.read_split(tmp_path / "prepared", "train")) == manifest["counts"]["train"]
    with pytest.raises(InputError, match=r"at most 1.0% of the images may be unreadable .*: \d+ x damaged"):
        prepare(config.model_copy(update={"max_dropped": 0.01}), tmp_path / "prepared", quiet, processes=0)
