"""Two runs of one file in process propose the same trials, with the same results, also when drivers are killed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.conftest import TINY
from tests.support.driver import Driver

SWEEP: dict[str, Any] = {
    **TINY,
    "dataset": {"name": "digits", "images": 300, "augment": {"views": 1}},
    "arms": {"direct": {}, "soft": {"set": {"neuron.reset": "soft"}}},
    "space": {"neuron.threshold": {"uniform": [0.3, 1.0]}, "optimizer.lr": "default"},
    "search": {"trials": 7, "startup": 4, "scheduler": "asha", "min_epochs": 1},
    "verify": {"seeds": 1},
}


def searched(driver: Driver) -> dict[tuple[str, int], tuple[dict[str, Any], str, list[float]]]:
    """Return each trial's values, end and accuracies by the journal."""
    params = {(e["arm"], e["trial"]): e["params"] for e in driver.events("start")}
    ends = {(e["arm"], e["trial"]): e["end"] for e in driver.events("end")}
    accuracies: dict[tuple[str, int], list[float]] = {key: [] for key in params}
    for event in driver.events("epoch"):
        accuracies[event["arm"], event["trial"]].append(event["metrics"]["val/accuracy"])
    return {key: (params[key], ends[key], accuracies[key]) for key in params}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_was_killed_three_times_searches_as_one_that_was_not(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = Driver(file, tmp_path / "a" / "store", "--local")
    whole.finish()
    for epochs in (2, 5, 4):
        killed = Driver(file, tmp_path / "b" / "store", "--local")
        killed.wait_for_epochs(epochs)
        killed.kill()
    last = Driver(file, tmp_path / "b" / "store", "--local")
    last.finish()
    assert len(last.events("sweep")) == 4
    assert len(searched(whole)) == 14
    assert searched(last) == searched(whole)
