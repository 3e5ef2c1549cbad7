"""A folder by path or URL, with atomic writes where possible; any file system of pyarrow or fsspec."""

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from latentmill.errors import InputError
from latentmill.files import PIECE, write_stream
from latentmill.runtime.regular_file import open_regular, read_regular


class Storage:
    """Files below one folder, named by paths such as `3f2a/trial.json`; safe to send to other processes.

    On a local disk a file is flushed and renamed into place. An object store shows it once its upload is complete;
    other file systems may show a part of it, so readers must check digests.
    """

    def __init__(self, url: str | Path) -> None:
        """`url` is a path, or a `scheme://…` that `pyarrow.fs` or else `fsspec` supports, such as `s3://bucket/trials`.

        Raises:
            InputError: neither supports the URL.
        """
        text = str(url).removeprefix("file://")
        self.is_local = "://" not in text
        self.url = str(Path(text).absolute()) if self.is_local else text.rstrip("/")
        if not self.is_local:
            _file_system(self.url)

    def __str__(self) -> str:
        return self.url

    def below(self, name: str) -> str:
        """The URL of a file or folder in this one."""
        path, mark, query = self.url.partition("?")
        return f"{path}/{name}{mark}{query}"

    def read(self, name: str, most: int | None = None) -> bytes:
        """The content of a file of at most so many bytes.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it can't be read, has more bytes, or is no file.
        """
        if self.is_local:
            return _read_file(Path(self.url, name), most)
        with self.reading(name) as stream:
            return _limited(stream, most)

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Within the block, a stream of the content of a file, which may be larger than memory.

        Raises as `read`.
        """
        if self.is_local:
            with _opened(Path(self.url, name)) as file:
                yield file
            return
        system, root = _file_system(self.url)
        with system.open_input_stream(f"{root}/{name}") as stream:
            yield stream

    def write(self, name: str, content: bytes) -> None:
        """What lies in the way, such as a folder of that name, is removed.

        Raises OSError where it can't be written; the previous content is then kept.
        """
        self.write_stream(name, io.BytesIO(content))

    def write_stream(self, name: str, source: Any) -> None:
        """The same with what can be read from a binary stream, which may be larger than memory."""
        if self.is_local:
            path = Path(self.url, name)
            self.clear(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_stream(path, source)
            return
        system, root = _file_system(self.url)
        target = f"{root}/{name}"
        system.create_dir(target.rpartition("/")[0], recursive=True)
        with system.open_output_stream(target) as stream:
            shutil.copyfileobj(source, stream, PIECE)

    def names(self, folder: str = "", prefix: str = "") -> list[str]:
        """The files and folders directly below `folder`, sorted; hidden ones, such as leftovers, only by a `prefix`."""
        if self.is_local:
            path = Path(self.url, folder)
            found = [entry.name for entry in path.iterdir()] if path.is_dir() else []
        else:
            from pyarrow.fs import FileSelector

            system, root = _file_system(self.url)
            selector = FileSelector(f"{root}/{folder}".rstrip("/"), allow_not_found=True)
            found = [info.base_name for info in system.get_file_info(selector)]
        return sorted(name for name in found if name.startswith(prefix) and (prefix or not name.startswith(".")))

    def delete(self, name: str) -> None:
        """Remove a file, or a folder and all below it, if it exists."""
        if self.is_local:
            _remove(Path(self.url, name))
            return
        from pyarrow.fs import FileType

        system, root = _file_system(self.url)
        found = system.get_file_info(f"{root}/{name}")
        if found.type == FileType.Directory:
            system.delete_dir(found.path)
        elif found.type != FileType.NotFound:
            system.delete_file(found.path)

    def size(self, folder: str) -> int:
        """Of all files below a folder, in bytes."""
        if self.is_local:
            return sum(path.lstat().st_size for path in Path(self.url, folder).rglob("*") if not path.is_dir())
        from pyarrow.fs import FileSelector

        system, root = _file_system(self.url)
        found = system.get_file_info(FileSelector(f"{root}/{folder}", allow_not_found=True, recursive=True))
        return sum(info.size or 0 for info in found)

    def clear(self, name: str) -> None:
        """Remove from a local disk what prevents writing a file: a folder in its place, or no folder where one must be.

        Folders above it may be links.
        """
        path, root = Path(self.url, name), Path(self.url)
        for parent in path.relative_to(root).parents[-2::-1]:  # from the outermost
            if not (root / parent).is_dir():
                _remove(root / parent)
        if path.is_symlink() or not path.is_file():
            _remove(path)

    def delete_leftovers(self, folder: str) -> None:
        """Remove the leftovers of killed processes; no process may be writing there."""
        if self.is_local:
            for path in Path(self.url, folder).glob(".*.partial"):
                _remove(path)


def _read_file(path: Path, most: int | None) -> bytes:
    if most is None:
        with _opened(path) as file:
            return file.read()
    try:
        return read_regular(path, most)
    except InputError as error:
        raise OSError(errno.EINVAL, str(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path))
        except InputError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        yield file


def _limited(stream: Any, most: int | None) -> bytes:
    if most is None:
        return bytes(stream.read())
    content = bytes(stream.read(most + 1))
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return content


def _remove(path: Path) -> None:
    """A file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of `url` and the path in it; made at each use, because it can't be pickled."""
    import pyarrow
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        system, root = FileSystem.from_uri(url)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        import fsspec

        try:
            made, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            rule = "train.storage and train.warm_start must be a folder or a URL that pyarrow or fsspec opens"
            raise InputError(f"{rule}, but {url!r} is neither: {error}") from None
        system = PyFileSystem(FSSpecHandler(made))
    return system, root.rstrip("/")
