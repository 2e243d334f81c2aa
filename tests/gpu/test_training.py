"""Trainings on a GPU: every precision, the graph against none, resuming, turns, memory, and without waiting."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.gpu.parts import build_student
from benchmarks.gpu.setting import NotCapturedError, Setting, replace_neurons, seconds_a_step, steps_of
from supersnn import training_state
from supersnn.data import TrainingData
from supersnn.device_steps import DeviceSteps
from supersnn.losses import TeacherOutputs
from supersnn.neurons import LIF
from supersnn.shards import Shard
from supersnn.training import train, train_in_parts
from supersnn.training_state import Training
from tests.gpu.conftest import TAUGHT, Configured, Echo, assert_same, course, taking_turns

PRECISIONS = ("fp32", "bf16", "fp16")
EXACT = {"train__deterministic": True, "train__tf32": False}

CASES: dict[str, dict[str, Any]] = {
    "sgd": {"dataset__augment__flip": True},
    "adamw": {"optimizer__name": "adamw", "optimizer__lr": 0.01, "optimizer__clip": 1.0},
    "plif": {"neuron__kind": "plif", "neuron__surrogate": "sigmoid", "train__channels_last": False},
    "taught": TAUGHT,
    "views off": {**TAUGHT, "dataset__augment__views": "off", "loss__feature__weight": 0.0},
    "scheduled": {**TAUGHT, "loss__relation__schedule": "cosine", "optimizer__ema": 0.9},
    "mixed": {"dataset__augment__mixup": 0.4, "dataset__augment__cutmix": 1.0},
    "bf16": {"train__precision": "bf16"},
    "fp16": {"train__precision": "fp16", "optimizer__clip": 1.0},
}


def case(name: str, configured: Configured, device: torch.device, **more: Any) -> Any:
    values = CASES[name]
    if device.type == "cpu" and "train__precision" in values:
        pytest.skip("half precision is of a GPU alone")
    return configured(**EXACT, **values, **more)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_epoch_in_each_precision_learns(
    configured: Configured, data: TrainingData, device: torch.device, precision: str
) -> None:
    if device.type == "cpu" and precision != "fp32":
        pytest.skip("half precision is of a GPU alone")
    *_, last = train(configured(train__precision=precision, train__epochs=6), data, device=device)
    assert last.ended == "finished"
    assert all(math.isfinite(value) for value in last.metrics.values())
    assert last.metrics["val/accuracy"] > 0.6
    assert 0 < last.metrics["spikes/rate"] < 1


@pytest.mark.parametrize("name", CASES)
def test_a_graph_gives_the_same_bits_as_none(
    configured: Configured, data: TrainingData, device: torch.device, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    captured = []
    means = DeviceSteps.means

    def noted(self: DeviceSteps, steps: int) -> dict[str, float]:
        captured.append(self.captured)
        return means(self, steps)

    monkeypatch.setattr(DeviceSteps, "means", noted)
    with_graph, _ = course(case(name, configured, device), data, device)
    without, _ = course(case(name, configured, device, train__graph="off"), data, device)
    assert_same(with_graph, without)
    assert captured == ([True] * 3 + [False] * 3 if device.type == "cuda" else [])


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_training_goes_on_to_the_same_bits(
    configured: Configured, data: TrainingData, device: torch.device, name: str
) -> None:
    config = case(name, configured, device)
    whole, snapshots = course(config, data, device)
    rest, _ = course(config, data, device, snapshots[0])
    assert_same(rest, whole[1:])


def test_the_same_training_twice_gives_the_same_bits(
    configured: Configured, data: TrainingData, device: torch.device
) -> None:
    config = configured(**EXACT, **TAUGHT, seed=3)
    assert_same(course(config, data, device)[0], course(config, data, device)[0])


def test_the_first_losses_are_those_of_a_cpu(configured: Configured, data: TrainingData, device: torch.device) -> None:
    """Before any update: later, roundings make spiking networks diverge."""
    config = configured(**EXACT, **TAUGHT, train__epochs=1, train__batch_size=272, optimizer__lr=1e-9)
    on_cpu = TrainingData(
        data.train.to("cpu"), data.validation.to("cpu"), data.shape, data.classes, data.mean, data.std, data.fingerprint
    )
    (here,) = train(config, data, Echo(), device=device)
    (there,) = train(config, on_cpu, Echo())
    for name in ("train/loss", "loss/label", "loss/relation", "loss/logit", "loss/feature"):
        assert here.metrics[name] == pytest.approx(there.metrics[name], rel=0.02), name
    assert here.metrics["spikes/rate"] == pytest.approx(there.metrics["spikes/rate"], rel=0.02)
    for name in ("ops/mac", "ops/dense"):
        assert here.metrics[name] == there.metrics[name]


def test_trainings_that_take_turns_give_the_bits_that_each_gives_alone(
    configured: Configured, data: TrainingData, device: torch.device
) -> None:
    more: tuple[dict[str, Any], ...] = (
        {},
        TAUGHT,
        {"optimizer__name": "adamw", "optimizer__lr": 0.01},
        {"student__architecture": "resnet14"},
    )
    configs = [configured(**EXACT, **values, seed=number) for number, values in enumerate(more)]
    together = taking_turns(configs, data, device, [Echo() for _ in configs])
    for config, found in zip(configs, together, strict=True):
        assert_same(found, course(config, data, device)[0])


class Failing(Echo):
    """Runs out of memory at the second call: on a GPU in earnest."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._calls = device, 0

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        self._calls += 1
        if self._calls > 1:
            if self._device.type == "cpu":
                raise torch.OutOfMemoryError("pretended")
            total = torch.cuda.get_device_properties(self._device).total_memory
            torch.empty(2 * total, dtype=torch.uint8, device=self._device)
        return super().__call__(position, view, images)


