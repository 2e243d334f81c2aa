"""The source of truth about a search: the arms' Optuna studies, and fair scheduling of their trials. No Ray here.

Everything that a restarted driver needs is in the studies: a trial that is still RUNNING belongs to a driver that died,
and is suggested again under its number.
"""

import logging
import sqlite3
import warnings
from collections.abc import Mapping

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from supersnn.config import TrainConfig
from supersnn.credentials import masked
from supersnn.errors import UserError, shortened
from tune.description.arms import Arm
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.search.arm_study import ArmStudy, Assignment, Counts, Outcome, existing_study
from tune.search.wishes import Wishes

optuna.logging.set_verbosity(logging.WARNING)


def open_storage(url: str) -> BaseStorage:
    """Return Optuna's storage at a SQLAlchemy address.

    Raises:
        UserError: the database cannot be reached.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = RDBStorage(url)
            if storage.engine.dialect.name == "sqlite" and storage.engine.url.database:
                storage.engine.dispose()
                sqlalchemy.event.listen(storage.engine, "connect", _log_ahead)
            return storage
    except Exception as error:
        text = shortened(masked(str(getattr(error, "orig", None) or error), url), 300)
        raise UserError(f"SUPERSNN_OPTUNA_STORAGE: {masked(url)} cannot be opened: {text}") from error


def _log_ahead(connection: sqlite3.Connection, _record: object) -> None:
    """Put SQLite into WAL mode, where its file system allows that: then a commit need not wait for the disk.

    What was committed survives the death of the process, as the journal does.
    """
    if connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",):
        connection.execute("PRAGMA synchronous=NORMAL")


class Studies:
    """The arms' studies. With one trial at a time the same sweep and seed suggest the same trials, restarted or not.

    Attributes:
        wishes: what people asked for; nothing, until a driver sets it.
    """

    def __init__(self, sweep: SweepConfig, arms: Mapping[str, Arm], storage: BaseStorage) -> None:
        self._sweep, self.wishes = sweep, Wishes()
        self._arms = {name: ArmStudy(sweep, arm, storage) for name, arm in arms.items()}
        for earlier in sweep.search.warm_start:
            for name, study in self._arms.items():
                if (known := existing_study(f"{earlier}/{name}", storage)) is not None:
                    study.warm_start(known, earlier)

    def claim(self, identity: str) -> None:
        """Mark the studies as those of a sweep; see `ArmStudy.claim`."""
        for study in self._arms.values():
            study.claim(identity)

    @property
    def counts(self) -> dict[str, Counts]:
        """How many trials of each arm are in which state."""
        return {name: study.counts for name, study in self._arms.items()}

    @property
    def best(self) -> dict[str, tuple[float, int]]:
        """The best finished trial of each arm that has one: its value and number."""
        return {name: study.best for name, study in self._arms.items() if study.best is not None}

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of keys that may change while trials run (`tune.description.changes.LIVE`)."""
        self._sweep = sweep
        for study in self._arms.values():
            study.adopt(sweep)

    def next(self, new: bool = True) -> Assignment | None:
        """Return a trial to run: an interrupted one first, else (if `new`) one of the arm that has had the least.

        Within an arm what people gave comes first. None where every arm has had its budget or is paused, or all of it
        is running.
        """
        free = {name: study for name, study in self._arms.items() if not self.wishes.paused(name)}
        for study in free.values():
            if study.interrupted:
                return study.resume()
        open_arms = [name for name, study in free.items() if not self._full(study)]
        if not new or not open_arms:
            return None
        name = min(open_arms, key=lambda name: self._spent(free[name]))
        return free[name].ask(self.wishes.given(name, free[name].taken))

    def waits(self, new: bool = True) -> bool:
        """Return whether trials are left to be run, all of them of paused arms.

        Args:
            new: whether trials may be begun, not only resumed.
        """
        left = [name for name, study in self._arms.items() if study.interrupted or (new and not self._full(study))]
        return bool(left) and all(map(self.wishes.paused, left)) and not any(c.running for c in self.counts.values())

    def room(self, arm: str) -> int:
        """Return how many more trials an arm may begin; those that people gave and that wait are not counted off."""
        study = self._arms[arm]
        if self._sweep.search.fair == "compute":
            return 0 if self._full(study) else self._sweep.search.trials
        return max(0, self._target() - self._spent(study))

    def _spent(self, study: ArmStudy) -> int:
        """The budget that an arm has spent: trials, or with `fair: compute` epochs, running trials counted in full."""
        if self._sweep.search.fair == "trials":
            return study.counts.suggested - self.wishes.run_again(study.arm.name)
        return study.counts.epochs + study.promised()

    def _target(self) -> int:
        """The trials of each arm: `search.trials`, or what an arm has had already, so that all have had as many."""
        return max(self._sweep.search.trials, *(self._spent(study) for study in self._arms.values()))

    def _full(self, study: ArmStudy) -> bool:
        if self._sweep.search.fair == "trials":
            return self._spent(study) >= self._target()
        return self._spent(study) >= self._sweep.search.trials * self._sweep.trial_epochs()

    def report(self, key: str, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take a running trial's metrics after an epoch; return whether it should be stopped now."""
        arm, number = split_key(key)
        return self._arms[arm].report(number, epoch, metrics)

    def finish(self, key: str, end: str) -> None:
        """Close a trial with its last metrics; see `ArmStudy.finish`."""
        arm, number = split_key(key)
        self._arms[arm].finish(number, end)

    def requeue(self, key: str) -> None:
        """Count a running trial as interrupted: it is the next to be suggested."""
        arm, number = split_key(key)
        self._arms[arm].interrupt(number)

    def under_way(self) -> bool:
        """Return whether a trial is running, or was interrupted and must be resumed."""
        return any(study.interrupted or study.counts.running for study in self._arms.values())

    def full(self) -> bool:
        """Return whether every arm has had its budget."""
        return all(self._full(study) for study in self._arms.values())

    def stagnant(self) -> bool:
        """Return whether in every arm the last `search.stagnation` trials were no better than those before."""
        patience = self._sweep.search.stagnation
        return patience is not None and all(study.since_best >= patience for study in self._arms.values())

    def ended(self) -> dict[str, Outcome]:
        """Return how every trial that has ended did, by its key."""
        return {f"{name}/{number}": end for name, study in self._arms.items() for number, end in study.ended().items()}

    def ranking(self, arm: str) -> list[tuple[float, int]]:
        """Return accuracy and number of an arm's finished, feasible trials, the best first."""
        return self._arms[arm].ranking()

    def config(self, arm: str, number: int) -> TrainConfig:
        """Return the training of a trial that was suggested before."""
        return self._arms[arm].arm.config(self.values(arm, number))

    def values(self, arm: str, number: int) -> Values:
        """Return the sampled values of a trial that was suggested before.

        Raises:
            UserError: there is no such trial.
        """
        if arm not in self._arms:
            raise UserError(f"{arm}/{number}: no such arm; the arms are: {', '.join(self._arms)}")
        params = self._arms[arm].params(number)
        if params is None:
            raise UserError(f"{arm}/{number}: this arm has had {self._arms[arm].counts.suggested} trials, from 0 on")
        return params


def split_key(key: str) -> tuple[str, int]:
    """Return arm and number of a trial's key ``ARM/N``."""
    arm, _, number = key.rpartition("/")
    return arm, int(number)
