"""`latentmill serve` in a browser, as one uses it: its pixels are Python's, and nothing comes from elsewhere."""

import http.client
import http.server
import io
import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from test_page import CHROMIUM, DESK, FLAGS, PHONE, luminance
from test_pipeline import heed_interrupts

from latentmill import Decoder, registry
from latentmill.browser import serve as serving
from latentmill.browser.serve import ORT, page_server, write_page
from latentmill.codes import Generator
from latentmill.errors import InputError
from latentmill.export.graphs import export, graphs
from latentmill.runtime.images import as_bytes, png

PROGRAM = Path(sys.executable).with_name("latentmill")
STEP = 1 / 255
TOWARD_7 = tiny.SHAPED["directions"][0]["vector"]
AXES = ("horizontal axis", "vertical axis")
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
AFRESH = """() => {
    for (const [id, value] of Object.entries({ seed: 0, temperature: 1, across: 0, up: 1 }))
        document.getElementById(id).value = value;
    for (const [id, event] of Object.entries({ across: "change", up: "change", seed: "input" }))
        document.getElementById(id).dispatchEvent(new Event(event));
    document.getElementById("invert").checked = false; }"""
PIXELS = """() => { const canvas = document.querySelector("#image");
    return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]; }"""

missing = [name for name in ORT if not (serving.HERE / name).is_file()]
if missing:
    pytest.skip(f"{missing[0]} isn't there (`make page`, with npm)", allow_module_level=True)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """An export of colour images that are wider than high, made by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", (3, 5, 6))
        patch.setattr(tiny, "IMAGE", ("image", tiny.SHAPE))
        return tiny.write(tmp_path_factory.mktemp("colour") / "tiny", {"image_shape": list(tiny.SHAPE)})


@pytest.fixture(scope="module")
def default_vae(tmp_path_factory):
    """The default VAE's decoder, untrained, as it is exported; without an encoder."""
    folder = tmp_path_factory.mktemp("default_vae")
    shape, latent = (1, 28, 28), 20
    torch.manual_seed(0)
    model = registry.build("models", "vae", {"latent": latent, "network": "conv"}, shape).eval()
    prior = registry.build("priors", "normal", {}, model.code_shape)
    for graph in graphs(Generator(model, prior)):
        if graph.name != "encoder":
            export(graph, folder / f"{graph.name}.onnx", {})
    spread = {"mean": [0.0] * latent, "deviation": [1 + 0.1 * (index % 7) for index in range(latent)]}
    noise = {"width": latent, "categorical": 0}
    shaped = {"image_shape": list(shape), "latent": latent, "code_shape": [latent]}
    shaped |= {"noise": noise, "codes": spread, "directions": []}
    (folder / "card.json").write_text(json.dumps(tiny.CARD | shaped))
    return tiny.seal(folder)


@pytest.fixture(scope="module")
def no_codes(tmp_path_factory):
    card = {"latent": None, "codes": None, "directions": [], "files": {"generator.onnx": {"outputs": ["image"]}}}
    generator = tiny.model(tiny._decoding("noise"), tiny.NOISE, (tiny.IMAGE,))
    folder = tiny.write(tmp_path_factory.mktemp("no_codes") / "tiny", card, generator=generator)
    for name in ("decoder.onnx", "encoder.onnx"):
        (folder / name).unlink()
    return tiny.seal(folder)


@contextmanager
def running(server):
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served(folder):
    with running(page_server(folder, "127.0.0.1", 0)) as address:
        yield address


@contextmanager
def plainly_served(folder):
    """By a web server that knows nothing of exports."""
    plain = type("Plain", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(plain, directory=folder))) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium isn't installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opening(browser):
    """A function that opens an address; in the end nothing may have come from elsewhere, or been said."""
    contexts, asked, said = [], [], []

    def opened(address, state="ready", block=None, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        if block:
            context.route(block, lambda route: route.abort())
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: asked.append((address, request.url)))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if state == "ready" else None)
        page.goto(address)
        page.locator(f"body[data-state={state}]").wait_for()
        if state == "ready":  # the first image is shown in the next frame, and a hidden page has none
            page.locator("#image:not([data-frame='0'])").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    origins = {address.split("?")[0] for address, _ in asked}
    assert [url for _, url in asked if not url.startswith((*origins, "data:", "blob:http://127.0.0.1"))] == []
    assert said == []


