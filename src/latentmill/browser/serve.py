"""The page with an export, served from here or written to a folder that any web server can host.

A file is served only if it belongs to the page or the manifest names it: addresses are looked up in a table and never
become paths. Files of the export are checked against the manifest whenever they are read, also after the start. The
page checks them again.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from latentmill.browser.server import PageServer
from latentmill.errors import InputError
from latentmill.runtime.folder import MANIFEST, Folder
from latentmill.runtime.partial import partial_output

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "app.js", "elements.js", "explorer.js", "views.js", "model.js", "noise.js")
ORT = ("ort/ort.wasm.bundle.min.mjs", "ort/ort-wasm-simd-threaded.wasm")  # `make page` puts them here
LAST_PORT = 65535


def serve(model: Path, host: str, port: int, to: Path | None) -> None:
    """Serve the page until Ctrl-C, or write it to the folder `to`.

    Raises:
        InputError: the model is no export, files of the page are missing, or the address or folder cannot be used.
    """
    if to is not None:
        write_page(model, to)
        print(f"{to}: the page with {model}, for any web server")
        return
    with page_server(model, host, port) as server, suppress(KeyboardInterrupt):
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{server.server_port}/ shows {model} until Ctrl-C", flush=True)
        server.serve_forever()


def page_server(model: Path, host: str, port: int) -> PageServer:
    """A server that is bound, for port 0 to any free one, and not running yet.

    Raises:
        InputError: as `page_files`, or the address cannot be used.
    """
    if not host.strip():  # which would be every address of this machine
        raise InputError("host must be an address such as 127.0.0.1, but got none")
    if not 0 <= port <= LAST_PORT:
        raise InputError(f"port must be from 0 to {LAST_PORT}, but got {port}")
    files = page_files(model)
    try:
        host.encode("idna")  # or a UnicodeError, in whose place binding to it raises a TypeError
        return PageServer((host, port), files)
    except (OSError, UnicodeError) as error:
        raise InputError(f"an address must be free and this machine's, but {host}:{port}: {error}") from None


def write_page(model: Path, to: Path) -> None:
    """Write the page and the model's files into a new folder, which appears only when it is complete.

    Raises:
        InputError: as `page_files`, or the folder exists already or cannot be written.
    """
    files = page_files(model)
    if to.exists():
        raise InputError(f"an output folder must not be there yet, but {str(to)!r} is")
    try:
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        with partial_output(to.absolute(), folder=True) as page:
            for address, read in files.items():
                target = page / address.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read())
            page.replace(to)
    except OSError as error:
        raise InputError(f"an output folder must be one that can be written, but {str(to)!r}: {error}") from None


def page_files(model: Path) -> dict[str, Callable[[], bytes]]:
    """What reads each file that is served, by its address.

    Raises:
        InputError: `model` is no export, a file has another digest than in its manifest, or the page is incomplete.
    """
    for name in (*PAGE, *ORT):
        if not (HERE / name).is_file():
            advice = "run `make page`, with npm, in a clone; what is installed from it before lacks the file too"
            raise InputError(f"the page must have onnxruntime-web, but {name} is missing: {advice}")
    folder = Folder(model)
    for name in folder.names:
        folder.read(name)
    found: dict[str, Callable[[], bytes]] = {f"/{name}": (HERE / name).read_bytes for name in (*PAGE, *ORT)}
    found |= {f"/model/{name}": partial(folder.read, name) for name in folder.names}
    return found | {f"/model/{MANIFEST}": lambda: folder.manifest}  # as it was at the start
