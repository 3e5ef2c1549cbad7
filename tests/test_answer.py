"""The first screen of the page: the answer about the champion, or about the best entry if there is none."""

import base64
import io
import json
import re

import numpy as np
import pages
import prepared_sets
import pytest
from pages import CODED, PLAIN, drawn, put
from PIL import Image

from latentmill.data import dataset
from latentmill.evaluation.neighbours import Neighbours
from latentmill.evaluation.pictures import draw_gallery
from latentmill.report.answer import MEANINGS, answer
from latentmill.report.inputs import read_inputs
from latentmill.report.page import render
from latentmill.runtime.images import grid

TIMED = {
    "bytes": 1_300_000,
    "largest_difference_from_torch": 0.0,
    "milliseconds": {"1": 1.21, "64": 3.2, "1024": 60.0},
}
CARD = {
    "entry": "coded",
    "measured_on": {"processor": "a processor", "threads": 2},
    "files": {"generator.onnx": TIMED},
}


@pytest.fixture
def write(tmp_path, digits):
    """Lay out a ladder of two entries, the champion with these samples."""

    def write(samples=None, **metrics):
        coded = CODED | metrics
        if samples is not None:
            coded |= {"samples": {"flow": samples}, "exported_prior": "flow"}
        found = pages.write(tmp_path, digits, {"plain": ("naive_bayes", PLAIN), "coded": ("vae", coded)})
        put(tmp_path / "exports/coded/card.json", CARD)
        return found

    return write


def copies(exact, near, rule_2="pass"):
    """Samples of which these shares are exact and near copies."""
    found = drawn(rule_2=rule_2)
    found["metrics"]["pixels"]["exact copies"] = {"value": exact, "standard_error": 0.0001}
    return found | {"near_copies": found["near_copies"] | {"share": near, "held_out": 0.033}}


def facts(inputs):
    return {each.question: (each.words, each.detail, each.style) for each in answer(read_inputs(*inputs)).facts}


def pixels(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("L"))[..., None]


def test_it_says_what_is_known_of_the_champion(write):
    found = facts(write(copies(0.0, 0.0005)))
    assert found["Looks like the data"] == ("yes", "10\u202f000 samples pass Rule 1", "good")
    assert found["Copies"] == (
        "none in 10\u202f000 samples",
        "a share above 0.03\xa0% is excluded; 0.05\xa0% are near copies (at most 0.11\xa0%), "
        "as are 3.3\xa0% of new images",
        "good",
    )
    assert found["Exported"] == (
        "1.3 MB, 0.05 ms an image",
        "64 at a time, 1.2 ms one alone; onnxruntime on 2 threads of a processor",
        "good",
    )


def test_the_damage_that_scores_the_same_stands_beside_the_outcome(write):
    found = copies(0.0, 0.0005)
    found["rule_1"] |= {"equivalent_damage": "real images blurred by 0.6 px (0.4 to 0.8)"}
    _, detail, _ = facts(write(found))["Looks like the data"]
    assert detail == "10\u202f000 samples pass Rule 1; they score like real images blurred by 0.6 px (0.4 to 0.8)"


def test_copies_that_were_found_are_counted(write):
    words, detail, style = facts(write(copies(0.02, 0.05, "fail")))["Copies"]
    assert (words, style) == ("200 in 10\u202f000 samples", "bad")
    assert detail.startswith("Rule 2, fail: precision 0.9")
    assert "at most 2.2\xa0%; 5\xa0% are near copies (at most 5.4\xa0%)" in detail


def test_near_copies_after_small_changes_are_told_beside_those_of_new_images(write):
    found = copies(0.0, 0.0005)
    found["near_copies"] |= {"after_changes": {"share": 0.012, "held_out": 0.009}}
    _, detail, _ = facts(write(found))["Copies"]
    assert detail.endswith(
        "as are 3.3\xa0% of new images; after a small shift, zoom or rotation 1.2\xa0%, and 0.9\xa0% of new images"
    )


def test_samples_that_come_too_close_without_copies_are_not_called_copies(write):
    words, detail, style = facts(write(copies(0.0, 0.0, "fail")))["Copies"]
    assert (words, style) == ("none, but too close", "bad")
    assert "a share above 0.03\xa0% is excluded" in detail


def test_what_was_not_measured_is_not_claimed(write):
    inputs = write({"rule_1": pages.verdict("inconclusive", "too few images"), "rule_2": pages.verdict("pass")})
    put(inputs[1].exports / "coded/card.json", {"entry": "coded", "files": {"generator.onnx": {"bytes": 4100}}})
    assert list(facts(inputs).values()) == [
        ("not known", "too few images", "unsure"),
        ("not known", "", "good"),
        ("4 kB", "", "good"),
    ]


