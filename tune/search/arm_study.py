"""One search's Optuna study: asks for its trials, tells their values, prunes and resumes them. Independent of others.

With several objectives Optuna can neither report nor prune; then a second study of the same search, single-objective
and with the same numbers, carries the reports and the rungs.
"""

import itertools
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from supersnn.config import TrainConfig
from supersnn.config_model import digest, flatten
from supersnn.errors import UserError
from supersnn.records.metrics import OBJECTIVES, SYNAPTIC_OPS, VAL_ACCURACY, judged, violations
from supersnn.records.searches import trial_key
from supersnn.records.trial_state import rank
from tune.description.arms import Arm
from tune.description.searches import PlannedSearch
from tune.description.space import Values, startup_design, suggest
from tune.description.sweep import SweepConfig
from tune.notices import WarmStarted
from tune.search.constrained_rungs import ConstrainedRungs
from tune.search.pruning import pruner
from tune.search.samplers import DESIGNED, sampler
from tune.search.tasks import task

STOP, END, WARM, OPS, BOUNDED = "stopped_after", "end", "warm_start", "synaptic_ops", "bounded_metrics"
"""User attributes of a trial: the epoch after which it was to stop, how it ended, the sweep it was taken over from,
and (of a rung's trial), by step: its accuracy, synaptic operations and feasibility; its constrained metrics."""
EXCESS = "predicted_excess"
"""The user attribute of a rung's trial that is to stop with by how much it exceeds each bound, as its rung predicts."""
SPENT = "epochs"
"""The user attribute of a trial with the epochs that it has had, where it ended between two steps of its rungs."""

