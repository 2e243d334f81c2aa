"""One driver of one sweep: everything that it has before work starts, and whether any work is left."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from supersnn.records.events import SCHEMA, DriverEnd, SweepClosed, SweepStarted
from tune.description.arms import Arm, resolve
from tune.description.sweep import SweepConfig
from tune.outcome.final_runs import FinalRuns
from tune.search.budget import Budget
from tune.search.studies import Studies, open_storage
from tune.storage import Storage
from tune.store import Store, SweepFolder
from tune.sweep_lock import locked
from tune.sweep_record import SweepRecord
from tune.versions import code_version, versions


@dataclass(frozen=True)
class SweepDriver:
    """A driver that holds its sweep's lock.

    Attributes:
        sweep, arms: what is to be done.
        store, folder, storage: where the sweep is stored, and what driver and workers share.
        token: identifies this driver; workers of another one may write nothing more.
        record: the sweep's events and state.
        studies, final_runs, budget: the search, what follows it, and what ends it early.
    """

    sweep: SweepConfig
    arms: Mapping[str, Arm]
    store: Store
    folder: SweepFolder
    storage: Storage
    token: str
    record: SweepRecord
    studies: Studies
    final_runs: FinalRuns
    budget: Budget

    def search_left(self) -> bool:
        """Return whether trials are left to be run."""
        return self.studies.under_way() or not (self.studies.full() or self.budget.exhausted())

    def work_left(self) -> bool:
        """Return whether anything is left to be done: trials, final runs, export folders, or any of their events."""
        drivers = self.record.state.drivers
        if self.search_left() or self.final_runs.left() or (drivers and drivers[-1].end is None):
            return True
        winners = self.final_runs.winners()
        if winners and (self.record.state.overall is None or not (self.folder.best / "overall").exists()):
            return True
        return any(self._incomplete(arm, winner.trial) for arm, winner in winners.items())

    def _incomplete(self, arm: str, trial: int) -> bool:
        """Return whether an arm's winner is not recorded, verified and exported yet."""
        recorded = self.record.state.arm(arm)
        return (
            recorded.winner is None
            or recorded.winner.trial != trial
            or len(recorded.final_runs()) < self.sweep.verify.seeds
            or recorded.exported is None
            or not (self.folder.best / arm).exists()
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Open the record for writing, take the sweep over from earlier drivers, and record how this one ends."""
        resumed = bool(self.record.state.drivers)
        self.record.open()
        self.record.write(
            SweepStarted(
                driver=self.token, code=code_version(), versions=versions(), resumed=resumed, schema_version=SCHEMA
            )
        )
        end: DriverEnd = "failed"
        try:
            self.storage.write_text(self.storage.name(self.folder.owner), self.token)
            yield
            end = "done"
        except KeyboardInterrupt:
            end = "interrupted"
            raise
        finally:
            self.record.write(SweepClosed(driver=self.token, end=end))
            self.record.close()


@contextmanager
def open_sweep(sweep: SweepConfig, store: Store, origin: str = "sweep") -> Iterator[SweepDriver]:
    """Lock a sweep and read its record; nothing is started or written but its description.

    Args:
        sweep: what is to be done.
        store: where it is, or will be, stored.
        origin: named in error texts, usually the sweep's file.

    Raises:
        UserError: the sweep's file is wrong, another driver holds the sweep, it exists with a different configuration,
            or a sweep of another store is at the shared address.
    """
    arms = resolve(sweep, origin)
    with locked(sweep, store) as folder:
        token = uuid.uuid4().hex
        record = SweepRecord(folder, sweep.search.constraints)
        studies = Studies(sweep, arms, open_storage(store.optuna_url))
        driver = SweepDriver(
            sweep=sweep,
            arms=arms,
            store=store,
            folder=folder,
            storage=store.storage,
            token=token,
            record=record,
            studies=studies,
            final_runs=FinalRuns(sweep, studies, folder, store, token),
            budget=Budget(sweep, studies, folder.path, record.state),
        )
        earlier = {session.driver for session in record.state.drivers}
        driver.storage.require_owner(driver.storage.name(folder.owner), earlier)
        yield driver
