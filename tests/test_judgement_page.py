"""The page of a judgement in a browser: nothing is loaded or runs, and it fits a desk and a phone."""

import numpy as np
import pytest
from pages import CALIBRATION, HOSTILE
from sklearn.datasets import load_digits
from test_page import DESK, PHONE, browser

import latentmill
from latentmill.report.judgement import render

__all__ = ["browser"]  # a fixture


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of copies, with damage and the controls of another run; its texts from outside are hostile."""
    images = np.rint(load_digits().images / 16 * 255).astype(np.uint8)
    found = latentmill.judge(images[:18], images[:600], images[600:800])
    damage = {"metric": "C2ST accuracy", "space": "pixels", "value": 0.61}
    record = found.record | {
        "calibration": CALIBRATION,
        "damage": [damage | {"like": "real images blurred by 0.43 px (0.2 to 0.7)"}],
        "notes": [HOSTILE],
    }
    record["closest"][0]["sample"] = HOSTILE
    path = tmp_path_factory.mktemp("judgement") / "judgement.html"
    path.write_text(render(record, found.pictures), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_it_fits_and_loads_nothing(browser, page, viewport):
    asked, said = [], []
    context = browser.new_context(viewport=viewport)
    shown = context.new_page()
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.goto(page)
    assert shown.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert shown.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert shown.evaluate("window.hacked") is None
    assert {url for url in asked if not url.startswith("data:")} == {page}
    assert said == []
    words = shown.locator("main").inner_text()
    assert "18 of 18 samples" in words.replace("\N{NO-BREAK SPACE}", " ")
    assert "real images blurred by 0.43 px (0.2 to 0.7)" in words
    assert HOSTILE in words
    context.close()