@pytest.fixture
def opened(browser):
    with opening(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def colour_address(colour):
    with served(colour) as address:
        yield address


@pytest.fixture(scope="module")
def colour_page(browser, colour_address):
    with opening(browser) as opened:
        yield opened(colour_address)


@pytest.fixture
def page(colour_page):
    """The page of the colour images, showing what seed 0 draws: one for all tests, as it loads for a second."""
    settled(colour_page, lambda: colour_page.evaluate(AFRESH))
    return colour_page


@pytest.fixture(scope="module")
def decoder(colour):
    return Decoder(colour)


def settled(page, act):
    """What `act` did to the canvas, once it is drawn."""
    before = page.locator("#image").get_attribute("data-frame")
    act()
    page.wait_for_function("before => document.querySelector('#image').dataset.frame !== before", arg=before)
    page.evaluate("new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve, 20)))")
    return canvas(page)


def canvas(page):
    """uint8 (H, W, 4)"""
    height, width = (page.locator("#image").evaluate(f"canvas => canvas.{side}") for side in ("height", "width"))
    return np.array(page.evaluate(PIXELS), np.uint8).reshape(height, width, 4)


def code(page):
    return np.array(page.evaluate("latentmill.code().then(z => [...z])"), np.float32)


def axis(page, name):
    return page.locator(f"[data-axis='{name}'] input")


def assert_shown(pixels, image):
    """The canvas shows the image (C, H, W), to one level."""
    expected = as_bytes(image[None])[0].astype(int)
    np.testing.assert_allclose(pixels[..., :3], np.broadcast_to(expected, (*expected.shape[:2], 3)), atol=1)
    assert (pixels[..., 3] == 255).all()


def assert_shown_with_alpha(pixels, image):
    """The canvas shows the image (C, H, W), to one level; a browser keeps colours as they shine through."""
    expected = as_bytes(image[None])[0].astype(int)
    alpha = expected[..., -1:] if len(image) in (2, 4) else np.full((*expected.shape[:2], 1), 255)
    colours = expected[..., :3] if len(image) > 2 else expected[..., :1]
    np.testing.assert_allclose(pixels[..., 3:], alpha, atol=1)
    np.testing.assert_allclose(
        pixels[..., :3] * (alpha / 255), np.repeat(colours, 3 // colours.shape[-1], -1) * (alpha / 255), atol=1.5
    )


# Pixels


@pytest.fixture(scope="module")
def default_page(browser, default_vae):
    with served(default_vae) as address, opening(browser) as opened:
        yield opened(address)


def test_a_slider_changes_the_canvas_to_what_python_decodes(default_page, default_vae):
    decoder, first = Decoder(default_vae), canvas(default_page)
    assert_shown(first, decoder.sample(1, seed=0)[0])
    slider = default_page.locator("#dimensions .slider").first
    assert slider.get_attribute("data-axis") == "z[6]", "it deviates most"
    moved = settled(default_page, lambda: slider.locator("input").fill("2.5"))
    assert (moved != first).any()
    expected = decoder.draw(1, seed=0)
    expected[0, 6] = 2.5
    np.testing.assert_allclose(code(default_page), expected[0], atol=1e-6)
    assert_shown(moved, decoder.decode(expected)[0])


def test_decode_gives_what_python_decodes(default_page, default_vae):
    z = np.random.default_rng(0).standard_normal((3, 20), dtype=np.float32)
    found = default_page.evaluate("z => latentmill.decode(z).then(images => [...images])", z.ravel().tolist())
    np.testing.assert_allclose(found, Decoder(default_vae).decode(z).ravel(), atol=STEP / 10)


def test_a_seed_draws_the_image_that_it_draws_in_python(page, decoder):
    assert_shown(canvas(page), decoder.sample(1, seed=0)[0])
    page.get_by_label("seed").fill("41")
    drawn = settled(page, page.get_by_role("button", name="Draw another").click)
    assert page.get_by_label("seed").input_value() == "42"
    assert_shown(drawn, decoder.sample(1, seed=42)[0])
    cool = settled(page, lambda: page.get_by_label("temperature").fill("0.5"))
    assert_shown(cool, decoder.sample(1, seed=42, temperature=0.5)[0])
    large = 2**53 - 1
    assert_shown(
        settled(page, lambda: page.get_by_label("seed").fill(str(large))), decoder.sample(1, large, temperature=0.5)[0]
    )


def test_a_seed_that_is_none_is_an_error_until_it_is_one(page):
    page.get_by_label("seed").fill("-1")
    fault = page.get_by_role("alert")
    assert fault.inner_text() == "a seed must be a whole number of at least 0, but is -1"
    settled(page, lambda: page.get_by_label("seed").fill("1"))
    assert not fault.is_visible()


def test_directions_add_to_the_code(page, decoder):
    z = decoder.draw(1, seed=0)[0]
    settled(page, lambda: axis(page, "toward 7").fill("1.5"))
    shown = settled(page, lambda: axis(page, "component 1").fill("-1"))
    expected = z + 1.5 * np.array([1, 0, -1]) - np.array([0, 2, 0])
    np.testing.assert_allclose(code(page), expected, atol=1e-6)
    assert_shown(shown, decoder.decode(expected[None].astype(np.float32))[0])
    assert float(page.locator("[data-axis='z[1]'] output").inner_text()) == pytest.approx(expected[1], abs=0.01)
    settled(page, page.get_by_role("button", name="Back to 0").click)
    np.testing.assert_allclose(code(page), z, atol=1e-6)


@pytest.mark.parametrize(("path", "label"), [("linear", "straight"), ("slerp", "on the sphere")])
def test_the_handle_moves_between_two_images(page, decoder, path, label):
    for name, seed in (("Set A", 5), ("Set B", 6)):
        settled(page, lambda seed=seed: page.get_by_label("seed").fill(str(seed)))
        page.get_by_role("button", name=name).click()
    page.get_by_label(label).click()
    a, b = (decoder.draw(1, seed)[0] for seed in (5, 6))
    expected = decoder.interpolate(a, b, steps=5, path=path)
    share = page.get_by_label("How far from A to B")
    for step, image in enumerate(expected):
        page.evaluate("() => { document.querySelector('#share').value = 0.9; }")  # so that each is a change
        assert_shown(settled(page, lambda step=step: share.fill(str(step / 4))), image)
    strip = page.locator("#strip").evaluate("each => [each.width, each.height]")
    assert strip == [9 * 6, 5]


def test_the_handle_is_dragged(page, decoder):
    settled(page, lambda: page.get_by_label("seed").fill("2"))
    page.get_by_role("button", name="Set B").click()
    box = page.locator("#share").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 5, middle)
    page.mouse.down()
    shown = settled(page, lambda: page.mouse.move(box["x"] + box["width"], middle, steps=4))
    page.mouse.up()
    assert_shown(shown, decoder.sample(1, seed=2)[0])


def test_a_pad_moves_two_axes_at_once(page, decoder):
    page.get_by_label("horizontal axis").select_option("toward 7")
    page.get_by_label("vertical axis").select_option("z[1]")
    pad = page.get_by_role("slider", name="Two at a time")
    box = pad.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    shown = settled(page, lambda: page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] - 30, steps=3))
    page.mouse.up()
    expected = decoder.draw(1, seed=0) + 0.75 * np.float32([1, 0, -1])
    expected[0, 1] = 3  # beyond the edge is the edge
    np.testing.assert_allclose(code(page), expected[0], atol=0.03)
    assert_shown(shown, decoder.decode(code(page)[None])[0])
    page.locator("#pad[data-map]").wait_for()
    assert page.locator("#map").evaluate("map => [map.width, map.height]") == [9 * 6, 9 * 5]
    pad.focus()
    settled(page, lambda: page.keyboard.press("Home"))
    assert code(page)[1] == pytest.approx(0, abs=1e-6)
    settled(page, lambda: page.keyboard.press("Shift+ArrowLeft"))
    assert pad.get_attribute("aria-valuetext") == "toward 7 -0.30, z[1] 0.00"


