"""The page from small made-up inputs: self-contained, escaped, and right about what a model cannot do."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pages
import pytest
from pages import BINARY, CALIBRATION, CODED, CURVES, DENSITY, HOSTILE, PLAIN, SHOWN, TRIALS, drawn, put, samples
from PIL import Image

from latentmill.data.preparation.sufficiency import too_small_for
from latentmill.errors import InputError
from latentmill.report.calibration import entries, rules
from latentmill.report.captions import KINDS, Subject
from latentmill.report.curves import charts
from latentmill.report.inputs import Curve, read_inputs
from latentmill.report.introduction import introduction
from latentmill.report.numbers import plain, plus_minus
from latentmill.report.page import render
from latentmill.report.pictures import Picture, gallery, uri
from latentmill.report.standing import axis, strips
from latentmill.report.verdicts import LIMITS
from latentmill.runtime.images import grid, png

MANIFEST = {"classes": ["a", "b"], "counts": {"train": 3500, "val": 750, "test": 750}}
AT_TRAINING = {"nearest": {"median": 5.0, "test_median": 0.0}}  # samples beside test images that equal training images
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
LOADING = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")  # attributes that may load something


class Page(HTMLParser):
    """What a browser would see: every tag is closed by its own."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.rows, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] if tag not in VOID else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open[-1:] in (["style"], ["script"]) else data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data.strip()

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def leaderboard(self):
        """Its rows, each as column title -> text."""
        titles = next(row for row in self.rows if row[:1] == ["entry"] and "prior" in row)
        return [dict(zip(titles, row, strict=True)) for row in self.rows if len(row) == len(titles)][1:]


@pytest.fixture
def write(tmp_path, digits):
    """Lay out what the other stages write, for entries: name -> (model, metrics)."""
    return lambda entries: pages.write(tmp_path, digits, entries)


@pytest.fixture
def ordinary(write):
    return write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", CODED)})


@pytest.fixture
def page(ordinary):
    return Page(render(read_inputs(*ordinary)))


def first_screen(page):
    return page.text[: page.text.index("Verdicts")]  # a link below it


def verdicts_section(page):
    return page.text[page.text.index("of both rules on every entry") : page.text.index("how far the metrics")]


def without(metrics, *keys):
    return {key: value for key, value in metrics.items() if key not in keys}


def test_a_note_of_params_yaml_stands_on_the_first_screen(ordinary):
    params, places = ordinary
    assert "Note:" not in first_screen(Page(render(read_inputs(params, places))))
    noted = params.model_copy(update={"note": "a <b>quick</b> look"})
    assert "Note: a <b>quick</b> look" in first_screen(Page(render(read_inputs(noted, places))))


def test_the_page_loads_nothing_from_elsewhere(ordinary):
    text = render(read_inputs(*ordinary))
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    loaded = [value for _, attrs in page.tags for key, value in attrs.items() if key in LOADING]
    assert {value for value in loaded if not value.startswith("data:")} <= {f"#{name}" for name in ids}
    assert set(re.findall(r"url\((.{15})", text)) == {"data:image/webp"}
    assert "@import" not in text
    assert not re.findall(r"https?://", text)
    assert [attrs for attrs in page.all("script") if attrs] == []


def test_only_the_script_of_the_page_may_run(ordinary):
    page = Page(render(read_inputs(*ordinary)))
    (policy,) = [attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy
    assert len(page.all("script")) == 1
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]


def test_every_picture_is_embedded_once_and_described(ordinary):
    params, places = ordinary
    text = render(read_inputs(params, places))
    page = Page(text)
    pictures = list((places.evaluation / "pictures").rglob("*.png"))
    strips = [path for path in pictures if path.name.startswith("samples_")]  # tiles of galleries show the same
    assert text.count("data:image/") == len(pictures) - len(strips) + 3, (
        "and samples beside test images, and more of these"
    )
    assert all(image["alt"] for image in page.all("img"))
    assert "new_kind" in page.text


