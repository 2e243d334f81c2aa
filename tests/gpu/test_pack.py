"""Trials in a pack, as a sweep runs them: several at once on the device, with checkpoints, equal to those alone."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn import checkpoint, training_state
from supersnn.data import TrainingData
from tests.gpu.conftest import TAUGHT, Configured, without_time
from tune.execution import trial
from tune.execution.checkpoints import checkpoint_path
from tune.execution.pack import Failed, Pack
from tune.execution.places import Places
from tune.execution.trial import TrialRunner
from tune.search.messages import OWNER, Job, Report

TRIALS: tuple[dict[str, Any], ...] = (
    {},
    TAUGHT,
    {"optimizer__name": "adamw", "optimizer__lr": 0.01},
    {**TAUGHT, "optimizer__lr": 0.05, "student__architecture": "resnet14"},
)
Metrics = dict[str, list[dict[str, float]]]


@pytest.fixture
def runner(device: torch.device, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> TrialRunner:
    """What runs the trials, on the images of these checks; a turn is four batches."""
    monkeypatch.setattr(trial, "training_data", lambda *_: data)
    monkeypatch.setattr(training_state, "_CHUNK", 4 * 16 * data.train.pixels[0].numel())
    return TrialRunner(device.type)


def jobs(store: Path, sweep: str, configured: Configured) -> list[Job]:
    """Return the trials as jobs of a sweep; sweeps of one store share their teachers."""
    (store / sweep).mkdir(parents=True)
    (store / sweep / OWNER).write_text("token", encoding="utf-8")
    found = []
    for number, values in enumerate(TRIALS):
        config = configured(train__deterministic=True, train__tf32=False, seed=number, **values)
        key, plain = f"x/{number}", config.model_dump(mode="json")
        found.append(Job(key, plain, (number,), f"{sweep}/trials/{key}", sweep, str(store), "token"))
    return found


def packed(jobs: list[Job], runner: TrialRunner, removed: str | None = None) -> Metrics:
    """Run the jobs in a pack of as many places; return the metrics of each, but of the one that is removed early."""
    pack = Pack(Places(len(jobs), runner.device))
    for job in jobs:
        pack.add(job.key, partial(runner.run_in_parts, job))
    found: Metrics = {job.key: [] for job in jobs}
    turns = 0
    while pack:
        happened, turns = pack.turn(), turns + 1
        if removed and turns == 2 * len(jobs):  # in its first epoch
            pack.remove(removed)
            found.pop(removed)
        if happened is None:
            continue
        key, outcome = happened
        assert not isinstance(outcome, Failed), outcome
        assert isinstance(outcome, Report)
        found[key].append(without_time(outcome.metrics))
    return found


def test_packed_trials_are_those_alone(configured: Configured, runner: TrialRunner, tmp_path: Path) -> None:
    alone, together = (jobs(tmp_path, sweep, configured) for sweep in ("sweeps/alone", "sweeps/packed"))
    expected = {job.key: [without_time(report.metrics) for report in runner.run(job)] for job in alone}
    assert {len(epochs) for epochs in expected.values()} == {3}
    assert packed(together, runner) == expected
    for one, other in zip(alone, together, strict=True):
        tensors, others = (
            checkpoint.load(checkpoint_path(tmp_path / job.folder, job.seeds[0]))[0] for job in (one, other)
        )
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_a_trial_that_is_stopped_in_mid_epoch_harms_no_other(
    configured: Configured, runner: TrialRunner, tmp_path: Path
) -> None:
    alone, together = (jobs(tmp_path, sweep, configured) for sweep in ("sweeps/alone", "sweeps/packed"))
    expected = {job.key: [without_time(report.metrics) for report in runner.run(job)] for job in alone[1:]}
    assert packed(together, runner, removed=together[0].key) == expected
