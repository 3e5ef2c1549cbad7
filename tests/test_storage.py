"""A folder by URL: on this disk, and through fsspec, whose `local://` is a file system that every machine has."""

import os

import pytest

from latentmill.errors import InputError
from latentmill.storage import Storage


@pytest.fixture(params=["", "file://", "local://"], ids=["path", "file", "fsspec"])
def storage(request, tmp_path):
    return Storage(f"{request.param}{tmp_path}/store")


def test_what_was_written_is_read(storage):
    storage.write("a/b.bin", b"first")
    storage.write("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"second"
    assert storage.names() == ["a"]
    assert storage.names("a") == ["b.bin"]


def test_what_is_not_there(storage):
    with pytest.raises(FileNotFoundError):
        storage.read("a/b.bin")
    assert storage.names() == storage.names("a") == []
    storage.delete("a/b.bin")


def test_deleted_is_gone_and_hidden_files_are_not_listed(storage):
    for name in ("one", "two", ".hidden"):
        storage.write(name, b"x")
    storage.delete("one")
    assert storage.names() == ["two"]
    assert storage.read(".hidden") == b"x"


def test_a_path_is_made_absolute_so_that_workers_find_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage("store")
    monkeypatch.chdir("/")
    storage.write("x", b"1")
    assert (tmp_path / "store/x").read_bytes() == b"1"


def test_a_url_keeps_its_query_at_its_end():
    assert Storage("memory://x?a=b").below("y") == "memory://x/y?a=b"


def test_a_write_that_fails_leaves_the_old_content_and_no_leftover(tmp_path, monkeypatch):
    storage = Storage(tmp_path)
    storage.write("x", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write("x", b"new")
    assert storage.read("x") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "s4://bucket"])
def test_a_url_of_no_file_system_is_named(url):
    with pytest.raises(InputError, match=rf"must be a folder or a URL that .* opens, but '{url}' is neither: "):
        Storage(url)


def test_a_folder_has_a_size_and_can_be_deleted(storage):
    storage.write("a/one", b"123")
    storage.write("a/two", b"4567")
    storage.write("b/one", b"x")
    assert storage.size("a") == 7
    storage.delete("a")
    assert (storage.names(), storage.size("a")) == (["b"], 0)
    storage.delete("a")
