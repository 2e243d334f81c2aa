"""A search as the journal's events leave it: its trials, the best of them, the winner and its final runs."""

from dataclasses import dataclass, field

from supersnn.records import metrics as measures
from supersnn.records.events import TrialEnd, TrialRanked, WinnerChosen, WinnerVerified
from supersnn.records.trial_state import TrialRecord


@dataclass(slots=True)
class SearchRecord:
    """One search, that is one arm on one data set in one replicate: its trials and their results.

    Attributes:
        name: of the search, see `supersnn.records.searches`.
        arm, dataset, replicate: what it is; `dataset` is the label of its data set, None where the sweep has only one
            under `dataset`.
        trials: by number.
        running: the epoch that each trial under way has reached.
        counts: how many trials have ended in each way.
        epochs: how many epochs all trials have had together, `ended_epochs` those that have ended.
        slowest: the seconds of its slowest epoch, None before any.
        best: the number of the best trial; see `better`.
        winner: the last choice of a winner.
        ranked, verified: final runs by trial and seed.
    """

    name: str
    arm: str
    dataset: str | None = None
    replicate: int = 0
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    running: dict[int, int] = field(default_factory=dict)
    counts: dict[TrialEnd, int] = field(default_factory=lambda: {"finished": 0, "stopped": 0, "failed": 0})
    epochs: int = 0
    ended_epochs: int = 0
    slowest: float | None = None
    best: int | None = None
    winner: WinnerChosen | None = None
    ranked: dict[int, dict[int, TrialRanked]] = field(default_factory=dict)
    verified: dict[int, dict[int, WinnerVerified]] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(self.counts.values())

    @property
    def best_trial(self) -> TrialRecord | None:
        """The best trial: the highest value among those trained to the end within the constraints."""
        best = self.best  # once: another thread may be drawing while it changes
        return None if best is None else self.trials[best]

    @property
    def best_value(self) -> float | None:
        """The validation accuracy of the best trial."""
        trial = self.best_trial
        return None if trial is None else trial.value

    @property
    def verified_trial(self) -> int | None:
        """The winner; before one is chosen, the trial that was verified last."""
        return self.winner.trial if self.winner is not None else next(reversed(self.verified), None)

    def final_runs(self) -> list[WinnerVerified]:
        """Return the winner's verified trainings by seed; before a winner is chosen, those of the latest trial."""
        trial = self.verified_trial
        runs = self.verified.get(trial, {}) if trial is not None else {}
        return [runs[seed] for seed in sorted(runs)]

    def validation(self, by_search: bool) -> float | None:
        """Return the validation accuracy by which winners are compared: the mean over the winner's final runs.

        Args:
            by_search: the winner's value in the search instead, for final runs that were trained on the validation
                images.
        """
        accuracy = measures.mean_of((run.metrics for run in self.final_runs()), measures.VAL_ACCURACY.key)
        return self.winner.value if by_search and self.winner is not None else accuracy