TASK, DESIGNS, IDENTITY = "task", "start_designs", "sweep_id"
"""User attributes of a study: what its values are comparable with, start designs by the sweep they are from, and the
identity of the sweep that it belongs to (`SweepState.identity`)."""
REQUEST, SPACE = "request", "space"
"""The user attribute of a trial with the id of the request that gave its values, and that of a study with a digest of
its search space."""
SOURCE = "warm_start_trial"
"""The user attribute of a trial that was taken over with its number there."""
TRANSFERRED = 3
"""How many trials of another task become start designs."""


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
        name = f"{sweep.name}/{search.name}"
        several = len(sweep.search.objectives) > 1
        directions = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * (len(sweep.search.objectives) - 1)
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=directions,
            load_if_exists=True,
            pruner=pruner(sweep),
        )
        if TASK not in self._study.user_attrs:
            self._study.set_user_attr(TASK, task(search))
        if SPACE not in self._study.user_attrs:
            self._study.set_user_attr(SPACE, space_digest(search.arm))
        self._rungs = self._study
        if several:
            self._rungs = optuna.create_study(
                study_name=f"{name}:rungs",
                storage=storage,
                direction=StudyDirection.MAXIMIZE,
                load_if_exists=True,
                pruner=pruner(sweep),
            )
        self._live: dict[int, Trial] = {}
        self._live_rungs: dict[int, Trial] = {}
        self._reported: dict[int, int] = {}
        self._last: dict[int, Mapping[str, float]] = {}
        self._seen: dict[int, dict[int, tuple[float, float, bool]]] = {}
        self._rung_values = ConstrainedRungs(sweep.search.constraints)
        self._rung_ids: list[int] = []
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
        rungs = {trial.number: trial for trial in self._rungs.get_trials(deepcopy=False)}
        self._rung_ids = [trial._trial_id for trial in rungs.values()]
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
            epochs = trial.user_attrs.get(SPENT, self._epochs(rung))
            self.counts.epochs += max(epochs, int(trial.state.is_finished()))
            for step, noted in rung.user_attrs.get(OPS, {}).items():
                first_format = isinstance(noted, int | float)  # operations alone, the accuracy as the reported value
                seen = (rung.intermediate_values.get(int(step), 0.0), noted, True) if first_format else tuple(noted)
                self._seen.setdefault(int(step), {})[trial.number] = seen
            steps = rung.user_attrs.get(BOUNDED, {})
            if trial.state == TrialState.COMPLETE:
                self._rung_values.learn(steps)
            elif trial.state == TrialState.RUNNING:
                self._rung_values.resume(trial.number, steps)
            if trial.state == TrialState.RUNNING and STOP in rung.user_attrs:
                stopped = Trial(self._study, trial._trial_id)
                _constrain(stopped, rung.user_attrs.get(EXCESS, {}))
                stopped.set_user_attr(END, "stopped")
                self._study.tell(trial.number, state=TrialState.PRUNED if self._one else TrialState.FAIL)
                if not self._one:
                    self._rungs.tell(trial.number, state=TrialState.PRUNED)
                self.counts.stopped += 1
                self.since_best += 1
            elif trial.state == TrialState.RUNNING:
                self.interrupted.append(trial)
                self._interrupted_at[trial.number] = self._epochs(rung)
            else:
                self._count(trial, epochs)

    @property
    def _one(self) -> bool:
        """Whether there is one objective, so that the study itself carries the reports."""
        return self._rungs is self._study

    @property
    def _paired(self) -> bool:
        """Whether the pruner's steps are seeds, compared with the best trial's seed by seed."""
        return self._sweep.search.scheduler == "wilcoxon"

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of keys that may change while trials run (`tune.description.changes.LIVE`)."""
        self._sweep = sweep

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
        for table in (self._live, self._live_rungs):
            del table[number]
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
        rung = trial if self._one else self._rung(number)
        self._live[number], self._live_rungs[number] = trial, rung
        self._reported[number] = reported
        self.counts.running += 1
        request = trial.user_attrs.get(REQUEST)
        return Assignment(self.search, number, values, self.arm.config(values), reported, request)

    def _rung(self, number: int) -> Trial:
        """The trial of the rungs' study under this number; those of trials that need none are made on the way."""
        while len(self._rung_ids) <= number:
            self._rung_ids.append(self._rungs.ask()._trial_id)
        return Trial(self._rungs, self._rung_ids[number])

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take a running trial's metrics after an epoch; return whether it should be stopped now.

        With several seeds a trial, `epoch` counts on over them; from the second seed on only each seed's last epoch
        is a step for the pruner, with the mean over the seeds so far (its own value for `wilcoxon`).
        """
        self._last[number] = metrics
        own, accuracy = metrics.get(VAL_ACCURACY.key), judged(metrics).get(VAL_ACCURACY.key)
        if epoch <= self._reported[number] or own is None or accuracy is None:
            return False
        self.counts.epochs += epoch - self._reported[number]
        self._reported[number] = epoch
        step = self._step(epoch)
        if step is None:
            return False
        rung = self._live_rungs[number]
        value = self._rung_values.value(number, step, own if self._paired else accuracy, metrics)
        if steps := self._rung_values.steps(number):
            rung.set_user_attr(BOUNDED, steps)
        if not self._one:
            self._note_operations(number, step, metrics, value >= 0)
        rung.report(value, step)
        spared = value >= 0 and self._on_front(number, step)
        stop = epoch < self._sweep.trial_epochs() and rung.should_prune() and not spared
        if stop:
            if excesses := self._excesses_at_stop(number, metrics):
                rung.set_user_attr(EXCESS, excesses)
            rung.set_user_attr(STOP, epoch)
        return stop

    def _excesses_at_stop(self, number: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return by how much a trial that is stopped exceeds each bound, at its end by what its rung predicts."""
        predicted = self._rung_values.predicted(number)
        return violations(metrics if predicted is None else predicted, self._sweep.search.constraints)

    def _step(self, epoch: int) -> int | None:
        """The pruner's step of an epoch, None where it has none."""
        epochs = self._sweep.train.epochs
        last_of_seed = epoch % epochs == 0
        if self._paired:
            return epoch // epochs if last_of_seed else None
        return epoch if epoch <= epochs or last_of_seed else None

    def _epochs(self, rung: FrozenTrial) -> int:
        """The epochs that a trial's steps stand for: the inverse of `_step`."""
        last = max(rung.intermediate_values, default=0)
        return last * self._sweep.train.epochs if self._paired else last

    def _note_operations(self, number: int, step: int, metrics: Mapping[str, float], feasible: bool) -> None:
        values = judged(metrics)
        accuracy, operations = values[VAL_ACCURACY.key], values[SYNAPTIC_OPS.key]
        assert accuracy is not None
        assert operations is not None
        self._seen.setdefault(step, {})[number] = accuracy, operations, feasible
        noted = {step: seen[number] for step, seen in self._seen.items() if number in seen}
        self._live_rungs[number].set_user_attr(OPS, noted)

    def _on_front(self, number: int, step: int) -> bool:
        """Whether, with several objectives, no other feasible trial was as accurate and as sparse at this step."""
        if self._one:
            return False
        accuracy, operations, _ = self._seen[step][number]
        others = (seen for other, seen in self._seen[step].items() if other != number)
        return not any(feasible and a >= accuracy and o <= operations for a, o, feasible in others)

    def finish(self, number: int, end: str) -> None:
        """Close a trial with its last metrics: `end` is ``finished``, ``stopped``, or ``failed:REASON``.

        A stopped trial's constraints are those that its rung compared it by: the metrics predicted for its end.
        """
        trial, metrics = self._live.pop(number), self._last.pop(number, {})
        rung = self._live_rungs.pop(number)
        if self._step(reported := self._reported.pop(number)) is None:
            trial.set_user_attr(SPENT, reported)
        trial.set_user_attr(END, end)
        state = _STATES.get(end, TrialState.FAIL)
        if state == TrialState.COMPLETE:
            _constrain(trial, violations(metrics, self._sweep.search.constraints))
        elif state == TrialState.PRUNED:
            _constrain(trial, self._excesses_at_stop(number, metrics))
        self._rung_values.finish(number, finished=state == TrialState.COMPLETE)
        if state == TrialState.PRUNED and not self._one:
            state = TrialState.FAIL
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = self._values(metrics) if end == "finished" else None
            frozen = self._study.tell(trial, values, state=state)
            if not self._one:
                self._rungs.tell(rung, values[0] if values else None, state=_STATES.get(end, state))
        self.counts.running -= 1
        self.counts.epochs += int(reported == 0)
        self._count(frozen, reported)

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
            if _is_feasible(trial) and (best is None or rank(*this) < rank(*best)):
                self.since_best = 0 if best is None or this[0] > best[0] else self.since_best
                self.best = this
        elif _end(trial) == "stopped":
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
            trial.number: Outcome(_end(trial), trial.values[0], _is_feasible(trial))
            if trial.state == complete
            else Outcome(_end(trial), None, None)
            for trial in self._own_ended()
        }

    def _own_ended(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished() and WARM not in trial.user_attrs]

    def params(self, number: int) -> Values | None:
        """Return the sampled values of a trial, None where there is no such one."""
        trials = self._study.get_trials(deepcopy=False)
        return dict(trials[number].params) if 0 <= number < len(trials) else None

    def ranking(self) -> list[tuple[float, int]]:
        """Return accuracy and number of the finished, feasible trials, the best first."""
        complete = (trial for trial in self._own_ended() if trial.state == TrialState.COMPLETE)
        eligible = ((trial.values[0], trial.number) for trial in complete if _is_feasible(trial))
        return sorted(eligible, key=lambda pair: rank(*pair))

    def warm_start(self, earlier: Study, sweep: str, same_images: bool = True) -> WarmStarted:
        """Learn from an earlier sweep's study of this search; values outside this arm's space are left out.

        Of the same task (`tasks.task`) and the same images the sampler gets its finished trials with their values,
        marked and never counted. Of another task, whose values say little of this one's, the best three trials are
        start designs and nothing else is taken: a transfer. Returns which it was, and of how many trials.

        Args:
            earlier: the study.
            sweep: the name of the earlier sweep.
            same_images: False where both splits' fingerprints are known, and differ.
        """
        attributes = self._study.user_attrs
        complete = [trial for trial in earlier.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        usable = [(trial, params) for trial in complete if (params := self._within(trial.params))]
        if same := same_images and earlier.user_attrs.get(TASK) == task(self.search):
            known = self._taken_from(sweep)  # a driver may have died half-way
            there = {trial.user_attrs[SOURCE] for trial in known}
            for trial, params in usable:
                if trial.number not in there:
                    self._study.add_trial(self._known_trial(trial, params, sweep))
                    self._next += 1
        else:
            eligible = [(trial, params) for trial, params in usable if _is_feasible(trial)]
            eligible.sort(key=lambda pair: rank(pair[0].values[0], pair[0].number))
            designs = [params for _, params in eligible[:TRANSFERRED]]
            self._study.set_user_attr(DESIGNS, {**attributes.get(DESIGNS, {}), sweep: designs})
        self._study.set_user_attr(WARM, [*attributes.get(WARM, []), sweep])
        taken = len(usable) if same else len(designs)
        return WarmStarted(self.search.name, sweep, "same task" if same else "transfer", taken)

    def warm_started(self, sweep: str) -> bool:
        """Return whether a warm start from an earlier sweep is complete."""
        if sweep in self._study.user_attrs.get(WARM, []):
            return True
        return any(SOURCE not in trial.user_attrs for trial in self._taken_from(sweep))  # noted there alone, formerly

    def _taken_from(self, sweep: str) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.user_attrs.get(WARM) == sweep]

    def _known_trial(self, trial: FrozenTrial, params: dict[str, Any], sweep: str) -> FrozenTrial:
        distributions = {key: self.arm.parameters[key].distribution() for key in params}
        return optuna.trial.create_trial(
            values=trial.values,
            params=params,
            distributions=distributions,
            constraints=trial.constraints,
            user_attrs={WARM: sweep, SOURCE: trial.number},
        )

    def _within(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values of keys that are searched here too; nothing where one lies outside its range."""
        shared = {key: value for key, value in params.items() if key in self.arm.parameters}
        for key, value in shared.items():
            distribution = self.arm.parameters[key].distribution()
            try:
                if not distribution._contains(distribution.to_internal_repr(value)):
                    return {}
            except ValueError:
                return {}
        return shared


def start_designs(sweep: SweepConfig, study: Study) -> list[dict[str, Any]]:
    """Return the values that an arm tries first: those of the sweep file, then the best of other tasks."""
    transferred = study.user_attrs.get(DESIGNS, {}).values()
    return [dict(values) for values in (*sweep.search.enqueue, *itertools.chain(*transferred))]


def space_digest(arm: Arm) -> str:
    """Return a digest of an arm's search space."""
    return digest({key: parameter.model_dump(mode="json") for key, parameter in arm.parameters.items()})


def _end(trial: FrozenTrial) -> str:
    """Return how a trial of this study ended."""
    return str(trial.user_attrs.get(END, "stopped" if trial.state == TrialState.PRUNED else "failed:unknown"))


def _constrain(trial: Trial, excesses: Mapping[str, float]) -> None:
    """Set a trial's constraints, those that a driver has not set that died before it told the trial's end."""
    for metric, excess in excesses.items():
        if metric not in trial.constraints:
            trial.set_constraint(metric, excess)


def _is_feasible(trial: FrozenTrial) -> bool:
    """Return whether a trial that was trained to its end is within the constraints."""
    return all(excess <= 0 for excess in trial.constraints.values())


def existing_study(name: str, storage: BaseStorage) -> Study | None:
    """Return a study, None where there is none of that name."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
