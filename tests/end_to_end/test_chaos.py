"""Drivers and workers killed with SIGKILL at random moments: afterwards nothing is lost and nothing is double."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import invariants
import psutil
import pytest
import yaml

from tune.journal import read


def start(config: Path, store: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start a driver in a session of its own, so that all it starts can be found and ended."""
    command = [sys.executable, "-m", "supersnn_cli", "sweep", str(config), "--store", str(store), *options]
    with (store.parent / "driver.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def family_of(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        return psutil.Process(driver.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def worker_of(driver: "subprocess.Popen[bytes]", dice: random.Random) -> psutil.Process | None:
    """A process that trains, at random."""
    workers = []
    for process in family_of(driver):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith(("ray::StudentTrial", "ray::verify_one", "ray::prepare_one")):
            workers.append(process)
    return dice.choice(workers) if workers else None


def journal_of(store: Path) -> list[dict[str, Any]]:
    return [event for event, _ in read(store / "sweeps" / "tiny" / "journal.jsonl")]


def larger(tiny: Path, trials: int, seeds: int) -> Path:
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain["search"] = {"trials": trials, "scheduler": "asha", "max_failures": 50}
    plain["verify"] = {"seeds": seeds}
    tiny.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return tiny


def kill_drivers(config: Path, store: Path, kills: int, dice: random.Random, longest: float, *options: str) -> int:
    """Kill drivers until `kills` of them died at work or the sweep is done; then let one finish. Return the deaths."""
    deaths = 0
    while deaths < kills:
        driver = start(config, store, *options)
        time.sleep(dice.uniform(2.0, longest))
        children = family_of(driver)
        if driver.poll() is not None:
            assert driver.returncode == 0, (store.parent / "driver.log").read_text(encoding="utf-8")[-3000:]
            break
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        deaths += 1
        # Orphaned workers are left alive into the next driver's time: they must be able to do no harm.
        time.sleep(dice.uniform(0.0, 0.5))
        end_all([child for child in children if dice.random() < 0.5])
    last = start(config, store, *options)
    assert last.wait(timeout=900) == 0, (store.parent / "driver.log").read_text(encoding="utf-8")[-3000:]
    return deaths


def assert_no_epoch_twice(store: Path) -> None:
    """An epoch that was told is never trained again: every driver's epochs go on from the last one's."""
    epochs = Counter((e["arm"], e["trial"], e["epoch"]) for e in journal_of(store) if e["event"] == "epoch")
    assert set(epochs.values()) == {1}


def test_a_driver_killed_again_and_again_in_process(tiny: Path, tmp_path: Path) -> None:
    """The short form: no Ray, a few deaths."""
    store = tmp_path / "store"
    deaths = kill_drivers(larger(tiny, 3, 2), store, 3, random.Random(1), 12.0, "--local")
    assert deaths >= 1
    invariants.assert_sweep(store, "tiny")
    assert_no_epoch_twice(store)


def kill_workers(driver: "subprocess.Popen[bytes]", store: Path, kills: int, dice: random.Random) -> int:
    """Kill workers at work, up to `kills` of them, until the sweep is done. Return the deaths."""
    deaths = 0
    while driver.poll() is None:
        time.sleep(dice.uniform(0.2, 3.0))
        if deaths < kills and (worker := worker_of(driver, dice)) is not None:
            end_all([worker])
            deaths += 1
    assert driver.returncode == 0, (store.parent / "driver.log").read_text(encoding="utf-8")[-3000:]
    return deaths


DEATHS = 20
"""A sweep that is done before so many have died goes on with more trials, until they have."""


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_twenty_dead_drivers_under_ray(tiny: Path, tmp_path: Path) -> None:
    store, dice, deaths, trials = tmp_path / "store", random.Random(2), 0, 12
    while deaths < DEATHS:
        deaths += kill_drivers(larger(tiny, trials, 6), store, DEATHS - deaths, dice, 30.0)
        trials += 6
    invariants.assert_sweep(store, "tiny")
    assert_no_epoch_twice(store)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_twenty_dead_workers_under_ray(tiny: Path, tmp_path: Path) -> None:
    store, dice, deaths, trials = tmp_path / "store", random.Random(3), 0, 12
    while deaths < DEATHS:
        deaths += kill_workers(start(larger(tiny, trials, 6), store), store, DEATHS - deaths, dice)
        trials += 6
    invariants.assert_sweep(store, "tiny")
    assert_no_epoch_twice(store)