def test_the_map_shows_what_the_pad_leads_to(page, decoder):
    page.locator("#pad[data-map]").wait_for()
    across, up = (page.get_by_label(name).evaluate("each => each.selectedOptions[0].text") for name in AXES)
    assert (across, up) == ("toward 7", "component 1")
    corner = page.locator("#map").evaluate("map => [...map.getContext('2d').getImageData(0, 0, 6, 5).data]")
    t = (-1.5 + 3 / 18, 3 - 6 / 18)  # the middle of the first of nine cells, left and up
    z = decoder.draw(1, seed=0) + np.float32([t[0], 2 * t[1], -t[0]])
    assert_shown(np.array(corner, np.uint8).reshape(5, 6, 4), decoder.decode(z)[0])


def test_both_axes_are_never_the_same(page):
    page.get_by_label(AXES[0]).select_option("component 1")
    chosen = [page.get_by_label(name).evaluate("each => each.selectedOptions[0].text") for name in AXES]
    assert chosen == ["component 1", "toward 7"]


# Conditional models, and codes of any shape


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return tiny.write_conditional(tmp_path_factory.mktemp("conditional") / "tiny")


@pytest.fixture
def conditional_page(opened, conditional):
    with served(conditional) as address:
        yield opened(address)


def choose(page, label):
    return settled(page, lambda: page.get_by_label("class").select_option(label=label))


