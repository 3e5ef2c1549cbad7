"""The example service: what it answers, how it batches, and what it does when too much or nonsense is asked."""

import io
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pytest
import tiny
import uvicorn
from app import create
from exported import export, seal
from model import Model
from onnx import load_from_string
from PIL import Image
from settings import Settings

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime.format_1 import upgraded
from latentmill.runtime.images import grid

pytestmark = pytest.mark.slow

SHAPE, LATENT = (1, 8, 8), 5
TOLERANCE = 1e-5
LOAD = Path(__file__).parents[1] / "examples/service/load.py"
PATIENCE = 20  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A mixture, so that a column of the noise chooses."""
    folder = tmp_path_factory.mktemp("ppca")
    return export("ppca", {"latent": LATENT}, SHAPE, folder, "mixture", {"components": 3})


@pytest.fixture(scope="module")
def decoder(folder):
    return Decoder(folder)


class Service:
    """One that runs in a thread, and a client of it."""

    def __init__(self, settings):
        self.app = create(settings)
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="critical", ws="none", lifespan="on"))
        self.thread = Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started or not self.thread.is_alive())
        self.address = self.server.servers[0].sockets[0].getsockname()
        limits = httpx.Limits(max_connections=100)
        self.client = httpx.Client(base_url="http://{}:{}".format(*self.address), timeout=PATIENCE, limits=limits)
        self.threads = ThreadPoolExecutor(32)

    def ask(self, path, **asked):
        return self.client.post(path, json=asked, headers={"accept": "application/x-npy"})

    def later(self, path, **asked):
        return self.threads.submit(self.ask, path, **asked)

    def waiting(self, images):
        """Return when so many images wait."""
        until(lambda: self.health()["queued"] == images)

    def health(self):
        return self.client.get("/healthz").json()

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.threads.shutdown()
        self.client.close()


@contextmanager
def serving(folder, **settings):
    service = Service(Settings(str(folder), **settings))
    try:
        yield service
    finally:
        service.stop()


@contextmanager
def busy(service):
    """A service whose batches wait until the block ends, with one in the works."""
    model, gate, entered = service.app.state.model, Event(), Event()
    generate = model.generate

    def generate_late(*rows):
        entered.set()
        assert gate.wait(PATIENCE)
        return generate(*rows)

    model.generate = generate_late
    first = service.later("/sample", n=1)
    try:
        assert entered.wait(PATIENCE)
        yield
    finally:
        gate.set()
        model.generate = generate
    assert first.result().status_code == 200


@pytest.fixture(scope="module")
def running(folder):
    with serving(folder, max_images=16, max_body=4000) as service:
        yield service


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def images(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-npy"), answer.text
    return np.load(io.BytesIO(answer.content))


def test_images_are_those_of_the_decoder(running, decoder):
    expected = decoder.sample(5, seed=3, temperature=0.7)
    found = images(running.ask("/sample", n=5, seed=3, temperature=0.7))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    z = decoder.draw(4, seed=1)
    np.testing.assert_allclose(images(running.ask("/decode", z=z.tolist())), decoder.decode(z), atol=TOLERANCE, rtol=0)


def test_a_png_is_the_grid_of_the_images(running, decoder):
    answer = running.client.post("/sample", json={"n": 5, "seed": 3})
    assert answer.headers["content-type"] == "image/png"
    found = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    assert np.abs(found - grid(decoder.sample(5, seed=3))[..., 0]).max() <= 1


def test_the_card_is_the_models(running, folder):
    assert running.client.get("/card").json() == upgraded(json.loads((folder / "card.json").read_text()))


def test_requests_that_wait_are_computed_in_one_batch_and_each_gets_its_own(folder, decoder):
    with serving(folder, max_batch=8, delay_ms=1000 * PATIENCE) as service:  # so a batch goes out when it is full
        asked = [(n, seed) for seed, n in enumerate([1, 2, 3, 2])]
        answers = [service.later("/sample", n=n, seed=seed) for n, seed in asked]
        for (n, seed), answer in zip(asked, answers, strict=True):
            expected = decoder.sample(n, seed)
            np.testing.assert_allclose(images(answer.result()), expected, atol=TOLERANCE, rtol=0)
        assert service.health()["batches"] == {"8": 1}
        images(service.ask("/sample", n=9))  # more than a batch goes alone
        assert service.health()["batches"] == {"8": 1, "9": 1}


def test_a_request_alone_does_not_wait_for_others_for_long(running):
    start = time.monotonic()
    images(running.ask("/sample", n=1))
    assert time.monotonic() - start < 5  # on a busy machine


def test_codes_and_noise_are_not_mixed(folder, decoder):
    z = decoder.draw(2, seed=0)
    with serving(folder, delay_ms=0) as service:
        with busy(service):
            drawn = [service.later("/sample", n=1, seed=seed) for seed in range(3)]
            decoded = [service.later("/decode", z=z.tolist()) for _ in range(2)]
            service.waiting(7)
        for answer in decoded:
            np.testing.assert_allclose(images(answer.result()), decoder.decode(z), atol=TOLERANCE, rtol=0)
        for seed, answer in enumerate(drawn):
            np.testing.assert_allclose(images(answer.result()), decoder.sample(1, seed), atol=TOLERANCE, rtol=0)
        assert service.health()["batches"] == {"1": 1, "3": 1, "4": 1}


def test_what_finds_no_room_is_refused_and_the_rest_is_answered(folder):
    with serving(folder, max_images=4, max_queue=4) as service:
        with busy(service):
            waiting = [service.later("/sample", n=3), service.later("/sample", n=1)]
            service.waiting(4)
            refused = service.ask("/sample", n=1)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert "at most 4 images may wait" in refused.json()["detail"]
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert service.ask("/sample", n=4).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "rule"),
    [
        ("/sample", '{"n": 17}', "n must be from 1 to 16, but got 17"),
        ("/sample", '{"n": 0}', "n must be from 1 to 16, but got 0"),
        ("/sample", '{"n": "3"}', "n must be a valid integer, but got 3"),
        ("/sample", '{"seed": -1}', "seed must be greater than or equal to 0, but got -1"),
        ("/sample", '{"temperature": Infinity}', "temperature must be a finite number, but got inf"),
        ("/sample", '{"temperature": 1e300}', "temperature must be less than or equal to 1000, but got 1e+300"),
        ("/sample", '{"temperature": 1e39}', "temperature must be less than or equal to 1000, but got 1e+39"),
        ("/sample", '{"temperature": 1e999}', "temperature must be a finite number, but got inf"),
        ("/sample", '{"guidance": 1e39}', "guidance must be less than or equal to 1000, but got 1e+39"),
        (
            "/sample",
            f'{{"seed": {2**64}}}',
            "seed must be less than 18446744073709551616, but got 18446744073709551616",
        ),
        ("/sample", '{"n": 1000000000000000000000000000000}', "n must be from 1 to 16, but got 1000000000000000000"),
        ("/sample", '{"steps": 3}', "steps must be left out, but got 3"),
        ("/sample", r'{"\ud800\n": 3}', "a body must be a valid string"),
        ("/sample", '{"n": ', "a body must be JSON, but: Expecting value"),
        ("/sample", "", "a body must be given"),
        ("/decode", "{}", "z must be given"),
        ("/decode", '{"z": []}', "the rows of z must be from 1 to 16, but got 0"),
        ("/decode", f'{{"z": {[[0] * LATENT] * 17}}}', "the rows of z must be from 1 to 16, but got 17"),
        ("/decode", '{"z": [[0, 0, 0, 0, 0], [1, 2]]}', "z must have rows of 5 numbers, but row 1 has 2"),
        ("/decode", '{"z": [[0, 0, 0, 0, NaN]]}', "z.0.4 must be a finite number, but got nan"),
        ("/decode", '{"z": [[0, 0, 0, 0, -Infinity]]}', "z.0.4 must be a finite number, but got -inf"),
        ("/decode", '{"z": [[0, 0, 0, 0, 1e39]]}', "z must be finite as float32, but got 1e+39"),
        ("/decode", '{"z": [[0, 0, 0, 0, "1"]]}', "z.0.4 must be a valid number, but got 1"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(running, path, body, rule):
    answer = running.client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert rule in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_refused(running, chunked):
    part = b" " * 1000
    answer = running.client.post("/decode", content=iter([part] * 50) if chunked else part * 50)
    assert answer.status_code == 413
    assert answer.json()["detail"] == "a body must be at most 4000 bytes, but is longer"
    assert running.ask("/sample", n=1).status_code == 200


def test_a_body_without_end_is_refused_while_it_comes_in(running):
    head = b"POST /decode HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(running.address, timeout=PATIENCE) as connection:
        connection.sendall(head + b"1000\r\n" + b" " * 0x1000 + b"\r\n")  # and no last chunk
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_an_error_reaches_all_of_its_batch_and_no_one_else(folder):
    def fail(noise):
        raise RuntimeError("a fault of the program")

    with serving(folder, max_batch=2, delay_ms=1000 * PATIENCE) as service:
        model = service.app.state.model
        generate, model.generate = model.generate, fail
        answers = [service.later("/sample", n=1) for _ in range(2)]
        assert [answer.result().status_code for answer in answers] == [500, 500]
        model.generate = generate
        # On a new connection, because uvicorn closes those of the requests that failed.
        assert httpx.post(service.client.base_url.join("/sample"), json={"n": 2}).status_code == 200


def test_one_request_that_fails_costs_no_other_in_its_batch_anything(tmp_path):
    proto = load_from_string(tiny.decoder())
    for node in proto.graph.node:
        node.op_type = node.op_type.replace("Sigmoid", "Exp")  # of numbers above 88, infinite
    folder = tiny.write(tmp_path / "a", decoder=proto.SerializeToString())
    with serving(folder, max_batch=6, delay_ms=1000 * PATIENCE) as service:
        codes = [[0.0] * tiny.LATENT, [1e30] * tiny.LATENT, [0.1] * tiny.LATENT, [-1e30] * tiny.LATENT]
        answers = [service.later("/decode", z=[z]) for z in codes]
        answers += [service.later("/decode", z=[codes[0]] * 2)]
        found = [answer.result() for answer in answers]
        assert [answer.status_code for answer in found] == [200, 422, 200, 422, 200]
        assert "decoder.onnx must give finite numbers, but gives" in found[1].json()["detail"]
        np.testing.assert_array_equal(images(found[4]), np.ones((2, *tiny.SHAPE)))


def test_a_client_that_goes_leaves_the_queue(folder, decoder):
    with serving(folder, delay_ms=0) as service:
        with busy(service):
            going = asking(service, n=2)
            service.waiting(2)
            staying = service.later("/sample", n=3, seed=8)
            service.waiting(5)
            going.close()
            service.waiting(3)
        np.testing.assert_allclose(images(staying.result()), decoder.sample(3, 8), atol=TOLERANCE, rtol=0)
        assert service.health()["batches"] == {"1": 1, "3": 1}


def test_a_client_that_goes_while_it_is_computed_leaves_the_others_their_images(folder, decoder):
    with serving(folder, max_batch=3, delay_ms=1000 * PATIENCE) as service:
        model, gate, entered = service.app.state.model, Event(), Event()
        generate = model.generate
        model.generate = lambda noise: (entered.set(), gate.wait(PATIENCE), generate(noise))[2]
        going = asking(service, n=1)
        service.waiting(1)
        staying = service.later("/sample", n=2, seed=8)
        assert entered.wait(PATIENCE)
        going.close()
        service.health()
        gate.set()
        np.testing.assert_allclose(images(staying.result()), decoder.sample(2, 8), atol=TOLERANCE, rtol=0)


def asking(service, **asked):
    """The connection of a client that has asked for samples."""
    body = json.dumps(asked).encode()
    head = (
        f"POST /sample HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(service.address)
    connection.sendall(head.encode() + body)
    return connection


def test_who_waits_when_the_server_stops_is_answered(folder):
    with serving(folder, delay_ms=0) as service:
        with busy(service):
            waiting = [service.later("/sample", n=2) for _ in range(3)]
            service.waiting(6)
            service.server.should_exit = True
            time.sleep(0.3)  # the server looks every tenth of a second
            assert service.thread.is_alive()
        assert [len(images(answer.result())) for answer in waiting] == [2, 2, 2]
        service.thread.join(PATIENCE)
        assert not service.thread.is_alive()
        with pytest.raises(httpx.ConnectError):
            service.client.get("/healthz")


def test_a_model_without_codes_samples_but_does_not_decode(tmp_path):
    with serving(export("naive_bayes", {}, SHAPE, tmp_path)) as service:
        assert images(service.ask("/sample", n=3)).shape == (3, *SHAPE)
        answer = service.ask("/decode", z=[[1.0]])
        assert (answer.status_code, "must have codes" in answer.json()["detail"]) == (422, True)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return tiny.write_conditional(tmp_path_factory.mktemp("conditional") / "tiny")


EACH = ["cat", "dog, wet", "rare"]


@pytest.mark.parametrize("label", ["dog, wet", EACH, None], ids=["one", "each", "drawn"])
def test_a_conditional_model_takes_a_label(conditional, label):
    decoder = Decoder(conditional)
    with serving(conditional) as service:
        drawn = images(service.ask("/sample", n=3, seed=2, label=label))
        np.testing.assert_allclose(drawn, decoder.sample(3, seed=2, label=label), atol=TOLERANCE)
        z, named = decoder.draw(3, seed=2), label or decoder.labels(3, seed=2)
        found = images(service.ask("/decode", z=z.tolist(), label=named))
        np.testing.assert_allclose(found, decoder.decode(z, named), atol=TOLERANCE)


def test_requests_with_labels_are_computed_in_one_batch(conditional):
    decoder = Decoder(conditional)
    with serving(conditional, max_batch=6, delay_ms=1000 * PATIENCE) as service:
        answers = [service.later("/sample", n=2, seed=seed, label=label) for seed, label in enumerate(EACH)]
        for (seed, label), answer in zip(enumerate(EACH), answers, strict=True):
            expected = decoder.sample(2, seed, label=label)
            np.testing.assert_allclose(images(answer.result()), expected, atol=TOLERANCE)
        assert service.health()["batches"] == {"6": 1}


@pytest.mark.parametrize(
    ("path", "asked", "rule"),
    [
        ("/sample", {"label": "bird"}, "a label must be one of cat, 'dog, wet', \N{SNOWMAN}, rare, but got 'bird'"),
        ("/sample", {"n": 3, "label": ["cat"]}, "or a list with one for each of 3 rows, but got 1"),
        ("/sample", {"label": 3}, "label.str must be a valid string, but got 3"),
        ("/decode", {"z": [[0, 0, 0]]}, "a label must be one of cat, 'dog, wet', \N{SNOWMAN}, rare, but none is given"),
        ("/decode", {"z": [[0, 0, 0]], "label": ""}, "but got ''"),
    ],
)
def test_a_wrong_label_is_said_in_a_line(conditional, path, asked, rule):
    with serving(conditional) as service:
        answer = service.ask(path, **asked)
        assert (answer.status_code, rule in answer.json()["detail"]) == (422, True)
        assert images(service.ask("/sample", n=1)).shape == (1, *tiny.SHAPE)


def test_a_label_is_refused_by_a_model_without_classes(running):
    answer = running.ask("/sample", n=1, label="cat")
    assert (answer.status_code, "the model has no classes" in answer.json()["detail"]) == (422, True)


def test_a_guided_model_takes_guidance_and_decodes_without_labels(tmp_path, conditional):
    folder = tiny.write_guided(tmp_path / "guided")
    decoder = Decoder(folder)
    with serving(folder, max_batch=4, delay_ms=1000 * PATIENCE) as service:
        asked = [(1, "cat", 2.5), (3, "rare", 1.0)]
        answers = [service.later("/sample", n=n, seed=n, label=label, guidance=by) for n, label, by in asked]
        for (n, label, by), answer in zip(asked, answers, strict=True):
            expected = decoder.sample(n, seed=n, label=label, guidance=by)
            np.testing.assert_allclose(images(answer.result()), expected, atol=TOLERANCE)
        z = decoder.draw(4, seed=0)
        for label in (None, "cat"):
            found = images(service.ask("/decode", z=z.tolist(), label=label))
            np.testing.assert_allclose(found, decoder.decode(z), atol=TOLERANCE)
        assert service.ask("/decode", z=z.tolist(), label="bird").status_code == 422
    with serving(conditional) as service:
        answer = service.ask("/sample", n=1, guidance=2.0)
        assert (answer.status_code, "the model is not guided" in answer.json()["detail"]) == (422, True)


def test_codes_of_any_shape_are_flat_rows(tmp_path):
    folder = tiny.write_shaped(tmp_path / "shaped")
    z = Decoder(folder).draw(3, seed=0)
    with serving(folder) as service:
        found = images(service.ask("/decode", z=z.reshape(3, -1).tolist()))
        np.testing.assert_allclose(found, Decoder(folder).decode(z), atol=TOLERANCE)


def test_a_damaged_export_is_not_served(folder, tmp_path):
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "decoder.onnx").write_bytes(b"")
    seal(damaged)
    with pytest.raises(InputError, match=re.escape("decoder.onnx")):
        Model(str(damaged), threads=1)


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LATENTMILL_MAX_BATCH", "5")
    monkeypatch.setenv("LATENTMILL_DELAY_MS", "0.5")
    assert Settings.from_environment() == Settings(max_batch=5, delay_ms=0.5)
    with pytest.raises(InputError, match="max_images must be from 1 to max_queue=9, but got 10"):
        Settings(max_images=10, max_queue=9)


def test_the_load_test_reports_both_ways(folder):
    options = [folder, "--concurrency", "4", "--seconds", "0.5"]
    done = subprocess.run([sys.executable, LOAD, *options], text=True, capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert re.match(r"max_batch=1: \d+ requests/s, p50 [\d.]+ ms, p99 [\d.]+ ms, 0.0% refused with 429", lines[0])
    assert re.fullmatch(r"  images in a batch: \d+ of 1 to 1", lines[1])
    assert re.fullmatch(r"batching answers [\d.]+ times as many requests", lines[-1])
    assert not done.stderr
