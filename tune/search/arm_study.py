"""One search's Optuna study: asks for its trials, tells their values, and resumes them. No other search matters."""

import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from supersnn.config import TrainConfig
from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.records.metrics import OBJECTIVES, VAL_ACCURACY, judged, violations
from supersnn.records.searches import trial_key
from supersnn.records.trial_state import rank
from tune.description.searches import PlannedSearch
from tune.description.space import Values, startup_design, suggest
from tune.description.sweep import SweepConfig
from tune.search.arm_rungs import ArmRungs
from tune.search.pruning import pruner
from tune.search.samplers import DESIGNED, sampler
from tune.search.study_attributes import (
    END,
    EXCESS,
    IDENTITY,
    REQUEST,
    SPACE,
    SPENT,
    STOP,
    TASK,
    WARM,
    constrain,
    end_of,
    is_feasible,
    space_digest,
    start_designs,
)
from tune.search.tasks import task


@dataclass(frozen=True)
class Assignment:
    """A suggested trial, of which the study has the first `reported` epochs already.

    `request` is the id of the request that gave its values, if any.
    """

    search: PlannedSearch
    number: int
    values: Values
    config: TrainConfig
    reported: int
    request: str | None = None

    @property
    def key(self) -> str:
        """The trial's name in its sweep, ``SEARCH/N``."""
        return trial_key(self.search.name, self.number)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, as its study has it: `value` and `feasible` are None where it was not trained to its end."""

    end: str
    value: float | None
    feasible: bool | None


@dataclass
class Counts:
    """How many trials of a search are in which state; `epochs` is what they have spent together.

    A trial that has ended without an epoch counts as one, so that trials which all fail at once spend something.
    """

    suggested: int = 0
    running: int = 0
    finished: int = 0
    stopped: int = 0
    failed: int = 0
    epochs: int = 0


class ArmStudy:
    """The study of one search, that is of an arm on a data set in a replicate, and its running trials."""

    def __init__(self, search: PlannedSearch, storage: BaseStorage) -> None:
        self.search, self.arm, self._sweep = search, search.arm, search.sweep
        sweep = search.sweep
        self._fixed = flatten(search.arm.base)
        directions = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * (len(sweep.search.objectives) - 1)
        self._study = optuna.create_study(
            study_name=f"{sweep.name}/{search.name}",
            storage=storage,
            directions=directions,
            load_if_exists=True,
            pruner=pruner(sweep),
        )
        if TASK not in self._study.user_attrs:
            self._study.set_user_attr(TASK, task(search))
        if SPACE not in self._study.user_attrs:
            self._study.set_user_attr(SPACE, space_digest(search.arm))
        self._rungs = ArmRungs(sweep, self._study, storage)
        self._live: dict[int, Trial] = {}
        self._reported: dict[int, int] = {}
        self._last: dict[int, Mapping[str, float]] = {}
        self._waiting = self._next = 0
        self._own: dict[int, int] = {}
        self.taken: set[str] = set()
        self.interrupted: deque[FrozenTrial] = deque()
        self._interrupted_at: dict[int, int] = {}
        self._set_back: set[int] = set()
        self._failed: dict[int, int] = {}
        self.counts = Counts()
        self.since_best = 0
        self.best: tuple[float, int] | None = None
        self._recall()

    def _recall(self) -> None:
        """Count the trials that have ended under earlier drivers, and queue those that were interrupted."""
        rungs = self._rungs.recall()
        for trial in self._study.get_trials(deepcopy=False):
            self._waiting += trial.state == TrialState.WAITING
            self._next += trial.state != TrialState.WAITING
            if (request := trial.user_attrs.get(REQUEST)) is not None:
                self.taken.add(request)
            if trial.state == TrialState.WAITING or WARM in trial.user_attrs:
                continue
            self._own[trial.number] = self.counts.suggested
            self.counts.suggested += 1
            rung = rungs.get(trial.number, trial)
            epochs = trial.user_attrs.get(SPENT, self._rungs.epochs(rung))
            self.counts.epochs += max(epochs, int(trial.state.is_finished()))
            self._rungs.learn(trial.state, rung)
            if trial.state == TrialState.RUNNING and STOP in rung.user_attrs:
                stopped = Trial(self._study, trial._trial_id)
                self._rungs.begin(stopped)
                constrain(stopped, rung.user_attrs.get(EXCESS, {}))
                stopped.set_user_attr(END, "stopped")
                self._tell(stopped, TrialState.PRUNED)
                self.counts.stopped += 1
                self.since_best += 1
            elif trial.state == TrialState.RUNNING:
                self.interrupted.append(trial)
                self._interrupted_at[trial.number] = self._rungs.epochs(rung)
            else:
                self._count(trial, epochs)

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of keys that may change while trials run (`tune.description.changes.LIVE`)."""
        self._sweep = sweep
        self._rungs.adopt(sweep)

    def claim(self, identity: str) -> None:
        """Mark the study as the one of a sweep, before its first trial is asked for.

        Raises:
            UserError: it belongs to another sweep, or another driver has used it since it was opened.
        """
        try:
            owner = self._study.user_attrs.get(IDENTITY)
            trials = self._study.get_trials(deepcopy=False)
        except KeyError:
            raise UserError(f"{self._complaint()} has removed it") from None
        if owner not in (None, identity) or sum(trial.state != TrialState.WAITING for trial in trials) != self._next:
            raise UserError(f"{self._complaint()} uses it")
        if owner is None:
            self._study.set_user_attr(IDENTITY, identity)

    def _complaint(self) -> str:
        name = self._study.study_name
        return f"study {name!r} in the studies' database: another store with a sweep {self._sweep.name!r}"

    def resume(self) -> Assignment:
        """Return the first interrupted trial, with its number and values; those that were set back come last."""
        while self.interrupted[0].number in self._set_back and self.resumable:
            self.interrupted.rotate(-1)
        frozen = self.interrupted.popleft()
        self._set_back.discard(frozen.number)
        self._study.sampler = sampler(self._sweep, self.arm, self._own[frozen.number])
        return self._assign(Trial(self._study, frozen._trial_id), self._interrupted_at.pop(frozen.number))

    @property
    def resumable(self) -> bool:
        """Whether an interrupted trial is to be resumed before others are begun."""
        return any(trial.number not in self._set_back for trial in self.interrupted)

    def interrupt(self, number: int, set_back: bool = False) -> None:
        """Take a running trial back, to be resumed; `set_back`: after all others."""
        if set_back:
            self._set_back.add(number)
        self._interrupted_at[number] = self._reported.pop(number)
        del self._live[number]
        self._rungs.drop(number)
        self._last.pop(number, None)
        self.counts.running -= 1
        self.interrupted.append(self._study.get_trials(deepcopy=False)[number])

    def ask(self, wish: tuple[str, Values] | None = None) -> Assignment:
        """Return a new trial: a wished or enqueued one, a start-up design, or what the sampler suggests.

        Args:
            wish: the id of a request with the values that it gives.
        """
        search, number = self._sweep.search, self.counts.suggested
        designed = number - len(self.taken)
        if self._waiting:
            self._waiting -= 1
        elif wish is not None:
            self._study.enqueue_trial(wish[1], user_attrs={REQUEST: wish[0]})
            self.taken.add(wish[0])
        elif designed < len(given := start_designs(self._sweep, self._study)):
            self._study.enqueue_trial(given[designed])
        elif designed < search.startup_trials() and search.sampler in DESIGNED:
            design = startup_design(self.arm.parameters, designed, search.startup_trials(), self._sweep.seed)
            self._study.enqueue_trial(design)
        self._study.sampler = sampler(self._sweep, self.arm, number)
        trial = self._study.ask()
        if trial.number != self._next:
            trial.set_user_attr(WARM, "")  # the other driver does not count it
            self._study.tell(trial, state=TrialState.FAIL)
            raise UserError(f"{self._complaint()} uses it")
        self._own[trial.number] = number
        self.counts.suggested += 1
        self._next += 1
        return self._assign(trial, reported=0)

    def _assign(self, trial: Trial, reported: int) -> Assignment:
        values = suggest(trial, self.arm.parameters, self._fixed)
        number = trial.number
        self._rungs.begin(trial)
        self._live[number], self._reported[number] = trial, reported
        self.counts.running += 1
        request = trial.user_attrs.get(REQUEST)
        return Assignment(self.search, number, values, self.arm.config(values), reported, request)

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take a running trial's metrics after an epoch; return whether it should be stopped now."""
        self._last[number] = metrics
        compared_by = metrics.get(VAL_ACCURACY.key), judged(metrics).get(VAL_ACCURACY.key)
        if epoch <= self._reported[number] or None in compared_by:
            return False
        self.counts.epochs += epoch - self._reported[number]
        self._reported[number] = epoch
        return self._rungs.report(number, epoch, metrics)

    def finish(self, number: int, end: str) -> None:
        """Close a trial with its last metrics: `end` is ``finished``, ``stopped``, or ``failed:REASON``.

        A stopped trial's constraints are those that its rung compared it by: the metrics predicted for its end.
        """
        trial, metrics = self._live.pop(number), self._last.pop(number, {})
        if self._rungs.step(reported := self._reported.pop(number)) is None:
            trial.set_user_attr(SPENT, reported)
        trial.set_user_attr(END, end)
        state = _STATES.get(end, TrialState.FAIL)
        if state == TrialState.COMPLETE:
            constrain(trial, violations(metrics, self._sweep.search.constraints))
        elif state == TrialState.PRUNED:
            constrain(trial, self._rungs.excesses(number, metrics))
        frozen = self._tell(trial, state, self._values(metrics) if end == "finished" else None)
        self.counts.running -= 1
        self.counts.epochs += int(reported == 0)
        self._count(frozen, reported)

    def _tell(self, trial: Trial, state: TrialState, values: list[float] | None = None) -> FrozenTrial:
        """Close a trial in the study and at its rungs; with several objectives Optuna knows no pruned trials."""
        pruned_as = TrialState.PRUNED if self._rungs.shared else TrialState.FAIL
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            closed = self._study.tell(trial, values, state=pruned_as if state == TrialState.PRUNED else state)
            self._rungs.finish(trial.number, values[0] if values else None, state)
        return closed

    def _values(self, metrics: Mapping[str, float]) -> list[float]:
        """What a finished trial is judged by, an objective each."""
        values = judged(metrics)
        found = [values[OBJECTIVES[objective].key] for objective in self._sweep.search.objectives]
        return [value for value in found if value is not None]

    def _count(self, trial: FrozenTrial, epochs: int) -> None:
        """Count a trial that has ended after some epochs, and remember the best feasible one."""
        self.since_best += 1
        if trial.state == TrialState.COMPLETE:
            self.counts.finished += 1
            best, this = self.best, (trial.values[0], trial.number)
            if is_feasible(trial) and (best is None or rank(*this) < rank(*best)):
                self.since_best = 0 if best is None or this[0] > best[0] else self.since_best
                self.best = this
        elif end_of(trial) == "stopped":
            self.counts.stopped += 1
        else:
            self.counts.failed += 1
            self._failed[trial.number] = max(1, epochs)

    def spent_on(self, failed: Iterable[int]) -> int:
        """Return the epochs that some failed trials have spent, as `counts` has them."""
        return sum(self._failed.get(number, 0) for number in failed)

    def promised(self) -> int:
        """Return the epochs that running and interrupted trials still have before them."""
        had = [*self._reported.values(), *self._interrupted_at.values()]
        return len(had) * self._sweep.trial_epochs() - sum(had)

    def ended(self) -> dict[int, Outcome]:
        """Return how every own trial that has ended did, by its number."""
        complete = TrialState.COMPLETE
        return {
            trial.number: Outcome(end_of(trial), trial.values[0], is_feasible(trial))
            if trial.state == complete
            else Outcome(end_of(trial), None, None)
            for trial in self._own_ended()
        }

    def _own_ended(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished() and WARM not in trial.user_attrs]

    @property
    def first(self) -> int:
        """The number of the first own trial: those of a warm start come before it."""
        return min(self._own, default=0)

    def params(self, number: int) -> Values | None:
        """Return the sampled values of a trial, None where there is no such one."""
        trials = self._study.get_trials(deepcopy=False)
        return dict(trials[number].params) if 0 <= number < len(trials) else None

    def ranking(self) -> list[tuple[float, int]]:
        """Return accuracy and number of the finished, feasible trials, the best first."""
        complete = (trial for trial in self._own_ended() if trial.state == TrialState.COMPLETE)
        eligible = ((trial.values[0], trial.number) for trial in complete if is_feasible(trial))
        return sorted(eligible, key=lambda pair: rank(*pair))

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study keeps of itself."""
        return self._study.user_attrs

    def note(self, attribute: str, value: object) -> None:
        """Keep something of the study itself."""
        self._study.set_user_attr(attribute, value)

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial of an earlier sweep, which the sampler learns from."""
        self._study.add_trial(trial)
        self._next += 1

    def taken_from(self, sweep: str) -> list[FrozenTrial]:
        """Return the trials that were added from an earlier sweep."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.user_attrs.get(WARM) == sweep]


_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
