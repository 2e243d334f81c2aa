"""The truth about a sweep: one Optuna study an arm. What runs next, what was told, what counts; no Ray here.

Everything that a restarted driver must know is in the studies: a trial that is still RUNNING belongs to a driver
that died, and is handed out again under its number.
"""

import logging
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from supersnn.config import TrainConfig, digest, flatten
from supersnn.errors import UserError
from tune.arms import Arm
from tune.pruning import pruner
from tune.space import Knob, Values, startup_design, suggest
from tune.sweep import SweepConfig

optuna.logging.set_verbosity(logging.WARNING)


@dataclass(frozen=True)
class Assignment:
    """A trial that was handed out: `told` epochs of it are known already."""

    arm: str
    number: int
    values: Values
    config: TrainConfig
    told: int

    @property
    def key(self) -> str:
        """The trial's name in its sweep, ``ARM/N``."""
        return f"{self.arm}/{self.number}"


@dataclass
class Counts:
    """How many trials of an arm are in which state."""

    handed_out: int = 0
    running: int = 0
    finished: int = 0
    stopped: int = 0
    failed: int = 0


def open_storage(url: str) -> BaseStorage:
    """Return Optuna's storage at a SQLAlchemy address.

    Raises:
        UserError: the database cannot be reached.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return RDBStorage(url)
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"SUPERSNN_OPTUNA_STORAGE: {url} cannot be opened: {text[:200]}") from error


class Studies:
    """The arms' studies, and the fair hand-out of their trials."""

    def __init__(self, sweep: SweepConfig, arms: Mapping[str, Arm], storage: BaseStorage, driver: str = "") -> None:
        """Open the studies, or create them; `driver` distinguishes the random draws of each start."""
        self._sweep, self._arms, self._driver = sweep, arms, driver
        self._studies = {name: self._open(name, arm, storage) for name, arm in arms.items()}
        self._live: dict[str, Trial] = {}
        self._interrupted: deque[tuple[str, FrozenTrial]] = deque()
        self.counts = {name: Counts() for name in arms}
        self.best: dict[str, tuple[float, int]] = {}
        for name, study in self._studies.items():
            self._recall(name, study)

    def _open(self, name: str, arm: Arm, storage: BaseStorage) -> optuna.Study:
        return optuna.create_study(
            study_name=f"{self._sweep.name}/{name}",
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=_sampler(self._sweep, arm, self._driver),
            pruner=pruner(self._sweep),
        )

    def _recall(self, arm: str, study: optuna.Study) -> None:
        """Take up what an earlier driver left: count what ended, queue what was interrupted."""
        counts = self.counts[arm]
        for trial in study.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                continue
            counts.handed_out += 1
            if trial.state == TrialState.RUNNING:
                self._take_up(arm, study, trial)
            else:
                self._count_end(arm, trial.number, trial.state, trial.value)

    def _take_up(self, arm: str, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue an interrupted trial, or close it where only that was left to do."""
        if STOP in trial.user_attrs:
            study.tell(trial.number, state=TrialState.PRUNED)
            self._count_end(arm, trial.number, TrialState.PRUNED, None)
        else:
            self._interrupted.append((arm, trial))

    def next(self) -> Assignment | None:
        """Hand out a trial: an interrupted one first, else a new one of the arm that had the fewest; None when full."""
        if self._interrupted:
            arm, frozen = self._interrupted.popleft()
            return self._assign(arm, Trial(self._studies[arm], frozen._trial_id), len(frozen.intermediate_values))
        arm = min(self.counts, key=lambda name: self.counts[name].handed_out)
        counts, study = self.counts[arm], self._studies[arm]
        if counts.handed_out >= self._sweep.search.trials:
            return None
        if counts.handed_out < self._sweep.search.startup_trials() and self._sweep.search.sampler in _DESIGNED:
            self._enqueue_design(arm, counts.handed_out)
        counts.handed_out += 1
        return self._assign(arm, study.ask(), 0)

    def _enqueue_design(self, arm: str, number: int) -> None:
        study = self._studies[arm]
        if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            count = self._sweep.search.startup_trials()
            study.enqueue_trial(startup_design(self._arms[arm].knobs, number, count, self._sweep.seed))

    def _assign(self, name: str, trial: Trial, told: int) -> Assignment:
        arm = self._arms[name]
        values = suggest(trial, arm.knobs, flatten(arm.base))
        assignment = Assignment(name, trial.number, values, arm.config(values), told)
        self._live[assignment.key] = trial
        self.counts[name].running += 1
        return assignment

    def report(self, key: str, epoch: int, value: float) -> bool:
        """Tell a running trial's validation accuracy after an epoch; return whether it should be stopped now."""
        trial = self._live[key]
        trial.report(value, epoch)
        stop = trial.should_prune()
        if stop:
            trial.set_user_attr(STOP, epoch)
        return stop

    def finish(self, key: str, end: str, value: float | None) -> None:
        """Close a trial: `end` is ``finished`` (with its value), ``stopped``, or ``failed:REASON``."""
        trial = self._live.pop(key)
        arm = key.rsplit("/", 1)[0]
        trial.set_user_attr(END, end)
        state = _STATES.get(end, TrialState.FAIL)
        if state == TrialState.PRUNED and value is None:
            state = TrialState.FAIL
        told = value if state == TrialState.COMPLETE else None
        frozen = self._studies[arm].tell(trial, told, state=state)
        self.counts[arm].running -= 1
        self._count_end(arm, frozen.number, frozen.state, frozen.value)

    def _count_end(self, arm: str, number: int, state: TrialState, value: float | None) -> None:
        counts = self.counts[arm]
        if state == TrialState.COMPLETE:
            counts.finished += 1
            assert value is not None
            if arm not in self.best or value > self.best[arm][0]:
                self.best[arm] = (value, number)
        elif state == TrialState.PRUNED:
            counts.stopped += 1
        else:
            counts.failed += 1

    def done(self) -> bool:
        """Say whether every arm has had its trials and all of them have ended."""
        full = all(c.handed_out >= self._sweep.search.trials for c in self.counts.values())
        return full and not self._interrupted and not self._live

    def ended(self) -> dict[str, FrozenTrial]:
        """Return every trial that has ended, by its key."""
        return {
            f"{name}/{trial.number}": trial
            for name, study in self._studies.items()
            for trial in study.get_trials(deepcopy=False)
            if trial.state.is_finished()
        }

    def config(self, arm: str, number: int) -> TrainConfig:
        """Return the training of a trial that was handed out before."""
        return self._arms[arm].config(self.values(arm, number))

    def values(self, arm: str, number: int) -> Values:
        """Return the sampled values of a trial that was handed out before."""
        trials = self._studies[arm].get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise UserError(f"{arm}/{number}: this arm has trials 0 to {len(trials) - 1}")
        return dict(trials[number].params)


STOP, END = "stopped_after", "end"
"""User attributes of a trial: the epoch after which it was to stop, and how it ended."""

_DESIGNED = ("tpe", "gp", "cmaes")
"""The samplers that begin with start-up trials; the others are designs themselves."""

_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}


def _sampler(sweep: SweepConfig, arm: Arm, driver: str) -> BaseSampler:
    """Return the arm's sampler: a random one draws anew at each start, a design goes on with its one seed."""
    designs = sweep.search.sampler in ("qmc", "grid")
    seed = int(digest(sweep.seed, arm.name, "" if designs else driver), 16) % 2**31
    startup = sweep.search.startup_trials()
    conditional = any(knob.when for knob in arm.knobs.values())
    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match sweep.search.sampler:
            case "tpe":
                return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=conditional)
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "qmc":
                return samplers.QMCSampler(seed=seed, warn_asynchronous_seeding=False)
            case "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=startup)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)
            case "grid":
                return samplers.GridSampler({key: _grid(knob) for key, knob in arm.knobs.items()}, seed=seed)


def _grid(knob: Knob) -> list[str | int | float | bool | None]:
    if knob.categorical is not None:
        return list(knob.categorical)
    return sorted({knob.at(share) for share in (0.0, 0.25, 0.5, 0.75, 1 - 1e-9)}, key=lambda v: float(str(v)))
