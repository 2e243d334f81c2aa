"""Studies and journal compared when a driver starts: studies that are gone or behind are rebuilt from the journal.

The journal is enough for that: replayed through `ArmStudy`, it gives trials with their numbers, values, reports, rungs,
constraints and ends, as the search made them. What a sampler keeps for itself is made again by asking it along the way.
Trials that a warm start gave are taken from the earlier sweep's studies again; where those are gone too, they are left
out.
"""

import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime

import optuna
from optuna.samplers import GridSampler, RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from supersnn.errors import UserError
from supersnn.records.events import AnyEvent, EpochReported, TrialEnded, TrialStarted
from supersnn.records.metrics import OBJECTIVES, VAL_ACCURACY, judged
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState
from tune.description.searches import PlannedSearch
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.search.arm_study import ArmStudy
from tune.search.samplers import DESIGNED, sampler
from tune.search.study_attributes import (
    DESIGNS,
    END,
    IDENTITY,
    REQUEST,
    SPACE,
    TASK,
    WARM,
    existing_study,
    space_digest,
    start_designs,
)
from tune.search.tasks import SplitOf, no_splits, task
from tune.search.warm_start import take_over

LOST = "failed:its start is missing in the journal"
"""The end of a trial of which the journal has some events, but not its configuration."""
RENAME = "rename the sweep, or let SUPERSNN_OPTUNA_STORAGE name another database"


def owner_of(sweep: SweepConfig, searches: Iterable[str], storage: BaseStorage) -> str | None:
    """Return the identity that a sweep's studies carry, None where they carry none."""
    studies = (existing_study(f"{sweep.name}/{search}", storage) for search in searches)
    return next((owner for study in studies if study and (owner := study.user_attrs.get(IDENTITY))), None)


def searches_to_rebuild(
    sweep: SweepConfig, searches: Iterable[str], storage: BaseStorage, state: SweepState, journal: str
) -> list[str]:
    """Return the searches whose studies lack a trial, or the end of one, that the journal has.

    Trials that only a study has are no fault: a driver may die before it records what it has asked for.

    Args:
        sweep: the sweep.
        searches: their names.
        storage: of the studies; nothing is written to it.
        state: what the journal adds up to.
        journal: its path, for error texts.

    Raises:
        UserError: the studies are those of another sweep, or have other values for a trial.
    """
    recorded = bool(state.orphans) or any(search.trials for search in state.searches.values())
    incomplete = []
    for name in searches:
        study = existing_study(f"{sweep.name}/{name}", storage)
        if study is not None:
            _require_same_sweep(sweep, study, state.identity, recorded, journal)
        record = state.searches.get(name)
        if record is None or not record.trials:
            continue
        if study is None or _lacks(study, record, journal):
            incomplete.append(name)
        elif len(sweep.search.objectives) > 1:
            rungs = existing_study(f"{study.study_name}:rungs", storage)
            if rungs is None or len(rungs.get_trials(deepcopy=False)) <= max(record.trials):
                incomplete.append(name)
    return incomplete


def with_other_space(searches: Iterable[PlannedSearch], storage: BaseStorage, state: SweepState) -> list[str]:
    """Return the searches with trials whose studies were made for another search space than they have now.

    Studies of searches of which the journal has no trial are removed: they are made anew. So are those without any
    trial that were made for another task: the arm has changed since.
    """
    found = []
    for search in searches:
        study = existing_study(f"{search.sweep.name}/{search.name}", storage)
        if study is None:
            continue
        begun, attributes = state.search(search.name).trials, study.user_attrs
        other_space = attributes.get(SPACE) not in (None, space_digest(search.arm))
        other_task = attributes.get(TASK) not in (None, task(search)) and not _own(study)
        if begun and other_space:
            found.append(search.name)
        elif not begun and (other_space or other_task):
            _delete(study.study_name, storage)
    return found


def _require_same_sweep(sweep: SweepConfig, study: Study, identity: str | None, recorded: bool, journal: str) -> None:
    owner, trials = study.user_attrs.get(IDENTITY), _own(study)
    used = any(trial.state.is_finished() or trial.intermediate_values for trial in trials)
    unknown = used and not recorded if owner is None else identity is None and not recorded
    if not unknown and (owner is None or identity in (None, owner)):
        return
    lost = "has no trials (restore it, if it was lost)"
    has = f"is the journal of another sweep {sweep.name!r}" if recorded else lost
    raise UserError(
        f"sweep {sweep.name!r}: the studies' database has a study {study.study_name!r} with {len(trials)} trials of "
        f"another sweep, and {journal} {has}: {RENAME}, or remove its studies "
        f"(optuna delete-study --storage URL --study-name {study.study_name} and the same for each search)"
    )


