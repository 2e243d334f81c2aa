"""Packed trials: turns, places, failures, and the same bits as alone."""

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn import checkpoint, training_state
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.checkpoints import checkpoint_path
from tune.execution.pack import Failed, Pack
from tune.execution.places import Places
from tune.execution.trial import Repeated, TrialRunner
from tune.search.messages import OWNER, Job, Report


def parts(log: list[str], key: str, *outcomes: Report | Exception | None) -> Iterator[Report | None]:
    for outcome in outcomes:
        log.append(key)
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def epoch(number: int) -> Report:
    return Report(number, {}, None)


def turns(pack: Pack, most: int = 50) -> list[tuple[str, Report | Failed]]:
    found = []
    for _ in range(most):
        if not pack:
            break
        happened = pack.turn()
        if happened is not None:
            found.append(happened)
    return found


def test_trials_take_turns_and_the_next_gets_a_free_place() -> None:
    log: list[str] = []
    pack = Pack(Places(2, "cpu"))
    for key in "abc":
        pack.add(key, partial(parts, log, key, None, epoch(1)))
    assert (len(pack), pack.free) == (3, 0)
    found = turns(pack)
    assert [key for key, _ in found] == ["a", "b", "c"]
    assert log == list("ababcc")
    assert (len(pack), pack.free) == (0, 2)


def test_a_failure_frees_its_place_and_harms_no_other() -> None:
    log: list[str] = []
    pack = Pack(Places(3, "cpu"))
    pack.add("a", partial(parts, log, "a", None, None, epoch(1)))
    pack.add("b", partial(parts, log, "b", None, ValueError("wrong")))
    found = dict(turns(pack))
    assert isinstance(found["a"], Report)
    assert isinstance(found["b"], Failed)
    assert str(found["b"].error) == "wrong"


def test_a_trial_without_memory_begins_again_with_fewer_neighbours() -> None:
    log: list[str] = []
    attempts = iter(([None, torch.OutOfMemoryError("full")], [None, epoch(1)]))
    places = Places(3, "cpu")
    pack = Pack(places)
    pack.add("large", lambda: parts(log, "large", *next(attempts)))
    pack.add("a", partial(parts, log, "a", None, None, None, epoch(1)))
    pack.add("b", partial(parts, log, "b", None, None, None, epoch(1)))
    found = turns(pack)
    assert [key for key, _ in found] == ["a", "b", "large"]
    assert not any(isinstance(outcome, Failed) for _, outcome in found)
    assert places.count == 2
    assert log.index("large", 5) > max(position for position, key in enumerate(log) if key in "ab") - 3


def test_a_trial_without_memory_and_without_neighbours_has_failed() -> None:
    pack = Pack(Places(4, "cpu"))
    pack.add("large", partial(parts, [], "large", torch.OutOfMemoryError("full")))
    ((key, outcome),) = turns(pack)
    assert key == "large"
    assert isinstance(outcome, Failed)


def test_who_waits_for_a_place_and_who_repeats_epochs_is_known() -> None:
    repeats: list[str] = []
    pack = Pack(Places(1, "cpu"), repeats.append)
    pack.add("a", lambda: iter([Repeated(1), None, Repeated(2), epoch(3)]))
    pack.add("b", partial(parts, [], "b", epoch(1)))
    assert (pack.turn(), repeats) == (None, ["a"])
    assert [pack.waits(key) for key in "abc"] == [False, True, False]
    assert turns(pack) == [("a", epoch(3)), ("b", epoch(1))]
    assert repeats == ["a", "a"]


def test_a_removed_trial_is_closed() -> None:
    closed: list[str] = []

    def endless() -> Generator[Report | None]:
        try:
            while True:
                yield None
        finally:
            closed.append("closed")

    pack = Pack(Places(1, "cpu"))
    pack.add("a", endless)
    pack.add("b", endless)
    pack.turn()
    pack.remove("a")
    assert closed == ["closed"]
    pack.turn()
    pack.close()
    assert closed == ["closed"] * 2
    assert len(pack) == 0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("rates", "each", "settled"),
    [
        ({1: 1.0, 2: 1.9, 4: 3.5, 8: 3.6}, 0.02, 4),
        ({1: 1.0, 2: 0.9}, 0.02, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 16.0}, 0.02, 16),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 16.0}, 0.2, 4),
        ({1: 1.0, 2: 2.0}, 0.5, 1),
    ],
    ids=["no reward", "worse", "up to the most", "memory", "memory at once"],
)
def test_auto_doubles_as_long_as_memory_and_throughput_allow(
    rates: dict[int, float], each: float, settled: int
) -> None:
    clock = Clock()
    places = Places("auto", "cuda", clock, lambda: each * places.count)
    for _ in range(400):
        clock.now += 1 / rates[places.count]
        places.reported(1, places.count)
    assert places.count == settled


def test_on_a_cpu_auto_is_one_place() -> None:
    places = Places("auto", "cpu", Clock(), lambda: 0.0)
    for _ in range(100):
        places.reported(1, places.count)
    assert places.count == 1


def test_a_pack_is_of_one_gpu() -> None:
    assert ResourcesConfig(pack="auto").pack == "auto"
    assert ResourcesConfig(gpus=1, pack=8).pack == 8
    for wrong in ({"gpus": 0.5, "pack": 2}, {"gpus": 2, "pack": "auto"}):
        with pytest.raises(UserError, match=r"pack: .* trials share one GPU"):
            parse(ResourcesConfig, wrong, "test")


def jobs(store: Path) -> list[Job]:
    plain: dict[str, Any] = {
        "dataset": {"name": "digits", "images": 250, "augment": {"crop": 1}},
        "student": {"architecture": "resnet8", "stem_stride": 2},
        "train": {"epochs": 2, "batch_size": 32},
    }
    found = []
    for number, values in enumerate(({"lr": 0.1}, {"lr": 0.05}, {"name": "adamw", "lr": 0.01})):
        config = parse(TrainConfig, {**plain, "optimizer": values}, "test").model_dump(mode="json")
        folder = f"sweeps/s/trials/direct/{number}"
        found.append(Job(f"direct/{number}", config, (0,), folder, "sweeps/s", str(store), "token"))
    (store / "sweeps/s").mkdir(parents=True)
    (store / "sweeps/s" / OWNER).write_text("token", encoding="utf-8")
    return found


def test_packed_trials_have_the_bits_that_they_have_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = jobs(tmp_path / "alone")
    for job in alone:
        assert [report.ended for report in TrialRunner("cpu").run(job)] == [None, "finished"]
    monkeypatch.setattr(training_state, "_CHUNK", 32 * 64)  # a turn for every batch
    packed, runner, pack = jobs(tmp_path / "packed"), TrialRunner("cpu"), Pack(Places(3, "cpu"))
    for job in packed:
        pack.add(job.key, partial(runner.run_in_parts, job))
    reports = turns(pack, 500)
    assert sorted(key for key, _ in reports) == sorted(job.key for job in packed for _ in range(2))
    assert len({key for key, _ in reports[:3]}) == 3
    for one, other in zip(alone, packed, strict=True):
        tensors, expected = (
            checkpoint.load(checkpoint_path(Path(job.store) / job.folder, 0))[0] for job in (one, other)
        )
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
