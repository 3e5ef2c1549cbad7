"""The page from small made-up inputs: self-contained, escaped, and right about what a model cannot do."""

import json
from html.parser import HTMLParser

import pytest
from PIL import Image

from latentmill.config import Params, checked
from latentmill.data import dataset
from latentmill.errors import InputError
from latentmill.report.captions import KINDS, Subject
from latentmill.report.inputs import Places, read_inputs
from latentmill.report.page import introduction, render

HOSTILE = "<img src=x onerror=\"alert('1')\">&amp;{{ 7*7 }}"
BINARY, DENSITY = "pixels binarised at random", "8-bit pixels dequantised"
NEAR = {
    "precision": 0.9,
    "coverage": 0.8,
    "nearest_train_median": 5.0,
    "nearest_train_ratio_to_test": 1.0,
    "closer_than_1pct_of_test": 0.004,
}
NOISE = NEAR | {"precision": 0.0, "coverage": 0.0, "nearest_train_ratio_to_test": 1.9}
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
LIKELIHOOD = {"nats": -513.32, "standard_error": 5.39, "bits_per_dimension": 7.05, "images": 50}
PLAIN = {
    "likelihood": LIKELIHOOD | {"kind": "exact", "sample_space": BINARY},
    "samples": {"pixels": NOISE},
    "exported_prior": "pixels",
}
CODED = {
    "likelihood": LIKELIHOOD | {"kind": "bound (10 samples)", "sample_space": BINARY},
    "reconstruction": {"mse": 0.0103, "psnr_db": 20.1, "ssim": 0.74},
    "kl": {"nats": 26.5, "active_dimensions": 19},
    "samples": {"normal": NEAR | {"coverage": 0.3}, "mixture": NEAR},
    "exported_prior": "mixture",
}
TRIALS = """entry,fingerprint,variant,seed,status,winner,criterion,seconds,error,model.latent
plain,aa,naive_bayes,0,finished,yes,1.5,0.04,,
coded,bb,vae,0,finished,yes,2.5,10,,2
coded,cc,vae,0,failed,,,,"DivergedError: loss is
<nan>",3
"""


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

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open[-1:] == ["style"] else data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data.strip()

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def write(tmp_path, digits):
    """Lay out what the other stages write, for entries: name -> (variant, metrics)."""

    def write(entries):
        places = Places(*(tmp_path / name for name in ("data", "trials.csv", "models", "evaluation", "exports")))
        places.data.mkdir()
        splits = dict.fromkeys(dataset.SPLITS, digits[:20])
        dataset.write(places.data, dataset.Splits(splits, None, dict.fromkeys(splits, 0)), "digits", "small <digits>")
        places.trials.write_text(TRIALS)
        for name, (variant, metrics) in entries.items():
            write_entry(places, name, variant, metrics)
        put(places.evaluation / "metrics.json", {name: metrics for name, (_, metrics) in entries.items()})
        ladder = {name: {"variant": variant, "latent": [2, 3]} for name, (variant, _) in entries.items()}
        sections = {"data": {"source": "digits"}, "trial": {}, "train": {}, "evaluation": {}}
        return checked(Params, sections | {"ladder": ladder}, "params"), places

    return write


def write_entry(places, name, variant, metrics):
    trial = {"variant": variant, "model": {"latent": 2}, "training": None, "seed": 0}
    record = {"trial": trial, "fingerprint": "aa", "criterion": -1.5, "best_epoch": 0, "history": [], "seconds": 0.04}
    put(places.models / name / "trial.json", record)
    put(places.exports / name / "card.json", {"files": {"g.onnx": {"bytes": 9, "largest_difference_from_torch": 0.0}}})
    kinds = [f"{kind}_{route}" for route in metrics["samples"] for kind in ("samples", "neighbours", "distances")]
    coded = ["reconstructions", "interpolations", "codes"] if "reconstruction" in metrics else []
    folder = places.evaluation / "pictures" / name
    folder.mkdir(parents=True)
    for kind in [*kinds, *coded, *(["kl"] if "kl" in metrics else []), "new_kind"]:
        Image.new("L", (2, 2)).save(folder / f"{kind}.png")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def usual(write):
    return write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", CODED)})


def test_the_page_loads_nothing_from_elsewhere(usual):
    text = render(read_inputs(*usual))
    page = Page(text)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert all(link["href"].startswith("data:") for link in page.all("link"))
    assert not page.all("script")
    assert "@import" not in text
    assert "url(" not in text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {anchor["href"] for anchor in page.all("a")} <= {f"#{name}" for name in ids}


def test_every_picture_is_shown_with_words(usual):
    params, places = usual
    page = Page(render(read_inputs(params, places)))
    pictures = list((places.evaluation / "pictures").rglob("*.png"))
    strip = 1 + 2 + 1  # samples of one entry, of the other in two ways, and the data
    assert len(page.all("img")) == len(pictures) + strip
    assert all(image["alt"] for image in page.all("img"))
    assert "new_kind" in page.text


