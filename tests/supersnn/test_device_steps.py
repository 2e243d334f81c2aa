"""The steps of a GPU's path, run on the CPU: they are those of the CPU's own path, bit by bit."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor

from supersnn import training_state
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.device_steps import DeviceSteps
from supersnn.losses import TeacherOutputs
from supersnn.networks.build import build
from supersnn.streams import Turn
from supersnn.training import train, train_in_parts

Configured = Callable[..., TrainConfig]

TAUGHT = {
    "teacher__name": "resnet8",
    "loss__relation__weight": 1.0,
    "loss__relation__pool": 2,
    "loss__logit__weight": 0.5,
    "loss__feature__weight": 0.1,
}


class Echo:
    """A teacher source that returns the pixels."""

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        del position, view
        vectors = images.flatten(1)
        return TeacherOutputs({1: vectors, 2: vectors}, vectors[:, :4], images.repeat(1, 3, 1, 1))


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train on the path of GPUs; the list has the number of batches of every chunk."""
    chunks: list[int] = []
    run = DeviceSteps.run

    def recorded(self: DeviceSteps, images: Tensor, labels: Tensor, outputs: Any, values: Any) -> None:
        chunks.append(len(values["rate"]))
        run(self, images, labels, outputs, values)

    monkeypatch.setattr(DeviceSteps, "run", recorded)
    monkeypatch.setattr(training_state, "_steps_on_device", lambda _shard: True)
    return chunks


def results(config: TrainConfig, data: TrainingData, resume: Any = None) -> list[tuple[dict[str, float], Any]]:
    found = []
    for report in train(config, data, Echo(), resume):
        metrics = {name: value for name, value in report.metrics.items() if name != "time/epoch_s"}
        found.append((metrics, report.snapshot()))
    return found


def assert_same(one: list[tuple[dict[str, float], Any]], other: list[tuple[dict[str, float], Any]]) -> None:
    assert len(one) == len(other) > 0
    for (metrics, (tensors, _)), (others, (other_tensors, _)) in zip(one, other, strict=True):
        assert metrics == others
        assert tensors.keys() == other_tensors.keys()
        assert all(torch.equal(tensors[name], other_tensors[name]) for name in tensors)


@pytest.mark.parametrize("chunk", [2**23, 2 * 16 * 64])
@pytest.mark.parametrize(
    "values",
    [
        {"dataset__augment__flip": True},
        {"optimizer__name": "adamw", "optimizer__lr": 0.01, "optimizer__clip": 1.0},
        {"neuron__kind": "plif", "train__channels_last": False, "optimizer__momentum": 0.0},
        TAUGHT,
        {**TAUGHT, "loss__relation__schedule": "cosine", "optimizer__ema": 0.9},
        {"dataset__augment__mixup": 0.4, "dataset__augment__cutmix": 1.0, "optimizer__ema": 0.5},
    ],
    ids=["sgd", "adamw", "plif", "taught", "scheduled", "mixed"],
)
def test_the_steps_on_the_device_are_the_same(
    configured: Configured,
    bars: TrainingData,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    values: dict[str, Any],
    chunk: int,
) -> None:
    config = configured(**values)
    plain = results(config, bars)
    monkeypatch.setattr(training_state, "_CHUNK", chunk)
    chunks = request.getfixturevalue("on_device")
    assert_same(results(config, bars), plain)
    assert chunks == [4] * 3 if chunk == 2**23 else [2, 2] * 3


def test_a_resumed_training_on_the_device_goes_on_to_the_same_bits(
    configured: Configured, bars: TrainingData, on_device: list[int]
) -> None:
    config = configured(**TAUGHT, loss__relation__schedule="linear", optimizer__ema=0.9)
    whole = results(config, bars)
    assert_same(results(config, bars, whole[0][1]), whole[1:])
    assert len(on_device) == 5


def test_steps_that_grow_are_taken_from_the_host(
    configured: Configured, bars: TrainingData, on_device: list[int]
) -> None:
    results(configured(**TAUGHT, loss__relation__queue=2, train__epochs=1), bars)
    assert on_device == []


def test_trainings_that_take_turns_do_not_disturb_each_other(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_state, "_CHUNK", 16 * 64)
    configs = [configured(seed=1), configured(seed=2, **TAUGHT), configured(seed=3, optimizer__name="adamw")]
    alone = [results(config, bars) for config in configs]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with ExitStack() as stack:
        waiting = [(number, train_in_parts(config, bars, Echo())) for number, config in enumerate(configs)]
        for _, parts in waiting:
            stack.callback(parts.close)  # type: ignore[attr-defined]
        together: list[list[tuple[dict[str, float], Any]]] = [[] for _ in configs]
        turns = 0
        while waiting:
            number, parts = waiting.pop(0)
            turns += 1
            try:
                report = next(parts)
            except StopIteration:
                continue
            if report is not None:
                metrics = {name: value for name, value in report.metrics.items() if name != "time/epoch_s"}
                together[number].append((metrics, report.snapshot()))
            waiting.append((number, parts))
    assert turns > 3 * 3 * 4
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_report_of_an_epoch_has_no_snapshot_once_the_next_has_begun(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_state, "_CHUNK", 16 * 64)
    parts = train_in_parts(configured(), bars)
    report = next(report for report in parts if report is not None)
    assert next(parts) is None
    with pytest.raises(RuntimeError, match="has continued since epoch 1"):
        report.snapshot()


def test_a_training_that_is_closed_in_mid_epoch_waits_for_its_steps(
    configured: Configured, bars: TrainingData, on_device: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU its memory would be freed, and used by others, while launched steps still write to it."""
    done: list[bool] = []
    monkeypatch.setattr(training_state, "_CHUNK", 16 * 64)
    monkeypatch.setattr(Turn, "end", lambda _self: done.append(True))
    parts = train_in_parts(configured(), bars)
    assert [next(parts), next(parts)] == [None, None]
    assert (len(on_device), done) == (2, [])
    parts.close()  # type: ignore[attr-defined]
    assert done == [True]


def test_the_end_of_a_turn_leaves_an_error_of_the_device_to_the_next_user() -> None:
    class Broken:
        waited = 0

        def synchronize(self) -> None:
            self.waited += 1
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    turn = Turn(torch.device("cpu"), tf32=False, deterministic=False)
    turn.end()
    turn._stream = broken = Broken()  # type: ignore[assignment]
    turn.end()
    assert broken.waited == 1


def test_the_network_is_built_in_the_turn(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its weights are in memory of the stream that writes to them."""
    log: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            log.append(name)
            return real(*given)

        return called

    monkeypatch.setattr(Turn, "__enter__", noted("enter", Turn.__enter__))
    monkeypatch.setattr(Turn, "__exit__", noted("leave", Turn.__exit__))
    monkeypatch.setattr(training_state, "build", noted("build", build))
    next(train_in_parts(configured(), bars))
    assert log[:3] == ["enter", "build", "leave"]