def test_any_class_is_the_one_that_python_draws_for_the_seed(conditional_page, conditional):
    decoder = Decoder(conditional)
    for seed in (0, 1, 2, 41, 2**53 - 1):
        drawn = conditional_page.evaluate("seed => latentmill.draw(seed).then(({ label }) => label)", seed)
        assert [drawn] == decoder.labels(1, seed)
    options = conditional_page.locator("#class option").all_inner_texts()
    assert options == [f"any: {decoder.labels(1, seed=0)[0]}", *tiny.CLASSES]
    assert_shown_with_alpha(canvas(conditional_page), decoder.sample(1, seed=0)[0])
    shown = settled(conditional_page, lambda: conditional_page.get_by_label("seed").fill("41"))
    assert_shown_with_alpha(shown, decoder.sample(1, seed=41)[0])


def test_a_chosen_class_is_that_of_everything_that_is_decoded(conditional_page, conditional):
    page, decoder, label = conditional_page, Decoder(conditional), "dog, wet"
    assert_shown_with_alpha(choose(page, label), decoder.sample(1, seed=0, label=label)[0])
    assert page.locator("#class option").first.inner_text() == "any"
    z = decoder.draw(1, seed=0, label=label)[0]
    moved = settled(page, lambda: axis(page, "toward 7").fill("1.5"))
    expected = decoder.traverse(z, "toward 7", steps=2, reach=(0, 1.5), label=label)[1]
    assert_shown_with_alpha(moved, expected)
    shared = settled(page, lambda: page.get_by_label("How far from A to B").fill("1"))
    end = decoder.draw(1, seed=2, label=label)
    assert_shown_with_alpha(shared, decoder.decode(end, label)[0])
    last = page.locator("#strip").evaluate("strip => [...strip.getContext('2d').getImageData(40, 0, 5, 4).data]")
    assert_shown_with_alpha(np.array(last, np.uint8).reshape(4, 5, 4), decoder.decode(end, label)[0])
    assert_shown_with_alpha(choose(page, "any"), decoder.sample(1, seed=0)[0])


def test_the_code_of_an_image_is_that_for_the_chosen_class(conditional_page, conditional, picture):
    page, decoder = conditional_page, Decoder(conditional)
    grey = np.repeat(picture[:4, :5, :1], 3, axis=-1)
    images = np.concatenate([grey[None, None, ..., 0] / np.float32(255), np.ones((1, 1, 4, 5), np.float32)], axis=1)
    given = {"name": "a.png", "mimeType": "image/png", "buffer": png(grey)}
    choose(page, "cat")
    for label, act in (
        ("cat", lambda: page.locator("#file").set_input_files(given)),
        ("rare", lambda: page.get_by_label("class").select_option(label="rare")),
    ):
        shown = settled(page, act)
        np.testing.assert_allclose(code(page), decoder.encode(images, label)[0][0], atol=1e-4)
        assert_shown_with_alpha(shown, decoder.reconstruct(images, label)[0])
        assert page.get_by_role("img", name="Your image").is_visible()


def test_an_application_gives_a_label(conditional_page, conditional):
    decoder, z = Decoder(conditional), np.random.default_rng(0).standard_normal((3, 3), dtype=np.float32)
    found = conditional_page.evaluate("z => latentmill.decode(z, 'rare').then(all => [...all])", z.ravel().tolist())
    np.testing.assert_allclose(found, decoder.decode(z, "rare").ravel(), atol=STEP / 10)
    failing = "z => latentmill.decode(z, 'bird').catch(({ message }) => message)"
    said = conditional_page.evaluate(failing, z.ravel().tolist())
    assert said == "a label must be one of cat, dog, wet, \N{SNOWMAN}, rare, but is bird"
    without = conditional_page.evaluate("z => latentmill.decode(z).catch(({ message }) => message)", z[0].tolist())
    assert without.endswith("but is not given")


def test_guidance_draws_what_python_does(opened, tmp_path):
    """Of a model whose generator alone takes label and guidance."""
    folder, label = tiny.write_guided(tmp_path / "guided"), "dog, wet"
    decoder = Decoder(folder)
    with served(folder) as address:
        page = opened(address)
        assert_shown_with_alpha(canvas(page), decoder.sample(1, seed=0)[0])
        assert_shown_with_alpha(choose(page, label), decoder.sample(1, seed=0, label=label)[0])
        shown = settled(page, lambda: page.get_by_label("guidance").fill("2.5"))
        assert_shown_with_alpha(shown, decoder.sample(1, seed=0, label=label, guidance=2.5)[0])
        z = decoder.draw(1, seed=0, label=label, guidance=2.5)[0]
        np.testing.assert_allclose(code(page), z, atol=1e-5)
        moved = settled(page, lambda: axis(page, "toward 7").fill("1.5"))
        assert_shown_with_alpha(moved, decoder.traverse(z, "toward 7", steps=2, reach=(0, 1.5))[1])
        given = {"name": "a.png", "mimeType": "image/png", "buffer": png(np.zeros((4, 5, 3), np.uint8))}
        settled(page, lambda: page.locator("#file").set_input_files(given))
        assert_shown_with_alpha(choose(page, "cat"), decoder.sample(1, seed=0, label="cat", guidance=2.5)[0])
        found = page.evaluate("latentmill.draw(3, 1, 'rare', 2).then(({ image }) => [...image])")
        np.testing.assert_allclose(found, decoder.sample(1, 3, label="rare", guidance=2)[0].ravel(), atol=STEP / 10)


