"""Trainings in shards: the same as with full batches, and no worker process outlives them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from supersnn import process_group
from supersnn.config import TrainConfig
from supersnn.config_model import to_yaml
from supersnn.data import TrainingData
from supersnn.digests import digest
from supersnn.epoch_report import EpochReport
from supersnn.errors import UserError
from supersnn.losses import TeacherOutputs
from supersnn.nested import unflatten
from supersnn.process_group import check_shards
from supersnn.teacher_sources import teacher_source_for
from supersnn.teachers import recipe
from supersnn.training import train
from tests.support.records import timeless

Configured = Callable[..., TrainConfig]

RELATION = {"teacher__name": "resnet8", "loss__relation__weight": 10.0}
ALL_TERMS = {**RELATION, "loss__logit__weight": 0.5, "loss__feature__weight": 1.0}
SMALL = {
    "dataset__name": "digits",
    "dataset__images": 100,
    "dataset__validation": 0.25,
    "dataset__augment__crop": 1,
    "student__architecture": "resnet8",
    "student__stem_stride": 2,
    "teacher__epochs": 2,
    "dataset__augment__views": 2,
    "train__epochs": 2,
    "train__batch_size": 16,
    "train__shards": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "direct": {"loss__label__kind": "per_step", "loss__label__smoothing": 0.1},
    "plif": {"neuron__kind": "plif", "neuron__reset": "soft", "train__channels_last": False},
    "artificial": {"neuron__kind": "relu", "optimizer__clip": 0.5},
    "cosine": {**RELATION, "loss__relation__kind": "cosine", "loss__relation__time": "per_step"},
    "centred": {**RELATION, "loss__relation__kind": "centred_cosine", "loss__relation__shuffle": True},
    "gram": {**RELATION, "loss__relation__kind": "gram", "loss__relation__pool": 2},
    "distance": {**RELATION, "loss__relation__kind": "distance", "loss__relation__time": "concat"},
    "stages": {
        **RELATION,
        "loss__relation__layers": "stages",
        "loss__relation__pool": "full",
        "loss__relation__scale": "relative",
        "loss__relation__schedule": "linear",
    },
    "currents": {**RELATION, "loss__relation__signal": "currents", "loss__relation__queue": 1},
    "logit": {"teacher__name": "vgg8", "loss__logit__weight": 1.0, "student__norm": "tdbn"},
    "feature": {"teacher__name": "resnet8", "loss__feature__weight": 10.0, "optimizer__name": "adamw"},
    "four": {**ALL_TERMS, "neuron__kind": "plif", "train__shards": 4},
    "live": {**RELATION, "dataset__augment__views": "off", "optimizer__lr": 0.05},
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert workers() == []


def workers(of: int | None = None) -> list[psutil.Process]:
    """Return the worker processes of the trainings in this process, or in that of another id."""
    found = psutil.Process(of).children(recursive=True)
    return [process for process in found if "--multiprocessing-fork" in process.cmdline()]


def reports(config: TrainConfig, data: TrainingData, store: Path, **more: Any) -> Iterator[EpochReport]:
    return train(config, data, teacher_source_for(config, data, store), **more)


def environment() -> dict[str, str]:
    """Return the environment of a process that finds this package."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