def test_what_a_model_cannot_do_reads_as_a_dash(usual):
    page = Page(render(read_inputs(*usual)))
    plain, coded, below = [row for row in page.rows if row[1:2] and row[1].startswith(("no code", "N(0, I)"))] + [
        row for row in page.rows if row[0].startswith("the mixture")
    ]
    assert plain[-5:] == ["—"] * 5, "reconstruction and KL"
    assert coded[-5:] == ["0.0103", "20.1", "0.740", "26.5", "19"]
    assert coded[-8:-5] == ["bound (10 samples)", "\u2212513.3\xa0±\xa05.4", "7.050"]
    assert below[1:] == ["90.0", "80.0", "5.00", "1.00", "0.4"], "numbers of samples alone are told twice"


@pytest.mark.parametrize(("space", "marked"), [(BINARY, False), (DENSITY, True)])
def test_likelihoods_are_marked_only_where_they_do_not_compare(write, space, marked):
    other = CODED | {"likelihood": CODED["likelihood"] | {"sample_space": space}}
    page = Page(render(read_inputs(*write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", other)}))))
    marks = [attrs for attrs in page.all("sup") if attrs.get("class") == "space"]
    assert len(marks) == (2 * 2 + 2 if marked else 0), "two numbers an entry, and the footnotes"
    assert ("Not comparable" in page.text) == marked
    assert space in page.text


def test_a_ladder_without_likelihoods_has_no_word_on_them(write):
    silent = {key: value for key, value in CODED.items() if key != "likelihood"}
    page = Page(render(read_inputs(*write({"coded": ("autoencoder", silent)}))))
    assert "bound" not in page.text
    assert "Not comparable" not in page.text


def test_text_from_outside_is_escaped(write):
    text = render(read_inputs(*write({HOSTILE: ("naive_bayes", PLAIN)})))
    page = Page(text)
    assert HOSTILE in page.text
    assert HOSTILE not in text
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert "small <digits>" in page.text


def test_failed_trials_are_told_with_their_error(usual):
    page = Page(render(read_inputs(*usual)))
    assert "1 of them failed" in page.text
    assert "(latent 3): DivergedError: loss is\n<nan>" in page.text
    assert "latent 2 (of 2, 3)" in page.text


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("data/manifest.json", "prepare"),
        ("trials.csv", "train"),
        ("models/coded/trial.json", "train"),
        ("evaluation/metrics.json", "evaluate"),
        ("evaluation/pictures/plain", "evaluate"),
        ("exports/coded/card.json", "export"),
    ],
)
def test_a_missing_input_names_the_stage_that_writes_it(usual, tmp_path, name, stage):
    (tmp_path / name).rename(tmp_path / "gone")
    with pytest.raises(InputError, match=f"run the stage {stage}$") as told:
        read_inputs(*usual)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("content", "told"), [("{", "must be JSON"), ("{}", "lacks 'plain'")])
def test_damaged_metrics_end_in_one_line(usual, content, told):
    params, places = usual
    (places.evaluation / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=told):
        read_inputs(params, places)


@pytest.mark.parametrize(
    ("kind", "route", "samples", "told"),
    [
        ("samples", "pixels", {"pixels": NOISE}, "Not one sample comes near a test image"),
        ("samples", "normal", CODED["samples"], "N(0, I) misses the codes: 30.0%"),
        ("samples", "mixture", CODED["samples"], "asked where its codes are: 80.0%"),
        ("samples", "normal", {"normal": NEAR, "mixture": NEAR}, "The codes fill the space of N(0, I)"),
        ("distances", "pixels", {"pixels": NOISE}, "1.90 times as far from their nearest training image"),
        ("distances", "normal", CODED["samples"], "miss most of the data: only 30.0%"),
        ("distances", "mixture", CODED["samples"], "about what is usual for new images"),
        ("distances", "normal", {"normal": NEAR | {"nearest_train_ratio_to_test": 0.1}}, "too close to be new"),
        ("neighbours", "normal", {"normal": NEAR}, "no more than the usual 1%"),
        ("neighbours", "normal", {"normal": NEAR | {"closer_than_1pct_of_test": 0.2}}, "look for copies"),
    ],
)
def test_captions_follow_the_numbers(kind, route, samples, told):
    assert told in KINDS[kind].tell(Subject({"samples": samples}, route, labelled=False))


def test_a_variant_is_introduced_by_its_docstring():
    (style, first), *_, (_, last) = blocks = introduction("naive_bayes")
    assert (style, first) == ("text", "Naive Bayes: every pixel an independent coin.")
    assert next(text for style, text in blocks if style == "formula").startswith("log p(x) = sum_i")
    assert last.endswith("noise around\nthe mean.")
