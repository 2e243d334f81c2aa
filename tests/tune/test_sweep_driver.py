"""One driver a sweep: its lock, the rule by which it is continued, what it records of itself."""

import errno
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import optuna
import pytest

from supersnn.config_model import parse, to_yaml, with_values
from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.plain_yaml import read_yaml
from supersnn.records.events import SCHEMA, AnyEvent, DatasetSplit, SweepClosed, SweepStarted, TrialStarted
from supersnn.records.failure_events import DriverWaits
from supersnn.records.journal import read
from supersnn.records.lines import LineWriter
from tune.description.arms import resolve
from tune.description.fixed import MAY_CHANGE, fixed_digest
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.execution.preparations import Preparations
from tune.requests import Request, submit
from tune.search.search import Search
from tune.search.tasks import task
from tune.store import Store
from tune.sweep_driver import open_sweep
from tune.sweep_lock import is_locked
from tune.sweep_runner import SweepRunner

PLAIN: dict[str, Any] = {
    "name": "one",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "arms": {"direct": {}},
    "search": {"trials": 1},
}


@pytest.fixture
def sweep() -> SweepConfig:
    return parse(SweepConfig, PLAIN, "test")


def begun(sweep: SweepConfig, store: Store, *events: AnyEvent) -> None:
    """Start a sweep and split its images."""
    with open_sweep(sweep, store) as driver, driver.recording():
        for event in events or (DatasetSplit(split="s"),):
            driver.record.write(event)


