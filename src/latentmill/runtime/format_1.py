"""Cards of earlier exports, in the words of today: those of format 1, and of format 2 before graphs took labels.

All have the same graphs.
"""

from typing import Any

KEYS = {
    "forms": "formats",  # of the decoder
    "variant": "model",  # its name
    "choices": "categorical",  # the first columns of the noise
    "measures": "metrics",  # of the samples, by feature space
    "told apart": "C2ST accuracy",
    "told_apart": "c2st_accuracy",
    "test_told_apart": "baseline_c2st_accuracy",
}
OUTCOMES = {"holds": "pass", "broken": "fail", "cannot tell": "inconclusive"}
PHRASES = {"broken below": "fails below", "broken above": "fails above", "told apart (": "C2ST accuracy ("}
TRANSLATED = ("metrics", "noise", "warning")  # other keys are the same, or the model's own, such as `config`
DEPTH = 6  # levels of objects that are translated: a hostile card may have more than Python's recursion allows


def upgraded(card: dict[str, Any]) -> dict[str, Any]:
    """The content of a card.json of either format. One of today stays as it is."""
    found = {
        KEYS.get(key, key): _translated(key, value, DEPTH) if key in TRANSLATED else value
        for key, value in card.items()
    }
    if isinstance(files := found.get("files"), dict):
        found["files"] = {name: _with_inputs(file) for name, file in files.items()}
    return found


def _with_inputs(file: Any) -> Any:
    """A graph had a single `input`."""
    if not isinstance(file, dict) or "input" not in file:
        return file
    return {"inputs": [file["input"]]} | {key: value for key, value in file.items() if key != "input"}


def _translated(key: str, value: Any, depth: int) -> Any:
    if isinstance(value, dict) and depth:
        return {KEYS.get(inner, inner): _translated(inner, each, depth - 1) for inner, each in value.items()}
    if key == "status" and isinstance(value, str):
        return OUTCOMES.get(value, value)
    if key in ("evidence", "warning") and isinstance(value, str):
        return _phrased(value)
    return value


def _phrased(text: str) -> str:
    for old, new in PHRASES.items():
        text = text.replace(old, new)
    return text.replace("Breaks Rule 2: ", "Fails Rule 2: ", 1) if text.startswith("Breaks Rule 2: ") else text
