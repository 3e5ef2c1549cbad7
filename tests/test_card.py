"""The text of the card, for exports of every kind that `Decoder` reads."""

import re

import pytest
import tiny

from latentmill.export.card import as_text

TIMES = {"milliseconds": {"1": 0.1, "64": 0.2}, "largest_difference_from_torch": 1e-7}


def card(base, **more):
    """What the writer adds to the facts of a card made by hand."""
    data = {"description": "tiny pictures", "digest": "b" * 64, "counts": {"train": 36}}
    files = {name: each | TIMES for name, each in base["files"].items()}
    facts = {"fingerprint": "12345e6", "weights_sha256": "c" * 64, "classes": [], "formats": {}}
    return base | facts | {"data": data, "files": files, "measured_on": {"processor": "one", "threads": 1}} | more


@pytest.mark.parametrize(
    ("base", "maps"),
    [
        (tiny.CARD, "`z` to `image`"),
        (tiny.EARLY, "`z` to `image`"),
        (tiny.SHAPED, "`z` to `image`"),
        (tiny.CONDITIONAL, "`z`, `label` to `image`"),
        (tiny.GUIDED, "`z` to `image`"),
    ],
    ids=["plain", "early", "shaped", "conditional", "guided"],
)
def test_the_inputs_of_each_file_are_named(base, maps):
    assert f"| `decoder.onnx` | {maps} |" in as_text(card(base))


def test_the_classes_of_a_label_have_their_indices_and_are_safe():
    text = as_text(card(tiny.CONDITIONAL | {"label": {"classes": ["a*b", "<img>"], "counts": [1, 2]}}))
    assert "int64 (batch), is an index into these: 0 a\\*b, 1 &lt;img&gt;." in text
    many = {"classes": [f"kind {index}" for index in range(60)], "counts": [1] * 60}
    assert ", 49 kind 49 and 10 more in card.json." in as_text(card(tiny.CONDITIONAL | {"label": many}))
    assert "label" not in as_text(card(tiny.CARD))


def test_codes_of_several_axes_are_described():
    assert "Codes have the shape 2 x 2 x 2; a direction is a flattened code." in as_text(card(tiny.SHAPED))
    assert "Codes have the shape" not in as_text(card(tiny.CARD))


def test_a_guided_model_says_so():
    text = as_text(card(tiny.GUIDED))
    assert "| `generator.onnx` | `noise`, `label`, `guidance` to `image`, `z` |" in text
    assert "`guidance`, float32 (batch), is how strongly the label is followed" in text
    assert "at temperature 1 without truncation or guidance" in text
    assert "guidance" not in as_text(card(tiny.CONDITIONAL))


@pytest.mark.parametrize("kind", ["plain", "shaped", "conditional", "guided", "no directions"])
def test_the_example_runs(tmp_path, monkeypatch, kind):
    writers = {"shaped": tiny.write_shaped, "conditional": tiny.write_conditional, "guided": tiny.write_guided}
    writers.get(kind, tiny.write)(tmp_path / "exports/tiny")
    base = {"shaped": tiny.SHAPED, "conditional": tiny.CONDITIONAL, "guided": tiny.GUIDED}
    base["no directions"] = tiny.CARD | {"directions": []}
    (code,) = re.findall(r"```python\n(.*?)```", as_text(card(base.get(kind, tiny.CARD))), flags=re.DOTALL)
    labelled = kind in ("conditional", "guided")
    assert ("label='dog, wet'" in code, "traverse" in code) == (labelled, kind != "no directions")
    assert ("guidance=2.0" in code) == (kind == "guided")
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(code, made)
    shapes = dict(re.findall(r"^(\w+) = .*# \((.*?)\)", code, flags=re.MULTILINE))
    assert {key: ", ".join(map(str, made[key].shape)) for key in shapes} == shapes
