"""An export folder as a version of a registered model, and the alias `champion` for the best one."""

import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

import supersnn
from tune.tracking.changes import Export

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

CHAMPION = "champion"
VALIDATION, TEST = "supersnn.val_mean", "supersnn.test_mean"
WEIGHTS = "supersnn.weights"
LIBRARIES = ("mlflow", "torch", "torchvision", "numpy", "pydantic", "pyyaml", "safetensors", "pillow")
CODE = Path(__file__).with_name("pyfunc_model.py")


def register(client: "MlflowClient", export: Export, model: str, run_id: str) -> str:
    """Return the version of a registered model that holds an export folder, created where it is missing (idempotent).

    Args:
        client: of the MLflow.
        export: the exported winner. The alias `champion` moves to its version only where its validation accuracy is
            higher than the champion's: the test images choose nothing.
        model: name of the registered model.
        run_id: the run that the version belongs to.
    """
    weights = _weights(export.folder)
    existing = [v for v in client.search_model_versions(f"name = '{model}'") if v.tags.get(WEIGHTS) == weights]
    version = str(existing[0].version if existing else _create(client, export, model, run_id, weights))
    client.set_model_version_tag(model, version, TEST, repr(export.test))
    if export.validation is not None:
        client.set_model_version_tag(model, version, VALIDATION, repr(export.validation))
    champion = client.get_registered_model(model).aliases.get(CHAMPION)
    if champion is None or _is_better(export, client.get_model_version(model, champion).tags):
        client.set_registered_model_alias(model, CHAMPION, version)
    return version


def _is_better(export: Export, champion: Mapping[str, str]) -> bool:
    """Return whether an export validates better than the champion; a champion without a validation accuracy is older.

    One of an earlier version was chosen by its test accuracy.
    """
    if export.validation is None:
        return False
    return VALIDATION not in champion or export.validation > float(champion[VALIDATION])


def _create(client: "MlflowClient", export: Export, model: str, run_id: str, weights: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        _save(export.folder, Path(folder) / "model")
        client.log_artifacts(run_id, str(Path(folder) / "model"), "model")
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model, description=f"Winners of the sweep `{model}` of SuperSNN.")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    tags = {WEIGHTS: weights, "supersnn.export": export.name}
    return str(client.create_model_version(model, source, run_id, tags).version)


def _save(export: Path, to: Path) -> None:
    """Write an MLflow model: the export folder, the code that loads it, its signature and an example."""
    import mlflow.pyfunc

    images, signature = _signature(export)
    mlflow.pyfunc.save_model(
        to,
        python_model=CODE,
        artifacts={"export": str(export)},
        code_paths=[str(Path(supersnn.__file__).parent)],
        signature=signature,
        input_example=images,
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in LIBRARIES],
    )
    _forget_origin(to / "MLmodel")


def _forget_origin(description: Path) -> None:
    """Remove from a model's description where its export folder was copied from: the model is complete without it."""
    model = yaml.safe_load(description.read_text(encoding="utf-8"))
    for artifact in model["flavors"]["python_function"]["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description.write_text(yaml.safe_dump(model, sort_keys=False), encoding="utf-8")


def _signature(export: Path) -> tuple[np.ndarray, "ModelSignature"]:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    preprocessing = json.loads((export / "preprocessing.json").read_text(encoding="utf-8"))
    shape = (preprocessing["channels"], preprocessing["side"], preprocessing["side"])
    inputs = TensorSpec(np.dtype(np.uint8), (-1, *shape))
    outputs = TensorSpec(np.dtype(np.float32), (-1, len(preprocessing["classes"])))
    return np.zeros((1, *shape), np.uint8), ModelSignature(Schema([inputs]), Schema([outputs]))


def _weights(export: Path) -> str:
    """Return the SHA-256 of the weights, as the export folder states it."""
    metrics = json.loads((export / "metrics.json").read_text(encoding="utf-8"))
    return str(metrics["sha256"]["student.safetensors"])