def test_what_a_model_cannot_do_reads_as_a_dash(page):
    plain, normal, mixture = page.leaderboard()
    for column in ("MSE", "PSNR", "SSIM", "KL", "active", "C2ST accuracy", "MMD", "MIG", "disentanglement"):
        key = next(title for title in plain if title.startswith(column))
        assert plain[key] == "—"
        assert mixture[key] != "—"
    assert not [title for title in plain if title.startswith("MS-SSIM")], "no entry has it"
    assert [row["kind"] for row in (plain, normal)] == ["exact", "bound (1000 samples)"]
    assert "\u2212513\xa0±\xa05" in normal.values()
    assert "19 of 20" in mixture.values()
    assert "0.40 (0.36 to 0.44)" in plain.values()


def test_each_prior_is_a_row_and_the_exported_one_and_the_champion_are_marked(page):
    assert [row["prior"] for row in page.leaderboard()] == [
        "by itselfexported",
        "N(0, I)",
        "mixtureexportedchampion",
    ]


def test_metrics_that_are_unknown_here_are_shown_like_any(page):
    assert all(row["never heard of"] == "1.00" for row in page.leaderboard())
    assert "Metrics in timm:odd" in page.text


@pytest.mark.parametrize("space", [BINARY, DENSITY, f"{BINARY}, given the label"])
def test_likelihoods_of_different_sample_spaces_are_never_in_one_column(write, space):
    other = CODED | {"likelihood": CODED["likelihood"] | {"sample_space": space}}
    page = Page(render(read_inputs(*write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", other)}))))
    plain, coded, _ = page.leaderboard()
    columns = [title for title in plain if BINARY in title or DENSITY in title]
    assert len(columns) == (2 if space == BINARY else 4)
    shared = [title for title in columns if plain[title] != "—" and coded[title] != "—"]
    assert shared == (columns if space == BINARY else [])


def test_a_ladder_without_likelihoods_has_no_word_on_them(write):
    silent = without(CODED, "likelihood")
    page = Page(render(read_inputs(*write({"coded": ("autoencoder", silent)}))))
    assert "bound (" not in page.text
    assert "Likelihoods of different" not in page.text


def test_verdicts_have_a_sign_evidence_and_sample_size(page):
    first = verdicts_section(page)
    assert "1 of 2 models passes both rules: coded." in first_screen(page)
    assert re.findall(r"([✓✗?])\s*(pass|fail|inconclusive)\b", first)[:2] == [("✗", "fail"), ("✓", "pass")]
    assert "precision 0.9 ± 0.1, fails from 0.5" in first
    assert "on 10\u202f000 samples" in first
    assert "N(0, I)" in first, "the other priors too"


def test_a_verdict_says_what_the_scores_are_equivalent_to_and_the_limit_of_passing(write):
    like = "real images blurred by 0.6 px (0.4 to 0.8)"
    metrics = CODED | {
        "samples": {"mixture": pages.drawn() | {"rule_1": pages.verdict("fail") | {"equivalent_damage": like}}}
    }
    inputs = write({"coded": ("vae", metrics)})
    found = {"blur": 0.75, "independent": 1.0, "lost": 0.8, "copies": 0.05, "noisy_copies": 0.2}
    put(inputs[1].evaluation / "calibration.json", CALIBRATION | {"limits": found})
    first = verdicts_section(Page(render(read_inputs(*inputs))))
    assert f"Scores like {like}." in first
    undetected = "independent pixels in all of the images or the loss of 80\N{NO-BREAK SPACE}% of a class or cluster"
    assert f"drawn from the data; fails for a blur of 0.75 px, or worse; no metric detects {undetected} here" in first
    assert "training images with noise" not in first, "Rule 2 was not calibrated"


def limits(page):
    return [next(text for title, text in row.items() if title.startswith("limited by")) for row in page.leaderboard()]


def test_the_ceiling_of_the_priors_is_a_row_under_rule_1(page):
    first = verdicts_section(page)
    assert first.count("Reconstructions of validation images") == 1, "one entry has codes"
    assert "on 750\n" in first
    assert "C2ST accuracy 0.5 ± 0.1, passes below 0.7" in first
    assert limits(page) == ["—", "prior", "neither"]


@pytest.mark.parametrize(
    ("reconstructions", "samples", "limit", "sentence"),
    [
        ("fail", "fail", "decoder", "The decoder is at fault"),
        ("fail", "inconclusive", "decoder", "The decoder is at fault"),
        ("pass", "fail", "prior", "The prior is at fault"),
        ("pass", "inconclusive", "inconclusive", ""),
        ("inconclusive", "fail", "inconclusive", ""),
        ("fail", "pass", "neither", ""),
    ],
)
def test_what_limits_an_entry_is_said_in_words(write, reconstructions, samples, limit, sentence):
    ceiling = {"reconstructions": {"rule_1": pages.verdict(reconstructions)}}
    metrics = CODED | ceiling | {"samples": {"normal": pages.drawn(rule_1=samples)}, "exported_prior": "normal"}
    page = Page(render(read_inputs(*write({"coded": ("vae", metrics)}))))
    assert limits(page) == [limit]
    said = [each for each in LIMITS.values() if each in page.text]
    assert said == ([LIMITS[limit]] if sentence else [])
    assert all(each.startswith(sentence) for each in said)


def test_a_model_without_verdicts_passes_no_rule(write):
    bare = {"samples": {"own": {}}, "exported_prior": "own"}
    page = Page(render(read_inputs(*write({"plain": ("naive_bayes", bare)}))))
    assert "No model passes both rules." in page.text
    assert "the evaluation has no verdict" in page.text


def test_text_from_outside_is_escaped(write, tmp_path):
    hostile = {"status": HOSTILE, "evidence": HOSTILE, "samples": 1, "equivalent_damage": HOSTILE}
    measured = {HOSTILE: {HOSTILE: {"value": 1.0, "standard_error": 0.1}}}
    likelihood = PLAIN["likelihood"] | {"kind": HOSTILE, "sample_space": HOSTILE}
    prior = samples() | {"rule_1": hostile, "metrics": measured}
    inputs = write(
        {
            HOSTILE: (
                "naive_bayes",
                {"samples": {"own": prior}, "exported_prior": "own"} | {"likelihood": likelihood},
            )
        }
    )
    calibration = json.loads(json.dumps(CALIBRATION).replace("blurred", json.dumps(HOSTILE)[1:-1]))
    put(tmp_path / "evaluation/calibration.json", calibration)
    text = render(read_inputs(*inputs))
    page = Page(text)
    assert HOSTILE in page.text
    assert HOSTILE not in text
    assert "<img src=x" not in text
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert len(page.all("script")) == 1
    assert "small <digits>" in page.text


def test_failed_trials_are_listed_with_their_error(page):
    assert "2 of them failed" in page.text
    assert "(latent 3): DivergedError: loss is\n<nan>" in page.text
    assert "latent 2 (of 2, 3)" in page.text


def test_a_failed_trial_that_entries_share_is_counted_once(ordinary):
    params, places = ordinary
    places.trials.write_text(TRIALS.splitlines()[0] + "\n" + "{},,aa,vae,0,failed,,,,an error,2\n" * 2)
    assert "1 of them failed" in Page(render(read_inputs(params, places))).text


def test_the_exported_prior_is_named_beside_the_distances_of_all(page):
    assert "mixture. Fréchet distance to validation images: N(0, I) 3.88, mixture 2.20" in page.text
    assert page.text.count("Fréchet distance to validation images:") == 1, "none where there is nothing to choose"


def test_trials_of_priors_are_not_counted_among_those_of_the_model(page):
    (row,) = [row for row in page.rows if row[0] == "2coded" and "vae" in row]
    assert row[1:4] == ["vae", "2", "latent 2 (of 2, 3)"]
    assert "coded/flow: too many steps" in page.text


def test_a_criterion_that_is_a_distance_is_called_one(ordinary):
    params, places = ordinary
    path = places.models / "coded/trial.json"
    record = json.loads(path.read_text())
    put(path, record | {"trial": record["trial"] | {"features": "ab"}})
    text = Page(render(read_inputs(params, places))).text
    assert re.findall(r"criterion on validation images(.*)", text) == [
        "\u22121.50",
        "\u22121.50, the distance of its samples to them",
    ], "beside the pictures of each entry, and never in one column"


def test_every_sample_is_a_button_with_its_distances(page):
    tiles = [attrs for attrs in page.all("button") if "data-row" in attrs]
    assert len(tiles) == 3 * SHOWN
    assert tiles[1]["data-distances"] == "1.25 2 3 4 5"
    assert tiles[1]["aria-label"] == f"Sample 2 of {SHOWN}, nearest training image at 1.25"


def test_a_gallery_without_distances_is_shown_all_the_same(ordinary, tmp_path):
    put(tmp_path / "evaluation/galleries.json", {})
    tiles = [attrs for attrs in Page(render(read_inputs(*ordinary))).all("button") if "data-row" in attrs]
    assert [tile["data-distances"] for tile in tiles] == [""] * 3 * SHOWN


def test_uninformative_metrics_come_last(ordinary):
    inputs = read_inputs(*ordinary)
    (rule,) = rules(inputs.calibration, entries(inputs))
    assert [(each.name, each.informative) for each in rule.metrics] == [
        ("precision", True),
        ("Fréchet distance", True),
        ("Vendi score", False),
    ]
    assert [each.threshold for each in rule.metrics] == [0.7, 5.0, None], "the first that is crossed on the way down"
    rows = [row for row in Page(render(inputs)).rows if row[-1:] == ["uninformative"]]
    assert rows == [["Vendi score", "pixels", "✗not detected", "✗not detected", "uninformative"]]


def test_marks_stand_on_the_side_of_the_threshold_that_their_value_says(ordinary):
    inputs = read_inputs(*ordinary)
    (rule,) = rules(inputs.calibration, entries(inputs))
    along = axis(rule)
    precision, frechet, vendi = strips(rule, along)
    places = {mark.point.name: mark.x for mark in precision.marks}
    assert places["real images"] == along.x(0) < along.x(1) < places["one class dropped"] < places["blurred"]
    assert places["coded"] < along.x(0) < places["plain"], "better than real images, and worse than any control"
    assert {mark.point.name for mark in vendi.marks} == {"real images", "blurred", "one class dropped"}, "not measured"
    assert all(0 <= mark.x <= 100 for strip in (precision, frechet, vendi) for mark in strip.marks)
    assert "fails ≤\xa00.700" in precision.label
    assert "plain 0.000\xa0±\xa00.012" in precision.label


def test_marks_hide_no_other(ordinary):
    inputs = read_inputs(*ordinary)
    (rule,) = rules(inputs.calibration, entries(inputs))
    for strip in strips(rule, axis(rule)):
        places = [(mark.x, mark.y) for mark in strip.marks]
        assert not [(a, b) for a in places for b in places if a != b and a[1] == b[1] and abs(a[0] - b[0]) < 3]


def test_what_was_refused_is_said_first_and_why(ordinary):
    params, places = ordinary
    pages.refuse(places, "plain", evidence="near copies 0.31 ± 0.02", advice="to export it, name plain in x")
    page = Page(render(read_inputs(params, places)))
    first = first_screen(page)
    assert "1 of 2 models exported, 1 refused." in first
    assert f"plain was refused: {pages.REFUSED}: near copies 0.31 ± 0.02. To export it, name plain in x." in first
    assert page.leaderboard()[0]["prior"] == "by itselfrefused"
    assert "Not exported: its samples are too close to training images" in page.text
    assert "There is no champion" not in page.text


def test_an_entry_that_failed_is_named_and_the_others_are_shown(ordinary):
    params, places = ordinary
    pages.fail(places, "plain", HOSTILE)
    page = Page(render(read_inputs(params, places)))
    assert "1 of 2 models exported, 1 failed." in page.text
    assert f"plain failed: no trial ended with a model: {HOSTILE}." in page.text
    assert [row["entry"] for row in page.leaderboard()] == ["2coded"] * 2, "with its number on the ladder"
    assert ["1plain", f"failed: no trial ended with a model: {HOSTILE}"] in page.rows


def test_an_evaluation_that_failed_costs_its_entry_alone(ordinary):
    params, places = ordinary
    metrics = json.loads((places.evaluation / "metrics.json").read_text())
    put(places.evaluation / "metrics.json", metrics | {"plain": {"failed": "MemoryError"}})
    pages.refuse(places, "plain", "its evaluation failed", "MemoryError", status="failed")
    page = Page(render(read_inputs(params, places)))
    assert "plain failed: its evaluation failed: MemoryError." in page.text
    assert len(page.leaderboard()) == 2


def test_an_export_that_failed_leaves_its_entry_the_evaluation(ordinary):
    params, places = ordinary
    pages.refuse(places, "coded", "its export must fit into memory", "bad_alloc", "failed", "run `dvc repro -f export`")
    page = Page(render(read_inputs(params, places)))
    assert "1 of 2 models exported, 1 failed." in page.text
    assert "coded failed: its export must fit into memory: bad_alloc. Run `dvc repro -f export`." in page.text
    assert "1 of 2 models passes both rules: coded." in page.text
    assert [row["prior"] for row in page.leaderboard()] == ["by itselfexported", "N(0, I)", "mixturefailedchampion"]


@pytest.mark.parametrize("bare", [False, True], ids=["with what was tried", "with nothing else"])
def test_a_page_of_failures_alone_is_a_page(ordinary, bare):
    params, places = ordinary
    for name in ("plain", "coded"):
        pages.fail(places, name)
    pages.refuse(places, "champion", "no entry could be exported")
    if bare:
        for name in ("calibration.json", "galleries.json"):
            (places.evaluation / name).unlink()
        shutil.rmtree(places.evaluation / "pictures")
        places.trials.write_text(TRIALS.splitlines()[0] + "\n")
        places.curves.write_text(CURVES.splitlines()[0] + "\n")
    page = Page(render(read_inputs(params, places)))
    assert "0 of 2 models exported, 2 failed. There is no champion." in page.text
    assert "No model could be judged." in page.text
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for attrs in page.all("a")}
    assert links <= ids, "what is not there is not linked"


@pytest.mark.parametrize("name", ["calibration.json", "galleries.json", "pictures"])
def test_what_the_evaluation_could_not_make_is_left_out(ordinary, name):
    params, places = ordinary
    path = places.evaluation / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(render(read_inputs(params, places)))
    assert len(page.leaderboard()) == 3


def test_a_champion_says_what_it_was_chosen_by(ordinary):
    params, places = ordinary
    put(places.exports / "champion/card.json", {"entry": "coded", "chosen": "rule 1 pass, then by name"})
    page = Page(render(read_inputs(params, places)))
    assert "(here: rule 1 pass, then by name)" in page.text
    assert "champion" in page.text[: page.text.index("Verdicts")]


def test_the_data_are_shown(ordinary):
    params, places = ordinary
    classes = ["Animals & Nature", HOSTILE, "Component"]
    counts = {name: {"train": train, "val": 3, "test": 4} for name, train in zip(classes, (900, 10, 5), strict=True)}
    notes = ["classes with fewer than 10 images: Component (5)"]
    need = "40 images for controls (val and a third of train)"
    small = [f"verdicts need {need}, but there are 38: both rules stay inconclusive"]
    counted = {"train": 400, "val": 300, "test": 300}
    small += too_small_for(counted, counts)
    small += too_small_for(counted, dict.fromkeys(map(str, range(21)), counted))
    factors = {"pose": ["left", "right"], "light": ["1", "2", "3"]}
    pages.describe(places, intake=pages.INTAKE, classes=classes, class_counts=counts, notes=notes, too_small_for=small)
    pages.describe(places, factors=factors)
    pages.describe(places, duplicates_dropped={"train": 0, "val": 3, "test": 5})
    Image.new("RGB", (70, 50), "red").save(places.data / "contact_sheet.png")
    rows = "".join(f"{number}.png,truncated\n" for number in range(12))
    copies = "".join(f'{name}.png,"in val, but a copy of a, b.png in an earlier split"\n' for name in "xyz")
    (places.data / "dropped.csv").write_text(f"name,reason\n{rows}{copies}")
    text = render(read_inputs(params, places))
    page = Page(text)
    for said in (
        "3\u202f775",
        "12: truncated\xa0(10), no image\xa0(2)",
        "PNG\xa0(3\u202f700), GIF\xa0(63)",
        "64\N{MULTIPLICATION SIGN}64\xa0(3\u202f763)",
        "alpha on white\xa0(3\u202f763)",
        "val\xa0(3), test\xa0(5)",
        "pose\xa0(2), light\xa0(3)",
        *notes,
        "9.png: truncated",
        "unusable files: 12, the first 10",
        "copies of images in an earlier split: 3",
        "z.png: in val, but a copy of a, b.png in an earlier split",
        *small[1:],
        "Training images, drawn at random",
    ):
        assert said in page.text
    assert "10.png" not in page.text
    assert ["Animals & Nature", "900", "3", "4"] in page.rows
    assert ["Componenttoo rare for a direction", "5", "3", "4"] in page.rows
    assert [HOSTILE, "10", "3", "4"] in page.rows
    assert HOSTILE not in text
    first = first_screen(page)
    assert f"Too little data: {small[0]}." in first
    assert len(small) == 3
    assert not [sentence for sentence in small[1:] if sentence in first], "what is of no verdict is a note"
    assert [attrs["class"] for attrs in page.all("div") if "notice" in attrs.get("class", "")] == ["notice mild"]
    assert uri((places.data / "contact_sheet.png").read_bytes()) in text


def test_copies_are_counted_where_every_file_could_be_used(ordinary):
    params, places = ordinary
    pages.describe(places, intake=pages.INTAKE | {"dropped": 0, "reasons": {}})
    reason = '"in test, but a copy of a.png in an earlier split"'
    rows = "".join(f"{number}.png,{reason}\n" for number in range(11))
    (places.data / "dropped.csv").write_text(f"name,reason\n{rows}")
    page = Page(render(read_inputs(params, places)))
    assert "copies of images in an earlier split: 11, the first 10" in page.text
    assert "unusable filesnone" in page.text.replace("\n", "")
    assert "unusable files:" not in page.text


def test_only_what_was_refused_or_failed_is_red(ordinary):
    params, places = ordinary
    pages.refuse(places, "plain")
    pages.describe(places, too_small_for=["verdicts on fewer than 400 images for controls are often inconclusive"])
    text = render(read_inputs(params, places))
    red, mild = re.findall(r'<div class="(notice[^"]*)".*?</div>', text, re.DOTALL)
    assert (red, mild) == ("notice", "notice mild")
    inside = re.findall(r'<div class="notice[^"]*".*?</div>', text, re.DOTALL)
    assert "Too little data" not in inside[0]
    assert "was refused" in inside[0]
    assert "often inconclusive" in inside[1]


def test_many_classes_are_folded_away(ordinary):
    params, places = ordinary
    classes = [f"kind {index}" for index in range(300)]
    pages.describe(places, classes=classes, class_counts={name: {"train": 20, "val": 3, "test": 4} for name in classes})
    page = Page(render(read_inputs(params, places)))
    assert "288 more classes" in page.text


@pytest.mark.parametrize("facts", [{}, {"intake": None, "class_counts": None, "notes": None, "too_small_for": None}])
def test_data_of_which_little_is_known_are_shown_too(ordinary, facts):
    params, places = ordinary
    pages.describe(places, **facts)
    page = Page(render(read_inputs(params, places)))
    assert "Test images, on which no model was trained" in page.text
    assert "files seen" not in page.text


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_test_images_are_shown_with_all_their_channels(ordinary, channels):
    params, places = ordinary
    images = np.random.default_rng(0).integers(0, 256, (20, channels, 6, 7), dtype=np.uint8)
    np.save(places.data / "test.npy", images)
    text = render(read_inputs(params, places))
    found = re.search(r'src="data:image/\w+;base64,([^"]+)" alt="Test images', text)
    with Image.open(io.BytesIO(base64.b64decode(found.group(1)))) as picture:
        sheet = np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(
            *picture.size[::-1], channels
        )
    np.testing.assert_array_equal(sheet, grid(images / np.float32(255), 16))


@pytest.mark.parametrize("calibration", [{}, {"rules": {}}, {"rules": {"1": {"controls": [], "metrics": []}}}])
def test_a_page_without_calibration_says_so_or_shows_less(ordinary, tmp_path, calibration):
    put(tmp_path / "evaluation/calibration.json", calibration)
    page = Page(render(read_inputs(*ordinary)))
    assert ("No rule was calibrated." in page.text) == (not calibration.get("rules"))


def test_images_without_labels_have_no_classifier(page):
    assert "no feature space of a classifier" in page.text


def test_learning_curves_run_from_the_first_epoch_to_the_last():
    found = charts([Curve("vae", "a", [1, 2, 3], [9.0, 1.0, 3.0]), Curve("plain", "b", [], [])])
    assert list(found) == ["vae"], "what learns in closed form has none"
    assert found["vae"].lines == ["0.0,0.0 160.0,150.0 320.0,112.5"]
    assert (found["vae"].best, found["vae"].best_epoch) == ("1.00", 2)


def test_a_single_epoch_is_a_curve_too():
    assert charts([Curve("vae", "a", [1], [9.0])])["vae"].lines == ["0.0,0.0"]


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.91234, 0.0231, "0.91\xa0±\xa00.02"),
        (0.91234, 0.0131, "0.912\xa0±\xa00.013"),
        (-513.32, 5.39, "\u2212513\xa0±\xa05"),
        (1234.5, 100.0, "1234\xa0±\xa0100"),
        (0.5, 0.0, "0.500"),
        (0.998, 9.9e-17, "0.998"),
        (0.0133, 2e-5, "0.0133"),
        (0.0, None, "0.00"),
    ],
)
def test_numbers_have_the_digits_that_their_error_allows(value, error, expected):
    assert plus_minus(value, error) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(1234.5, "1234"), (12.345, "12.3"), (1e-9, "0.0000"), (-0.5, "\u22120.500")]
)
def test_numbers_have_three_digits_and_no_exponent(value, expected):
    assert plain(value) == expected


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("data/manifest.json", "prepare"),
        ("trials.csv", "train"),
        ("curves.csv", "train"),
        ("models/coded/trial.json", "train"),
        ("evaluation/metrics.json", "evaluate"),
        ("exports/coded/card.json", "publish@coded"),
        ("exports/champion/card.json", "champion"),
    ],
)
def test_a_missing_input_names_the_stage_that_writes_it(ordinary, tmp_path, name, stage):
    (tmp_path / name).rename(tmp_path / "gone")
    with pytest.raises(InputError, match=f"run `dvc repro {stage}`$") as error:
        read_inputs(*ordinary)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("evaluation/metrics.json", "{", "must be JSON"),
        ("evaluation/metrics.json", "{}", "lacks 'plain'"),
        ("evaluation/calibration.json", "[]", "must be a JSON object, but got a list"),
        ("evaluation/galleries.json", "nonsense", "must be JSON"),
        ("curves.csv", "entry,trial\na,b\n", "must have numbers under .* run `dvc repro train`"),
        ("curves.csv", "entry,trial,epoch,val_loss\na,b,one,2\n", "must have numbers under .* run `dvc repro train`"),
    ],
)
def test_damaged_inputs_end_in_one_line(ordinary, tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=expected):
        read_inputs(*ordinary)


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        ("samples", drawn(0.97), "97.0%, baseline 52.0%: draws fall into holes"),
        ("samples", drawn(0.55), "no holes"),
        ("gallery", samples(), "nearest training images"),
        ("distances", samples("fail", ratio=1.9), "1.90 times as far from their nearest training image"),
        ("distances", samples("fail"), "But Rule 1 fails"),
        ("distances", samples(), "about as close as new images."),
        ("distances", samples(ratio=0.1), "too close to be new"),
        ("distances", {}, ""),
        ("distances", AT_TRAINING, "At least half of the test images equal a training image"),
        ("samples", AT_TRAINING, ""),
        ("codes", drawn(), "over draws from the prior. Dimensions in which they differ: 2."),
        ("closest", samples(), "0.40% of 750 test images: the difference may be chance"),
        ("closest", samples(copies=0.2), "20.0% of all samples are near copies (95% interval 18.0 to 22.0)"),
        ("closest", samples(copies=0.2), "0.40% of 750 test images: more than among these, so look for copies"),
        ("closest", samples(copies=0.012), "1.2% of all samples are near copies (95% interval 1.1 to 1.3)"),
        ("closest", samples(copies=0.012), "look for copies"),
        ("closest", samples(copies=0.009), "the difference may be chance"),
        ("closest", {}, "The ten samples closest to a training image"),
    ],
)
def test_captions_of_samples_follow_the_numbers(kind, found, expected):
    assert expected in KINDS[kind].caption(Subject({"samples": {"normal": found}}, "normal", MANIFEST))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("reconstructions", "PSNR 20.1 dB, SSIM 0.74."),
        ("worst", "squared error up to 0.0500, for half of the images below 0.0090, for 95% below 0.0200"),
        ("interpolations", "The longest step is 1.8 times the mean one"),
        ("traversals", "19 of 20 dimensions are active"),
        ("codes", "coloured by class"),
        ("factors", "would be ideal. MIG 0.12, disentanglement 0.50."),
        ("kl", "26.5 nats in total. Collapsed to the prior, without information: 1."),
        (
            "likelihood",
            "falls from \u2212500 nats with 1 sample to \u2212513 with 1000. The ELBO is 13.3 nats looser.",
        ),
    ],
)
def test_other_captions_follow_the_numbers(kind, expected):
    assert expected in KINDS[kind].caption(Subject(CODED, "", MANIFEST))


