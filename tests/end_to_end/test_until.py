"""A sweep that adds replicates until the differences are known: looks, a death after one, resumption, extension."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis import compare, load
from tests.support import invariants
from tests.support.cli import invoke, run, run_json
from tests.support.records import events
from tune.sweep_driver import SweepDriver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAIN: dict[str, Any] = {
    "name": "until",
    "dataset": {"name": "digits", "images": 200, "augment": {"views": 2}},
    "student": {"architecture": "resnet8", "time_steps": 1},
    "train": {"epochs": 1},
    "teacher": {"epochs": 1},
    "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
    "space": {"optimizer.lr": "default"},
    "search": {"trials": 1, "sampler": "random", "scheduler": "none"},
    "verify": {"seeds": 1},
    "resources": {"gpus": 0},
}


def looks(store: Path) -> list[tuple[int, int]]:
    found = events(store / "sweeps" / "until" / "journal.jsonl", "look")
    return [(event["replicates"], event["next"]) for event in found]


def described(folder: Path, **replicates: Any) -> Path:
    path = folder / "until.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"replicates": replicates}), encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [("--local",), ()], ids=["in process", "on Ray"])
def test_replicates_are_added_until_none_may_be_and_the_sweep_is_extended(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run("sweep", described(tmp_path, until=0.01, at_least=2, at_most=3), "--store", store, *options)
    invariants.assert_sweep(store, "until")
    assert looks(store) == [(2, 3), (3, 3)]
    (status,) = run_json("status", "until", "--store", store)
    assert (status["look"]["replicates"], status["look"]["at_most"], status["look"]["until"]) == (3, 3, 0.0001)
    report = run_json("report", "until", "--store", store)
    assert report["replicates"] == 3
    assert report["verdicts"][0]["look"] == 2
    half = (report["verdicts"][0]["high"] - report["verdicts"][0]["low"]) / 2
    assert half == pytest.approx(status["look"]["half_width"])
    served = load.from_mlflow(f"sqlite:///{store / 'mlflow.db'}", "until")
    said = compare.verdicts(served.verified).iloc[0]
    for column in ("low", "high", "p", "image_se", "look"):
        assert said[column] == pytest.approx(report["verdicts"][0][column]), column
    assert said["images_known"]
    run("sweep", described(tmp_path, until=99.0, at_least=2, at_most=5), "--store", store, *options)
    assert looks(store) == [(2, 3), (3, 3)]  # narrow enough, so that nothing was left to do
    run("sweep", described(tmp_path, until=0.01, at_least=2, at_most=4), "--store", store, *options)
    assert looks(store)[2:] == [(3, 4), (4, 4)]
    starts = events(store / "sweeps" / "until" / "journal.jsonl", "start")
    assert sorted(start.get("replicate", 0) for start in starts) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_death_after_a_look_adds_one_replicate_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, file = tmp_path / "store", described(tmp_path, until=0.01, at_least=2, at_most=3)

    def dies(_driver: SweepDriver, _sweep: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SweepDriver, "reopen", dies)
        assert invoke("sweep", file, "--store", store, "--local").exit_code != 0
    assert looks(store) == [(2, 3)]
    run("sweep", file, "--store", store, "--local")
    assert looks(store) == [(2, 3), (3, 3)]
    invariants.assert_sweep(store, "until")
