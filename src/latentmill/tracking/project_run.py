"""The run of a whole project in MLflow: its params, metrics, verdicts, pictures, page and exports, and the champion.

The champion's generator is registered with the flavour ONNX, so that `mlflow.pyfunc.load_model` samples from it.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from latentmill.config import RESERVED, Params
from latentmill.export.outcome import ExportOutcome, read_outcome
from latentmill.runtime.facts import GENERATOR
from latentmill.runtime.json_file import read_object
from latentmill.tracking.mlflow_server import answering, experiment, flat, log_metrics, log_params, package

REGISTERED = "latentmill"  # the name of the model


def log_project(params: Params, evaluation: Path, exports: Path, report: Path) -> str:
    """Log what the stages wrote, and return where it is.

    Raises:
        InputError: MLflow is not installed, or its server does not answer.
    """
    mlflow = package()
    own = experiment(mlflow)
    with answering(), mlflow.start_run(experiment_id=own, run_name="project") as run:
        client, name = mlflow.MlflowClient(), run.info.run_id
        metrics = read_object(evaluation / "metrics.json", "evaluate")
        log_params(client, name, params.model_dump())
        log_metrics(client, name, numbers(metrics))
        outcomes = [read_outcome(exports, entry) for entry in (*params.ladder, RESERVED)]
        for tag, value in verdicts(metrics, outcomes).items():
            client.set_tag(name, tag, value)
        for folder in (evaluation / "pictures", report):
            client.log_artifacts(name, str(folder), folder.name)
        client.log_artifact(name, "params.yaml")
        if outcomes[-1].exported:
            client.log_artifacts(name, str(exports / RESERVED), "export")
            _register(mlflow, exports / RESERVED)
    return f"MLflow at {mlflow.get_tracking_uri()}: run {name}"


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of every entry, by dotted names."""
    return {
        name: float(value)
        for name, value in flat(metrics).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    }


def verdicts(metrics: Mapping[str, Any], outcomes: list[ExportOutcome]) -> dict[str, str]:
    """`latent_flow.flow.rule_1` -> `pass`; what became of each export."""
    found = {f"export.{each.name}": str(each)[:5000] for each in outcomes}
    for entry, values in metrics.items():
        for prior, judged in values.get("samples", {}).items():  # none of an entry that failed
            found |= {f"{entry}.{prior}.rule_{rule}": judged[f"rule_{rule}"]["status"] for rule in (1, 2)}
    return found


def _register(mlflow: Any, folder: Path) -> None:
    """A new version of the registered model."""
    generator = onnx.load(folder / GENERATOR)
    needed = [f"{name}=={importlib.metadata.version(name)}" for name in ("onnxruntime", "numpy")]
    mlflow.onnx.log_model(
        generator,
        name="generator",
        registered_model_name=REGISTERED,
        signature=_signature(generator),
        pip_requirements=needed,  # else MLflow looks for them in a process of its own
        save_as_external_data=False,  # what our own reader refuses
    )


def _signature(generator: onnx.ModelProto) -> Any:
    """Of its inputs and outputs; of what is unknown, the batch, the size is -1."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(values: Iterable[onnx.ValueInfoProto]) -> Any:
        found = []
        for value in values:
            tensor = value.type.tensor_type
            shape = [dimension.dim_value or -1 for dimension in tensor.shape.dim]
            found.append(TensorSpec(np.dtype(tensor_dtype_to_np_dtype(tensor.elem_type)), shape, value.name))
        return Schema(found)

    return ModelSignature(schema(generator.graph.input), schema(generator.graph.output))