COMPARED = """
import json, sys
from pathlib import Path

import torch

from supersnn.teacher_sources import teacher_source_for
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.training import train

# At module level, for the shards' processes too: in double precision no rounding makes a neuron fire or not.
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double


def trained(described, shards, store):
    described["train"]["shards"] = shards
    config = parse(TrainConfig, described, "test")
    data = training_data(config.dataset)
    reports = list(train(config, data, teacher_source_for(config, data, store)))
    return [report.metrics for report in reports], reports[-1].snapshot()[0]


if __name__ == "__main__":
    for name, described in json.loads(sys.stdin.read()).items():
        counts = (1, described["train"].pop("shards"))
        (full, tensors), (sharded, found) = (trained(described, count, Path(sys.argv[1])) for count in counts)
        assert tensors.keys() == found.keys()
        apart = max(float((found[at] - tensors[at]).abs().max()) for at in tensors)
        print(json.dumps({"variant": name, "full": full, "sharded": sharded, "apart": apart}))
"""


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the results of each variant, trained in one process and in shards, in double precision."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "compared.py").write_text(COMPARED, encoding="utf-8")
    described = {
        name: unflatten({key.replace("__", "."): value for key, value in {**SMALL, **values}.items()})
        for name, values in VARIANTS.items()
    }
    command = [sys.executable, str(folder / "compared.py"), str(folder)]
    done = subprocess.run(
        command, input=json.dumps(described), capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["variant"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_shards_train_as_the_whole_batch(compared: dict[str, dict[str, Any]], variant: str) -> None:
    found = compared[variant]
    for full, sharded in zip(found["full"], found["sharded"], strict=True):
        assert timeless(sharded) == pytest.approx(timeless(full), rel=1e-9)
    assert found["apart"] < 1e-9


def test_two_shards_train_as_the_whole_batch(configured: Configured, bars: TrainingData, store: Path) -> None:
    smooth = {**ALL_TERMS, "neuron__kind": "relu", "train__epochs": 1}
    (full,), (sharded,) = (list(reports(configured(**smooth, train__shards=n), bars, store)) for n in (1, 2))
    of_one, of_two = timeless(full.metrics), timeless(sharded.metrics)
    for key, value in of_one.items():
        counts = key.startswith("ops/")  # of values above zero, which rounding may bring to zero
        assert of_two.pop(key) == pytest.approx(value, rel=1e-3 if counts else 1e-5), key
    assert of_two == {}
    (tensors, meta), (found, found_meta) = full.snapshot(), sharded.snapshot()
    assert tensors.keys() == found.keys()
    assert meta.keys() == found_meta.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_resumed_training_goes_on_to_the_same_bits(configured: Configured, bars: TrainingData, store: Path) -> None:
    config = configured(**ALL_TERMS, train__shards=2)
    whole = reports(config, bars, store)
    begun = next(whole).snapshot()
    *_, last = whole
    *_, again = reports(config, bars, store, resume=begun)
    assert timeless(again.metrics) == timeless(last.metrics)
    tensors, expected = again.snapshot()[0], last.snapshot()[0]
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="another configuration"):
        reports(configured(**ALL_TERMS), bars, store, resume=begun)


def test_an_abandoned_training_ends_its_processes(configured: Configured, bars: TrainingData, store: Path) -> None:
    begun = reports(configured(train__shards=2), bars, store)
    next(begun)
    assert len(workers()) == 1
    begun.close()  # type: ignore[attr-defined]
    assert workers() == []
    assert len(list(reports(configured(train__shards=2), bars, store))) == 3


def test_a_killed_shard_ends_the_training_with_an_error(
    configured: Configured, bars: TrainingData, store: Path
) -> None:
    begun = reports(configured(train__shards=2), bars, store)
    next(begun)
    workers()[0].kill()
    with pytest.raises(RuntimeError, match="shard 1 of 2 ended with exit code -9"):
        list(begun)


def test_a_shard_that_is_lost_before_the_rendezvous(
    configured: Configured, bars: TrainingData, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_work = process_group._send_work

    def send_and_lose(*arguments: Any) -> None:
        send_work(*arguments)
        workers()[0].kill()

    monkeypatch.setattr(process_group, "_send_work", send_and_lose)
    monkeypatch.setattr(process_group, "RENDEZVOUS_TIMEOUT", 3.0)
    monkeypatch.setattr(process_group, "_group", _late(process_group._group))
    with pytest.raises(
        RuntimeError,
        match=r"not all 2 shards reached the rendezvous within 3 s; .* shard 1 of 2 ended with exit code -9",
    ):
        next(reports(configured(train__shards=2), bars, store))


def _late(group: Callable[..., Any]) -> Callable[..., Any]:
    """Return `group` as entered after the lost worker is gone, without its mark at the rendezvous."""

    def enter(shard: Any, rendezvous: Path) -> Any:
        time.sleep(0.5)
        rendezvous.with_name("arrived-1").unlink(missing_ok=True)
        return group(shard, rendezvous)

    return enter


class _NotPicklable:
    """A teacher source that cannot be unpickled in another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no source",)

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        raise NotImplementedError


def test_a_shard_that_fails_is_reported_with_its_traceback(configured: Configured, bars: TrainingData) -> None:
    begun = train(configured(**RELATION, train__shards=2), bars, _NotPicklable())
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*no source"):
        next(begun)


ALONE = """
import sys, time
from pathlib import Path
from supersnn.config import load
from supersnn.data import training_data
from supersnn.training import train

if __name__ == "__main__":
    config = load(Path(sys.argv[1]))
    for report in train(config, training_data(config.dataset)):
        print(report.epoch, flush=True)
        time.sleep(float(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("between_epochs", [True, False])
def test_the_shards_die_with_a_killed_training(configured: Configured, tmp_path: Path, between_epochs: bool) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(configured(train__shards=4, train__epochs=1000)), encoding="utf-8")
    (tmp_path / "alone.py").write_text(ALONE, encoding="utf-8")
    command = [
        sys.executable,
        str(tmp_path / "alone.py"),
        str(tmp_path / "config.yaml"),
        "60" if between_epochs else "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as training:
        assert training.stdout is not None
        assert training.stdout.readline() == b"1\n"
        working = workers(training.pid)
        assert len(working) == 3
        time.sleep(0.3)
        training.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(working, timeout=20)
    assert alive == []


def test_the_default_leaves_every_digest_as_it_was(configured: Configured) -> None:
    config = configured(**RELATION)
    assert digest(config, "0123456789abcdef") == "54e44421c8302c88"
    assert digest(recipe(config)) == "d1c960c20940f73c"
    assert digest(config.train) == "108f24c4ff3b008b"
    assert digest(configured(**RELATION, train__shards=2)) != digest(config)


def test_shards_are_part_of_the_configuration(configured: Configured) -> None:
    assert "shards: 1" in to_yaml(configured())
    assert configured(train__shards=2).train.shards == 2
    assert recipe(configured(**RELATION, train__shards=2)) == recipe(configured(**RELATION))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train__shards": 3}, "train.shards: .*divisor of train.batch_size 16, found 3"),
        ({"train__shards": 0}, "train.shards"),
        ({"train__shards": 2, "student__architecture": "torchvision:resnet18"}, "train.shards: .*torchvision:resnet18"),
    ],
)
def test_what_cannot_be_cut_is_refused(configured: Configured, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        configured(**values)


def test_too_few_images_or_devices_are_refused(configured: Configured, bars: TrainingData) -> None:
    config = configured(train__batch_size=80, train__shards=16)
    with pytest.raises(UserError, match=r"train\.shards: .*which is 72 here, found 16"):
        train(config, bars)
    seen = torch.cuda.device_count()
    with pytest.raises(UserError, match=f"train.shards: {seen + 2} shards need a GPU each, this training has {seen}"):
        check_shards(seen + 2, 60 * (seen + 2), torch.device("cuda"))
