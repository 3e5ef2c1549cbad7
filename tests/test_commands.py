"""The command `latentmill` on an exported folder: what it writes and says, and how it fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import SHAPE

from latentmill import Decoder
from latentmill.cli import main
from latentmill.config import load_params
from latentmill.data import sources
from latentmill.data.listing import listing
from latentmill.errors import InputError
from latentmill.export.outcome import read_outcome
from latentmill.runtime import commands, progress_bar
from latentmill.runtime.arguments import pixels
from latentmill.runtime.image_file import read_images
from latentmill.runtime.images import grid

KILLED = """
import os, signal
from latentmill.cli import main
from latentmill.runtime import images

images._WRITERS = dict.fromkeys(images._WRITERS, lambda *given: os.kill(os.getpid(), signal.SIGKILL))
main({arguments})
"""


@pytest.fixture
def folder(tmp_path):
    return tiny.write(tmp_path / "exports" / "tiny")


def picture(path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened)


def test_sample_writes_what_the_decoder_draws(folder, tmp_path, capfd):
    out = tmp_path / "a.npy"
    main(["sample", str(folder), "--n", "6", "--seed", "9", "--temperature", "0.5", "--out", str(out)])
    np.testing.assert_array_equal(np.load(out), Decoder(folder).sample(6, seed=9, temperature=0.5))
    assert capfd.readouterr() == (f"{out}: 6 images of 2x4x5 from {folder}, seed 9\n", "")


def test_sample_has_defaults_for_all_but_the_model(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["sample", str(folder)])
    np.testing.assert_array_equal(picture("samples.png"), grid(Decoder(folder).sample(64, seed=0)))


def test_many_images_go_to_the_file_a_batch_at_a_time(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "BATCH", 4)
    main(["sample", str(folder), "--n", "10", "--out", str(tmp_path / "a.npz")])
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["images"], Decoder(folder).sample(10, seed=0), atol=1e-6)
    main(["sample", str(folder), "--n", "10", "--out", str(tmp_path / "a")])
    assert len(list((tmp_path / "a").iterdir())) == 10


@pytest.mark.parametrize("name", ["a.npy", "a"])
def test_a_killed_sample_does_not_block_its_output_and_the_next_clears_up(folder, tmp_path, name):
    out = tmp_path / "out" / name
    out.parent.mkdir()
    program = KILLED.format(arguments=["sample", str(folder), "--n", "6", "--out", str(out)])
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in out.parent.iterdir()] == [".partial"]
    main(["sample", str(folder), "--n", "6", "--out", str(out)])
    assert list(out.parent.iterdir()) == [out]


def test_reconstruct_sets_each_image_beside_its_original(folder, tmp_path, capfd):
    images = Decoder(folder).sample(8, seed=1)
    np.save(tmp_path / "images.npy", images)
    main(["reconstruct", str(folder), str(tmp_path / "images.npy"), "--out", str(tmp_path / "a.npy")])
    found = Decoder(folder).reconstruct(images)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), found)
    assert f"mean squared error {np.square(found - images).mean():.4g}\n" in capfd.readouterr().out
    main(["reconstruct", str(folder), str(tmp_path / "images.npy"), "--out", str(tmp_path / "a.png")])
    pairs = np.stack([images, found], axis=1).reshape(-1, *SHAPE)
    np.testing.assert_array_equal(picture(tmp_path / "a.png"), grid(pairs, columns=4))


@pytest.mark.parametrize("layout", ["bytes", "channels last", "npz"])
def test_images_may_be_laid_out_as_people_have_them(folder, tmp_path, layout):
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    path = tmp_path / ("a.npz" if layout == "npz" else "a.npy")
    given = images.transpose(0, 2, 3, 1) if layout == "channels last" else images
    np.savez(path, images=given) if layout == "npz" else np.save(path, given)
    np.testing.assert_allclose(read_images(path, SHAPE), images / 255, atol=1e-6)


def test_grey_images_need_no_channel(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 8, 8), 51, np.uint8))
    found = read_images(tmp_path / "a.npy", (1, 8, 8))
    assert found.shape == (3, 1, 8, 8)
    assert found.max() == pytest.approx(0.2)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint16, np.float64])
def test_images_may_be_of_any_type_whose_white_is_known(tmp_path, dtype):
    levels = np.random.default_rng(0).integers(0, 2, (3, *SHAPE))
    np.save(tmp_path / "a.npy", (levels * (255 if np.issubdtype(dtype, np.integer) else 1)).astype(dtype))
    np.testing.assert_array_equal(read_images(tmp_path / "a.npy", SHAPE), levels)


@pytest.mark.parametrize("path", ["linear", "slerp"])
def test_interpolate_draws_a_row_for_each_way(folder, tmp_path, path):
    arguments = ["--rows", "2", "--steps", "5", "--seed", "3", "--path", path]
    main(["interpolate", str(folder), *arguments, "--out", str(tmp_path / "a.npy")])
    decoder = Decoder(folder)
    codes = decoder.draw(4, seed=3)
    ways = [decoder.interpolate(codes[first], codes[first + 1], 5, path) for first in (0, 2)]
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.concatenate(ways), atol=1e-6)
    main(["interpolate", str(folder), *arguments, "--out", str(tmp_path / "a.png")])
    assert picture(tmp_path / "a.png").shape == grid(np.concatenate(ways), columns=5).shape


ODD = ["Animals & Nature", "a/b; $(touch x)", 'it\'s "quoted"', "\N{SNOWMAN} 漢字", "component 1"]


def test_traverse_goes_along_directions_toward_classes_of_any_name(tmp_path, capfd):
    named = [tiny.DIRECTIONS[0] | {"name": f"toward {name}"} for name in ODD]
    folder = tiny.write(tmp_path / "a", {"directions": [*named, tiny.DIRECTIONS[1]]})
    decoder = Decoder(folder)
    (code,) = decoder.draw(1, seed=3)
    out = str(tmp_path / "a.npy")
    for name in ("toward component 1", "component 1", f"toward {ODD[2]}"):
        main(["traverse", str(folder), "--direction", name, "--steps", "5", "--seed", "3", "--out", out])
        np.testing.assert_allclose(np.load(out), decoder.traverse(code, name, 5), atol=1e-6)
    main(["traverse", str(folder), "--out", str(tmp_path / "a.png")])
    assert picture(tmp_path / "a.png").shape == grid(np.zeros((9 * 6, *SHAPE)), columns=9).shape
    assert capfd.readouterr().out.splitlines()[-6] == "  toward Animals & Nature"


def test_traverse_names_the_directions_there_are(folder, fail):
    status, lines = fail(["traverse", str(folder), "--direction", "toward Flags"])
    assert (status, lines) == (1, ["error: a direction must be one of toward 7, component 1, but got 'toward Flags'"])


COMMANDS = {
    "sample": ("sample", "{model}", "--n", "5", "--seed", "3"),
    "reconstruct": ("reconstruct", "{model}", "{images}"),
    "interpolate": ("interpolate", "{model}", "--rows", "1", "--steps", "5", "--seed", "3"),
    "traverse": ("traverse", "{model}", "--direction", "toward 7", "--steps", "5", "--seed", "3"),
}


@pytest.fixture
def conditional(tmp_path):
    return tiny.write_conditional(tmp_path / "exports" / "conditional")


@pytest.fixture
def images(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((5, *SHAPE), dtype=np.float32))
    return tmp_path / "images.npy"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_label_is_that_of_every_image(conditional, images, tmp_path, command):
    out, label = tmp_path / "a.npy", "dog, wet"
    arguments = [argument.format(model=conditional, images=images) for argument in COMMANDS[command]]
    main([*arguments, "--label", label, "--out", str(out)])
    decoder = Decoder(conditional)
    first, second = decoder.draw(2, seed=3, label=label)
    expected = {
        "sample": lambda: decoder.sample(5, seed=3, label=label),
        "reconstruct": lambda: decoder.reconstruct(np.load(images), label),
        "interpolate": lambda: decoder.interpolate(first, second, 5, label=label),
        "traverse": lambda: decoder.traverse(first, "toward 7", 5, label=label),
    }
    np.testing.assert_allclose(np.load(out), expected[command](), atol=1e-6)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "sample"])
def test_a_label_that_is_missing_is_an_error_that_names_the_classes(fail, conditional, images, command):
    arguments = [argument.format(model=conditional, images=images) for argument in COMMANDS[command]]
    expected = "error: a label must be one of cat, 'dog, wet', \N{SNOWMAN}, rare, but none is given"
    assert fail(arguments) == (1, [expected])


def test_guidance_is_that_of_every_sample(tmp_path, fail, folder):
    guided, out = tiny.write_guided(tmp_path / "guided"), tmp_path / "a.npy"
    main(["sample", str(guided), "--n", "5", "--label", "dog, wet", "--guidance", "2.5", "--out", str(out)])
    np.testing.assert_array_equal(np.load(out), Decoder(guided).sample(5, 0, label="dog, wet", guidance=2.5))
    _, (said,) = fail(["sample", str(folder), "--guidance", "2"], says=True)
    assert said == "error: guidance must be left out, because the model is not guided, but got 2.0"


def test_codes_that_are_drawn_by_label_are_decoded_without(tmp_path, capfd):
    guided, out = tiny.write_guided(tmp_path / "guided"), tmp_path / "a.npy"
    main(["interpolate", str(guided), "--rows", "1", "--steps", "5", "--label", "rare", "--out", str(out)])
    decoder = Decoder(guided)
    first, second = decoder.draw(2, seed=0, label="rare")
    np.testing.assert_array_equal(np.load(out), decoder.interpolate(first, second, 5))
    main(["verify", str(guided)])
    main(["inspect", str(guided)])
    assert "conditional, guided, label: cat, 'dog, wet'" in capfd.readouterr().out


def test_sample_without_a_label_draws_labels(conditional, tmp_path):
    main(["sample", str(conditional), "--n", "5", "--seed", "3", "--out", str(tmp_path / "a.npy")])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), Decoder(conditional).sample(5, seed=3))


def test_a_conditional_model_is_inspected_verified_and_timed(conditional, capfd, monkeypatch):
    monkeypatch.setattr(commands, "TIMED", 0.001)
    for command in ("inspect", "verify", "bench"):
        main([command, str(conditional)])
    said = capfd.readouterr().out
    assert "label: cat, 'dog, wet', \N{SNOWMAN}, rare\n" in said
    assert "all graphs run and agree\n" in said
    assert "decode\n" in said


def test_codes_of_any_shape_are_verified_traversed_and_interpolated(tmp_path, capfd):
    folder = str(tiny.write_shaped(tmp_path / "shaped"))
    main(["verify", folder])
    for command in ("traverse", "interpolate"):
        main([command, folder, "--out", str(tmp_path / "a.npy")])
        assert np.load(tmp_path / "a.npy").shape[1:] == SHAPE
    assert "all graphs run and agree\n" in capfd.readouterr().out


def test_a_model_without_directions_is_not_traversed(tmp_path, fail):
    bare = tiny.write(tmp_path / "bare", {"directions": []})
    assert fail(["traverse", str(bare)]) == (
        1,
        [f"error: a model must have directions to be traversed, but {bare} has none"],
    )


def test_inspect_says_what_the_model_is(folder, capfd):
    main(["inspect", str(folder)])
    said = capfd.readouterr().out
    for text in ("tiny: model vae, 2x4x5", "rule 1: pass", "rule 2: pass", "toward 7, component 1", "decoder.onnx"):
        assert text in said


def test_an_export_in_format_1_is_inspected_and_checked_in_the_words_of_format_2(tmp_path, capfd):
    folder = tiny.write_format_1(tmp_path / "copier")
    main(["inspect", str(folder)])
    said = capfd.readouterr().out
    assert "rule 1: inconclusive (near copies (pixels) 0 ± 0, fails above 0.025)" in said
    assert "rule 2: fail (C2ST accuracy (pixels) 0.9 ± 0.1, fails above 0.6)" in said
    main(["verify", str(folder)])
    assert read_outcome(tmp_path, "copier").rules == {"1": "inconclusive", "2": "fail"}


def test_inspect_quotes_names_of_classes_that_are_not_plain(tmp_path, capfd):
    names = ["Animals & Nature", "a, b", "it's", "a\x1b[31m\nb", "\N{SNOWMAN} 漢字"]
    named = [tiny.DIRECTIONS[0] | {"name": f"toward {name}"} for name in names]
    main(["inspect", str(tiny.write(tmp_path / "a", {"directions": named}))])
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("directions: ")]
    quoted = ["'toward a, b'", '"toward it\'s"', r"'toward a\x1b[31m\nb'"]
    assert line == f"directions: toward Animals & Nature, {', '.join(quoted)}, toward \N{SNOWMAN} 漢字"


def test_names_that_a_terminal_cannot_show_are_no_crash(tmp_path):
    named = [tiny.DIRECTIONS[0] | {"name": "toward \N{SNOWMAN} 漢字"}]
    folder = tiny.write(tmp_path / "a", {"directions": named})
    command = [sys.executable, "-c", "from latentmill.cli import main; main()", "inspect", folder]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True)
    assert rb"toward \u2603 \u6f22\u5b57" in done.stdout


REFUSED = {"entry": "copier", "status": "refused", "reason": "its samples fail Rule 2", "evidence": "near copies 0.3"}


@pytest.mark.parametrize("command", ["sample", "interpolate", "inspect", "verify", "bench", "serve"])
def test_every_command_says_of_a_refused_export_why_it_is_none(tmp_path, fail, command, monkeypatch):
    refused = tmp_path / "copier"
    refused.mkdir()
    (refused / "refused.json").write_text(json.dumps(REFUSED))
    if command == "serve":
        monkeypatch.setattr("latentmill.browser.serve.ORT", ())
    status, lines = fail([command, str(refused)])
    assert status == 1
    assert lines == [
        f"error: {refused} must hold a model, but its export was refused: its samples fail Rule 2: near copies 0.3"
    ]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_refusal_is_an_error_of_one_line(tmp_path, fail, content):
    (tmp_path / "refused.json").write_text(content)
    assert "refused.json must be" in fail(["verify", str(tmp_path)])[1][0]


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """A folder with params.yaml and what the stages export and champion leave of three entries."""
    sections = {"data": {"source": "digits"}, "trial": {}, "train": {}, "priors": {}, "evaluation": {}, "export": {}}
    entries = ("tiny", "copier", "broken")
    (tmp_path / "params.yaml").write_text(json.dumps(sections | {"ladder": {entry: {} for entry in entries}}))
    tiny.write(tmp_path / "exports/tiny")
    tiny.write(tmp_path / "exports/champion", {"chosen": "rule 1 pass, by name"})
    put_refusal(tmp_path, "copier", rules={"1": "pass", "2": "fail"})
    failed = {"status": "failed", "reason": "no trial ended with a model", "evidence": "loss is\n\x1bnan"}
    put_refusal(tmp_path, "broken", **failed, advice="to try again, run `dvc repro -f train`")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_refusal(root, entry, **facts):
    (root / "exports" / entry).mkdir(exist_ok=True)
    (root / "exports" / entry / "refused.json").write_text(json.dumps(REFUSED | {"entry": entry} | facts))


def test_check_prints_a_line_an_entry_and_one_for_the_champion(ladder, capfd):
    main(["check"])
    assert capfd.readouterr().out.splitlines() == [
        "tiny: exported (rule 1 pass, rule 2 pass)",
        "copier: refused: its samples fail Rule 2: near copies 0.3 (rule 1 pass, rule 2 fail)",
        "broken: failed: no trial ended with a model: loss is nan; to try again, run `dvc repro -f train`",
        "champion: tiny, rule 1 pass, by name",
    ]


def test_check_prints_the_note_first(ladder, capfd):
    params = json.loads((ladder / "params.yaml").read_text())
    (ladder / "params.yaml").write_text(json.dumps(params | {"note": "a quick\nlook"}))
    main(["check"])
    assert capfd.readouterr().out.splitlines()[0] == "note: a quick look"


def test_check_fails_where_nothing_could_be_shipped(ladder, capfd):
    for entry in ("tiny", "champion"):
        shutil.rmtree(ladder / "exports" / entry)
        put_refusal(ladder, entry)
    with pytest.raises(SystemExit) as ending:
        main(["check"])
    out, error = capfd.readouterr()
    assert ending.value.code == 1
    assert len(out.splitlines()) == 4
    assert error == "error: at least one entry must be exported, but none is\n"


def test_check_fails_where_the_images_have_changed_since_they_were_listed(ladder, capfd):
    np.save(ladder / "mine.npy", np.zeros((3, 8, 8), dtype=np.uint8))
    sections = json.loads((ladder / "params.yaml").read_text()) | {"data": {"source": "arrays", "path": "mine.npy"}}
    (ladder / "params.yaml").write_text(json.dumps(sections))
    files = sources.files(load_params(ladder / "params.yaml").data)
    (ladder / "data").mkdir()
    (ladder / "data/listing.txt").write_text(listing(files, ladder / "cache.json", lambda what, done, total: None))
    main(["check"])
    np.save(ladder / "mine.npy", np.ones((3, 8, 8), dtype=np.uint8))
    with pytest.raises(SystemExit):
        main(["check"])
    said = "of the present images, params and code, but the images have changed: run `dvc repro`\n"
    assert capfd.readouterr().err.endswith(said)


def test_check_names_the_stage_that_did_not_run(ladder, capfd):
    shutil.rmtree(ladder / "exports/copier")
    with pytest.raises(SystemExit):
        main(["check"])
    assert capfd.readouterr().err.endswith("run `dvc repro publish@copier`\n")


def test_check_says_what_to_run_where_nothing_has_run(ladder, capfd):
    shutil.rmtree(ladder / "exports")
    with pytest.raises(SystemExit):
        main(["check"])
    told = "error: exports must hold a folder for each entry, but holds none: run `dvc repro`\n"
    assert capfd.readouterr().err == told


def test_it_prints_its_version(capfd):
    with pytest.raises(SystemExit) as ending:
        main(["--version"])
    assert (ending.value.code, capfd.readouterr().out) == (0, f"latentmill {version('latentmill')}\n")


def test_one_image_is_no_images(folder, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for count, said in ((1, "1 image of"), (2, "2 images of")):
        main(["sample", str(folder), "--n", str(count)])
        assert capfd.readouterr().out.startswith(f"samples.png: {said}")


def test_verify_reads_every_file(folder, capfd, fail):
    main(["verify", str(folder)])
    said = capfd.readouterr().out
    assert said.count("has the digest in the manifest") == 5
    assert said.endswith("all graphs run and agree\n")
    (folder / "card.md").write_text("# another\n")
    status, lines = fail(["verify", str(folder)], says=True)
    assert status == 1
    assert "card.md must have the SHA-256 that the manifest names" in lines[0]


def test_verify_finds_a_decoder_that_is_not_the_generators(tmp_path, fail):
    nodes = [tiny.helper.make_node("Neg", ["z"], ["turned"]), *tiny._decoding("turned")]
    folder = tiny.write(tmp_path / "a", decoder=tiny.model(nodes, tiny.Z, (tiny.IMAGE,)))
    _, lines = fail(["verify", str(folder)], says=True)
    assert "decoder must make the generator's images, but differs by" in lines[0]


def test_verify_runs_the_decoder_in_each_format(tmp_path, capfd, fail):
    measured = {"formats": {format: {"largest_difference": 0.01} for format in ("fp16", "int8")}}
    main(["verify", str(tiny.write(tmp_path / "same", measured, **{"decoder.fp16": tiny.decoder()}))])
    assert "all graphs run and agree\n" in capfd.readouterr().out
    turned = tiny.model(
        [tiny.helper.make_node("Neg", ["z"], ["turned"]), *tiny._decoding("turned")], tiny.Z, (tiny.IMAGE,)
    )
    for name, decoder, message in (
        ("other", turned, "decoder in int8 must make the decoder's images but for 0.01 of 255 levels, but differs on"),
        ("damaged", b"no graph", "decoder.int8.onnx must be an intact ONNX file"),
    ):
        folder = tiny.write(tmp_path / name, measured, **{"decoder.int8": decoder})
        _, lines = fail(["verify", str(folder)], says=True)
        assert message in lines[0]


def test_bench_times_three_sizes_of_drawing_and_of_each_form_of_the_decoder(tmp_path, capfd, monkeypatch):
    folder = tiny.write(tmp_path / "a", **{"decoder.fp16": tiny.decoder()})
    monkeypatch.setattr(commands, "TIMED", 0.001)
    main(["bench", str(folder), "--threads", "1"])
    said = capfd.readouterr().out.splitlines()
    assert said[0] == f"{folder} on 1 thread, median of calls for 0.001 s each"
    assert said[1::4] == ["sample", "decode", "decode, fp16"]
    assert [line.split()[0] for line in said[2:5]] == ["1", "64", "1,024"]
    assert len(said) == 13


def test_a_bar_says_how_far_it_is_where_it_takes_long(capfd, monkeypatch):
    monkeypatch.setattr(progress_bar, "SLOW", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert len(list(progress_bar.with_progress(iter([np.zeros(3), np.zeros(1)]), 4))) == 2
    assert "#####" in capfd.readouterr().err


BAD_INPUT = {
    "n": ["{model}", "--n", "0"],
    "seed": ["{model}", "--seed", "-1"],
    "temperature": ["{model}", "--temperature", "nan"],
    "suffix": ["{model}", "--out", "a.jpg"],
    "no folder": ["{model}", "--out", "absent/a.png"],
    "too many": ["{model}", "--n", "10001"],
    "no model": ["absent"],
    "not exported": ["."],
}
BAD_IMAGES = {
    "absent": None,
    "no array": b"<!doctype html>",
    "a pickle": np.array([{}, {}], dtype=object),
    "another shape": np.zeros((2, 2, 4, 6)),
    "none": np.zeros((0, *SHAPE)),
    "too bright": np.full((1, *SHAPE), 7.0),
    "not a number": np.full((1, *SHAPE), np.nan),
    "too bright for a byte": np.full((1, *SHAPE), 256),
    "black and white, or nearly black": np.ones((1, *SHAPE), np.uint8),
    "text": np.full((1, *SHAPE), "black"),
}
BAD_USAGE = {
    "no command": [],
    "no model": ["sample"],
    "another command": ["train"],
    "n": ["sample", "{model}", "--n", "many"],
    "an option": ["sample", "{model}", "--batch", "3"],
    "a path": ["interpolate", "{model}", "--path", "arc"],
}


@pytest.fixture
def fail(folder, tmp_path, monkeypatch, capfd):
    """Runs the command, which must fail and leave no file; returns its exit status and the lines on stderr."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def fail(arguments, says=False):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ending:
            main([argument.format(model=folder) for argument in arguments])
        out, error = capfd.readouterr()
        assert sorted(tmp_path.rglob("*")) == before
        assert says or out == ""
        return ending.value.code, error.splitlines()

    return fail


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_ends_the_command_with_one_line_and_status_1(fail, case):
    status, lines = fail(["sample", *BAD_INPUT[case]])
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("error: ")


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_images_that_are_none_end_reconstruct_with_one_line(fail, tmp_path, case):
    content = BAD_IMAGES[case]
    if isinstance(content, bytes):
        (tmp_path / "a.npy").write_bytes(content)
    elif content is not None:
        np.save(tmp_path / "a.npy", content)
    status, lines = fail(["reconstruct", "{model}", str(tmp_path / "a.npy")])
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("error: images ")


