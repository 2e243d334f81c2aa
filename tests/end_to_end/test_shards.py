"""A sweep whose trials cut their batches into shards, on Ray: one worker is killed, and no process is left over."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import invariants
import psutil
import pytest
import yaml

from tune.journal import read


def command(tiny: Path, store: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "supersnn_cli", "sweep", str(tiny), "--store", str(store), *options]


@pytest.fixture
def cut(tiny: Path) -> Path:
    """The tiny sweep with two shards, two trials of one arm."""
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain["arms"] = {"homogeneous": plain["arms"]["homogeneous"]}
    plain["train"] = {"epochs": 15, "shards": 2}
    plain["search"] = {"trials": 2, "scheduler": "none"}
    plain["verify"] = {"seeds": 1}
    tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return tiny


def test_the_plan_states_the_shards(cut: Path, tmp_path: Path) -> None:
    shown = subprocess.run(command(cut, tmp_path, "--dry-run", "--json"), capture_output=True, text=True, check=True)
    resources = json.loads(shown.stdout)["resources"]
    assert (resources["shards"], resources["cpus"], resources["gpus"]) == (2, 2.0, 0.0)


def events(store: Path, kind: str) -> list[dict[str, Any]]:
    journal = store / "sweeps" / "tiny" / "journal.jsonl"
    return [event for event, _ in read(journal) if event["event"] == kind] if journal.exists() else []


def trainers(driver: "subprocess.Popen[bytes]") -> dict[psutil.Process, list[psutil.Process]]:
    """The workers that train now, each with the processes of its other shards."""
    found = {}
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if process.cmdline()[0].startswith("ray::StudentTrial"):
                found[process] = [p for p in process.children() if "--multiprocessing-fork" in p.cmdline()]
        except (psutil.Error, IndexError):
            continue
    return {worker: shards for worker, shards in found.items() if shards}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_in_shards_outlives_a_killed_worker(cut: Path, tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "driver.log"
    with log.open("wb") as out:
        driver = subprocess.Popen(command(cut, store), stdout=out, stderr=out, start_new_session=True)
    try:
        training: dict[psutil.Process, list[psutil.Process]] = {}
        while driver.poll() is None and not (events(store, "epoch") and (training := trainers(driver))):
            time.sleep(0.05)
        ((worker, shards),) = training.items()
        worker.kill()
        assert not events(store, "end"), "the trial was over before its worker could be killed"
        assert len(shards) == 1
        _, alive = psutil.wait_procs(shards, timeout=20)
        assert alive == []
        assert driver.wait(timeout=800) == 0, log.read_text(encoding="utf-8")[-3000:]
    finally:
        driver.kill()
        driver.wait()
    invariants.assert_sweep(store, "tiny")
    told = [(event["trial"], event["epoch"]) for event in events(store, "epoch")]
    assert sorted(told) == [(trial, epoch) for trial in range(2) for epoch in range(1, 16)]
    assert all(event["end"] == "finished" for event in events(store, "end"))