@pytest.mark.parametrize("kind", KINDS)
def test_captions_do_without_numbers_that_were_not_found(kind):
    KINDS[kind].caption(Subject({"samples": {"normal": {}}}, "normal", MANIFEST))


def test_a_model_is_introduced_by_its_docstring():
    (style, first), *_, (_, last) = blocks = introduction("naive_bayes").blocks
    assert (style, first) == ("text", "Naive Bayes: every pixel an independent coin.")
    assert next(text for style, text in blocks if style == "formula").startswith("log p(x) = sum_i")
    assert last.endswith("noise around\nthe mean.")


@pytest.mark.parametrize(
    ("shape", "tile"), [([1, 8, 8], (56, 56)), ([3, 20, 10], (30, 60)), ([3, 100, 120], (120, 100))]
)
def test_tiles_are_enlarged_by_whole_factors(shape, tile):
    _, height, width = shape
    file = io.BytesIO()
    Image.new("RGB", (6 * width, 2 * height)).save(file, "PNG")
    found = gallery("sheet", Picture("", "", "gallery", "normal", "", False, file.getvalue()), [[1.0]], shape)
    assert (found.columns, (found.width, found.height)) == (6, tile)
    assert found.distances == [[1.0], []], "as many rows as the picture has"


def shown(found):
    """The pixels of a data: URI."""
    with Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_pictures_are_compressed_for_the_page_and_only_large_ones_in_colour_lose_anything():
    noise = np.random.default_rng(0).normal(128, 10, (300, 300, 3)).astype(np.uint8)
    for picture in (noise[:40, :40], noise[..., :1], np.zeros((400, 400, 3), dtype=np.uint8)):
        assert len(uri(png(picture))) <= 4 * (len(png(picture)) + 2) // 3 + 30
        assert (shown(uri(png(picture))) == picture).all(), "small, grey and plain ones stay exact"
    assert len(uri(png(noise))) < len(png(noise)) / 2
    assert 0 < np.abs(shown(uri(png(noise))) - noise).mean() < 10