def test_only_a_guided_model_has_guidance_to_choose(conditional_page):
    assert not conditional_page.locator("#guidance").is_visible()
    said = conditional_page.evaluate("latentmill.draw(0, 1, 'cat', 2).catch(({ message }) => message)")
    assert said == "guidance must be left out, but is 2"


def test_only_a_conditional_model_has_a_class_to_choose(page):
    assert not page.locator("#class").is_visible()
    said = page.evaluate("latentmill.draw(0, 1, 'cat').catch(({ message }) => message)")
    assert said == "a label must be left out, but is cat"


def test_codes_of_any_shape_are_decoded(opened, tmp_path):
    folder = tiny.write_shaped(tmp_path / "shaped")
    decoder = Decoder(folder)
    with served(folder) as address:
        page = opened(address)
        assert_shown_with_alpha(canvas(page), decoder.sample(1, seed=0)[0])
        moved = settled(page, lambda: axis(page, "toward 7").fill("1"))
        z = decoder.draw(1, seed=0)[0]
        np.testing.assert_allclose(code(page), (z + np.float32(TOWARD_7).reshape(z.shape)).ravel(), atol=1e-6)
        assert_shown_with_alpha(moved, decoder.traverse(z, "toward 7", steps=2, reach=(0, 1))[1])
        assert page.locator("#dimensions .slider").count() == 8


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        ({"label": {"classes": ["cat"], "counts": [0]}}, "label must have classes, each with its number of"),
        ({"label": {"classes": ["cat"], "counts": [1, 2]}}, "label must have classes, each with its number of"),
        ({"code_shape": [2, 2]}, "code_shape must be of 3 values, but is 2, 2"),
    ],
)
def test_a_card_that_does_not_fit_is_an_error_on_the_page(opened, tmp_path, card, fault):
    with served(tiny.write(tmp_path / "tiny", card)) as address:
        page = opened(address, state="failed")
    assert page.get_by_role("alert").inner_text().startswith(fault)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_classes_with_long_names_fit_the_page(opened, tmp_path, size):
    names = [f"a class with quite a long name, number {index} of many" for index in range(3)]
    folder = tiny.write_conditional(tmp_path / "tiny")
    card = tiny.CONDITIONAL | {"label": {"classes": names, "counts": [1, 2, 3]}}
    (folder / "card.json").write_text(json.dumps(card))
    with served(tiny.seal(folder)) as address:
        page = opened(address, viewport=size)
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        name = page.get_by_text("class", exact=True)
        assert name.evaluate("each => each.getClientRects().length") == 1
        assert page.get_by_label("class").bounding_box()["width"] > 100


# Images from outside


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 256, (5, 6, 3), dtype=np.uint8)


def test_the_code_of_a_chosen_image_is_found(page, decoder, picture):
    given = {"name": "a.png", "mimeType": "image/png", "buffer": png(picture)}
    shown = settled(page, lambda: page.locator("#file").set_input_files(given))
    images = picture.transpose(2, 0, 1)[None]
    np.testing.assert_allclose(code(page), decoder.encode(images)[0][0], rtol=1e-5, atol=1e-5)
    assert_shown(shown, decoder.reconstruct(images)[0])
    assert page.get_by_role("img", name="Your image").is_visible()
    settled(page, lambda: page.get_by_label("swap light and dark").check())
    np.testing.assert_allclose(code(page), decoder.encode(255 - images)[0][0], rtol=1e-4, atol=1e-4)


