"""How a trial ended, as JSON with a digest of its own content."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from latentmill.errors import InputError

Record = dict[str, Any]  # JSON
RECORD = "trial.json"  # the file of one, beside the weights of a trained model
FAILED = ("diverged", "failed", "out of memory")  # of the statuses; other trials are finished, pruned or unfinished
PRIORS = "priors"  # the folder of an entry's priors, beside these two files, each with the same two


class _Trial(BaseModel):
    """The fields of a `Trial`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    config: dict[str, Any]
    training: dict[str, Any] | None
    seed: int
    features: str | None
    parent: str | None
    start: str | None = None


class _Ended(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    fingerprint: str
    data_digest: str
    trial: _Trial


class _Finished(_Ended):
    status: Literal["finished"]
    criterion: float
    history: list[dict[str, float]]
    best_epoch: Annotated[int, Field(ge=0)]
    seconds: float
    shape: list[int]
    classes: int
    weights_sha256: str
    weights_bytes: int


class _Pruned(_Ended):
    status: Literal["pruned"]
    epoch: int
    criterion: float
    history: list[dict[str, float]]
    asha: dict[str, int]  # the settings by which it was pruned


class _Unsuccessful(_Ended):
    status: Literal["diverged", "failed", "out of memory", "unfinished"]
    error: str


_ENDED: TypeAdapter[Any] = TypeAdapter(Annotated[_Finished | _Pruned | _Unsuccessful, Field(discriminator="status")])


def require_complete(record: Record, where: str) -> None:
    """Raises InputError where a record lacks what its readers look up, or has a value of another type."""
    try:
        _ENDED.validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "status"
        raise InputError(f"{where} must say how its trial ended, but {place}: {first['msg']}") from None
    rows, best = record.get("history", []), record.get("best_epoch", 0)
    if best > len(rows) or not all({"train_loss", "val_loss"} <= row.keys() for row in rows):
        raise InputError(f"{where} must have a row with the losses of each epoch, but has not")


def record_bytes(record: Record) -> bytes:
    """JSON with a digest of its own content; NaN and infinity are refused, because JSON readers break on them."""
    return (json.dumps(record | {"sha256": _own_digest(record)}, indent=2, allow_nan=False) + "\n").encode()


def parse_record(content: bytes, where: str) -> Record:
    """What `record_bytes` wrote.

    Raises:
        InputError: it is damaged.
    """
    try:
        record: Record = json.loads(content)
        intact = record.pop("sha256") == _own_digest(record)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{where} must be a trial's record, but {error!r}") from None
    if not intact:
        raise InputError(f"{where} must have the digest that it names, but it has another")
    return record


def parse_trial_record(content: bytes, fingerprint: str, where: str) -> Record:
    """The record of the trial that has this fingerprint.

    Raises:
        InputError: it is damaged, or that of another trial.
    """
    record = parse_record(content, where)
    if record.get("fingerprint") != fingerprint:
        raise InputError(f"{where} must be the record of that trial, but is that of {record.get('fingerprint')}")
    require_complete(record, where)
    return record


def weights_described(weights: bytes) -> Record:
    """What a record says about the weights beside it."""
    return {"weights_sha256": digest(weights), "weights_bytes": len(weights)}


def require_digest(weights: bytes, record: Record, where: str) -> None:
    """Raises InputError where the weights are not those of the record."""
    if digest(weights) != record.get("weights_sha256"):
        raise InputError(f"{where} must have the digest that its record names, but it has another")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _own_digest(record: Record) -> str:
    return digest(json.dumps(record, sort_keys=True, allow_nan=False).encode())
