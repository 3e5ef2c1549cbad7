"""Exports that were made to harm: each is refused, or shown harmlessly, in bounded time and memory."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from onnx import TensorProto, helper, load_from_string
from test_pipeline import heed_interrupts

from latentmill import Decoder
from latentmill.cli import main
from latentmill.errors import InputError, escaped, shown
from latentmill.runtime import json_file
from latentmill.runtime.json_file import DEEPEST, parse_object

FORGED = "none)\n\x1b[1A\x1b[2Krule 2: passes (\u202eevidence"
COMMAND = [sys.executable, "-c", "from latentmill.cli import main; main()"]


def lines_of(capfd: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """What the command says on stderr, which must fail with status 1."""
    with pytest.raises(SystemExit) as ending:
        main([*map(str, arguments)])
    assert ending.value.code == 1
    return capfd.readouterr().err.splitlines()


# Text


def test_inspect_shows_escapes_and_does_not_print_them(tmp_path, capfd):
    verdict = tiny.VERDICT | {"status": "fail", "evidence": FORGED}
    samples = {"normal": tiny.SAMPLES | {"rule_2": verdict}}
    card = {"entry": FORGED, "model": FORGED, "prior": FORGED, "data": {"description": FORGED}}
    folder = tiny.write(tmp_path / "a", card | {"metrics": {"samples": samples, "exported_prior": "normal"}})
    main(["inspect", str(folder)])
    said = capfd.readouterr().out.splitlines()
    assert all(line.isprintable() for line in said)
    assert [line for line in said if line.startswith("rule 2")] == [f"rule 2: fail ({escaped(FORGED)})"]
    assert r"none)\n\x1b[1A\x1b[2Krule 2: passes (\u202eevidence" in said[0]


def test_an_error_shows_escapes_and_does_not_print_them(tmp_path, capfd):
    (tmp_path / "refused.json").write_text(json.dumps({"reason": FORGED}))
    (line,) = lines_of(capfd, "verify", tmp_path)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\x1b\n", r"'a\x1b\n'"),
        ([[[[[[1]]]]]], "[[[[[...]]]]]"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]"),
        (16**5000, "a number of 20001 bits"),
        (-0.5, "-0.5"),
    ],
    ids=["escapes", "levels", "items", "digits", "a number"],
)
def test_what_is_shown_of_a_value_is_short_and_on_one_line(value, expected):
    assert shown(value) == expected
    assert len(shown("x" * 10**6)) < 200


# Cards

CARDS = {
    "no entry": {"entry": None},
    "a model that is a list": {"model": ["vae"]},
    "no data": {"data": None},
    "data that are text": {"data": "digits"},
    "no metrics": {"metrics": {}},
    "metrics of a list": {"metrics": []},
    "another prior": {"metrics": {"samples": {}, "exported_prior": "flow"}},
    "a prior that is an object": {"metrics": {"samples": {}, "exported_prior": {}}},
    "no verdict": {"metrics": {"samples": {"normal": {}}, "exported_prior": "normal"}},
    "files of a list": {"files": []},
    "inputs of a number": {"files": {"generator.onnx": {"inputs": 3, "outputs": ["image"]}}},
    "directions of text": {"directions": "toward 7"},
    "a direction of text": {"directions": ["toward 7"]},
    "a direction without a vector": {"directions": [{"name": "a", "low": 0, "high": 1}]},
    "a direction of another length": {"directions": [tiny.DIRECTIONS[0] | {"vector": [1.0]}]},
    "a direction of ragged lists": {"directions": [tiny.DIRECTIONS[0] | {"vector": [1.0, [2.0], 3.0]}]},
    "a direction of huge numbers": {"directions": [tiny.DIRECTIONS[0] | {"vector": [1e300, 0, 10**400]}]},
    "a direction without a name": {"directions": [tiny.DIRECTIONS[0] | {"name": 7}]},
    "a direction without an end": {"directions": [tiny.DIRECTIONS[0] | {"high": None}]},
    "a huge image": {"image_shape": [2**40, 1, 1]},
    "a negative codebook": {"codebook": -1},
    "a code of text": {"code_shape": "abc"},
    "noise of a list": {"noise": [3, 0]},
    "a label that is a list": {"label": [1]},
    "more counts than classes": {"label": {"classes": ["a"], "counts": [1, 2]}},
}


@pytest.mark.parametrize("case", CARDS)
def test_a_malformed_card_is_an_error_of_one_line(tmp_path, capfd, case):
    command = "verify" if case.startswith("files") else "inspect"
    (line,) = lines_of(capfd, command, tiny.write(tmp_path / "a", CARDS[case]))
    assert line.startswith(f"error: {tmp_path / 'a'}")
    assert len(line) < 500


def test_json_that_is_no_number_deep_or_large_is_refused(monkeypatch):
    for content in (b'{"a": NaN}', b'{"a": [-Infinity]}', b'{"a": ' + b"9" * 5000 + b"}", b'{"\xff": 1}', b"[]", b""):
        with pytest.raises(InputError, match="a must be"):
            parse_object(content, "a")
    for depth in (DEEPEST, 500, 100_000):
        for opened, closed in ((b'{"a":', b"}"), (b"[", b"]")):
            with pytest.raises(InputError, match=r"a must have at most 50 levels of objects and lists, but has more"):
                parse_object(b'{"a": ' + opened * depth + b"1" + closed * depth + b"}", "a")
    monkeypatch.setattr(json_file, "LARGEST", 10)
    with pytest.raises(InputError, match="a must have at most"):
        parse_object(b'{"a": "very long"}', "a")


# Files


@pytest.mark.parametrize("name", ["manifest.json", "refused.json", "card.json", "generator.onnx"])
@pytest.mark.parametrize("how", ["a pipe", "a device behind a link", "a folder", "a link to itself"])
def test_what_is_no_regular_file_is_never_read(tmp_path, capfd, name, how):
    folder = tiny.write(tmp_path / "a")
    (folder / name).unlink(missing_ok=True)
    if how == "a pipe":
        os.mkfifo(folder / name)
    elif how == "a folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to("/dev/zero" if how == "a device behind a link" else name)
    if (name, how) == ("refused.json", "a link to itself"):
        return  # it is not there
    started = time.monotonic()
    (line,) = lines_of(capfd, "sample", folder, "--out", tmp_path / "a.npy")
    assert line.startswith("error: ")
    assert time.monotonic() - started < 5


def test_links_to_regular_files_are_followed_as_dvc_may_make_them(tmp_path):
    folder = tiny.write(tmp_path / "a")
    (folder / "card.json").rename(tmp_path / "cached")
    (folder / "card.json").symlink_to(tmp_path / "cached")
    assert Decoder(folder).sample(1, seed=0).shape == (1, *tiny.SHAPE)


@pytest.mark.parametrize(
    "name", ["../card.json", "/etc/passwd", "a\0b", "\ud800", "a\x1b[2J", "", "..", "a\\b", "c" * 300]
)
def test_a_manifest_names_files_of_its_own_folder(tmp_path, capfd, name):
    folder = tiny.write(tmp_path / "a")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["card.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (line,) = lines_of(capfd, "verify", folder)
    assert line.startswith("error: ")
    assert line.isprintable()


# Numbers


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--temperature", "1e300"],
        ["sample", "--temperature", "1e39"],
        ["sample", "--temperature", "inf"],
        ["sample", "--guidance", "1e39"],
        ["sample", "--n", "9" * 40],
        ["sample", "--truncation", "nan"],
        ["interpolate", "--steps", "9" * 12],
        ["interpolate", "--rows", "9" * 12],
        ["traverse", "--steps", "9" * 12],
    ],
)
def test_a_number_beyond_all_use_is_an_error_of_one_line(tmp_path, capfd, arguments):
    command, *options = arguments
    (line,) = lines_of(capfd, command, tiny.write(tmp_path / "a"), *options, "--out", tmp_path / "a.npy")
    assert line.startswith("error: ")
    assert not (tmp_path / "a.npy").exists()


def test_an_output_that_is_not_finite_is_an_error_and_no_image(tmp_path):
    proto = load_from_string(tiny.decoder())
    for node in proto.graph.node:
        node.op_type = node.op_type.replace("Sigmoid", "Exp")
    decoder = Decoder(tiny.write(tmp_path / "a", decoder=proto.SerializeToString()))
    assert decoder.decode(np.zeros((1, tiny.LATENT))).max() == 1
    with pytest.raises(InputError, match=r"decoder.onnx must give finite numbers, but gives inf for this input"):
        decoder.decode(np.full((1, tiny.LATENT), 1e30))


# Graphs


def endless() -> bytes:
    """A generator that computes for minutes in one call: products of large matrices, one after the other."""
    proto = load_from_string(tiny.generator())
    size = helper.make_tensor("size", TensorProto.INT64, [2], [1500, 1500])
    added = [
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("ConstantOfShape", ["size"], ["0"]),
    ]
    added += [helper.make_node("MatMul", [str(at), str(at)], [str(at + 1)]) for at in range(3000)]
    added += [helper.make_node("ReduceSum", ["3000"], ["sum"], keepdims=0)]
    added += [helper.make_node("Add", ["noise", "sum"], ["shifted"])]
    for node in proto.graph.node:
        node.input[:] = ["shifted" if name == "noise" else name for name in node.input]
    nodes = [*added, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto.SerializeToString()


@pytest.mark.slow
def test_an_interrupt_ends_a_command_whose_graph_computes_without_end(tmp_path):
    folder = tiny.write(tmp_path / "a", generator=endless())
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen([*COMMAND, "sample", folder, "--out", tmp_path / "a.npy"], **options) as process:
        time.sleep(5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "error: interrupted\n")
    assert process.returncode == -signal.SIGINT
