"""The page in a browser, as one uses it: nothing is loaded, all works by keyboard, on a phone, in the dark."""

import re
import shutil

import pages
import pytest
from pages import CODED, HOSTILE, PLAIN, SHOWN, samples

from latentmill.report.inputs import read_inputs
from latentmill.report.page import render

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
PROJECTOR = {"width": 1280, "height": 720}

if CHROMIUM is None:
    pytest.skip("chromium isn't installed (Debian: apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory, digits):
    """The page of an ordinary ladder, and one in which all text from outside is hostile."""
    verdict = {"status": "fail", "evidence": HOSTILE, "samples": 1}
    hostile = PLAIN | {"samples": {"own": samples() | {"rule_1": verdict}}}
    ladders = {
        "ordinary": {"plain": ("naive_bayes", PLAIN), "coded_by_a_network_with_a_long_name": ("vae", CODED)},
        "hostile": {HOSTILE: ("naive_bayes", hostile), "coded": ("vae", CODED)},
        "short": dict.fromkeys(("copier", "broken", "plain"), ("naive_bayes", PLAIN)),
    }
    found = {}
    for name, entries in ladders.items():
        root = tmp_path_factory.mktemp(name)
        inputs = pages.write(root, digits, entries, source=HOSTILE if name == "hostile" else "small digits")
        if name == "short":
            short_of_much(inputs[1])
        found[name] = root / "index.html"
        found[name].write_text(render(read_inputs(*inputs)), encoding="utf-8")
    return found


def short_of_much(places):
    """One entry was refused, one failed, and of the data there is much to say."""
    pages.refuse(
        places, "copier", evidence="near copies 0.31 ± 0.02, fails above 0.025", advice="to export it, name it"
    )
    pages.fail(places, "broken", f"x{'_' * 100}x")
    classes = ["Animals & Nature", HOSTILE, *(f"kind {index}" for index in range(30))]
    counts = {name: {"train": 9, "val": 3, "test": 4} for name in classes}
    facts = {"classes": classes, "class_counts": counts, "too_small_for": ["verdicts need 40 images for controls"]}
    pages.describe(places, intake=pages.INTAKE, **facts)


@pytest.fixture
def visit(browser, files):
    """Open a page; at the end of the test nothing may have gone wrong or been asked for."""
    contexts, requests, said, dialogs = [], [], [], []

    def visit(name="ordinary", viewport=DESK, at="", **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(f"{files[name].as_uri()}#{at}")
        return page

    yield visit
    for context in contexts:
        context.close()
    known = {path.as_uri() for path in files.values()}
    assert {url for url in requests if not url.startswith("data:")} <= known
    assert said == []
    assert dialogs == []


def entries(page):
    """The first column of the leaderboard, by rank."""
    return [text.split()[0] for text in page.locator("table.sortable tbody th").all_inner_texts()]


def header(page, title):
    return page.locator("table.sortable thead th", has=page.get_by_role("button", name=re.compile(f"^{title}")))


def shown(page):
    return page.locator("#neighbours-title").inner_text()


def focused(page):
    return page.evaluate("document.activeElement.dataset.row")


def wait_for_focus(page, row):
    """The dialog hands the focus back in an event, after it is gone."""
    page.wait_for_function("row => document.activeElement.dataset.row === row", arg=row)


def test_it_loads_nothing_and_says_nothing(visit):
    page = visit()
    assert page.title() == "latentmill: digits"
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter(each => !each.name.startsWith('data:'))") == []
    )
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_a_click_on_a_header_sorts_by_it_and_says_so(visit):
    page = visit()
    column = header(page, "precision")
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending", "the best first"
    assert entries(page) == ["2", "2", "1"]
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "ascending"
    assert entries(page) == ["1", "2", "2"]
    assert page.locator("th[aria-sort]").count() == 1


def test_what_a_model_cannot_do_is_sorted_last_either_way(visit):
    page = visit()
    for _ in range(2):
        header(page, "PSNR").get_by_role("button").click()
        assert entries(page) == ["2", "2", "1"]


def test_the_keyboard_sorts_and_goes_back_to_the_ladder(visit):
    page = visit()
    header(page, "precision").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert entries(page) == ["2", "2", "1"]
    header(page, "entry").get_by_role("button").focus()
    page.keyboard.press("Space")
    assert entries(page) == ["1", "2", "2"]
    assert header(page, "entry").get_attribute("aria-sort") == "ascending"


def test_text_columns_sort_by_their_letters(visit):
    page = visit()
    header(page, "prior").get_by_role("button").click()
    texts = [row.split("\t")[1] for row in page.locator("table.sortable tbody tr").all_inner_texts()]
    assert texts == sorted(texts, key=str.lower)


def test_columns_are_hidden_without_a_script(visit):
    page = visit(java_script_enabled=False)
    column = page.locator("table.sortable thead th", has_text="PSNR")
    assert column.is_visible()
    page.get_by_label("Reconstruction", exact=True).uncheck()
    assert not column.is_visible()


def test_the_keyboard_alone_opens_moves_and_closes(visit):
    page = visit()
    page.locator("summary", has=page.locator("#entry-1")).focus()
    page.keyboard.press("Enter")
    for _ in range(3):  # the objective, then the gallery
        if focused(page) is None:
            page.keyboard.press("Tab")
    assert focused(page) == "0"
    page.keyboard.press("Enter")
    assert shown(page) == f"Sample 1 of {SHOWN}: plain, by itself"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert shown(page).startswith("Sample 3 of")
    page.keyboard.press("ArrowLeft")
    assert shown(page).startswith("Sample 2 of")
    page.keyboard.press("Escape")
    assert not page.locator("#neighbours").is_visible()
    wait_for_focus(page, "1")  # where one was
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    wait_for_focus(page, "1")


def test_the_dialog_shows_five_neighbours_and_their_distances(visit):
    page = visit(at="entry-1")
    page.locator(".gallery button").nth(3).click()
    assert page.locator("#neighbours figcaption").all_inner_texts() == [
        "sample",
        "3.25",
        "4.00",
        "5.00",
        "6.00",
        "7.00",
    ]
    tiles = page.locator("#neighbours .tile")
    images = tiles.evaluate_all("tiles => tiles.map(tile => getComputedStyle(tile).backgroundImage.slice(0, 27))")
    assert images == ['url("data:image/webp;base64'] * 6
    places = tiles.evaluate_all("tiles => tiles.map(tile => getComputedStyle(tile).backgroundPositionX)")
    assert places == ["0%", "20%", "40%", "60%", "80%", "100%"]


def test_the_dialog_has_buttons_for_all_that_its_keys_do(visit):
    page = visit(at="entry-1")
    page.locator(".gallery button").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Previous").click(force=True)
    assert shown(page).startswith("Sample 1 of"), "there is none before the first"
    dialog.get_by_role("button", name="Next").click()
    assert shown(page).startswith("Sample 2 of")
    dialog.get_by_role("button", name="Close").click()
    assert not page.locator("#neighbours").is_visible()


def test_arrows_move_within_a_gallery_that_is_one_stop_of_the_tab_key(visit):
    page = visit(at="entry-1")
    gallery = page.locator(".gallery").first
    assert gallery.locator("button[tabindex='0']").count() == 1
    gallery.locator("button").first.focus()
    for key, row in {"ArrowRight": 1, "ArrowDown": 17, "End": SHOWN - 1, "ArrowRight ": SHOWN - 1, "Home": 0}.items():
        page.keyboard.press(key.strip())
        assert focused(page) == str(row)


def test_focus_is_visible(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_answer_and_what_went_wrong_are_on_the_first_screen(visit):
    page = visit("short")
    for said in (
        "Looks like the data:",
        "Copies:",
        "Exported:",
        "1 of 3 models exported, 1 refused and 1 failed.",
        "copier was refused: its samples",
        "broken failed: ",
        "What to try next",
    ):
        box = page.locator("header").get_by_text(said).bounding_box()
        assert box["y"] + box["height"] < DESK["height"], said
    assert page.get_by_role("note").locator("li").count() == 3


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_samples_stand_beside_real_images(visit, viewport):
    page = visit(viewport=viewport)
    samples, real = (box.bounding_box() for box in page.locator(".answer img").all())
    assert round(samples["y"]) == round(real["y"])
    assert round(samples["width"]) == round(real["width"]) > viewport["width"] / 4
    assert real["y"] + real["height"] < viewport["height"]


def test_sections_are_folded_until_a_link_leads_to_them(visit):
    page = visit()
    assert page.evaluate("document.documentElement.scrollHeight") < 5_000
    gallery = page.locator(".gallery").first
    assert not gallery.is_visible()
    page.get_by_role("navigation").get_by_text("plain").click()
    assert gallery.is_visible()


@pytest.mark.parametrize("name", ["ordinary", "hostile", "short"])
def test_a_phone_scrolls_down_only(visit, name):
    page = visit(name, PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    page.locator(".gallery button").first.click()
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    dialog = page.locator("#neighbours")
    assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def luminance(colour):
    """Of rgb(r, g, b), as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(visit, scheme):
    page = visit(color_scheme=scheme)
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper > 0.8) == (scheme == "light")
    for text in ("body", ".soft", ".note", "a", ".good", ".bad", ".chip.unsure", "figcaption"):
        ink = luminance(page.locator(text).first.evaluate("each => getComputedStyle(each).color"))
        lighter, darker = max(ink, paper), min(ink, paper)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, text


@pytest.mark.parametrize(("motion", "behaviour"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_motion_is_reduced_where_one_asks_for_it(visit, motion, behaviour):
    page = visit(reduced_motion=motion)
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour


def test_each_step_of_the_ladder_fits_on_a_projector_and_an_arrow_leads_to_the_next(visit):
    page = visit(viewport=PROJECTOR, reduced_motion="reduce")
    steps = page.locator(".entries > li")
    assert [step["height"] <= PROJECTOR["height"] for step in boxes(steps)] == [True, True]
    assert page.locator(".story").evaluate_all(
        "all => all.every(one => parseFloat(getComputedStyle(one).fontSize) > 20)"
    )
    page.get_by_role("link", name="On to coded").click()
    page.wait_for_function("Math.abs(document.getElementById('step-2').getBoundingClientRect().top) < 40")
    assert page.get_by_role("link", name="On to").count() == 1, "the last leads nowhere"


def test_samples_keep_their_shape_in_rows_of_eight_or_on_a_phone_six(visit):
    for viewport, columns in ((PROJECTOR, 8), (PHONE, 6)):
        found = visit(viewport=viewport).locator(".tiles").first
        tiles = [each for each in boxes(found.locator(".tile")) if each]
        across = sum(tile["y"] == tiles[0]["y"] for tile in tiles)
        assert across == columns
        assert all(tile["width"] == pytest.approx(tile["height"], abs=0.1) for tile in tiles)


def boxes(found):
    return [found.nth(index).bounding_box() for index in range(found.count())]


def test_hostile_text_stays_text(visit):
    page = visit("hostile", at="entry-1")
    page.locator(".gallery button").first.click()
    assert HOSTILE in shown(page)
    page.keyboard.press("Escape")
    for button in page.locator("table.sortable thead button:visible").all():
        button.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_pictures_and_verdicts_need_no_script(visit):
    page = visit(java_script_enabled=False)
    assert page.get_by_text("1 of 2 models passes both rules").is_visible()
    tile = page.locator(".gallery button").first
    assert not tile.is_visible()
    page.locator("#entry-1").click()
    assert tile.is_visible()
    assert tile.bounding_box()["width"] == 56
