import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from supersnn.records.events import AnyEvent, WinnerExported
from tune.tracking.changes import Export
from tune.tracking.client import Connection, connect
from tune.tracking.registry import register

if TYPE_CHECKING:
    from tests.tune.tracking.conftest import TrackedSweep

WriteExport = Callable[[str, int], Path]

CONFIG = TrainConfig.model_validate({"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}})
NAME = "sweeps/digits/best/direct"
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
LOADED = """
import json, sys, mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
images = numpy.array(json.loads(sys.argv[3]), numpy.uint8)
print(json.dumps({"logits": model.predict(images).tolist(), "code": sys.modules["supersnn"].__file__}))
"""


@pytest.fixture
def export(tmp_path: Path) -> WriteExport:
    """Write an export folder with the initial weights of a seed."""

    def write(name: str, seed: int) -> Path:
        torch.manual_seed(seed)
        network = build(CONFIG.student, CONFIG.neuron, ImageShape(1, 8), 10)
        pixels = exported.Preprocessing(1, 8, (0.5,), (0.5,), tuple("0123456789"))
        exported.write(tmp_path / name, CONFIG, network.state_dict(), pixels, {"val_accuracy": 0.5})
        return tmp_path / name

    return write


@pytest.fixture
def connection(uri: str, tmp_path: Path) -> Connection:
    return connect(uri, "digits", tmp_path / "artifacts")


def champion(client: Any) -> Any:
    return client.get_model_version_by_alias("digits", "champion")


def test_the_champion_is_chosen_by_validation_and_never_by_test(connection: Connection, export: WriteExport) -> None:
    client, run = connection.client, connection.client.create_run(connection.experiment_id).info.run_id
    scores = {"first": 0.6, "worse": 0.5, "equal": 0.6, "better": 0.7}
    versions = {}
    for seed, (name, score) in enumerate(scores.items()):
        versions[name] = register(client, Export(export(name, seed), score, 1 - score, NAME), "digits", run)
        assert str(champion(client).version) == versions["better" if name == "better" else "first"]
    assert len(set(versions.values())) == 4
    assert champion(client).run_id == run
    tags = champion(client).tags
    assert (float(tags["supersnn.val_mean"]), float(tags["supersnn.test_mean"])) == (0.7, 1 - 0.7)


def test_a_champion_of_an_earlier_version_gives_way_to_one_with_a_validation_accuracy(
    connection: Connection, export: WriteExport
) -> None:
    client, run = connection.client, connection.client.create_run(connection.experiment_id).info.run_id
    older = register(client, Export(export("older", 0), 0.9, 0.9, NAME), "digits", run)
    client.delete_model_version_tag("digits", older, "supersnn.val_mean")
    unknown = register(client, Export(export("unknown", 1), None, 0.95, NAME), "digits", run)
    assert str(champion(client).version) == older != unknown
    newer = register(client, Export(export("newer", 2), 0.5, 0.5, NAME), "digits", run)
    assert str(champion(client).version) == newer


def test_same_weights_are_one_version(connection: Connection, export: WriteExport) -> None:
    client, run = connection.client, connection.client.create_run(connection.experiment_id).info.run_id
    folder = export("best", 0)
    versions = [register(client, Export(folder, 0.5, 0.5, NAME), "digits", run) for _ in range(2)]
    assert versions[0] == versions[1]
    assert len(client.search_model_versions("name = 'digits'")) == 1


@pytest.mark.slow
def test_version_loads_in_a_new_process(connection: Connection, uri: str, export: WriteExport, tmp_path: Path) -> None:
    """It uses its own copy of the code, and contains no pickle."""
    client, run = connection.client, connection.client.create_run(connection.experiment_id).info.run_id
    folder = export("best", 0)
    register(client, Export(folder, 0.5, 0.5, NAME), "digits", run)
    arguments = [uri, "models:/digits@champion", json.dumps(IMAGES.tolist())]
    command = [sys.executable, "-c", LOADED, *arguments]
    loaded = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout)
    expected = exported.load(folder).predict(torch.from_numpy(IMAGES))
    torch.testing.assert_close(torch.tensor(loaded["logits"]), expected)
    model = tmp_path / "artifacts" / run / "artifacts" / "model"
    assert loaded["code"].startswith(str(model))
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_signature_and_example(connection: Connection, export: WriteExport, tmp_path: Path) -> None:
    from mlflow.models import Model

    client, run = connection.client, connection.client.create_run(connection.experiment_id).info.run_id
    register(client, Export(export("best", 0), 0.5, 0.5, NAME), "digits", run)
    model = Model.load(str(tmp_path / "artifacts" / run / "artifacts" / "model"))
    assert model.signature is not None
    (images,), (logits,) = model.signature.inputs, model.signature.outputs
    assert (images.type, images.shape) == (np.uint8, (-1, 1, 8, 8))
    assert (logits.type, logits.shape) == (np.float32, (-1, 10))
    assert model.saved_input_example_info is not None


def test_export_in_the_journal_is_registered(
    sweep: "TrackedSweep", uri: str, events: list[AnyEvent], export: WriteExport
) -> None:
    folder = str(export("best", 0))
    written = WinnerExported(time=1.79e9, arm="heterogeneous", folder=folder, seed=1001)
    removed = WinnerExported(time=1.79e9, arm="direct", folder="best/direct", seed=1001)
    sweep.append([*events[:-1], written, removed, events[-1]])
    assert sweep.track(uri) == 0
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    version = champion(client)
    assert client.get_run(version.run_id).info.run_name == "heterogeneous verify seed 1001"
    assert float(version.tags["supersnn.test_mean"]) == pytest.approx(0.45)
    (line,) = sweep.refused()
    assert line.endswith("best/direct: the export folder does not exist any more")
