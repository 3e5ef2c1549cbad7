"""The page with an export, served from here or written to a folder that any web server can host.

A file is served only if it belongs to the page or the manifest names it: addresses are looked up in a table and never
become paths. The page checks the files of the export against the manifest again.
"""

import shutil
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from latentmill.errors import InputError
from latentmill.runtime.folder import MANIFEST, Folder
from latentmill.runtime.partial import partial_output

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "app.js", "elements.js", "explorer.js", "views.js", "model.js", "noise.js")
ORT = ("ort/ort.wasm.bundle.min.mjs", "ort/ort-wasm-simd-threaded.wasm")  # `make page` puts them here
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
}
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next, pages may share memory among threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


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
        print(f"http://{host}:{server.server_port}/ shows {model} until Ctrl-C", flush=True)
        server.serve_forever()


def page_server(model: Path, host: str, port: int) -> "PageServer":
    """A server that is bound, for port 0 to any free one, and not running yet.

    Raises:
        InputError: as `page_files`, or the address cannot be used.
    """
    files = page_files(model)
    try:
        return PageServer((host, port), files)
    except (OSError, OverflowError) as error:
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
        with partial_output(to.absolute(), folder=True) as partial:
            for address, path in files.items():
                target = partial / address.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            partial.replace(to)
    except OSError as error:
        raise InputError(f"an output folder must be one that can be written, but {str(to)!r}: {error}") from None


def page_files(model: Path) -> dict[str, Path]:
    """Every file that is served, by its address.

    Raises:
        InputError: `model` is no export, a file has another digest than in its manifest, or the page is incomplete.
    """
    for name in (*PAGE, *ORT):
        if not (HERE / name).is_file():
            raise InputError(f"the page must have onnxruntime-web, but {name} is missing: run `make page`, with npm")
    folder = Folder(model)
    for name in folder.names:
        folder.read(name)
    ours = {f"/{name}": HERE / name for name in (*PAGE, *ORT)}
    return ours | {f"/model/{name}": folder.path / name for name in (MANIFEST, *folder.names)}


class PageServer(ThreadingHTTPServer):
    """Knows the files that may be requested."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], files: dict[str, Path]) -> None:
        self.files = files
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a browser may hang up at any time
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = unquote(urlsplit(self.path).path)
        try:
            path = self.server.files["/index.html" if address == "/" else address]
            content = path.read_bytes()
        except (KeyError, OSError):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def version_string(self) -> str:
        return "latentmill"

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing, because every page requests a dozen files."""