def _own(study: Study) -> list[FrozenTrial]:
    """Return the trials that the sweep itself has asked for."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state != TrialState.WAITING and WARM not in trial.user_attrs]


def _lacks(study: Study, record: SearchRecord, journal: str) -> bool:
    """Return whether a study lacks a trial of the journal, or the end of one.

    Raises:
        UserError: it has other values for a trial.
    """
    trials, lacks = study.get_trials(deepcopy=False), False
    for number, trial in record.trials.items():
        if number >= len(trials) or trials[number].state == TrialState.WAITING:
            lacks = True
            continue
        stored = trials[number]
        if WARM in stored.user_attrs or (trial.params and dict(stored.params) != dict(trial.params)):
            raise UserError(
                f"trial {record.name}/{number} has the values {_text(trial.params)} in {journal} and "
                f"{_text(stored.params)} in study {study.study_name!r} of the studies' database: {RENAME}; "
                "the studies are then rebuilt from the journal"
            )
        lacks = lacks or (trial.end is not None and not stored.state.is_finished())
    return lacks


def _text(params: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in params.items()) + "}"


def discard_unused(searches: Iterable[PlannedSearch], storage: BaseStorage) -> None:
    """Remove the studies of a start that failed before any trial, where they do not suit the sweep as it is now."""
    for search in searches:
        sweep = search.sweep
        several, study = len(sweep.search.objectives), existing_study(f"{sweep.name}/{search.name}", storage)
        if study is None or _own(study):
            continue
        attributes = study.user_attrs
        suits = len(study.directions) == several and attributes.get(TASK, task(search)) == task(search)
        if not suits or not set(attributes.get(WARM, [])) <= set(sweep.search.warm_start):
            _delete(study.study_name, storage)


def rebuild(
    searches: Iterable[PlannedSearch],
    storage: BaseStorage,
    state: SweepState,
    events: Iterable[AnyEvent],
    identity: str,
    split_of: SplitOf = no_splits,
) -> int:
    """Write the studies of some searches anew, as the journal has their trials; return how many trials that are.

    Everything is replayed in memory first. A driver that dies while the studies are written leaves some that lack
    trials: the next one begins again.

    Args:
        searches: those whose studies are rebuilt.
        storage: of the studies.
        state: what the journal adds up to.
        events: the starts, epochs and ends of its trials, in order.
        identity: of the sweep.
        split_of: finds the fingerprints of splits, for a warm start.

    Raises:
        UserError: the journal has values for a trial that the search space does not admit.
    """
    replayed = {one.name: _replayed(one, storage, state, split_of) for one in searches}
    taken = [event for event in events if isinstance(event, TrialStarted | EpochReported | TrialEnded)]
    names = [state.search_name(event) for event in taken]
    last = {
        (name, event.trial, type(event)): place for place, (name, event) in enumerate(zip(names, taken, strict=True))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position, event in enumerate(taken):
            name = names[position]
            if name not in replayed:
                continue
            study = replayed[name]
            match event:
                case TrialStarted():
                    study.start(event.trial, event.params, event.request)
                case EpochReported():
                    study.epoch(event)
                case TrialEnded():
                    started = last.get((name, event.trial, TrialStarted), position)
                    if started < position == last[name, event.trial, TrialEnded]:
                        study.end(event)
        for name, study in replayed.items():
            study.write(storage, state.searches[name], identity)
    return sum(len(state.searches[name].trials) for name in replayed)


def _replayed(search: PlannedSearch, storage: BaseStorage, state: SweepState, split_of: SplitOf) -> "_Replay":
    """Return the study of a search in memory, with what a warm start gave it and no trial of its own."""
    orphans = {number for name, number, _ in state.orphans if name == search.name}
    first = min([*state.searches[search.name].trials, *orphans])
    before = existing_study(f"{search.sweep.name}/{search.name}", storage)
    study = _Replay(search, orphans)
    if before is not None:
        study.keep(before, first)
        return study
    take_over(study, storage, split_of)
    if study.known > first:  # the earlier sweep has more trials by now
        study = _Replay(search, orphans)
        study.mark_warm_started()
    return study


class _Replay(ArmStudy):
    """One search's study in memory, to which the journal's events are given."""

    def __init__(self, search: PlannedSearch, orphans: set[int]) -> None:
        super().__init__(search, InMemoryStorage())
        self._orphans = orphans

    @property
    def known(self) -> int:
        """How many trials it has."""
        return self._next

    def keep(self, before: Study, first: int) -> None:
        """Keep the attributes of the study that is replaced, and the trials of its warm start up to number `first`."""
        for key in (TASK, DESIGNS, WARM):
            if key in before.user_attrs:
                self.note(key, before.user_attrs[key])
        for trial in before.get_trials()[:first]:
            if WARM in trial.user_attrs:
                self._put(self._in_this_space(trial))

    def _in_this_space(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial of a warm start with the ranges that its values have in this space, which may be wider."""
        for key in trial.distributions.keys() & self.arm.parameters.keys():
            trial.distributions[key] = self.arm.parameters[key].distribution()
        return trial

    def mark_warm_started(self) -> None:
        """Keep later drivers from taking trials of the earlier sweeps over."""
        self.note(WARM, list(self._sweep.search.warm_start))

    def start(self, number: int, params: Values, request: str | None = None) -> None:
        """Take a trial's start, the first or another one; `request` gave its values."""
        if number < self._next:
            return
        while self._next < number:
            lost = self._next in self._orphans
            self.counts.suggested += lost
            attributes = {END: LOST} if lost else {WARM: ""}
            self._put(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=attributes))
        self._study.enqueue_trial(dict(params), user_attrs={} if request is None else {REQUEST: request})
        own = sampler(self._sweep, self.arm, self.counts.suggested)
        stateful = self._sweep.search.sampler in ("qmc", "cmaes", "nsga2", "nsga3")
        self._study.sampler = own if stateful else RandomSampler(seed=0)
        asked = self._study.ask()
        if stateful and (request is not None or not self._designed(params)):
            _ = asked.relative_params  # the sampler notes that it was asked; its answer is not used
        self.counts.suggested += 1
        self._next += 1
        self.taken |= set() if request is None else {request}
        assignment = self._assign(asked, reported=0)
        if assignment.values != params:
            raise UserError(
                f"the journal has values for trial {assignment.key} that the search space does not admit: "
                f"{_text(params)}; its study cannot be rebuilt"
            )
        if isinstance(own, GridSampler):
            self._note_grid_point(own, number, params)

    def _designed(self, params: Values) -> bool:
        """Return whether the next trial was given all of its values, so that no sampler was asked."""
        search, number = self._sweep.search, self.counts.suggested - len(self.taken)
        given = start_designs(self._sweep, self._study)
        if number < len(given):
            return set(params) <= set(given[number])
        return number < search.startup_trials() and search.sampler in DESIGNED

    def _note_grid_point(self, grid: GridSampler, number: int, params: Values) -> None:
        """Mark a trial's point of the grid as visited, as the sampler does."""
        point = tuple(params.get(key) for key in grid._param_names)
        if point in grid._all_grids:
            trial_id, memory = self._live[number]._trial_id, self._study._storage
            memory.set_trial_system_attr(trial_id, "search_space", grid._search_space)
            memory.set_trial_system_attr(trial_id, "grid_id", grid._all_grids.index(point))

    def epoch(self, event: EpochReported) -> None:
        """Take an epoch of a trial that runs."""
        if event.trial in self._live:
            known = {key: value for key, value in event.metrics.items() if value is not None}
            self.report(event.trial, event.epoch, known)

    def end(self, event: TrialEnded) -> None:
        """Take a trial's end. Where its last epoch is missing in the journal, the end has what it is judged by."""
        number, end = event.trial, event.end
        if number not in self._live:
            return
        complete = end != "finished" or event.epochs in (None, self._reported[number])
        if not complete and event.value is not None:
            bounds = self._sweep.search.constraints
            excess = {key: bound + 1 for key, bound in bounds.items()} if event.feasible is False else {}
            self._last[number] = {VAL_ACCURACY.key: event.value, **excess}
        values = judged(self._last.get(number, {}))
        if end == "finished" and any(OBJECTIVES[name].key not in values for name in self._sweep.search.objectives):
            end = "failed:its last epoch is missing in the journal"
        self.finish(number, end)

    def _put(self, trial: FrozenTrial) -> None:
        self._study._storage.create_new_trial(self._study._study_id, template_trial=trial)
        self._next += 1

    def write(self, storage: BaseStorage, record: SearchRecord, identity: str) -> None:
        """Write the study to a database, and that of its rungs, in place of what is there."""
        _delete(self._study.study_name, storage)
        if not self._rungs.shared:
            _copy(self._rungs.study, storage, record)
        _copy(self._study, storage, record).set_user_attr(IDENTITY, identity)


def _copy(study: Study, storage: BaseStorage, record: SearchRecord) -> Study:
    """Write a study and return it; the times of its trials are the journal's."""
    copy = optuna.create_study(study_name=study.study_name, storage=storage, directions=study.directions)
    for key, value in study._storage.get_study_system_attrs(study._study_id).items():
        if key.startswith("qmc:"):
            copy._storage.set_study_system_attr(copy._study_id, key, value)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    for trial in study.get_trials():
        if (known := record.trials.get(trial.number)) is not None:
            trial.datetime_start = datetime.fromtimestamp(known.started)
            if known.ended is not None and trial.state.is_finished():
                trial.datetime_complete = datetime.fromtimestamp(known.ended)
        copy._storage.create_new_trial(copy._study_id, template_trial=trial)
    return copy


def _delete(name: str, storage: BaseStorage) -> None:
    """Remove a study and that of its rungs, where there are any."""
    for one in (name, f"{name}:rungs"):
        if existing_study(one, storage) is not None:
            optuna.delete_study(study_name=one, storage=storage)