def drop(page, content, name="a.png", kind="image/png"):
    page.evaluate(
        """([bytes, name, type]) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            for (const event of ["dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(event, { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [list(content), name, kind],
    )


def test_a_dropped_image_of_another_size_is_resized(page, decoder):
    grey = np.full((50, 90, 1), 200, np.uint8)
    settled(page, lambda: drop(page, png(grey)))
    expected = decoder.encode(np.full((1, 3, 5, 6), 200, np.uint8))[0][0]
    np.testing.assert_allclose(code(page), expected, atol=1e-3)


def test_a_dropped_file_that_is_no_image_is_an_error(page):
    drop(page, b"no picture", HOSTILE, "text/plain")
    fault = page.get_by_role("alert")
    fault.wait_for()
    assert fault.inner_text() == f"a file must be an image that this browser can read, but {HOSTILE} is not"


def test_the_image_is_downloaded_as_it_is(page, decoder):
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG").click()
    assert download.value.suggested_filename == "tiny.png"
    found = np.asarray(Image.open(io.BytesIO(Path(download.value.path()).read_bytes())))
    assert_shown(found, decoder.sample(1, seed=0)[0])


# The page


def test_a_model_without_codes_draws(opened, no_codes):
    with served(no_codes) as address:
        page = opened(address)
        assert page.locator("fieldset legend").all_inner_texts() == ["Draw from the prior"]
        shown = settled(page, page.get_by_role("button", name="Draw another").click)
    assert_shown_with_alpha(shown, Decoder(no_codes).sample(1, seed=1)[0])


def test_the_keyboard_moves_a_slider(page):
    slider = axis(page, "toward 7")
    slider.focus()
    settled(page, lambda: page.keyboard.press("ArrowRight"))
    assert float(slider.input_value()) > 0
    settled(page, lambda: page.keyboard.press("PageDown"))
    assert float(slider.input_value()) < 0
    settled(page, lambda: page.keyboard.press("End"))
    assert float(slider.input_value()) == 1.5


def test_every_control_has_a_name(page):
    unnamed = """() => [...document.querySelectorAll("button, input, select, [tabindex]")].filter(each =>
        !(each.labels?.[0]?.textContent ?? each.getAttribute("aria-label") ?? each.textContent).trim())"""
    assert page.evaluate(unnamed) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(page, scheme):
    page.emulate_media(color_scheme=scheme)
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper > 0.8) == (scheme == "light")
    for text in ("h1", "#facts", ".good", ".slider .name", ".slider output", "legend", ".link", "#download"):
        ink = luminance(page.locator(text).first.evaluate("each => getComputedStyle(each).color"))
        lighter, darker = max(ink, paper), min(ink, paper)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, text


def test_a_phone_scrolls_down_only_and_keeps_the_image_in_sight(page):
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    page.locator("#centre").scroll_into_view_if_needed()
    box = page.locator("#image").bounding_box()
    assert 0 <= box["y"] < box["y"] + box["height"] < PHONE["height"] / 2
    page.set_viewport_size(DESK)


def test_hostile_text_stays_text(opened, tmp_path):
    direction = tiny.DIRECTIONS[0] | {"name": HOSTILE}
    samples = tiny.SAMPLES | {"rule_1": {"status": HOSTILE, "evidence": HOSTILE}}
    card = {"entry": HOSTILE, "model": HOSTILE, "warning": HOSTILE, "prior": HOSTILE, "directions": [direction]}
    card["metrics"] = {"samples": {"normal": samples}, "exported_prior": "normal"}
    with served(tiny.write(tmp_path / "tiny", card)) as address:
        page = opened(address)
        assert page.get_by_role("heading", level=1).inner_text() == HOSTILE
        assert page.get_by_text(HOSTILE).count() >= 5
        assert page.evaluate("window.hacked") is None
        assert page.locator("img, main script").count() == 0


def test_an_export_in_format_1_is_shown_in_the_words_of_format_2(opened, tmp_path):
    folder = tiny.write_format_1(tmp_path / "tiny")
    with served(folder) as address:
        page = opened(address)
        assert re.findall(r"rule \d \w+", page.locator("#verdicts").inner_text()) == [
            "rule 1 inconclusive",
            "rule 2 fail",
        ]
        assert page.locator("#verdicts .chip").nth(1).get_attribute("title").endswith("fails above 0.6")
        assert page.locator("#warning").inner_text().startswith("Fails Rule 2: ")
        cooled = page.evaluate("latentmill.draw(3, 0.5).then(({ z }) => [...z])")
    np.testing.assert_allclose(cooled, Decoder(folder).draw(1, seed=3, temperature=0.5)[0], atol=1e-6)


ODD = ["Animals & Nature", "a/b \"c\" 'd'", "\N{SNOWMAN} 漢字 👩\u200d🚀", "component 1", "z[0]"]


def test_classes_of_any_name_have_sliders(opened, tmp_path):
    named = [tiny.DIRECTIONS[0] | {"name": f"toward {name}"} for name in ODD]
    with served(tiny.write(tmp_path / "tiny", {"directions": [*named, tiny.DIRECTIONS[1]]})) as address:
        page = opened(address)
        shown = page.locator("#directions .name").all_inner_texts()
        assert shown == [*(f"toward {name}" for name in ODD), "component 1"]
        across = page.get_by_label(AXES[0])
        across.select_option("toward component 1")
        assert across.evaluate("each => each.selectedOptions[0].text") == "toward component 1"
        moved = settled(page, lambda: page.locator("#directions input").nth(1).fill("1.5"))
        decoder = Decoder(tmp_path / "tiny")
        expected = decoder.traverse(decoder.draw(1, seed=0)[0], f"toward {ODD[1]}", steps=2, reach=(0, 1.5))[1]
        assert_shown_with_alpha(moved, expected)


@pytest.mark.parametrize(("channels", "kind"), [(1, "grey"), (3, "colour"), (4, "colour with alpha")])
def test_images_have_one_three_or_four_channels(opened, tmp_path, monkeypatch, channels, kind):
    monkeypatch.setattr(tiny, "SHAPE", (channels, 5, 6))
    monkeypatch.setattr(tiny, "IMAGE", ("image", tiny.SHAPE))
    folder = tiny.write(tmp_path / "tiny", {"image_shape": list(tiny.SHAPE)})
    decoder = Decoder(folder)
    picture = np.random.default_rng(1).integers(60, 256, (5, 6, 4), dtype=np.uint8)
    with served(folder) as address:
        page = opened(address)
        assert f"5 \N{MULTIPLICATION SIGN} 6 {kind} " in page.locator("#facts").inner_text()
        assert_shown_with_alpha(canvas(page), decoder.sample(1, seed=0)[0])
        given = {
            "name": "a.png",
            "mimeType": "image/png",
            "buffer": png(picture if channels == 4 else picture[..., :3]),
        }
        settled(page, lambda: page.locator("#file").set_input_files(given))
    grey = (picture[..., :3] @ [0.299, 0.587, 0.114] / 255).astype(np.float32)[None]
    expected = grey if channels == 1 else picture.transpose(2, 0, 1)[:channels] / np.float32(255)
    np.testing.assert_allclose(code(page), decoder.encode(expected[None])[0][0], atol=0.1 if channels == 4 else 1e-4)


def test_an_export_that_was_refused_is_not_served(tmp_path):
    (tmp_path / "refused.json").write_text(json.dumps({"entry": "vae", "reason": "it copies"}))
    with pytest.raises(InputError, match=r"must hold a model, but its export was refused: it copies$"):
        page_server(tmp_path, "127.0.0.1", 0)


# What can go wrong


@pytest.mark.parametrize("name", ["decoder.onnx", "generator.onnx", "card.json"])
def test_a_file_that_was_tampered_with_is_refused(opened, tmp_path, name):
    write_page(tiny.write(tmp_path / "tiny"), tmp_path / "site")
    content = (tmp_path / "site/model" / name).read_bytes()
    (tmp_path / "site/model" / name).write_bytes(content.replace(b"image", b"imagf"))
    with plainly_served(tmp_path / "site") as address:
        page = opened(address, state="failed")
    fault = page.get_by_role("alert").inner_text()
    assert fault.startswith(f"{name} must have the SHA-256 that the manifest names, ")
    assert "\n" not in fault
    assert not page.locator("main").is_visible()


def test_a_missing_file_is_an_error_on_the_page(opened, tmp_path):
    write_page(tiny.write(tmp_path / "tiny"), tmp_path / "site")
    (tmp_path / "site/model/decoder.onnx").unlink()
    with plainly_served(tmp_path / "site") as address:
        page = opened(address, state="failed")
    assert page.get_by_role("alert").inner_text() == "decoder.onnx must be there, but the server answers 404"


def test_a_file_that_changed_since_the_server_started_is_an_error_on_the_page(opened, tmp_path):
    folder = tiny.write(tmp_path / "tiny")
    with served(folder) as address:
        (folder / "decoder.onnx").write_bytes(b"another")
        page = opened(address, state="failed")
    fault = page.get_by_role("alert").inner_text()
    assert fault == "decoder.onnx must be as it was when the server started, but has changed: start it again"


@pytest.mark.parametrize("block", ["**/*.wasm", "**/*.mjs"])
def test_a_runtime_that_does_not_load_is_an_error_on_the_page(opened, colour_address, block):
    page = opened(colour_address, state="failed", block=block)
    fault = page.get_by_role("alert").inner_text()
    assert fault.startswith("onnxruntime-web must ")
    assert "\n" not in fault


def test_a_direction_that_does_not_fit_is_an_error_on_the_page(opened, tmp_path):
    direction = tiny.DIRECTIONS[0] | {"vector": [1.0, 2.0]}
    with served(tiny.write(tmp_path / "tiny", {"directions": [direction]})) as address:
        page = opened(address, state="failed")
    assert page.get_by_role("alert").inner_text().startswith("a direction must be 3 numbers ")


# The server


def answer(address, path, method="GET"):
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(method, path)
    found = connection.getresponse()
    content = found.read()
    connection.close()
    return found.status, found.headers, content


@pytest.mark.parametrize(
    "path",
    [
        "/../serve.py",
        "/%2e%2e/serve.py",
        "/model/../../../etc/passwd",
        "/model/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/model/secret.txt",
        "/model/",
        "/ort/",
        "/serve.py",
        "/package.json",
        "/model/card.json%00",
        "/model/..\\secret.txt",
    ],
)
def test_nothing_else_of_the_disk_is_served(colour, colour_address, path):
    (colour / "secret.txt").write_text("secret")
    assert answer(colour_address, path)[0] == 404


def test_what_is_served_says_what_it_is(colour, colour_address):
    kinds = {
        "/": "text/html; charset=utf-8",
        "/app.js": "text/javascript; charset=utf-8",
        "/ort/ort-wasm-simd-threaded.wasm": "application/wasm",
        "/model/decoder.onnx": "application/octet-stream",
        "/model/manifest.json?again": "application/json",
    }
    for path, kind in kinds.items():
        status, headers, content = answer(colour_address, path)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert int(headers["Content-Length"]) == len(content) > 0
    status, headers, content = answer(colour_address, "/model/decoder.onnx", "HEAD")
    assert (status, int(headers["Content-Length"])) == (200, (colour / "decoder.onnx").stat().st_size)
    assert content == b""
    assert answer(colour_address, "/", "POST")[0] == 501


def test_threads_compute_where_the_page_is_isolated(opened, colour_address, decoder):
    page = opened(f"{colour_address}?threads=2")
    assert page.evaluate("crossOriginIsolated")
    assert "on 2 threads" in page.locator("#provenance").inner_text()
    assert_shown(canvas(page), decoder.sample(1, seed=0)[0])


def test_any_web_server_can_host_the_folder(opened, colour, decoder, tmp_path):
    write_page(colour, tmp_path / "site" / "page")
    with plainly_served(tmp_path / "site") as address:
        page = opened(f"{address}page/?threads=2")
        assert not page.evaluate("crossOriginIsolated")
        assert "on 1 thread " in page.locator("#provenance").inner_text()
        assert_shown(canvas(page), decoder.sample(1, seed=0)[0])


def test_a_folder_that_is_there_is_left_alone(colour, tmp_path):
    with pytest.raises(InputError, match=r"an output folder must not be there yet, but '.*' is"):
        write_page(colour, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_written_whole_or_not_at_all(colour, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"an output folder must be one that can be written, but .*No space left"):
        write_page(colour, tmp_path / "page")
    assert list(tmp_path.iterdir()) == []


def test_the_command_serves_until_it_is_interrupted(colour):
    command = [PROGRAM, "serve", colour, "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, preexec_fn=heed_interrupts, **pipes) as process:
        line = process.stdout.readline()
        assert answer(line.split()[0], "/")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
    assert line.endswith(f" shows {colour} until Ctrl-C\n")


def test_the_command_writes_a_folder(colour, tmp_path):
    to = tmp_path / "page"
    done = subprocess.run([PROGRAM, "serve", colour, "--to", to], text=True, capture_output=True, check=True)
    assert done.stdout == f"{to}: the page with {colour}, for any web server\n"
    assert (to / "model" / "decoder.onnx").read_bytes() == (colour / "decoder.onnx").read_bytes()
    assert not (to / "model" / "secret.txt").exists()


def test_a_page_without_its_runtime_says_what_to_do(colour, monkeypatch):
    monkeypatch.setattr(serving, "ORT", ("ort/none.wasm",))
    with pytest.raises(InputError, match=r"ort/none.wasm is missing: run `make page`"):
        page_server(colour, "127.0.0.1", 0)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", None)])
def test_an_address_that_cannot_be_used_is_an_error(colour, colour_address, host, port):
    taken = int(colour_address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(InputError, match="an address must be free and this machine's"):
        page_server(colour, host, taken if port is None else port)


def test_a_damaged_export_is_not_served(tmp_path):
    folder = tiny.write(tmp_path / "tiny")
    (folder / "encoder.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"encoder\.onnx must have the SHA-256"):
        page_server(folder, "127.0.0.1", 0)
