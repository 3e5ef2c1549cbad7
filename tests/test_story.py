"""The ladder as a story: what each entry adds and lacks, its likelihood beside the others', its number of samples."""

import re
from pathlib import Path

import pages
import pytest
from pages import BINARY, CODED, DENSITY, LIKELIHOOD, PLAIN

from latentmill import models, registry
from latentmill.project import catalogue
from latentmill.report.calibration import entries
from latentmill.report.inputs import Entry, read_inputs
from latentmill.report.introduction import introduction
from latentmill.report.leaderboard import other_samples
from latentmill.report.likelihoods import Mark, likelihoods
from latentmill.report.page import render
from latentmill.report.sections import sections

LONGEST = 130  # characters of a sentence that is read at a glance
TABLE = Path(__file__).parents[1] / "docs" / "models.md"


@pytest.mark.parametrize("name", registry.names("models"))
def test_every_model_says_what_it_adds_and_lacks(name):
    found, rule = introduction(name), f"models/{name}.py must end its docstring with a paragraph `Adds: …`, `Lacks: …`"
    assert found.adds, rule
    assert found.lacks, rule
    for sentence in (found.adds, found.lacks):
        assert re.fullmatch(r"[^A-Z].*[^.]\.", sentence), f"{rule}, each a phrase with a full stop: {sentence}"
        assert len(sentence) <= LONGEST, f"{rule}, each of at most {LONGEST} characters: {sentence}"
    assert not any("Adds:" in text for _, text in found.blocks)