@pytest.mark.parametrize(("metric", "meaning"), MEANINGS.items())
def test_a_metric_that_fails_is_put_into_plain_words(write, metric, meaning):
    failing = drawn() | {"rule_1": pages.verdict("fail", f"{metric} (pixels) 0.1 ± 0, fails below 0.6")}
    words, detail, _ = facts(write(failing))["Looks like the data"]
    assert (words, detail) == ("no", f"{meaning}: {metric} (pixels) 0.1 ± 0, fails below 0.6")


def test_samples_stand_beside_as_many_real_images(write, digits):
    found = answer(read_inputs(*write()))
    assert found.shown == pages.SHOWN
    np.testing.assert_array_equal(pixels(found.samples), grid(digits[: 6 * pages.SHOWN : 6] / np.float32(255), 6))
    assert sorted(map(bytes, _tiles(pixels(found.real)))) == sorted(map(bytes, _tiles(grid(digits[:20] / 255.0, 6))))


def test_large_samples_are_cut_from_reduced_tiles(write, digits):
    params, places = write()
    large = np.repeat(np.repeat(digits[:30], 64, 2), 64, 3)  # 512 x 512
    prepared_sets.write(places.data, dict.fromkeys(dataset.SPLITS, large[:8]))
    nearest = Neighbours(np.ones((5, 5), np.float32), np.arange(25).reshape(5, 5))
    draw_gallery(places.evaluation / "pictures/coded/gallery_mixture.png", large[:5], nearest, large)
    found = answer(read_inputs(params, places))
    assert found.shown == 5
    assert pixels(found.samples).shape == pixels(found.real).shape == (260, 6 * 258 + 2, 1)


def _tiles(sheet):
    """The cells of a grid that hold an image, without the gaps."""
    rows = [sheet[top : top + 56, left : left + 56] for top in range(2, 200, 58) for left in range(2, 340, 58)]
    return rows[:20]


def test_without_pictures_the_words_are_shown_all_the_same(write):
    inputs = write()
    (inputs[1].evaluation / "pictures/coded/gallery_mixture.png").unlink()
    assert answer(read_inputs(*inputs)).samples == ""
    assert "Samples of" not in render(read_inputs(*inputs)).partition("<nav")[0]


def test_without_a_champion_it_is_about_the_best_entry_and_says_why_there_is_none(write):
    params, places = write(drawn(rule_1="pass", rule_2="fail"))
    for name in ("plain", "coded"):
        pages.refuse(places, name, f"{name} copies")
    pages.refuse(places, "champion", "no entry could be exported")
    found = answer(read_inputs(params, places))
    assert (found.name, found.is_champion) == ("plain", False), "it passes Rule 2"
    assert found.facts[2].words == "no"
    assert found.facts[2].detail == "refused: plain copies"
    first = render(read_inputs(params, places)).partition("<nav")[0]
    assert "the best so far" in first
    assert "0 of 2 models exported, 2 refused. There is no champion." in first


def test_of_entries_with_equal_outcomes_the_nearest_to_validation_images_is_the_best(write):
    params, places = write()
    metrics = json.loads((places.evaluation / "metrics.json").read_text())
    for distance, name in ((2.0, "plain"), (3.0, "coded")):
        metrics[name] |= {"samples": {"own": drawn() | {"validation": {"frechet_distance": distance}}}}
        metrics[name] |= {"exported_prior": "own"}
    put(places.evaluation / "metrics.json", metrics)
    pages.refuse(places, "champion", "no entry could be exported")
    assert answer(read_inputs(params, places)).name == "plain"


@pytest.mark.parametrize(
    ("rules", "reconstructions", "step"),
    [
        (("pass", "pass"), "pass", r"`latentmill serve exports/champion`"),
        (("fail", "pass"), "fail", r"Improve the decoder of coded"),
        (("fail", "pass"), "pass", r"Improve the prior of coded"),
        (("fail", "pass"), "inconclusive", r"Find out whether the decoder or the prior limits coded: too few"),
        (("fail", "pass"), None, r"coded has no codes"),
        (("pass", "fail"), "pass", r"Keep samples farther from the training images"),
        (("pass", "inconclusive"), "pass", r"Rule 2: precision 0.9 ± 0.1"),
    ],
)
def test_what_to_try_next_follows_from_what_limits_the_entry(write, rules, reconstructions, step):
    ceiling = {"rule_1": pages.verdict(reconstructions or "pass", "too few images")}
    inputs = write(drawn(rule_1=rules[0], rule_2=rules[1]), reconstructions=ceiling)
    if reconstructions is None:
        metrics = json.loads((inputs[1].evaluation / "metrics.json").read_text())
        metrics["coded"].pop("reconstructions")
        put(inputs[1].evaluation / "metrics.json", metrics)
    (found,) = answer(read_inputs(*inputs)).steps
    assert re.search(step, found)


def test_settings_and_commands_are_set_as_code(write):
    assert "<code>latentmill serve exports/champion</code>" in render(read_inputs(*write()))
