"""Drivers and workers killed with SIGKILL at random moments: afterwards nothing is lost and nothing is double."""

import random
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support import invariants
from tests.support.driver import TRAININGS, Driver, ray_task

DEATHS = 20
"""A sweep that is done before so many have died is continued with more trials, until they have."""


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def random_worker(driver: Driver, dice: random.Random) -> psutil.Process | None:
    """Return one of the processes that train; None where there is none."""
    workers = [process for process in driver.children() if ray_task(process) in TRAININGS]
    return dice.choice(workers) if workers else None


def larger(tiny: Path, trials: int, seeds: int) -> Path:
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain["search"] = {"trials": trials, "scheduler": "asha", "max_failures": 50}
    plain["verify"] = {"seeds": seeds}
    tiny.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return tiny


def kill_drivers(config: Path, store: Path, kills: int, dice: random.Random, longest: float, *options: str) -> int:
    """Kill drivers until `kills` have died or the sweep is done; then let one finish. Return the deaths."""
    deaths = 0
    while deaths < kills:
        driver = Driver(config, store, *options)
        time.sleep(dice.uniform(2.0, longest))
        children = driver.children()
        if driver.process.poll() is not None:
            driver.finish()
            break
        driver.kill()
        deaths += 1
        # Some orphaned workers outlive their driver, into the next one's time: they must do no harm.
        time.sleep(dice.uniform(0.0, 0.5))
        kill_all([child for child in children if dice.random() < 0.5])
    Driver(config, store, *options).finish()
    return deaths


def test_drivers_killed_in_process(tiny: Path, tmp_path: Path) -> None:
    """The short form: no Ray, a few deaths."""
    store = tmp_path / "store"
    deaths = kill_drivers(larger(tiny, 3, 2), store, 3, random.Random(1), 12.0, "--local")
    assert deaths >= 1
    invariants.assert_sweep(store, "tiny")


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("options", [("--local",), ()], ids=["in process", "under Ray"])
def test_drivers_of_replicates_on_data_sets_killed(options: tuple[str, ...], replicated: Path, tmp_path: Path) -> None:
    """Killed at random moments, teachers between trials among them: the arms are equal within each cell."""
    store, dice = tmp_path / "store", random.Random(4)
    deaths = kill_drivers(replicated, store, DEATHS // 2, dice, 40.0, *options)
    assert deaths >= 1
    invariants.assert_sweep(store, "tiny")


def progress(driver: Driver) -> int:
    """How much the sweep has got done so far, in events."""
    return sum(len(driver.events(kind)) for kind in ("epoch", "teacher", "bank", "ranked", "verified"))


def kill_workers(driver: Driver, kills: int, dice: random.Random) -> int:
    """Kill workers that train, up to `kills` of them, until the sweep is done. Return the deaths.

    Between two deaths something is got done: where everything fails a sweep stops.
    """
    deaths, done = 0, -1
    while driver.process.poll() is None:
        time.sleep(dice.uniform(0.2, 3.0))
        if deaths >= kills or progress(driver) == done or (worker := random_worker(driver, dice)) is None:
            continue
        done = progress(driver)
        kill_all([worker])
        deaths += 1
    driver.finish()
    return deaths


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_drivers_killed_under_ray(tiny: Path, tmp_path: Path) -> None:
    store, dice, deaths, trials = tmp_path / "store", random.Random(2), 0, 12
    while deaths < DEATHS:
        deaths += kill_drivers(larger(tiny, trials, 6), store, DEATHS - deaths, dice, 20.0)
        trials += 6
    invariants.assert_sweep(store, "tiny")


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_workers_killed_under_ray(tiny: Path, tmp_path: Path) -> None:
    store, dice, deaths, trials = tmp_path / "store", random.Random(3), 0, 12
    while deaths < DEATHS:
        deaths += kill_workers(Driver(larger(tiny, trials, 6), store), DEATHS - deaths, dice)
        trials += 6
    invariants.assert_sweep(store, "tiny")


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("options", [("--local",), ()], ids=["in process", "under Ray"])
def test_the_database_lost_in_the_middle_and_asked_for_by_another_store(
    options: tuple[str, ...], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each death takes the database with it; a sweep of the same name in another store never gets a trial there."""
    database, ours, other = (tmp_path / name for name in ("shared/optuna.db", "ours/store", "other/store"))
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{database}")
    for path in (database, ours, other):
        path.parent.mkdir()
    config, deaths = tiny, 0
    for trials in (8, 16, 24):
        driver = Driver(larger(config, trials, 2), ours, *options)
        driver.wait_for_epochs(1)
        assert Driver(config, other, *options).process.wait(300) == 2
        children = driver.children()
        deaths += driver.process.poll() is None
        driver.kill()
        kill_all(children)
        for file in database.parent.iterdir():
            file.unlink()
    Driver(config, ours, *options).finish()
    assert Driver(config, other, *options).process.wait(300) == 2
    assert deaths >= 1
    invariants.assert_sweep(ours, "tiny")
    assert not list(other.rglob("journal.jsonl"))