@pytest.mark.parametrize("name", registry.names("models"))
def test_the_table_of_models_has_the_same_sentences(name):
    rows = [line.strip("|").split("|") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    found = [[cell.strip() for cell in row] for row in rows if row[0].strip() == f"`{name}`"]
    sentences, row = introduction(name), "a row `model | adds | still lacks | good for | reference`"
    assert found, f"docs/models.md must have {row} for {name}"
    assert found[0][1:3] == [sentences.adds, sentences.lacks], f"docs/models.md must have them in {row}"
    assert len(found[0]) == 5
    assert all(found[0])


def test_the_list_of_models_has_the_same_sentences():
    lines = "\n".join(catalogue.described())
    for name in registry.names("models"):
        assert f"adds {introduction(name).adds}" in lines
        assert f"lacks {introduction(name).lacks}" in lines


def test_a_model_without_sentences_has_none(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text('"""One.\n\nTwo."""\n')
    monkeypatch.setattr(models, "__path__", [str(tmp_path)])
    found = introduction("mine")
    assert found.blocks == [("text", "One."), ("text", "Two.")]
    assert (found.adds, found.lacks) == ("", "")


@pytest.fixture
def write(tmp_path, digits):
    return lambda entries: pages.write(tmp_path, digits, entries)


def with_keys(params, entry, **keys):
    return params.model_copy(update={"ladder": params.ladder | {entry: params.ladder[entry] | keys}})


def test_an_entry_may_have_sentences_of_its_own(write):
    params, places = write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", CODED)})
    own = with_keys(params, "coded", adds="<b>codes</b>.")
    plain, coded = sections(read_inputs(own, places))
    assert plain.adds == introduction("naive_bayes").adds
    assert (coded.adds, coded.lacks) == ("<b>codes</b>.", introduction("vae").lacks)
    text = render(read_inputs(own, places))
    assert "<b>Adds</b> &lt;b&gt;codes&lt;/b&gt;.</p>" in text
    assert f"<b>Lacks</b> {introduction('naive_bayes').lacks}</p>" in text


def entry(name, nats=None, kind="exact", space=BINARY):
    found = {} if nats is None else {"likelihood": LIKELIHOOD | {"nats": nats, "kind": kind, "sample_space": space}}
    return Entry(name, 1, {}, {}, found, {}, None, [], 10)


def test_a_gain_is_over_the_entry_before_in_the_same_sample_space():
    bound = "bound (9 samples)"
    ladder = [entry("a", 200.0), entry("b", -500.0, space=DENSITY), entry("none"), entry("c", 140.25, "AIS")]
    ladder += [entry("d", 150.0, bound), entry("e", 150.01), entry("f", -600.0, space=DENSITY)]
    found = likelihoods(ladder)
    assert {name: each.gain for name, each in found.items()} == {
        "a": "",
        "b": "",
        "c": "59.8 nats better than a (exact)",
        "d": "9.8 nats worse than c (AIS)",
        "e": f"the same as d ({bound})",
        "f": "100.0 nats better than b (exact)",
    }
    assert found["d"].kind == bound
    assert found["a"].nats == "200\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}5"


def test_an_axis_has_only_what_compares_the_best_on_the_right():
    found = likelihoods([entry("a", 150.0), entry("b", -500.0, space=DENSITY), entry("c", 100.0), entry("d", 200.0)])
    assert found["a"].marks == found["c"].marks == found["d"].marks
    assert found["a"].marks == [Mark("d", "200", 0.0), Mark("a", "150", 50.0), Mark("c", "100", 100.0)]
    assert found["b"].marks == [], "it is alone"
    assert likelihoods([entry("a", 1.0), entry("b", 1.0)])["a"].marks == [], "no two numbers"


def test_the_page_has_an_axis_with_the_entry_on_it(write):
    found = PLAIN["likelihood"] | {"nats": 600.0}
    text = render(
        read_inputs(*write({"plain": ("naive_bayes", PLAIN | {"likelihood": found}), "coded": ("vae", CODED)}))
    )
    axes = re.findall(r'<div class="scale".*?</div>', text)
    assert ['class="here" style="left:0.0%"' in axis for axis in axes] == [True, False]
    assert ['class="here" style="left:100.0%"' in axis for axis in axes] == [False, True]
    assert "1113.3 nats better than plain (exact)" in text


def test_the_strips_are_tiles_of_the_galleries_which_are_there_anyway(write):
    params, places = write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", CODED)})
    story = story_of(render(read_inputs(params, places)))
    assert story.count('role="img" aria-label="Samples of coded') == 2, "one a prior"
    assert story.count('class="tile sheet-2-0"') == pages.SHOWN
    assert story.count('class="tile sheet-2-1"') == 12
    assert "<img" not in story
    for path in (places.evaluation / "pictures" / "coded").glob("gallery_*.png"):
        path.unlink()
    assert story_of(render(read_inputs(params, places))).count("<img") == 2


def story_of(text):
    return text[text.index('id="ladder"') : text.index('id="leaderboard"')]


def test_an_entry_with_its_own_number_of_samples_says_so_and_has_other_controls(write):
    params, places = write({"plain": ("naive_bayes", PLAIN), "coded": ("vae", CODED)})
    usual = render(read_inputs(params, places))
    assert "judged on" not in usual
    assert "Entries with another" not in usual
    inputs = read_inputs(with_keys(params, "plain", evaluation_samples=1000), places)
    thousand = "1\N{NARROW NO-BREAK SPACE}000"
    assert other_samples(inputs) == f"{thousand} of plain"
    assert [each.name for each in entries(inputs)] == ["coded"]
    text = render(inputs)
    assert f"judged on {thousand} samples</p>" in text
    assert f"samples for each prior ({thousand} of plain)" in text
    assert f"number ({thousand} of plain) were judged with controls of that size" in text


def test_the_share_of_near_copies_is_of_the_samples_of_the_entry(write):
    params, places = write({"plain": ("naive_bayes", PLAIN)})
    few = with_keys(params, "plain", evaluation_samples=100)
    bounds = [
        re.search(r"are near copies \(at most ([\d.]+)", render(read_inputs(each, places)))[1] for each in (params, few)
    ]
    assert float(bounds[1]) > 2 * float(bounds[0])
