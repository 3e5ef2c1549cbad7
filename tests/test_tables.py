"""Parquet files and saved Hugging Face data sets: which columns are images, labels and splits, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import picture, saved

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import Files, UnreadableError
from latentmill.data.sources import cells
from latentmill.errors import InputError

IMAGES = [saved(picture(number), "PNG") for number in range(9)]
HUGGING_FACE = {
    "info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}
}


def loaded(path: Path, **settings: Any) -> Files:
    found = sources.load(DataConfig(source="table", path=str(path), **settings))
    assert isinstance(found, Files)
    return found


def refused(rule: str, path: Path, **settings: Any) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        loaded(path, **settings)
    assert "\n" not in str(caught.value)


def contents(found: Files) -> list[bytes | str]:
    read: list[bytes | str] = []
    for locator in found.locators:
        try:
            read.append(found.read(locator))
        except UnreadableError as error:
            read.append(str(error))
    return read


def labels(found: Files) -> list[str | None]:
    return [item.label for item in found.items]


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def arrow(path: Path, table: pa.Table, form: Any = pa.ipc.new_stream, rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, form(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def saved_data_set(root: Path, split: str) -> None:
    """Of two files, as Dataset.save_to_disk writes it."""
    for number in range(2):
        images = [{"bytes": image, "path": "0.png"} for image in IMAGES[4 * number : 4 * number + 4]]
        table = pa.table({"image": images, "label": [0, 1, -1, 0]})
        table = table.replace_schema_metadata({b"huggingface": json.dumps(HUGGING_FACE).encode()})
        arrow(root / split / f"data-{number:05}-of-00002.arrow", table)
    (root / split / "state.json").write_text("{}")
    arrow(root / split / "cache-0123.arrow", pa.table({"other": [1]}))


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        pa.struct([("bytes", pa.large_binary())]),
    ],
    ids=str,
)
def test_images_are_bytes_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    is_struct = pa.types.is_struct(kind)
    cells = [{"bytes": image} if is_struct else image for image in IMAGES]
    if pa.types.is_dictionary(kind):
        column = pa.array(cells, pa.binary()).dictionary_encode()
    else:
        column = pa.array([*cells, None], kind)
    missing = ["an empty cell"] * (len(column) - len(IMAGES))
    arrow(tmp_path / "a.arrow", pa.table({"picture": column}))
    assert contents(loaded(tmp_path / "a.arrow", image="picture")) == IMAGES + missing
    arrow(tmp_path / "b.arrow", pa.table({"picture": column}), pa.ipc.new_file)
    assert contents(loaded(tmp_path / "b.arrow", image="picture")) == IMAGES + missing
    assert contents(loaded(parquet(tmp_path / "a.parquet", picture=column), image="picture")) == IMAGES + missing


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), "struct", "dictionary"], ids=str)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_paths_are_relative_to_the_table(tmp_path: Path, kind: Any, suffix: str) -> None:
    (tmp_path / "sub").mkdir()
    names = ["sub/0.png", str(tmp_path / "1.png"), "missing.png", None, ""]
    for number, name in enumerate(names[:2]):
        (tmp_path / str(name)).write_bytes(IMAGES[number])
    column = {
        "struct": lambda: pa.array([{"bytes": None, "path": name} for name in names]),
        "dictionary": lambda: pa.array(names).dictionary_encode(),
    }.get(str(kind), lambda: pa.array(names, kind))()
    path = tmp_path / f"a.{suffix}"
    parquet(path, image=column) if suffix == "parquet" else arrow(path, pa.table({"image": column}))
    expected = [*IMAGES[:2], "unreadable: No such file or directory", "an empty cell", "an empty cell"]
    assert contents(loaded(path)) == expected
    listed = sources.files(DataConfig(source="table", path=str(path)))
    assert listed == [path, tmp_path / "sub/0.png", tmp_path / "1.png"], "so that their changes are noticed"


def test_a_saved_data_set_with_its_splits_and_the_names_of_its_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        saved_data_set(tmp_path, split)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = loaded(tmp_path, splits="folders")
    assert contents(found) == IMAGES[:8] * 2
    assert labels(found) == ["cat", "dog", None, "cat"] * 4
    assert [item.split for item in found.items] == ["test"] * 8 + ["train"] * 8
    assert found.items[-1].name == "train/data-00001-of-00002.arrow row 3"
    assert {item.split for item in loaded(tmp_path).items} == {None}


def test_splits_by_the_names_of_files(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "validation-00000-of-00001", "test"):
        parquet(tmp_path / f"data/{name}.parquet", image=IMAGES[:1])
    found = loaded(tmp_path, splits="folders")
    assert sorted(str(item.split) for item in found.items) == ["test", "train", "val"]
    parquet(tmp_path / "data/more.parquet", image=IMAGES[:1])
    refused(
        "needs every table in a folder train/, val/ or test/, or called so, but got .*more.parquet",
        tmp_path,
        splits="folders",
    )


def test_labels_and_groups_are_columns(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        image=IMAGES[:4],
        kind=["cat", None, "", "dog"],
        number=[1.0, 2.5, None, float("nan")],
        raw=[b"cat", b"\xff", None, b"dog"],
        person=[7, 7, 8, None],
    )
    assert labels(loaded(path, label="kind")) == ["cat", None, None, "dog"]
    assert labels(loaded(path, label="number")) == ["1", "2.5", None, None]
    assert labels(loaded(path, label="raw")) == ["cat", "�", None, "dog"]
    assert [item.group for item in loaded(path, group="person").items] == ["7", "7", "8", None]
    assert set(labels(loaded(path))) == {None}, "no column is called label, class or category"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"image": "img"}, "data.image must be a column of .*, but 'img' is none of image, pixels, label"),
        ({"label": "kind"}, "data.label must be a column of .*, but 'kind' is none of image"),
        ({"group": "kind"}, "data.group must be a column"),
        ({"label": 1}, "data.label must be a column for the source table, but got 1"),
        ({"image": "pixels"}, "data.image must be a column of bytes, of paths, .*, but pixels of .* is list<"),
        ({"image": "label"}, "data.image must be a column of bytes, of paths, .*, but label of .* is int64"),
    ],
)
def test_columns_that_are_not_what_they_must_be_are_refused(tmp_path: Path, settings: Any, rule: str) -> None:
    path = parquet(tmp_path / "a.parquet", image=IMAGES[:2], pixels=[[[1]], [[2]]], label=[0, 1])
    refused(rule, path, **settings)


def test_paths_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("image")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more PAR1")
    (tmp_path / "a.arrow").write_bytes(b"ARROW1")
    refused("must be or hold .parquet or .arrow files for the source table, but .* has none", tmp_path / "empty")
    refused("must be or hold .parquet or .arrow files for the source table, but .* has none", tmp_path / "a.csv")
    refused("for the source table, but .* does not exist", tmp_path / "nowhere.parquet")
    refused("a.parquet must be a whole .parquet file, but", tmp_path / "a.parquet")
    refused("a.arrow must be a whole .arrow file, but", tmp_path / "a.arrow")
    refused(
        "must hold at least 1 image, but holds none",
        parquet(tmp_path / "none.parquet", image=pa.array([], pa.binary())),
    )


def test_damage_costs_the_rows_that_it_is_in_and_no_row_gets_the_image_of_another(tmp_path: Path) -> None:
    images = [
        saved(np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8), "PNG") for number in range(400)
    ]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"image": images}),
        path,
        row_group_size=100,
        compression="gzip",
        use_dictionary=False,
        data_page_size=9999,
    )
    whole = path.read_bytes()
    assert contents(loaded(path)) == images
    middle = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset + 60_000
    path.write_bytes(whole[:middle] + b"\xff" * 3000 + whole[middle + 3000 :])
    cells._cells.cache_clear()
    read = contents(loaded(path))
    assert all(got == right for number, (got, right) in enumerate(zip(read, images, strict=True)) if number // 100 != 1)
    lost = [got for got in read if isinstance(got, str)]
    assert 0 < len(lost) <= 100
    assert all(got in (right, *lost) for got, right in zip(read, images, strict=True))


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    images = [IMAGES[number % 9] + bytes([number]) for number in range(200)]
    pq.write_table(pa.table({"image": images}), path, row_group_size=70)
    found = loaded(path)
    for row in np.random.default_rng(0).permutation(200).tolist():
        assert found.read(found.locators[row]) == images[row]
    assert contents(found.chosen([3, 150, 151])) == [images[3], images[150], images[151]]


@pytest.mark.parametrize("cell", ["x" * 5000, "a\0.png"])
def test_a_cell_that_no_file_can_be_called_is_unreadable(tmp_path: Path, cell: str) -> None:
    path = parquet(tmp_path / "a.parquet", image=[cell])
    assert sources.files(DataConfig(source="table", path=str(path))) == [path]
    found = loaded(path)
    with pytest.raises(UnreadableError, match="unreadable: "):
        found.read(found.locators[0])
