"""What a GPU hands to others: a teacher's outputs, and exported students that another device accepts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from supersnn import checkpoint, exported, teacher_cache, teacher_fit
from supersnn.checking import check, tolerance
from supersnn.data import TrainingData, training_data
from supersnn.evaluation import Evaluator, evaluate
from supersnn.exported import Preprocessing
from supersnn.networks.build import build
from supersnn.numerics import numerics
from supersnn.relation_loss import average_pooled
from supersnn.shards import Shard
from supersnn.streams import Turn
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import needed_outputs
from supersnn.teachers import TeacherStore, recipe
from supersnn.training import train
from supersnn.training_state import Training
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


@pytest.mark.parametrize("delayed", ["copying", "reading"])
def test_streams_share_one_copy_of_a_view(
    configured: Configured, data: TrainingData, device: torch.device, tmp_path: Path, delayed: str
) -> None:
    """A reader waits for the copy that another stream makes, and what is read is not overwritten once all let go."""
    config = configured(**TAUGHT, teacher__epochs=1)
    teacher = TeacherStore(tmp_path / "teachers").get(config, data, device)
    kinds = needed_outputs(config.loss)
    caches = [TeacherCache.open(tmp_path / "banks", teacher, data, config, kinds) for _ in range(2)]
    turns = [Turn(device, tf32=True, deterministic=False) for _ in caches]
    rows, found = torch.arange(100), []
    for number, (cache, turn) in enumerate(zip(caches, turns, strict=True)):
        with turn:
            if device.type == "cuda" and (number == 0) == (delayed == "copying"):
                torch.cuda._sleep(10**8)
            found.append(cache(rows, 0, data.train.pixels[:100]).logits)
    if device.type == "cuda":
        views = [cache._views for cache in caches]
        assert all(views[0][kind][1] is views[1][kind][1] for kind in kinds)
        sizes = [view[kind][1].values.nbytes for view in views[:1] for kind in kinds]
        del views
        for cache in caches:
            cache._views.clear()
        with turns[0]:
            kept = [torch.full((size,), 255, dtype=torch.uint8, device=device) for size in sizes]
        torch.cuda.synchronize(device)
        assert len(kept) == len(sizes)
    (path,) = caches[0].folder.glob("*logits*0*.npy")
    expected = torch.from_numpy(np.load(path)[:100]).float()
    assert all(values is not None and torch.equal(values.cpu(), expected) for values in found)


def test_a_captured_evaluation_finds_what_a_plain_one_finds(
    configured: Configured, data: TrainingData, device: torch.device
) -> None:
    training = Training(configured(), data, None, None, Shard(device=device))
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


@pytest.mark.parametrize(("length", "side"), [(7, 2), (7, 4), (5, 3)])
def test_a_pool_that_does_not_divide_a_map_has_a_deterministic_gradient(
    device: torch.device, length: int, side: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    maps, upstream = (torch.randn(9, 6, edge, edge, generator=generator) for edge in (length, side))
    found = []
    for place in (torch.device("cpu"), device, device):
        with numerics(place, deterministic=True):
            leaf = maps.to(place).contiguous(memory_format=torch.channels_last).requires_grad_()
            averages = average_pooled(leaf, side)
            averages.backward(upstream.to(place))
        assert leaf.grad is not None
        found.append((averages.detach().cpu(), leaf.grad.cpu()))
    for one, other in zip(*found[1:], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(*found[:2], strict=True):
        torch.testing.assert_close(one, other)


def test_an_imported_teacher_is_fitted_on_the_device(
    configured: Configured, data: TrainingData, device: torch.device
) -> None:
    config = recipe(configured(**TAUGHT, teacher__epochs=6))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = build(config.student, config.neuron, data.shape, len(data.classes)).eval().requires_grad_(False)
    teacher_fit.fit(network, "all", config, data, device, lambda _epoch: None)
    network.to(device)
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert evaluate(network, data.validation, data.mean, data.std).accuracy > 0.6
