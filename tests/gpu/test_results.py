"""What a GPU hands to others: a teacher's outputs, and exported students that another device accepts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from supersnn import checkpoint, exported, teacher_cache
from supersnn.checking import check, tolerance
from supersnn.data import TrainingData, training_data
from supersnn.evaluation import Evaluator, evaluate
from supersnn.exported import Preprocessing
from supersnn.shards import Shard
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import needed_outputs
from supersnn.teachers import TeacherStore
from supersnn.training import _Training, train
from tests.gpu.conftest import TAUGHT, Configured


@pytest.mark.parametrize("kept", [2**30, 0], ids=["kept on the device", "copied in parts"])
def test_a_teachers_outputs_on_the_device_are_those_in_the_files(
    configured: Configured,
    data: TrainingData,
    device: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: int,
) -> None:
    monkeypatch.setattr(teacher_cache, "_ON_DEVICE", kept)
    config = configured(**TAUGHT, teacher__epochs=1)
    teacher = TeacherStore(tmp_path / "teachers").get(config, data, device)
    assert next(teacher.network.parameters()).device.type == device.type
    cache = TeacherCache.open(tmp_path / "banks", teacher, data, config, needed_outputs(config.loss))
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:100]
    for view in (1, 0, 1):
        outputs = cache(rows, view, data.train.pixels[:100])
        found = {"logits": outputs.logits, "vectors2": outputs.vectors[2], "features": outputs.features}
        for kind, values in found.items():
            (path,) = cache.folder.glob(f"*{kind}*{view}*.npy")
            expected = torch.from_numpy(np.load(path)[rows.numpy()]).float()
            assert values is not None
            assert values.device.type == device.type
            assert torch.equal(values.cpu(), expected)


def test_a_captured_evaluation_finds_what_a_plain_one_finds(
    configured: Configured, data: TrainingData, device: torch.device
) -> None:
    training = _Training(configured(), data, None, None, Shard(device=device))
    for _ in range(3):
        for _ in training.epoch_in_parts():
            pass
    assert (training.evaluator._graph is not None) == (device.type == "cuda")
    with training.turn:
        found = training.evaluator.evaluate(data.validation)
        plain = Evaluator(training.network, data.mean, data.std).evaluate(data.validation)
        again = training.evaluator.evaluate(data.validation)
    assert found == plain == again
    assert found.images == 300


@pytest.mark.parametrize("there", ["cpu", "the device"])
def test_an_exported_student_is_accepted_on_another_device(
    configured: Configured, device: torch.device, tmp_path: Path, there: str
) -> None:
    """Trained here and checked on the CPU, and the other way round."""
    trained, checked = (device, torch.device("cpu")) if there == "cpu" else (torch.device("cpu"), device)
    config = configured(dataset__images=600, train__epochs=4, student__stem_stride=2)
    data = training_data(config.dataset, trained)
    *_, last = train(config, data, device=trained)
    weights = checkpoint.student_weights(last.snapshot()[0])
    network = exported.network(config, Preprocessing.of(data), weights).to(trained)
    measured = evaluate(network, data.validation, data.mean, data.std)
    assert measured.accuracy > 0.5
    exported.write(tmp_path / "export", config, weights, Preprocessing.of(data), {"val_accuracy": measured.accuracy})
    (comparison,) = check(tmp_path / "export", checked)
    assert comparison.tolerance == tolerance(measured.images)
    assert comparison.agrees, comparison
