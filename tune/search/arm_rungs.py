"""One search's rungs: what its trials report after their epochs, and which of them are to stop early.

With several objectives Optuna can neither report nor prune; then a second study of the same search, single-objective
and with the same numbers, carries the reports and the rungs.
"""

from collections.abc import Mapping

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from supersnn.records.metrics import SYNAPTIC_OPS, VAL_ACCURACY, judged, violations
from tune.description.sweep import SweepConfig
from tune.search.constrained_rungs import ConstrainedRungs
from tune.search.pruning import pruner
from tune.search.study_attributes import BOUNDED, EXCESS, OPS, STOP


class ArmRungs:
    """The reports of a search's trials, by the trials' numbers.

    Attributes:
        study: carries the reports.
        shared: whether that is the search's own study, as with one objective.
    """

    def __init__(self, sweep: SweepConfig, own: Study, storage: BaseStorage) -> None:
        self._sweep, self.study, self.shared = sweep, own, len(sweep.search.objectives) == 1
        if not self.shared:
            self.study = optuna.create_study(
                study_name=f"{own.study_name}:rungs",
                storage=storage,
                direction=StudyDirection.MAXIMIZE,
                load_if_exists=True,
                pruner=pruner(sweep),
            )
        self._ids: list[int] = []
        self._live: dict[int, Trial] = {}
        self._seen: dict[int, dict[int, tuple[float, float, bool]]] = {}
        self._values = ConstrainedRungs(sweep.search.constraints)

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other values of keys that may change while trials run."""
        self._sweep = sweep

    def recall(self) -> dict[int, FrozenTrial]:
        """Return the trials that earlier drivers left, by their numbers."""
        known = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        self._ids = [trial._trial_id for trial in known.values()]
        return known

    def learn(self, state: TrialState, rung: FrozenTrial) -> None:
        """Take what a trial has reported under earlier drivers.

        Args:
            state: of the trial in the search's own study.
            rung: the trial of the same number here.
        """
        number = rung.number
        for step, noted in rung.user_attrs.get(OPS, {}).items():
            first_format = isinstance(noted, int | float)  # operations alone, the accuracy as the reported value
            seen = (rung.intermediate_values.get(int(step), 0.0), noted, True) if first_format else tuple(noted)
            self._seen.setdefault(int(step), {})[number] = seen
        steps = rung.user_attrs.get(BOUNDED, {})
        if state == TrialState.COMPLETE:
            self._values.learn(steps)
        elif state == TrialState.RUNNING:
            self._values.resume(number, steps)

    def begin(self, trial: Trial) -> None:
        """Take in a trial that runs from now on."""
        self._live[trial.number] = trial if self.shared else self._rung(trial.number)

    def _rung(self, number: int) -> Trial:
        """The trial here under this number; those of trials that need none are made on the way."""
        while len(self._ids) <= number:
            self._ids.append(self.study.ask()._trial_id)
        return Trial(self.study, self._ids[number])

    def drop(self, number: int) -> None:
        """Forget that a trial runs; it may be taken in again."""
        del self._live[number]

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take a running trial's metrics after an epoch; return whether it should be stopped now.

        With several seeds a trial, `epoch` counts on over them; from the second seed on only each seed's last epoch
        is a step for the pruner, with the mean over the seeds so far (its own value for `wilcoxon`).
        """
        step = self.step(epoch)
        if step is None:
            return False
        rung, accuracy = self._live[number], (metrics if self._paired else judged(metrics))[VAL_ACCURACY.key]
        assert accuracy is not None
        value = self._values.value(number, step, accuracy, metrics)
        if steps := self._values.steps(number):
            rung.set_user_attr(BOUNDED, steps)
        if not self.shared:
            self._note_operations(number, step, metrics, value >= 0)
        rung.report(value, step)
        spared = value >= 0 and self._on_front(number, step)
        stop = epoch < self._sweep.trial_epochs() and rung.should_prune() and not spared
        if stop:
            if excesses := self.excesses(number, metrics):
                rung.set_user_attr(EXCESS, excesses)
            rung.set_user_attr(STOP, epoch)
        return stop

    def excesses(self, number: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return by how much a trial that is stopped exceeds each bound, at its end by what its rung predicts."""
        predicted = self._values.predicted(number)
        return violations(metrics if predicted is None else predicted, self._sweep.search.constraints)

    @property
    def _paired(self) -> bool:
        """Whether the pruner's steps are seeds, compared with the best trial's seed by seed."""
        return self._sweep.search.scheduler == "wilcoxon"

    def step(self, epoch: int) -> int | None:
        """The pruner's step of an epoch, None where it has none."""
        epochs = self._sweep.train.epochs
        last_of_seed = epoch % epochs == 0
        if self._paired:
            return epoch // epochs if last_of_seed else None
        return epoch if epoch <= epochs or last_of_seed else None

    def epochs(self, rung: FrozenTrial) -> int:
        """The epochs that a trial's steps stand for: the inverse of `step`."""
        last = max(rung.intermediate_values, default=0)
        return last * self._sweep.train.epochs if self._paired else last

    def _note_operations(self, number: int, step: int, metrics: Mapping[str, float], feasible: bool) -> None:
        values = judged(metrics)
        accuracy, operations = values[VAL_ACCURACY.key], values[SYNAPTIC_OPS.key]
        assert accuracy is not None
        assert operations is not None
        self._seen.setdefault(step, {})[number] = accuracy, operations, feasible
        noted = {step: seen[number] for step, seen in self._seen.items() if number in seen}
        self._live[number].set_user_attr(OPS, noted)

    def _on_front(self, number: int, step: int) -> bool:
        """Whether, with several objectives, no other feasible trial was as accurate and as sparse at this step."""
        if self.shared:
            return False
        accuracy, operations, _ = self._seen[step][number]
        others = (seen for other, seen in self._seen[step].items() if other != number)
        return not any(feasible and a >= accuracy and o <= operations for a, o, feasible in others)

    def finish(self, number: int, value: float | None, state: TrialState) -> None:
        """Close a trial with its first objective's value, None unless it was trained to its end."""
        rung = self._live.pop(number)
        self._values.finish(number, finished=state == TrialState.COMPLETE)
        if not self.shared:
            self.study.tell(rung, value, state=state)
