"""params.yaml: what is accepted, and that every mistake is one line that names the key and its value."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from latentmill import registry
from latentmill.config import (
    OUTPUTS,
    AshaConfig,
    DataConfig,
    EvaluationConfig,
    ExportConfig,
    SweepConfig,
    TrainingConfig,
    checked,
    load_params,
)
from latentmill.errors import InputError, one_line_errors

CONFIGS = [registry.find(family, name).Config for family in ("models", "priors") for name in registry.names(family)]
GOOD = """\
data: {source: mnist-5k}
trial: {learning_rate: 1e-3, epochs: 7}
train: {}
ladder: {vae: {beta: [1, 4]}, naive_bayes: {}}
evaluation: {}
export: {}
"""


def _params(folder: Path, old: str = "", new: str = "") -> Path:
    """A params.yaml that is good but for `old`, which stands as `new`."""
    assert old in GOOD
    path = folder / "params.yaml"
    path.write_text(GOOD.replace(old, new) if old else GOOD, encoding="utf-8")
    return path


def test_good_params_are_read_with_defaults(tmp_path: Path) -> None:
    params = load_params(_params(tmp_path))
    assert params.trial == TrainingConfig(learning_rate=0.001, epochs=7)
    assert params.data == DataConfig(source="mnist-5k", path=None, val=0.15, test=0.15, seed=0)
    assert params.ladder == {"vae": {"beta": [1, 4]}, "naive_bayes": {}}


def test_params_cannot_be_changed_once_read(tmp_path: Path) -> None:
    params = load_params(_params(tmp_path))
    with pytest.raises(ValidationError, match="frozen"):
        params.data.val = 0.5


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("source:", "sorce:", "unknown key 'data.sorce'; the keys here are source, path, image, label"),
        ("source:", "sorce:", "the key 'data.source' must be there, but is missing"),
        ("train: {}", "train: {wrkers: 2}", "unknown key 'train.wrkers'"),
        ("train: {}", "trains: {}", "unknown key 'trains'; the keys here are note, data, trial, priors, ladder, train"),
        ("export: {}", "export: {forms: {}}", "the key 'export.forms' is now called 'export.formats'"),
        (
            "export: {}",
            "export: {allow_broken: []}",
            "the key 'export.allow_broken' is now called 'export.allow_failing'",
        ),
        ("export: {}", "export: {allow_failing: [vea]}", "export.allow_failing must have .* but one is 'vea'$"),
        (
            "evaluation: {}",
            "evaluation: {features: [pixels, clip]}",
            "evaluation.features must be of pixels, .* but one is 'clip'",
        ),
        ("train: {}\n", "", "the key 'train' must be there, but is missing"),
        ("mnist-5k", "mnist", "data.source must be 'folder', .* or 'sprites', but got 'mnist'"),
        ("mnist-5k", "mnist-5k, val: 0", "data.val must be greater than 0, but got 0"),
        ("mnist-5k", "mnist-5k, val: .nan", "data.val must be .* but got nan"),
        ("mnist-5k", "mnist-5k, test: 1", "data.test must be less than 1, but got 1"),
        ("mnist-5k", "mnist-5k, val: '0.2'", "data.val must be a valid number, but got '0.2'"),
        ("mnist-5k", "mnist-5k, seed: -1", "data.seed must be greater than or equal to 0, but got -1"),
        ("mnist-5k", "mnist-5k, path: 5", "data.path must be a valid string, but got 5"),
        (
            "train: {}",
            "train: {pack: 0}",
            "^[^;]* train.pack must be auto, off or a whole number from 1, but got 0$",
        ),
        (
            "train: {}",
            "train: {pack: many}",
            "train.pack must be auto, off or a whole number from 1, but got 'many'$",
        ),
        (
            "train: {}",
            "train: {pack: yes}",
            "train.pack must be auto, off or a whole number from 1, but got 'yes'$",
        ),
        (
            "train: {}",
            "train: {pack: true}",
            "train.pack must be auto, off or a whole number from 1, but got True$",
        ),
        ("epochs: 7", "epochs: 0", "trial.epochs must .* but got 0"),
        ("epochs: 7", "epochs: 7.5", "trial.epochs must .* but got 7.5"),
        ("epochs: 7", "epochs: true", "trial.epochs must .* but got True"),
        ("1e-3", "-1e-3", "trial.learning_rate must be greater than 0, but got -0.001"),
        ("train: {}", "train: {seeds: []}", r"train.seeds must .* but got \[\]"),
        ("train: {}", "train:", "train must .* but got None"),
        ("{vae: {beta: [1, 4]}, naive_bayes: {}}", "{}", r"ladder must .* but got \{\}"),
        ("naive_bayes: {}", "a/b: {}", "ladder: an entry must be called by .*, a - not first, but one is 'a/b'$"),
        ("naive_bayes: {}", "café: {}", "ladder: an entry must be called by .*, a - not first, but one is 'café'$"),
        ("naive_bayes: {}", "champion: {}", "ladder: an entry must not be called champion, .*, but one is$"),
        ("train: {}", "train: {}\npriors: {own: {}}", "priors: a prior must not be called own, .*, but one is$"),
        ("[1, 4]", "[1, .inf]", "ladder must have finite numbers, but has inf$"),
        ("export: {}", "export: {formats: {fp8: 1}}", "export.formats.fp8 must be 'fp16', 'int8' or 'uint8', but got"),
        ("naive_bayes: {}", "naive_bayes: 3", "ladder.naive_bayes must be a valid dictionary, but got 3"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_value(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = _params(tmp_path, old, new)
    with pytest.raises(InputError, match=expected) as caught:
        load_params(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(
    "config", [DataConfig, TrainingConfig, SweepConfig, AshaConfig, EvaluationConfig, ExportConfig, *CONFIGS], ids=str
)
def test_no_number_of_any_configuration_may_be_infinite(config: type[BaseModel], value: float) -> None:
    for name, each in config.model_fields.items():
        if "float" in str(each.annotation):
            with pytest.raises(ValidationError, match=rf"{name}\n"):
                config.model_validate({name: value})


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("1e-3", ".inf", "trial.learning_rate"),
        ("1e-3", "-.inf", "trial.learning_rate"),
        ("1e-3", "1e999", "trial.learning_rate"),
        ("train: {}", "train: {max_seconds: .inf}", "train.max_seconds"),
        ("train: {}", "train: {budget: .inf}", "train.budget"),
        ("export: {}", "export: {formats: {int8: .nan}}", "export.formats.int8"),
        ("[1, 4]", "[1, .inf]", "ladder"),
        ("[1, 4]", "{uniform: [0, .inf]}", "ladder"),
        ("[1, 4]", "{loguniform: [.nan, 1]}", "ladder"),
        ("export: {}", "export: {}\npriors: {flow: {dropout: .nan}}", "priors"),
        ("epochs: 7", "epochs: 0x" + "F" * 50, "trial.epochs"),
        ("train: {}", f"train: {{seeds: [{2**63}]}}", "train.seeds.0"),
    ],
)
def test_a_number_that_is_infinite_or_beyond_all_use_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"params.yaml: {key} must ")) as caught:
        load_params(_params(tmp_path, old, new))
    assert len(str(caught.value)) < 300


MERGED = "".join(f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 10)}]}}\n" for i in range(9))
LAUGHS = "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9))
BOMBS = {
    "brackets": "a: " + "[" * 50_000,
    "closed brackets": "a: " + "[" * 3000 + "]" * 3000,
    "braces": "a: " + "{a: " * 3000,
    "dashes": "- " * 30_000 + "a",
    "questions": "? " * 30_000 + "a",
    "indents": "\n".join(" " * depth + "a:" for depth in range(350)),
    "aliases": "a0: &a0 [1, 2]\n" + LAUGHS,
    "merged lists": "a0: &a0 {x: 1, y: 2}\n" + MERGED,
    "a list in itself": "data: &a [*a]",
    "a mapping in itself": "data: &a {source: *a}",
    "a long text": "a: " + "x" * 10**7,
    "a long tag": "a: !" + "x" * 60_000 + " 1",
    "a long number": "a: " + "9" * 60_000,
    "many digits": "data: {seed: 0x" + "F" * 60_000 + "}",
    "many keys": "{" + ",".join(f"k{number}: 1" for number in range(5000)) + "}",
    "no such date": "a: 2001-99-99",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml_that_grows_or_nests_is_refused_in_a_short_line_and_soon(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(BOMBS[bomb], encoding="utf-8")
    started = time.process_time()
    with pytest.raises(InputError, match=r"params\.yaml") as caught:
        load_params(path)
    assert time.process_time() - started < 5  # also on a busy machine
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("name", ["a;touch x", "with space", "README.md", "../x", "-x", "", "é", "a" * 65, "champion"])
def test_an_entry_has_a_name_that_folders_and_shells_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"ladder: .*an entry must"):
        load_params(_params(tmp_path, "naive_bayes:", f"{json.dumps(name)}:"))


@pytest.mark.parametrize("name", ["vae-2", "_", "7", "A_b-C", "a" * 64])
def test_other_names_are_taken(tmp_path: Path, name: str) -> None:
    assert name in load_params(_params(tmp_path, "naive_bayes:", f'"{name}":')).ladder


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = _params(tmp_path, "epochs: 7", "epochs: 0, patience: 0")
    with pytest.raises(InputError, match=r"trial\.epochs.*; .*trial\.patience"):
        load_params(path)


@pytest.mark.parametrize(
    "content",
    [
        b"data: {source: digits",  # not closed
        b"data: {seed: 1, seed: 2}",  # one key twice
        b"data: \xe9",  # not UTF-8
        b"a: 1\n---\nb: 2\n",  # two documents
        b"!!python/object/apply:os.getcwd []",  # no code in YAML
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"params\.yaml must be YAML: ") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", ["models", "models/x", "report/../graphs/x", "exports", "data/prepared/x"])
@pytest.mark.parametrize("prefix", ["", "absolute", "file://absolute"])
def test_a_trial_store_below_an_output_is_refused_before_it_is_deleted_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, prefix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = prefix.replace("absolute", f"{tmp_path}/") + storage
    with pytest.raises(InputError, match=r"^train: storage must lie outside of \S+, which a stage replaces"):
        checked(SweepConfig, {"storage": place}, "train")


def test_a_trial_store_behind_a_link_into_an_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "store").symlink_to("models")
    with pytest.raises(InputError, match="must lie outside of models"):
        checked(SweepConfig, {"storage": "store/trials"}, "train")


@pytest.mark.parametrize(
    "storage", [".latentmill/trials", "data/trials", "models-of-old", "s3://models/trials", "/mnt/x"]
)
def test_a_trial_store_may_lie_anywhere_else(storage: str) -> None:
    assert checked(SweepConfig, {"storage": storage}, "train").storage == storage


def test_every_folder_that_a_stage_writes_is_known() -> None:
    stages = YAML(typ="safe").load(Path(__file__).parents[1] / "dvc.yaml")["stages"].values()
    written = [out for stage in stages for out in stage.get("do", stage)["outs"]]
    names = [name if isinstance(name, str) else next(iter(name)) for name in written]
    folders = {name for name in names if not Path(name).suffix}
    assert [name for name in folders if not any(Path(name).is_relative_to(output) for output in OUTPUTS)] == []


@pytest.mark.parametrize("content", ["", "- data", "data"])
def test_params_must_be_a_mapping(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="the content must be a valid dictionary"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml must be a readable file"):
        load_params(tmp_path / "params.yaml")


def test_checked_names_the_place_that_it_is_given() -> None:
    with pytest.raises(InputError, match=r"^ladder\.vae: unknown key 'epoch'; the keys here are epochs, "):
        checked(TrainingConfig, {"epoch": 3}, "ladder.vae")


def test_an_input_error_ends_a_command_with_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise InputError("beta must be positive,\nbut got beta=-1.0")
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: beta must be positive, but got beta=-1.0\n")


def test_an_interrupt_is_one_line_and_ends_a_loop_of_the_shell() -> None:
    program = """if True:
        import atexit
        from latentmill.errors import one_line_errors

        atexit.register(lambda: print("put away", eval("1 + 1")))  # after code of a string Python itself would return 1
        with one_line_errors():
            raise KeyboardInterrupt
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "put away 2\n", "error: interrupted\n")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