def test_a_training_without_memory_harms_no_other(
    configured: Configured, data: TrainingData, device: torch.device
) -> None:
    configs = [configured(**EXACT, **TAUGHT, seed=seed) for seed in range(3)]
    first, failed, last = taking_turns(configs, data, device, [Echo(), Failing(device), Echo()])
    assert isinstance(failed, torch.OutOfMemoryError)
    assert_same(first, course(configs[0], data, device)[0])
    assert_same(last, course(configs[2], data, device)[0])


class Slow(Echo):
    """Keeps a GPU busy for a while before each chunk, so that its steps are launched long before they are done."""

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        if images.is_cuda:
            torch.cuda._sleep(200_000_000)  # cycles
        return super().__call__(position, view, images)


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_a_training_that_is_closed_in_mid_epoch_harms_no_other(
    configured: Configured, data: TrainingData, device: torch.device, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """The next one gets its memory at once, while steps of the first, replayed ones among them, are still launched."""
    monkeypatch.setattr(training_state, "_CHUNK", 4 * 16 * data.train.pixels[0].numel())
    config = configured(**EXACT, **TAUGHT, seed=7)
    expected, _ = course(config, data, device)
    for _ in range(3):
        parts = train_in_parts(configured(**EXACT, **TAUGHT), data, Slow(), None, device)
        assert [next(parts) for _ in range(turns)] == [None] * turns
        parts.close()  # type: ignore[attr-defined]
        assert_same(course(config, data, device)[0], expected)


def test_a_network_too_large_for_the_memory_harms_no_other(
    configured: Configured, data: TrainingData, cuda: torch.device
) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(cuda).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**30) / total))
    try:
        small = configured(**EXACT)
        large = configured(student__architecture="resnet19", student__time_steps=16, train__batch_size=256)
        found, failed = taking_turns([small, large], data, cuda, [Echo(), Echo()])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(failed, torch.OutOfMemoryError), failed
    assert_same(found, course(small, data, cuda)[0])


@pytest.mark.parametrize("name", ["sgd", "adamw", "taught", "scheduled", "mixed", "bf16", "fp16"])
def test_no_step_waits_for_the_device(
    configured: Configured, data: TrainingData, cuda: torch.device, name: str
) -> None:
    """torch reports every operation that waits, in the steps before the capture as in the replayed ones."""
    trained = Training(case(name, configured, cuda), data, Echo(), None, Shard(device=cuda))
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in trained.epoch_in_parts():  # libraries may wait when they are first used, and so does the capture
            pass
    order = torch.arange(trained.batch * 4)
    try:
        torch.cuda.set_sync_debug_mode("error")
        with trained.turn:
            trained._steps_on_device(order, trained.steps)
        assert trained.device_steps is not None
        trained.device_steps._graph = None
        with trained.turn:
            trained._steps_on_device(order, trained.steps)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    torch.cuda.synchronize()


class Waiting(nn.Module):
    """ReLU that reads a value on the host, which no graph can capture."""

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        assert math.isfinite(float(current.sum()))
        return torch.cat([torch.relu(current)] * 2) if constant else torch.relu(current)


def test_a_step_that_cannot_be_captured_goes_on_and_is_not_measured_as_captured(cuda: torch.device) -> None:
    small = Setting(cuda, small=True, seconds=0.1)
    network = build_student("resnet8", small)
    replace_neurons(network, LIF, Waiting)
    with pytest.warns(UserWarning, match="without a CUDA graph"), pytest.raises(NotCapturedError):
        steps_of(network, small, "fp32", 8, graph=True)
    held = torch.empty(2**28, dtype=torch.uint8, device=cuda)
    reserved = torch.cuda.memory_reserved(cuda)
    del held
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved(cuda) <= reserved - 2**28  # the allocator does not take this for a capture
    assert torch.rand(3, device=cuda).isfinite().all()
    steps_of(network, small, "fp32", 8, graph=False)(4)
    assert seconds_a_step(steps_of(build_student("resnet8", small), small, "fp32", 8, graph=True), small) > 0