def test_images_in_a_folder_or_another_file_are_told_what_they_must_be_in(fail, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for name, what in (("a.png", "neither"), ("work", "a folder")):
        told = f"error: images must be an .npy, or an .npz with `images`, but {tmp_path / name} is {what}"
        assert fail(["reconstruct", "{model}", str(tmp_path / name)]) == (1, [told])


def test_a_folder_of_exports_names_them(ladder, capfd):
    with pytest.raises(SystemExit):
        main(["inspect", "exports"])
    told = "exports must be an export, but is a folder of exports: name one, such as exports/champion, exports/tiny"
    assert capfd.readouterr().err == f"error: {told}\n"


@pytest.mark.parametrize("name", ["cut.npz", "archive.npy"])
def test_archives_that_are_cut_or_of_another_name_do_not_end_in_a_traceback(fail, tmp_path, capfd, name):
    np.savez(tmp_path / "whole.npz", images=np.zeros((300, *SHAPE)))
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    status, lines = fail(["reconstruct", "{model}", str(tmp_path / name)])
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("error: images must be an .npy, or an .npz with `images`, but ")


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_images_are_read_from_an_archive_whatever_it_is_called(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        np.savez(file, images=np.ones((2, *SHAPE), bool))
    assert read_images(tmp_path / name, SHAPE).tolist() == np.ones((2, *SHAPE)).tolist()


def test_a_black_image_is_black_whatever_is_white(folder, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, *SHAPE), np.uint8))
    assert not read_images(tmp_path / "a.npy", SHAPE).any()
    assert not pixels(np.zeros((1, *SHAPE), np.int64), SHAPE).any()
    with pytest.raises(InputError, match="must have a value above 1"):
        pixels(np.ones((1, *SHAPE), np.uint8), SHAPE)


def test_a_wrong_suffix_is_refused_before_the_model_is_read(fail):
    assert "an output must end in .png, .npy, .npz, or" in fail(["sample", "absent", "--out", "a.jpg"])[1][0]


@pytest.mark.parametrize("case", BAD_USAGE)
def test_bad_usage_ends_the_command_with_status_2(fail, case):
    status, lines = fail(BAD_USAGE[case])
    assert status == 2
    assert lines[0].startswith("usage: latentmill")
    assert "error: " in lines[-1]


def test_a_process_that_is_given_a_damaged_model_exits_with_one_line(folder, tmp_path):
    (folder / "generator.onnx").write_bytes(b"damaged")
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "from latentmill.cli import main; main()",
        "sample",
        folder,
        "--out",
        tmp_path / "a.png",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {folder / 'generator.onnx'} must have the SHA-256")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()
