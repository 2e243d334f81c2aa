"""The source of truth about what runs next: an Optuna study for each search, and fair scheduling. No Ray here.

Everything that a restarted driver needs is in the studies: a trial that is still RUNNING belongs to a driver that died,
and is suggested again under its number.
"""

import logging
import math
import sqlite3
import warnings
from collections.abc import Callable, Mapping

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from supersnn.config import TrainConfig
from supersnn.credentials import masked
from supersnn.errors import UserError, shortened
from supersnn.records.searches import split_key, trial_key
from tune.description.replication import sweep_of_cell
from tune.description.searches import PlannedSearch
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.notices import WarmStarted
from tune.search.arm_study import ArmStudy, Assignment, Counts, Outcome
from tune.search.tasks import SplitOf, no_splits
from tune.search.warm_start import take_over
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
    """The studies of a sweep's searches, by the searches' names.

    With one trial at a time the same sweep and seed suggest the same trials, restarted or not.

    Attributes:
        searches: what is searched.
        wishes: what people asked for; nothing, until a driver sets it.
    """

    def __init__(self, sweep: SweepConfig, searches: Mapping[str, PlannedSearch], storage: BaseStorage) -> None:
        self._sweep, self.searches, self.wishes = sweep, searches, Wishes()
        self._studies = {name: ArmStudy(search, storage) for name, search in searches.items()}
        self._storage = storage

    def claim(self, identity: str) -> None:
        """Mark the studies as those of a sweep; see `ArmStudy.claim`."""
        for study in self._studies.values():
            study.claim(identity)

    def warm_start(self, split_of: SplitOf = no_splits) -> list[WarmStarted]:
        """Take over what the sweeps under `search.warm_start` found, before the first trial is asked for; once.

        Returns what each search has taken over now.

        Args:
            split_of: finds the fingerprints of splits, this sweep's included.
        """
        return [taken for study in self._studies.values() for taken in take_over(study, self._storage, split_of)]

    @property
    def counts(self) -> dict[str, Counts]:
        """How many trials of each search are in which state."""
        return {name: study.counts for name, study in self._studies.items()}

    @property
    def best(self) -> dict[str, tuple[float, int]]:
        """The best finished trial of each search that has one: its value and number."""
        return {name: study.best for name, study in self._studies.items() if study.best is not None}

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of keys that may change while trials run (`tune.description.changes.LIVE`)."""
        self._sweep = sweep
        for study in self._studies.values():
            study.adopt(sweep_of_cell(sweep, *study.search.cell))

    def next(self, new: bool = True, ready: Callable[[PlannedSearch], bool] = lambda _: True) -> Assignment | None:
        """Return a trial to run: an interrupted one first, else (if `new`) one of the search that has had the least.

        Within a search what people gave comes first; interrupted trials that were set back come last of all. None
        where every search has had its budget or is paused, or all of it is running. A trial that somebody gave is
        begun although its search has had its budget.

        Args:
            new: whether a trial may be begun.
            ready: whether a trial of a search can run now; where not, others are looked at. All can by default.
        """
        free = {name: study for name, study in self._studies.items() if not self.wishes.paused(name)}
        for study in free.values():
            if study.resumable and ready(study.search):
                return study.resume()
        waiting = [name for name, study in free.items() if not self._full(study)] if new else []
        for name in sorted(waiting, key=lambda name: self._spent(free[name])):
            if ready(free[name].search):
                return free[name].ask(self.wishes.given(name, free[name].taken))
        set_back = (study for study in free.values() if study.interrupted and not study.resumable)
        return next((study.resume() for study in set_back if ready(study.search)), None)

    def waits(self, new: bool = True) -> bool:
        """Return whether trials are left to be run, all of them of paused searches.

        Args:
            new: whether trials may be begun, not only resumed.
        """
        left = self.left(new)
        return bool(left) and all(map(self.wishes.paused, left)) and not any(c.running for c in self.counts.values())

    def left(self, new: bool = True) -> list[str]:
        """Return the searches that have trials left to be run, beside those that are running.

        A paused search has them also where no trial may be begun: whoever paused it may allow more.

        Args:
            new: whether trials may be begun, not only resumed.
        """
        return [
            name
            for name, study in self._studies.items()
            if study.interrupted or ((new or self.wishes.paused(name)) and not self._full(study))
        ]

    def room(self, search: str) -> int:
        """Return how many more trials a search may begin; those that people gave and that wait are not counted off.

        With `fair: compute` it may begin more where trials are stopped early.
        """
        study = self._studies[search]
        return max(0, math.ceil((self._limit(study) - self._spent(study)) / self._unit))

    def _spent(self, study: ArmStudy) -> int:
        """The budget that a search has spent: trials, or with `fair: compute` epochs, of running trials all.

        Failed trials that are run again do not count.
        """
        again = self.wishes.run_again(study.search.name)
        if self._sweep.search.fair == "trials":
            return study.counts.suggested - len(again)
        return study.counts.epochs + study.promised() - study.spent_on(again)

    @property
    def _unit(self) -> int:
        """What a trial spends at most."""
        return 1 if self._sweep.search.fair == "trials" else self._sweep.trial_epochs()

    def _budget(self) -> int:
        """What each search may spend; at least as many trials as one has had already, so that all have as many."""
        search = self._sweep.search
        if search.fair == "compute":
            return search.trials * self._unit
        return max(search.trials, *(self._spent(study) for study in self._studies.values()))

    def _limit(self, study: ArmStudy) -> int:
        """What a search may spend; where its cell is stagnant so much that no other of the cell is a trial ahead."""
        cell = study.search.cell
        if not self._stagnant(cell):
            return self._budget()
        most = max(self._spent(other) for other in self._studies.values() if other.search.cell == cell)
        return min(self._budget(), most - self._unit + 1)

    def _full(self, study: ArmStudy) -> bool:
        """Whether a search has had its budget, and no trial that somebody gave is left to be begun."""
        if self._spent(study) < self._limit(study):
            return False
        return self.wishes.given(study.search.name, study.taken) is None

    def report(self, key: str, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take a running trial's metrics after an epoch; return whether it should be stopped now."""
        search, number = split_key(key)
        return self._studies[search].report(number, epoch, metrics)

    def finish(self, key: str, end: str) -> None:
        """Close a trial with its last metrics; see `ArmStudy.finish`."""
        search, number = split_key(key)
        self._studies[search].finish(number, end)

    def requeue(self, key: str, set_back: bool = False) -> None:
        """Count a running trial as interrupted: it is the next to be suggested, or the last where it is `set_back`."""
        search, number = split_key(key)
        self._studies[search].interrupt(number, set_back)

    def under_way(self) -> bool:
        """Return whether a trial is running, or was interrupted and must be resumed."""
        return any(study.interrupted or study.counts.running for study in self._studies.values())

    def full(self) -> bool:
        """Return whether every search has had its budget."""
        return all(self._full(study) for study in self._studies.values())

    def stagnant(self, search: str) -> bool:
        """Return whether a search gets less than its budget, because its cell is stagnant."""
        study = self._studies[search]
        return self._limit(study) < self._budget()

    def _stagnant(self, cell: tuple[str | None, int]) -> bool:
        """Return whether in every search of a cell the last `search.stagnation` trials were no better than before."""
        patience = self._sweep.search.stagnation
        arms = (study for study in self._studies.values() if study.search.cell == cell)
        return patience is not None and all(study.since_best >= patience for study in arms)

    def ended(self) -> dict[str, Outcome]:
        """Return how every trial that has ended did, by its key."""
        return {
            trial_key(name, number): end
            for name, study in self._studies.items()
            for number, end in study.ended().items()
        }

    def ranking(self, search: str) -> list[tuple[float, int]]:
        """Return accuracy and number of a search's finished, feasible trials, the best first."""
        return self._studies[search].ranking()

    def config(self, search: str, number: int) -> TrainConfig:
        """Return the training of a trial that was suggested before."""
        return self._studies[search].arm.config(self.values(search, number))

    def values(self, search: str, number: int) -> Values:
        """Return the sampled values of a trial that was suggested before.

        Raises:
            UserError: there is no such trial.
        """
        if search not in self._studies:
            known = shortened(", ".join(self._studies), 200)
            raise UserError(f"{search}/{number}: no such search; the searches are: {known}")
        study = self._studies[search]
        params = study.params(number)
        if params is None:
            had = f"{study.counts.suggested} trials, from {study.first} on"
            raise UserError(f"{search}/{number}: this search has had {had}")
        return params
