"""One driver a sweep: its lock, the rule by which it is continued, what it records of itself."""

from pathlib import Path
from typing import Any

import pytest

from supersnn.config_model import parse, with_values
from supersnn.errors import UserError
from supersnn.records.events import SCHEMA, SweepClosed, SweepStarted
from supersnn.records.journal import read
from tune.description.sweep import SweepConfig
from tune.store import Store
from tune.sweep_driver import open_sweep
from tune.sweep_lock import is_locked

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


def test_a_second_driver_is_refused(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with open_sweep(sweep, store) as driver:
        assert is_locked(driver.folder)
        with pytest.raises(UserError, match="another driver is running it"), open_sweep(sweep, store):
            pass
    assert not is_locked(store.sweep("one"))


def test_another_configuration_is_refused_with_the_difference(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with open_sweep(sweep, store):
        pass
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
