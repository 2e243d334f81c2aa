"""One driver of one sweep: everything that it has before work starts, and whether any work is left."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from optuna.storages import BaseStorage

from supersnn.config_model import to_yaml
from supersnn.errors import UserError
from supersnn.files import write_atomically
from supersnn.records.contents import OVERALL
from supersnn.records.events import SCHEMA, DriverEnd, RequestTaken, SweepClosed, SweepStarted
from supersnn.records.searches import split_key
from supersnn.records.state import SweepState
from supersnn.records.steering import overrides
from tune.description.arms import resolve
from tune.description.changes import as_changed, is_outdated, plan_of
from tune.description.fixed import dataset_digests, fixed_digest
from tune.description.own_parts import paths_of
from tune.description.replication import folder_label, replicates_now
from tune.description.searches import PlannedSearch, planned
from tune.description.sweep import SweepConfig
from tune.execution.prepare import distinct_splits
from tune.notices import Notice, StudiesRebuilt
from tune.outcome.final_runs import FinalRuns
from tune.outcome.final_training import FinalRun
from tune.outcome.precision import look, look_due
from tune.own_code import NO_OWN_CODE, OwnCode, own_code
from tune.search.budget import Budget
from tune.search.messages import disk_is_full
from tune.search.rebuild import discard_unused, owner_of, rebuild, searches_to_rebuild, with_other_space
from tune.search.studies import Studies, open_storage
from tune.search.tasks import recorded_splits
from tune.search.wishes import Wishes
from tune.storage import Storage
from tune.store import Store, SweepFolder
from tune.sweep_lock import locked, require_same_configuration, require_same_trainings
from tune.sweep_record import SweepRecord
from tune.versions import code_version, versions

PAUSED = "a paused arm to be resumed"
"""What a driver waits for where all that is left is paused."""


@dataclass
class SweepDriver:
    """A driver that holds its sweep's lock.

    Attributes:
        sweep, searches: what is to be done; see `adopt` and `reopen`.
        given: the sweep as its file has it, without the changes that were made while it ran.
        store, folder, storage: where the sweep is stored, and what driver and workers share.
        token: identifies this driver; workers of another one may write nothing more.
        sweep_id: the sweep's identity, which the journal and the studies share.
        record: the sweep's events and state.
        studies, final_runs, budget: the search, what follows it, and what ends it early.
        notices: what people should know of how the sweep was found.
        stopping: the event of the request that has interrupted this driver, written when it closes.
        own: the user's own packages that the sweep uses.
    """

    sweep: SweepConfig
    given: SweepConfig
    searches: Mapping[str, PlannedSearch]
    store: Store
    folder: SweepFolder
    storage: Storage
    token: str
    sweep_id: str
    record: SweepRecord
    studies: Studies
    final_runs: FinalRuns
    budget: Budget
    notices: tuple[Notice, ...] = ()
    stopping: RequestTaken | None = None
    own: OwnCode = NO_OWN_CODE

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of keys that may change while trials run (`tune.description.changes.LIVE`)."""
        self.sweep = sweep
        for part in (self.studies, self.budget, self.final_runs):
            part.adopt(sweep)
        write_atomically(self.folder.config, to_yaml(sweep))

    def reopen(self, sweep: SweepConfig) -> None:
        """Go on with other arms, spaces or settings, while no trial runs."""
        self.sweep, self.searches = sweep, planned(sweep, None, replicates_now(sweep, self.record.state))
        storage = open_storage(self.store.optuna_url)
        incomplete = searches_to_rebuild(sweep, self.searches, storage, self.record.state, str(self.folder.journal))
        rebuild_studies(self.searches, storage, self.record, self.sweep_id, incomplete, self.store)
        self.studies = _studies(sweep, self.searches, storage, self.record.state)
        self.final_runs = FinalRuns(sweep, self.studies, self.folder, self.store, self.token, self.record.state)
        self.budget = Budget(sweep, self.folder.path, self.record.state)
        write_atomically(self.folder.config, to_yaml(sweep))

    def search_left(self) -> bool:
        """Return whether trials are left to be run."""
        return self.studies.under_way() or not (self.studies.full() or self.budget.spent())

    def incomplete(self) -> list[str]:
        """Return the searches that lack trials, of which the best is not known yet."""
        return self.studies.left(new=self.budget.spent() is None)

    def waits(self) -> bool:
        """Return whether trials are left to be run, all of them paused."""
        return self.studies.waits(new=self.budget.spent() is None)

    @contextmanager
    def waiting_for_people(self) -> Iterator[None]:
        """Record that all that is left is paused, and spend none of this time from `search.hours`."""
        self.record.waits(PAUSED, paused=True)
        with self.budget.held():
            yield
        self.record.waits("")

    def add_replicate(self) -> bool:
        """Look at how well the differences are known, where the replicates depend on it; return whether one is added.

        All replicates have their final runs.
        """
        exhausted = self.budget.spent() is not None
        if not look_due(self.sweep, self.record.state, exhausted):
            return False
        looked = look(self.sweep, self.folder, self.record.state, exhausted)
        self.record.write(looked)
        if looked.next > looked.replicates:
            self.reopen(self.sweep)
        return looked.next > looked.replicates

    def work_left(self) -> bool:
        """Return whether anything is left to be done: trials, final runs, their events, results, or export folders."""
        drivers = self.record.state.drivers
        if self.search_left() or self._unrecorded() or self.final_runs.left() or (drivers and drivers[-1].end is None):
            return True
        if look_due(self.sweep, self.record.state, self.budget.spent() is not None):
            return True
        winners = self.final_runs.winners()
        cells = {self.searches[name].dataset for name in winners}
        if winners and not (self._results_are_written() and all(self._is_exported(OVERALL, label) for label in cells)):
            return True
        rankings = self.final_runs.rankings()
        return any(self._incomplete(name, winner.trial, rankings) for name, winner in winners.items())

    def _unrecorded(self) -> bool:
        """Return whether the journal lacks an event of something done: it lost a line, or a driver died before one."""
        trials = (self.record.state.trial(*split_key(key)) for key in self.studies.ended())
        return (
            bool(self.splits_left())
            or bool(self.teachers_left())
            or any(trial is None or trial.end is None for trial in trials)
        )

    def teachers_left(self) -> dict[str, PlannedSearch]:
        """Return the searches that have had trials, and so their teachers, of which one is not recorded."""
        begun = {split_key(key)[0] for key in self.studies.ended()}
        return {
            name: search
            for name, search in self.searches.items()
            if name in begun
            and any(self.record.state.teacher_named(one, False, *search.cell) is None for one in search.arm.teachers)
        }

    def splits_left(self) -> list[PlannedSearch]:
        """Return the first search of each split of images that is not recorded."""
        known = {one.name: self.record.state.data_of(*one.cell) for one in distinct_splits(self.searches.values())}
        return [
            self.searches[name]
            for name, data in known.items()
            if data is None or data.replicate != self.searches[name].replicate
        ]

    def _results_are_written(self) -> bool:
        """Return whether `verified.json` is a complete file."""
        try:
            return isinstance(json.loads(self.folder.verified.read_text(encoding="utf-8")), dict)
        except (OSError, ValueError):
            return False

    def _is_exported(self, arm: str, dataset: str | None) -> bool:
        """Return whether the export folder of an arm, or of the best one, is there and recorded."""
        exported, label = self.record.state.exported(arm, dataset), folder_label(self.sweep, dataset)
        return exported is not None and self.folder.export(arm, label).exists()

    def _incomplete(self, search: str, trial: int, rankings: list[FinalRun]) -> bool:
        """Return whether a search's winner is not recorded, verified and exported yet."""
        recorded, planned = self.record.state.search(search), self.searches[search]
        return (
            recorded.winner is None
            or recorded.winner.trial != trial
            or len(recorded.final_runs()) < self.sweep.verify.seeds
            or not self._is_exported(planned.arm.name, planned.dataset)
            or any(run.seed not in recorded.ranked.get(run.trial, {}) for run in rankings if run.search == search)
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Open the record for writing, take the sweep over from earlier drivers, and record how this one ends.

        Raises:
            UserError: the disk is full, whatever was written there.
        """
        end: DriverEnd = "failed"
        try:
            self._begin()
            yield
            self.record.write(SweepClosed(driver=self.token, end="done"))
            end = "done"
        except KeyboardInterrupt:
            end = "interrupted"
            raise
        except Exception as error:
            if disk_is_full(error) and not isinstance(error, UserError):
                raise UserError(
                    f"{self.folder.path}: the disk is full; free some space and rerun the same command: nothing is lost"
                ) from error
            raise
        finally:
            if end != "done":
                with suppress(OSError):  # the first error is the one that is told
                    if self.stopping is not None:
                        self.record.write(self.stopping)
                    self.record.write(SweepClosed(driver=self.token, end=end))
            with suppress(OSError):
                self.record.close()

    def _begin(self) -> None:
        """Take the sweep over."""
        resumed = bool(self.record.state.drivers)
        self.record.open()
        self.record.write(
            SweepStarted(
                driver=self.token,
                sweep_id=self.sweep_id,
                config=fixed_digest(self.sweep),
                datasets=dataset_digests(self.sweep),
                replicates=replicates_now(self.sweep, self.record.state),
                plan=plan_of(self.sweep),
                outdated=[change.key for change in overrides(self.record.state) if is_outdated(self.given, change)],
                code=code_version(self.own.identities),
                versions=versions(),
                plugins=dict(self.own.identities),
                resumed=resumed,
                schema_version=SCHEMA,
            )
        )
        self.storage.write_text(self.storage.name(self.folder.owner), self.token)


def _studies(
    sweep: SweepConfig, searches: Mapping[str, PlannedSearch], storage: BaseStorage, state: SweepState
) -> Studies:
    studies = Studies(sweep, searches, storage)
    studies.wishes = Wishes(state)
    return studies


def rebuild_studies(
    searches: Mapping[str, PlannedSearch],
    storage: BaseStorage,
    record: SweepRecord,
    sweep_id: str,
    incomplete: Sequence[str],
    store: Store,
) -> tuple[Notice, ...]:
    """Rebuild studies from the journal: those that lack trials of it, and those made for another search space."""
    state = record.state
    incomplete = list(dict.fromkeys([*incomplete, *with_other_space(searches.values(), storage, state)]))
    if not incomplete:
        return ()
    events = record.events(("start", "epoch", "end"))
    splits = recorded_splits(store)
    trials = rebuild([searches[name] for name in incomplete], storage, state, events, sweep_id, splits)
    return (StudiesRebuilt(tuple(incomplete), trials),)


@contextmanager
def open_sweep(sweep: SweepConfig, store: Store, origin: str = "sweep") -> Iterator[SweepDriver]:
    """Lock a sweep, read its record, and compare that with the configuration and the studies.

    Nothing is started. What is written is the sweep's description, and studies that are gone, from the journal.

    Args:
        sweep: what is to be done.
        store: where it is, or will be, stored.
        origin: named in error texts, usually the sweep's file.

    Raises:
        UserError: the sweep's file is wrong, another driver holds the sweep, it exists with a different configuration,
            its studies are another sweep's, or a sweep of another store is at the shared address.
    """
    resolve(sweep, origin)
    with locked(sweep.name, store) as folder:
        token = uuid.uuid4().hex
        record = SweepRecord(folder, sweep.search.constraints)
        state, given = record.state, sweep
        if changes := overrides(state):
            sweep = as_changed(given, changes)
        searches = planned(sweep, resolve(sweep, origin), replicates_now(sweep, state))
        require_same_configuration(sweep, folder, state)
        if state.ran and state.config is None and not folder.config.exists():
            require_same_trainings(sweep, searches, state, record.events(("start",)))
        shared, earlier = store.storage, {session.driver for session in state.drivers}
        shared.require_owner(shared.name(folder.owner), earlier)
        storage = open_storage(store.optuna_url)
        incomplete = searches_to_rebuild(sweep, searches, storage, state, str(folder.journal))
        sweep_id = state.identity or owner_of(sweep, searches, storage) or token
        write_atomically(folder.config, to_yaml(sweep))
        if not state.ran:
            discard_unused(searches.values(), storage)
        notices = rebuild_studies(searches, storage, record, sweep_id, incomplete, store)
        studies = _studies(sweep, searches, storage, state)
        yield SweepDriver(
            sweep=sweep,
            given=given,
            searches=searches,
            store=store,
            folder=folder,
            storage=shared,
            token=token,
            sweep_id=sweep_id,
            record=record,
            studies=studies,
            final_runs=FinalRuns(sweep, studies, folder, store, token, state),
            budget=Budget(sweep, folder.path, state),
            notices=notices,
            own=own_code(sweep.plugins, paths_of(sweep, {name: search.arm for name, search in searches.items()})),
        )