def test_a_second_driver_is_refused(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with open_sweep(sweep, store) as driver:
        assert is_locked(driver.folder)
        with pytest.raises(UserError, match="another driver is running it"), open_sweep(sweep, store):
            pass
    assert not is_locked(store.sweep("one"))


def test_a_start_that_is_refused_leaves_nothing(
    sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", "sqlite:////proc/nowhere/x.db")
    for store in (Store(tmp_path / "not" / "yet"), Store(tmp_path)):
        with pytest.raises(UserError, match="cannot be opened"), open_sweep(sweep, store):
            pass
        assert not list(tmp_path.iterdir())
    (tmp_path / "sweeps" / "one").mkdir(parents=True)
    (tmp_path / "sweeps" / "one" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="cannot be opened"), open_sweep(sweep, Store(tmp_path)):
        pass
    assert (tmp_path / "sweeps" / "one" / "notes.txt").exists()
    monkeypatch.delenv("SUPERSNN_OPTUNA_STORAGE")
    with open_sweep(sweep, Store(tmp_path)) as driver:
        assert driver.work_left()


def test_another_configuration_is_refused_with_the_difference(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    begun(sweep, store)
    with open_sweep(with_values(sweep, {"search.trials": 3}), store) as driver:
        assert driver.work_left()
    other = with_values(sweep, {"train.epochs": 5, "search.trials": 4})
    words = r"'one' already exists with a different configuration \(train.epochs: 12 before, 5 now\)"
    with pytest.raises(UserError, match=words), open_sweep(other, store):
        pass


@pytest.mark.parametrize(
    ("error", "end"), [(None, "done"), (KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")]
)
def test_a_driver_records_its_start_and_its_end(
    sweep: SweepConfig, tmp_path: Path, error: type[BaseException] | None, end: str
) -> None:
    store = Store(tmp_path)
    for resumed in (False, True):
        with open_sweep(sweep, store) as driver:
            try:
                with driver.recording():
                    assert driver.folder.owner.read_text(encoding="utf-8") == driver.token
                    if error is not None:
                        raise error
            except (KeyboardInterrupt, RuntimeError):
                pass
            started, closed = [event for event, _ in read(driver.folder.journal)][-2:]
            assert isinstance(started, SweepStarted)
            assert isinstance(closed, SweepClosed)
            assert (started.driver, started.resumed, started.schema_version) == (driver.token, resumed, SCHEMA)
            assert (closed.driver, closed.end) == (driver.token, end)
            assert driver.record.state.ended == end


class Ended(Exception):
    """Ends a driver before it does anything."""


def test_what_tasks_wait_for_is_in_the_journal(sweep: SweepConfig, tmp_path: Path) -> None:
    store, executor = Store(tmp_path), LocalExecutor()
    with open_sweep(sweep, store) as driver, driver.recording():
        with patch.object(SweepRunner, "_adopt", side_effect=Ended), pytest.raises(Ended):
            SweepRunner(driver, executor).train()
        for reason in ("", "a node", "a node", ""):
            executor.waits(reason)
        found = [event for event, _ in read(driver.folder.journal, kinds=("wait",))]
        assert [event.reason for event in found if isinstance(event, DriverWaits)] == ["a node", ""]


class Tuned(LocalExecutor):
    """Notes what it is told during a search in which a person raises `resources.stall`."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store, self.told = store, list[tuple[float, int]]()

    def tune(self, stall: float, max_failures: int) -> None:
        self.told.append((stall, max_failures))

    def search(self, search: Search, preparations: Preparations | None = None) -> None:
        assert preparations is not None
        submit(self.store.sweep("one"), Request("change", "", values={"resources.stall": "1 h"}))
        search.poll()
        search.halt(UserError("that was all"))


def test_a_stall_that_is_changed_during_a_search_is_told_to_the_executor_at_once(
    sweep: SweepConfig, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    executor = Tuned(store)
    with open_sweep(sweep, store) as driver, driver.recording(), pytest.raises(UserError, match="that was all"):
        SweepRunner(driver, executor)._search()
    assert executor.told == [(3600.0, 2)]


CHANGED: dict[str, Any] = {"train.epochs": 5, "dataset.images": 300, "search.sampler": "random", "verify.first_seed": 7}


@pytest.mark.parametrize("damage", ["missing", "edited", "torn"])
def test_a_changed_configuration_is_refused_whatever_happened_to_the_stored_one(
    sweep: SweepConfig, tmp_path: Path, damage: str
) -> None:
    store, other = Store(tmp_path), with_values(sweep, CHANGED)
    begun(sweep, store)
    file = store.sweep("one").config
    intact = file.read_text(encoding="utf-8")
    file.unlink()
    if damage != "missing":
        file.write_text(to_yaml(other) if damage == "edited" else intact[:50], encoding="utf-8")
    damaged = file.read_text(encoding="utf-8") if file.exists() else None
    words = r"'one' already exists with a different configuration \(.*config\.yaml is missing or was changed"
    with pytest.raises(UserError, match=words), open_sweep(other, store):
        pass
    assert (file.read_text(encoding="utf-8") if file.exists() else None) == damaged
    with open_sweep(with_values(sweep, {"verify.seeds": 3, "resources.cpus": 2}), store):
        pass
    assert parse(SweepConfig, read_yaml(file), "stored") == with_values(sweep, {"verify.seeds": 3, "resources.cpus": 2})


def test_a_start_that_failed_before_anything_ran_may_be_corrected(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    several = with_values(sweep, {"search.objectives": ["accuracy", "synaptic_ops"], "train.epochs": 5})
    with pytest.raises(RuntimeError), open_sweep(several, store) as driver, driver.recording():
        raise RuntimeError
    with open_sweep(sweep, store) as driver:
        assert driver.studies.next() is not None
        study = optuna.load_study(study_name="one/direct", storage=store.optuna_url)
        assert (len(study.directions), study.user_attrs["task"]) == (1, task(driver.searches["direct"]))
    begun(sweep, store)
    with pytest.raises(UserError, match="different configuration"), open_sweep(several, store):
        pass


def test_a_journal_without_digests_is_compared_with_its_first_trials(sweep: SweepConfig, tmp_path: Path) -> None:
    """Those of earlier versions, where `config.yaml` is gone as well."""
    store = Store(tmp_path)
    config = flatten(resolve(sweep)["direct"].config({}))
    folder = store.sweep("one")
    folder.path.mkdir(parents=True)
    older = SweepStarted(driver="a").model_dump_json(by_alias=True, exclude={"sweep_id", "config"})
    start = TrialStarted(arm="direct", trial=0, config=config).model_dump_json()
    folder.journal.write_text(f"{older}\n{start}\n", encoding="utf-8")
    other = with_values(sweep, {"train.epochs": 5})
    with pytest.raises(UserError, match=r"train\.epochs: 12 before, 5 now"), open_sweep(other, store):
        pass
    with open_sweep(sweep, store) as driver:
        assert driver.record.state.config is None


def test_the_digest_covers_every_key_but_those_that_may_change(sweep: SweepConfig) -> None:
    before = fixed_digest(sweep)
    free = {"search.trials": 9, "search.hours": 1, "search.gpu_hours": 2, "verify.seeds": 3, "resources.cpus": 2}
    for key, value in free.items():
        assert key.startswith(MAY_CHANGE)
        assert fixed_digest(with_values(sweep, {key: value})) == before
    for key, changed in CHANGED.items():
        assert fixed_digest(with_values(sweep, {key: changed})) != before
    assert fixed_digest(with_values(sweep, {"arms.direct.set": {"optimizer.lr": 0.2}})) != before


@pytest.mark.parametrize("where", ["journal", "work"])
def test_a_full_disk_is_one_line_and_the_sweep_continues(
    sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store = Store(tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")

    def fill() -> None:
        with monkeypatch.context() as patch, open_sweep(sweep, store) as driver, driver.recording():
            driver.record.write(DatasetSplit(split="s"))
            if where == "work":
                raise RuntimeError("a task failed") from full
            patch.setattr(LineWriter, "append", Mock(side_effect=full))
            driver.record.write(DatasetSplit(split="t"))

    with pytest.raises(UserError, match="the disk is full; free some space and rerun the same command"):
        fill()
    with open_sweep(sweep, store) as driver, driver.recording():
        state = driver.record.state
        assert state.data is not None
        assert state.data.split == "s"
        assert [session.end for session in state.drivers] == ["failed" if where == "work" else None, None]
