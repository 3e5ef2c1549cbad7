"""A server of files for a browser on this machine, which one client can neither stop nor make read anything else."""

import ipaddress
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

from latentmill.errors import InputError

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
CONNECTIONS = 64  # open at a time, each with a thread; one more closes the oldest, so that idle ones keep nobody out
PATIENCE = 30  # seconds for a request to come in, and for an answer to go out
BACKLOG = 128  # connections that wait to be accepted


class PageServer(ThreadingHTTPServer):
    """Serves the files that it knows by their addresses, and answers only where it is asked by one of its own names."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int], files: Mapping[str, Callable[[], bytes]]) -> None:
        self.files = files
        self.names = {"localhost", address[0].lower(), socket.gethostname().lower()}
        self._open: dict[Any, None] = {}  # sockets, the oldest first
        self._lock = Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make room for one more, and serve it in a thread."""
        with self._lock:
            if len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):  # it has gone already
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread finds the end, and closes it
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def is_own(self, host: str) -> bool:
        """Whether a Host header has a name of this server.

        A page of somebody else's can make a browser ask here under a name of its own, and would be let to read the
        answer (DNS rebinding); an address in numbers belongs to nobody else.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # a browser may hang up at any time
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not self.server.is_own(hosts[0]):
            rule = "the Host must be localhost, an address in numbers, or the --host that was given"
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, explain=rule)
            return
        try:
            address = unquote(urlsplit(self.path).path)
            address = "/index.html" if address == "/" else address
            content = self.server.files[address]()
        except ValueError as error:  # the address is none, or the file is another since the start
            broken = isinstance(error, InputError)
            self.send_error(HTTPStatus.CONFLICT if broken else HTTPStatus.BAD_REQUEST, explain=str(error))
        except (KeyError, OSError):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(PurePosixPath(address).suffix, content)

    def _send(self, suffix: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
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
