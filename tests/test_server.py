"""The server of `latentmill serve` against clients that are idle, malformed, or sent by another site."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import tiny

from latentmill.browser import serve, server
from latentmill.browser.server import CONNECTIONS, PageServer
from latentmill.errors import InputError

PATIENCE = 20  # seconds


@contextmanager
def running(made: PageServer) -> Iterator[PageServer]:
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.fixture
def served() -> Iterator[PageServer]:
    with running(PageServer(("127.0.0.1", 0), {"/index.html": lambda: b"the page", "/odd": lambda: b"x"})) as found:
        yield found


def connect(served: PageServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.server_port), timeout=PATIENCE)


def ask(served: PageServer, request: str) -> bytes:
    """All that is answered until the server closes."""
    with connect(served) as connection:
        connection.sendall(request.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def get(served: PageServer, path: str = "/", hosts: tuple[str, ...] = ("localhost",)) -> bytes:
    names = "".join(f"Host: {host}\r\n" for host in hosts)
    return ask(served, f"GET {path} HTTP/1.1\r\n{names}Connection: close\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        "GET http://[::1/ HTTP/1.1",
        "GET //[/ HTTP/1.1",
        "GET /%ff%00 HTTP/1.1",
        "GET / HTTP/9.9",
        "GET / HTTP/x",
        "GET /" + "x" * 70_000 + " HTTP/1.1",
        "GET",
        "\x00\xff\x16\x03",
        "DELETE / HTTP/1.1",
        "GET / HTTP/1.1\r\n" + "a: b\r\n" * 200,
        "GET / HTTP/1.1\r\nX: " + "y" * 70_000,
    ],
    ids=lambda line: line[:20],
)
def test_a_malformed_request_is_refused_and_costs_nobody_anything(served, capfd, line):
    answer = ask(served, f"{line}\r\nHost: localhost\r\n\r\n")
    assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
    assert get(served).endswith(b"the page")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8000", "192.0.2.7"])
def test_its_own_names_and_numbers_are_answered(served, host):
    assert get(served, hosts=(host,)).endswith(b"the page")


@pytest.mark.parametrize(
    "hosts", [("evil.example",), ("localhost.evil.example:8000",), ("[::1",), (), ("localhost",) * 2]
)
def test_another_name_is_not_answered_which_its_owner_may_have_led_here(served, hosts):
    answer = get(served, hosts=hosts)
    assert answer.startswith(b"HTTP/1.1 421")
    assert b"the page" not in answer


def test_the_name_that_it_was_given_is_its_own():
    with running(PageServer(("localhost", 0), {"/index.html": lambda: b"the page"})) as served:
        served.names.add("models.example")  # as --host models.example does, where that is this machine
        assert get(served, hosts=("models.example:8000",)).endswith(b"the page")


def test_a_file_of_no_known_kind_is_not_taken_for_a_page(served):
    assert b"Content-Type: application/octet-stream" in get(served, "/odd")


def test_idle_connections_hold_few_threads_and_keep_nobody_out(served):
    before, started = threading.active_count(), time.monotonic()
    with ExitStack() as opened:
        for _ in range(500):
            opened.enter_context(connect(served))
        assert get(served).endswith(b"the page")
        assert time.monotonic() - started < PATIENCE
        deadline = time.monotonic() + PATIENCE
        while threading.active_count() > before + CONNECTIONS + 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_request_that_does_not_come_in_is_given_up(served, monkeypatch, begun):
    monkeypatch.setattr(server._Handler, "timeout", 0.1)
    with connect(served) as connection:
        connection.sendall(begun)
        assert connection.recv(1000) == b""


def test_a_client_that_reads_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(server._Handler, "timeout", 0.2)
    large = bytes(64 << 20)
    with running(PageServer(("127.0.0.1", 0), {"/index.html": lambda: large})) as served, connect(served) as connection:
        before = threading.active_count()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + PATIENCE
        time.sleep(0.1)
        while threading.active_count() > before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(("host", "port"), [("é" * 100, 0), ("no.such.host.invalid", 0)])
def test_an_address_that_is_none_is_an_error(tmp_path, monkeypatch, host, port):
    monkeypatch.setattr(serve, "ORT", ())
    with pytest.raises(InputError, match="an address must be free and this machine's"):
        serve.page_server(tiny.write(tmp_path / "tiny"), host, port)


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("", 0, "host must be an address such as 127.0.0.1, but got none"),
        (" ", 0, "host must be an address such as 127.0.0.1, but got none"),
        ("127.0.0.1", 99999, "port must be from 0 to 65535, but got 99999"),
        ("127.0.0.1", -1, "port must be from 0 to 65535, but got -1"),
    ],
)
def test_no_host_and_no_such_port_are_refused(tmp_path, host, port, told):
    with pytest.raises(InputError, match=f"^{told}$"):
        serve.page_server(tmp_path, host, port)


@pytest.mark.parametrize("how", ["a link", "another content", "a pipe"])
def test_a_file_that_is_replaced_after_the_start_is_not_served(tmp_path, monkeypatch, how):
    monkeypatch.setattr(serve, "ORT", ())
    folder = tiny.write(tmp_path / "tiny")
    with running(serve.page_server(folder, "127.0.0.1", 0)) as served:
        assert get(served, "/model/card.md").endswith(b"# tiny\n")
        replace(folder / "card.md", how)
        (folder / "manifest.json").write_text("{}")
        answer = get(served, "/model/card.md")
        assert answer.startswith(b"HTTP/1.1 409")
        assert b"root:" not in answer
        assert b'"format": 2' in get(served, "/model/manifest.json")


def replace(path: Path, how: str) -> None:
    path.unlink()
    if how == "a link":
        path.symlink_to("/etc/passwd")
    elif how == "a pipe":
        os.mkfifo(path)
    else:
        path.write_text("root: another")
