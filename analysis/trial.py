"""One trial of a sweep as a training of its own: what `supersnn train` runs to the trial's result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supersnn.config import TrainConfig
from supersnn.config_model import parse, to_yaml
from supersnn.errors import UserError, nearest, shortened
from supersnn.nested import unflatten
from supersnn.records import journal, snapshot
from supersnn.records.events import TrialStarted
from supersnn.records.metrics import METRICS, judged
from supersnn.records.searches import SearchId
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord


@dataclass(frozen=True)
class ShownTrial:
    """A trial and its training.

    Attributes:
        sweep, search, number: which trial it is; the search by its name.
        record: what the journal says of it.
        config: its training with the first seed.
        seeds: that it was to be trained with, one after another.
    """

    sweep: str
    search: str
    number: int
    record: TrialRecord
    config: TrainConfig
    seeds: tuple[int, ...]

    def file(self) -> str:
        """Return the training as a file for `supersnn train`, with the trial's result as comments."""
        return "".join(f"# {line}\n" for line in self._about()) + to_yaml(self.config)

    def values(self) -> dict[str, Any]:
        """Return the same as plain values; `dataset` is the label among the sweep's data sets."""
        trial, found = self.record, SearchId.parse(self.search)
        return {
            "sweep": self.sweep,
            "arm": found.arm,
            "dataset": found.dataset,
            "replicate": found.replicate,
            "trial": self.number,
            "end": trial.end,
            "epochs": trial.epochs,
            "value": trial.value,
            "feasible": trial.feasible,
            "seconds": trial.seconds,
            "seeds": list(self.seeds),
            "params": trial.params,
            "metrics": judged(trial.metrics),
            "config": self.config.model_dump(mode="json"),
        }

    def _about(self) -> list[str]:
        trial, shown = self.record, judged(self.record.metrics)
        value = "" if trial.value is None else f", validation accuracy {trial.value:.6g}"
        lines = [
            f"trial {self.search}/{self.number} of sweep {self.sweep}: {trial.end or 'running'} after {trial.epochs} "
            f"epochs{value}"
        ]
        if len(self.seeds) > 1:
            lines.append(
                f"judged by the mean over the seeds {', '.join(map(str, self.seeds))}; this file trains the first"
            )
        costs = [f"{key} {shown[key]:.6g}" for key, metric in METRICS.items() if metric.cost and shown.get(key)]
        if costs:
            lines.append(", ".join(costs))
        return [shortened(line, 200) for line in lines]


def shown_trial(folder: Path, config: Mapping[str, Any], search: str, number: int) -> ShownTrial:
    """Return a trial of a sweep.

    Args:
        folder: of the sweep.
        config: its sweep file, as plain values.
        search: the name of the trial's search: of an arm's first search the arm's, see `supersnn.records.searches`.
        number: of the trial.

    Raises:
        UserError: there is no such trial.
    """
    settings = config.get("search") or {}
    journal_path = folder / "journal.jsonl"
    state, *_ = snapshot.current_state(folder / "state.json", journal_path, settings.get("constraints") or {})
    record = _record(state, search, number)
    started = _start(journal_path, state, search, number)
    training = parse(TrainConfig, unflatten(started.config), f"{search}/{number}")
    seeds = range(training.seed, training.seed + int(settings.get("seeds_per_trial") or 1))
    return ShownTrial(str(config.get("name") or folder.name), search, number, record, training, tuple(seeds))


def _record(state: SweepState, search: str, number: int) -> TrialRecord:
    if search not in state.searches:
        known = ", ".join(state.searches)
        hint = nearest(search, state.searches) or (f"; it has {known}" if known else "; it has no trials yet")
        raise UserError(f"{shortened(search)}/{number}: the journal has no arm {shortened(search)!r}{hint}")
    record = state.trial(search, number)
    if record is None:
        trials = state.searches[search].trials
        first = min(trials, default=0)
        raise UserError(f"{search}/{number}: this arm has had {len(trials)} trials, from {first} on")
    return record


def _start(path: Path, state: SweepState, search: str, number: int) -> TrialStarted:
    """Return the last start of a trial that the journal has."""
    found = None
    for event, _ in journal.read(path, kinds=("start",)):
        if isinstance(event, TrialStarted) and event.trial == number and state.search_name(event) == search:
            found = event
    if found is None:
        raise UserError(f"{search}/{number}: its start is missing in {path}")
    return found
