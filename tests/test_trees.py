"""Folders and archives: which files are images, where labels, groups and splits come from, what is refused."""

import io
import json
import os
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import picture, saved

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import Dropped, Files, UnreadableError
from latentmill.data.sources import archive, folder
from latentmill.errors import InputError

IMAGE = saved(picture(0), "PNG")


def loaded(path: Path, source: Any = "folder", **settings: Any) -> Files:
    found = sources.load(DataConfig(source=source, path=str(path), **settings))
    assert isinstance(found, Files)
    return found


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)
    return root


def labels(found: Files) -> dict[str, str | None]:
    return {item.name: item.label for item in found.items}


def groups(found: Files) -> dict[str, str | None]:
    return {item.name: item.group for item in found.items}


def dropped(found: Files) -> dict[str, str]:
    return {each.name: each.reason for each in found.dropped}


def refused(rule: str, path: Path, source: Any = "folder", **settings: Any) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        loaded(path, source, **settings)
    assert "\n" not in str(caught.value)


def tar(path: Path, *entries: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                file.addfile(entry)
                continue
            name, content = entry
            header = tarfile.TarInfo(name)
            header.size = len(content)
            file.addfile(header, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def contents(found: Files) -> dict[str, bytes]:
    return {item.name: found.read(locator) for item, locator in zip(found.items, found.locators, strict=True)}


# Labels, groups and splits


def test_classes_are_the_folders_that_images_lie_in_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["a class", "ünï—🦊", "-1", "x/deep"]
    found = loaded(tree(tmp_path, *(f"{name}/1.png" for name in names)))
    assert set(labels(found).values()) == {"a class", "ünï—🦊", "-1", "deep"}
    (tmp_path / "0.png").write_bytes(IMAGE)
    assert labels(loaded(tmp_path))["0.png"] is None, "an image that lies in no class"
    assert labels(loaded(tmp_path))["-1/1.png"] == "-1"
    for number in range(1, 4):
        (tmp_path / f"{number}.png").write_bytes(IMAGE)
    assert set(labels(loaded(tmp_path)).values()) == {None}, "most lie in classes, or these are none"
    assert set(labels(loaded(tmp_path, label=None)).values()) == {None}


def test_levels_of_folders_are_labels_and_groups(tmp_path: Path) -> None:
    tree(tmp_path, "cats/tom/1.png", "cats/tom/2.png", "dogs/rex/1.png")
    found = loaded(tmp_path, label=1, group=2)
    assert list(labels(found).values()) == ["cats", "cats", "dogs"]
    assert list(groups(found).values()) == ["tom", "tom", "rex"]
    refused(r"data.group: 3 needs images 3 folders deep .* but got cats/tom/1.png", tmp_path, group=3)


def test_split_folders_are_splits_only_where_that_is_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/b/1.png", "validation/a/1.png", "test/b/1.png", "extra/a/1.png", "0.png")
    found = loaded(tmp_path, splits="folders")
    assert {item.name: (item.split, item.label) for item in found.items} == {
        "train/a/1.png": ("train", "a"),
        "train/b/1.png": ("train", "b"),
        "validation/a/1.png": ("val", "a"),
        "test/b/1.png": ("test", "b"),
    }
    assert dropped(found) == dict.fromkeys(["0.png", "extra/a/1.png"], "outside of train/, val/ and test/")
    assert {item.split for item in loaded(tmp_path).items} == {None}


CSV = b"file_name,label,person\r\n1.png,cat,tom\r\nsub/../2.png,dog,rex\r\n3.png,,\r\n"
JSONL = (
    '{"file_name": "1.png", "label": "cat", "person": "tom"}\n'
    '{"file_name": "./2.png", "label": "dog", "person": "rex", "text": "a\u2028line"}\n\n'
    '{"file_name": "3.png", "label": null}\n'
)


@pytest.mark.parametrize("form", ["csv", "csv with a mark", "jsonl", "parquet"])
def test_metadata_names_labels_and_groups(tmp_path: Path, form: str) -> None:
    tree(tmp_path, "1.png", "2.png", "3.png")
    table = {"file_name": ["1.png", "2.png", "3.png"], "label": ["cat", "dog", None], "person": ["tom", "rex", None]}
    if form.startswith("csv"):
        (tmp_path / "metadata.csv").write_bytes(b"\xef\xbb\xbf" * ("mark" in form) + CSV)
    elif form == "jsonl":
        (tmp_path / "metadata.jsonl").write_text(JSONL, encoding="utf-8")
    else:
        pq.write_table(pa.table(table), tmp_path / "metadata.parquet")
    found = loaded(tmp_path, group="person")
    assert labels(found) == {"1.png": "cat", "2.png": "dog", "3.png": None}
    assert groups(found) == {"1.png": "tom", "2.png": "rex", "3.png": None}
    refused("data.label must be a column of the metadata of .* but got 'sort': label", tmp_path, label="sort")


def test_metadata_of_several_folders(tmp_path: Path) -> None:
    tree(tmp_path, "train/1.png", "train/unnamed.png", "test/1.png")
    (tmp_path / "train/metadata.csv").write_text("file_name,label\n1.png,1.0\nmissing.png,2\n")
    pq.write_table(pa.table({"file_name": ["1.png"], "label": [1.0]}), tmp_path / "test/metadata.parquet")
    found = loaded(tmp_path, splits="folders")
    assert labels(found) == {"train/1.png": "1.0", "test/1.png": "1"}
    assert dropped(found) == {
        "train/unnamed.png": "no row in train/metadata.csv",
        "train/missing.png": "named in the metadata, but missing",
    }


def test_metadata_never_leads_out_of_the_tree(tmp_path: Path) -> None:
    tree(tmp_path, "secret.png", "mine/1.png")
    rows = [{"file_name": name} for name in ("1.png", "../secret.png", str(tmp_path / "secret.png"))]
    (tmp_path / "mine/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = loaded(tmp_path / "mine")
    assert found.locators == [f"{tmp_path}/mine/1.png"]
    assert len(found.dropped) == 2


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("metadata.csv", b"name,label\n1.png,cat\n", "each row of metadata.csv must have a file_name"),
        ("metadata.csv", b"file_name,label\n1.png,cat,more\n", "no more cells than the header"),
        ("metadata.csv", b"file_name,label\n1.png,cat\n1.png,dog\n", "each image must have one row"),
        ("metadata.csv", "file_name,label\n1.png,cat\n".encode("utf-16"), "must be a readable csv file"),
        ("metadata.csv", b'file_name,label\n1.png,"' + b"x" * 200_000 + b'"\n', "must be a readable csv file"),
        ("metadata.jsonl", b"[1]\n", "each line must be an object"),
        ("metadata.jsonl", b'{"file_name": 1}\n', "must have a file_name"),
        ("metadata.jsonl", b"{", "must be a readable jsonl file"),
        ("metadata.jsonl", b"[" * 100_000, "must be a readable jsonl file"),
        ("metadata.parquet", b"PAR1", "must be a readable parquet file"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / name).write_bytes(content)
    refused(rule, tmp_path)


def test_a_huge_metadata_file_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    with (tmp_path / "metadata.csv").open("wb") as file:
        file.truncate(folder.LARGEST_FILE + 1)
    refused("metadata.csv must be readable, but is not: larger than 256 MiB", tmp_path)


# Folders


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "1.png")
    root = tree(tmp_path / "root", "a/1.png")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    assert set(labels(loaded(root)).values()) == {"a", "b"}
    many = tmp_path / "many"
    for number in range(12):
        tree(many, f"{number}/1.png")
    for number in range(12):
        for other in range(12):
            if other != number:
                (many / str(number) / f"to {other}").symlink_to(many / str(other))
    found = loaded(many)
    assert 12 <= len(found.items) <= 12 * folder.MOST_VISITS
    assert any("read from 8 places already" in reason for reason in dropped(found).values())


def test_folders_that_hold_no_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    refused("must hold at least 1 image, but holds none", tmp_path)
    (tmp_path / ".hidden.png").write_bytes(IMAGE)
    refused("of 1 file left out, the first is .hidden.png: a hidden file", tmp_path)
    refused("data.path must be a folder for the source folder, but .* is a file", tree(tmp_path, "1.png") / "1.png")
    refused("must be a folder for the source folder, but .* does not exist", tmp_path / "nowhere")
    refused(r"must end in .zip or .tar for the source archive, but got", tmp_path, "archive")


def test_files_that_vanish_or_turn_into_something_else_are_unreadable(tmp_path: Path) -> None:
    found = loaded(tree(tmp_path, "1.png", "2.png", "3.png"))
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").unlink()
    os.mkfifo(tmp_path / "2.png")
    for locator, reason in zip(found.locators, ["No such file or directory", "no regular file"], strict=False):
        with pytest.raises(UnreadableError, match=reason):
            found.read(locator)
    assert found.read(found.locators[2]) == IMAGE


# Archives


def test_names_in_archives_are_paths_within_them(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar", ("./a/1.png", IMAGE), ("/b/1.png", IMAGE), ("../c/1.png", IMAGE), ("b//2.png", IMAGE)
    )
    found = loaded(path, "archive")
    assert labels(found) == {"a/1.png": "a", "b/1.png": "b", "b/2.png": "b"}
    assert dropped(found) == {"../c/1.png": "its name leads out of the archive"}
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as file:
        for name in ("x\\1.png", "y\\1.png"):
            entry = zipfile.ZipInfo("placeholder")
            entry.filename = name
            file.writestr(entry, IMAGE)
    assert labels(loaded(tmp_path / "windows.zip", "archive")) == {"x/1.png": "x", "y/1.png": "y"}


def test_of_files_with_one_name_the_last_is_taken(tmp_path: Path) -> None:
    other = saved(picture(1), "PNG")
    assert contents(loaded(tar(tmp_path / "a.tar", ("1.png", IMAGE), ("1.png", other)), "archive")) == {"1.png": other}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("1.png", IMAGE)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("1.png", other)
    assert contents(loaded(tmp_path / "a.zip", "archive")) == {"1.png": other}


def test_links_and_devices_in_a_tar(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar",
        ("a/1.png", IMAGE),
        link("a/hard.png", "a/1.png", tarfile.LNKTYPE),
        link("b/soft.png", "../a/1.png", tarfile.SYMTYPE),
        link("b/out.png", "../../etc/passwd", tarfile.SYMTYPE),
        link("b/null.png", "", tarfile.CHRTYPE),
        link("b/pipe.png", "", tarfile.FIFOTYPE),
    )
    found = loaded(path, "archive")
    assert contents(found) == dict.fromkeys(["a/1.png", "a/hard.png", "b/soft.png"], IMAGE)
    assert dropped(found) == {
        "b/out.png": "a link to what does not stand before it in the archive",
        "b/null.png": "no regular file",
        "b/pipe.png": "no regular file",
    }


def test_members_of_a_zip_that_cannot_be_had(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("good.png", IMAGE)
        file.writestr("lzma.png", IMAGE, zipfile.ZIP_LZMA)
        file.writestr("secret.png", IMAGE)
        file.writestr("bomb.png", bytes(1 << 20), zipfile.ZIP_DEFLATED)
        file.writestr("flipped.png", IMAGE)
        for name in ("huge.png", "far.png"):
            file.writestr(name, IMAGE)
        file.getinfo("huge.png").compress_size = 1 << 62
        file.getinfo("far.png").header_offset = 1 << 63
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\1\2", 0, content.rindex(b"bomb.png"))
    content[directory + 24 : directory + 28] = (100).to_bytes(4, "little")  # it claims 100 bytes
    directory = content.rindex(b"PK\1\2", 0, content.rindex(b"secret.png"))
    content[directory + 8] |= 1  # encrypted
    content[content.index(b"flipped.png") + 60] ^= 255
    path.write_bytes(content)
    found = loaded(path, "archive")
    assert dropped(found) == {
        "lzma.png": "compressed by method 14, which is not read: pack it with deflate",
        "secret.png": "encrypted",
        "huge.png": "larger than 256 MiB",
    }
    read = dict(zip(labels(found), found.locators, strict=True))
    assert found.read(read["good.png"]) == IMAGE
    for name in ("bomb.png", "flipped.png"):
        with pytest.raises(UnreadableError, match="its size or checksum is another"):
            found.read(read[name])
    with pytest.raises(UnreadableError, match="unreadable in the archive: Python int too large"):
        found.read(read["far.png"])


def test_shards_are_named_by_a_range(tmp_path: Path) -> None:
    for number in range(3):
        tar(tmp_path / f"{number:03}.tar", ("a/1.png", IMAGE), ("b/1.png", IMAGE))
    found = loaded(tmp_path / "{000..002}.tar", "archive")
    assert list(labels(found).values()) == ["a", "b"] * 3
    assert list(labels(found))[:2] == ["000.tar/a/1.png", "000.tar/b/1.png"]
    refused("003.tar must exist, but there is no such file", tmp_path / "{000..003}.tar", "archive")


@pytest.mark.parametrize("pattern", ["{0..99999999}.tar", "{0..999}{0..999}.tar", "{9..1}.tar"])
def test_ranges_without_bound_are_refused(tmp_path: Path, pattern: str) -> None:
    refused("must stand for 1 to 100,000 archives, but got", tmp_path / pattern, "archive")


def test_webdataset_samples_have_their_class_beside_them(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar",
        ("000.jpg", IMAGE),
        ("000.cls", b"3\n"),
        ("000.json", b'{"person": "tom"}'),
        ("000.txt", b"a caption"),
        ("001.jpg", IMAGE),
        ("001.cls", b"5"),
        ("002.jpg", IMAGE),
    )
    found = loaded(path, "archive", group="person")
    assert labels(found) == {"000.jpg": "3", "001.jpg": "5", "002.jpg": None}
    assert groups(found) == {"000.jpg": "tom", "001.jpg": None, "002.jpg": None}


def test_a_damaged_file_beside_an_image_costs_that_image_alone(tmp_path: Path) -> None:
    samples = [
        (f"{number}.{kind}", content) for number in range(4) for kind, content in (("jpg", IMAGE), ("cls", b"5"))
    ]
    path = tar(tmp_path / "a.tar", *samples[:-1], ("3.json", b"{bad"), ("2.txt", b"\xff"))
    found = loaded(path, "archive")
    assert labels(found) == {"0.jpg": "5", "1.jpg": "5"}
    assert dropped(found)["3.jpg"].startswith("the file beside it is no JSON: 3.json: ")
    assert dropped(found)["2.jpg"].startswith("the file beside it is no UTF-8 text: 2.txt: ")
    assert all(each.counts for each in found.dropped)


def test_metadata_says_nothing_of_images_outside_of_its_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a/b/2.png", "a/b/3.png", "c/4.png")
    (tmp_path / "a/metadata.csv").write_text("file_name,label\n1.png,cat\nb/2.png,dog\n")
    found = loaded(tmp_path)
    assert labels(found) == {"a/1.png": "cat", "a/b/2.png": "dog", "c/4.png": None}
    assert dropped(found) == {"a/b/3.png": "no row in a/metadata.csv"}


def test_names_are_the_same_however_their_accents_are_spelled(tmp_path: Path) -> None:
    tree(tmp_path, *(normalize("NFD", f"é{number}.png") for number in range(2)))
    (tmp_path / "metadata.csv").write_text("file_name,label\né0.png,cat\né1.png,dog\n")
    found = loaded(tmp_path)
    assert (list(labels(found).values()), dropped(found)) == (["cat", "dog"], {})


def test_a_name_that_stands_twice_in_an_archive_is_told_but_does_not_count(tmp_path: Path) -> None:
    other = saved(picture(1), "PNG")
    archives = [tar(tmp_path / "a.tar", ("1.png", IMAGE), ("./1.png", other)), tmp_path / "a.zip"]
    with zipfile.ZipFile(archives[1], "w") as file, warnings.catch_warnings(action="ignore"):
        file.writestr("1.png", IMAGE)
        file.writestr("1.png", other)
    for path in archives:
        found = loaded(path, "archive")
        assert contents(found) == {"1.png": other}
        (replaced,) = found.dropped
        assert replaced == Dropped("1.png", "replaced by a later member of that name", counts=False)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", *((f"{number}.png", IMAGE) for number in range(3))).read_bytes()
    size = whole.index(b"1.png")
    damages = {
        "cut": whole[: size + 700],
        "header": whole[:size] + b"?" * 40 + whole[size + 40 :],
        "two": whole + whole,
        "empty": b"",
        "text": b"text" * 999,
    }
    for name, content in damages.items():
        (tmp_path / f"{name}.tar").write_bytes(content)
        refused(rf"{name}.tar must be a whole .tar file", tmp_path / f"{name}.tar", "archive")
        (tmp_path / f"{name}.zip").write_bytes(content)
        refused(rf"{name}.zip must be a whole .zip file", tmp_path / f"{name}.zip", "archive")
    refused(r"unpack it or pack it again", tmp_path / "a.tar.gz", "archive")


def test_thousands_of_shards_need_few_descriptors(tmp_path: Path) -> None:
    found = loaded(tar(tmp_path / "a.tar", ("1.png", IMAGE)), "archive")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        assert archive.read_member(found.locators[0]) == IMAGE
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_names_that_are_no_text_are_told_as_numbers(tmp_path: Path) -> None:
    found = loaded(tar(tmp_path / "a.tar", ("1.png", IMAGE), (os.fsdecode(b"\xff.png"), IMAGE)), "archive")
    assert dropped(found) == {"\\udcff.png": "its name is not UTF-8"}
    assert np.array([each.counts for each in found.dropped]).all()
