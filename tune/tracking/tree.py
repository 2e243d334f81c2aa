"""The run tree as a view of `SweepState`: each event changes the state, and the state gives the `Change`s of the runs.

A pure function of the events: read again from the first line, it gives the same values with the same times and steps,
so that sending a change twice has no effect. Does not import MLflow.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    EpochReported,
    SweepClosed,
    SweepStarted,
    TeacherTrained,
    TrialEnded,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
    end_state,
)
from supersnn.records.metrics import VAL_ACCURACY
from supersnn.records.state import SearchRecord, SweepState, TrialRecord
from tune.tracking.changes import Change, Dataset, Export, Run, Status, joined, params
from tune.tracking.runs import Runs, labels
from tune.tracking.standings import accuracies, mean_costs, summary

CHANGING = ("search.", "verify.", "resources.")
"""The sweep's sections that a continued sweep may change: MLflow never changes a param."""
ON_CLOSE: Mapping[str, Status] = {"done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Tree:
    """Derives one `Change` a run from events.

    Attributes:
        config: the sweep as plain nested values.
        folder: the sweep's; an event's paths are relative to it.
        state: what the events so far add up to.
    """

    def __init__(self, sweep: str, config: Mapping[str, Any], folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.state = SweepState(dict((config.get("search") or {}).get("constraints") or {}))
        self._runs = Runs(sweep, config.get("seed", 0), self.state)
        self._labels: dict[str, dict[str, set[str]]] = {}
        self._changes: dict[str, Change] = {}

    def restore(self, first: SweepStarted, state: SweepState) -> None:
        """Continue from a saved state; `first` is the first event of its journal."""
        self.state = self._runs.state = state
        self._runs.start(first)

    def skip(self, event: AnyEvent) -> bool:
        """Apply an event without changes: its were sent already. Return whether it was new to the state."""
        if isinstance(event, SweepStarted):
            self._runs.start(event)
        return self.state.apply(event)

    def read(self, event: AnyEvent) -> None:
        """Apply an event and gather its changes.

        Raises:
            UnknownRunError: it is about a sweep, an arm or a trial that no earlier event has started.
        """
        match event:
            case SweepStarted():
                self._read_sweep(event)
            case DatasetSplit():
                self._read_split(event)
            case TeacherTrained():
                self._read_teacher(event)
            case TrialStarted():
                self._read_start(event)
            case EpochReported():
                self._read_epoch(event)
            case TrialEnded():
                self._read_end(event)
            case WinnerVerified():
                self._read_verified(event)
            case WinnerChosen():
                self._read_winner(event)
            case WinnerExported():
                self._read_export(event)
            case SweepClosed():
                self._read_close(event)
            case _:
                self.state.apply(event)

    def take(self) -> list[Change]:
        """Return the changes gathered since the last call, in the order of their first events."""
        changes, self._changes = list(self._changes.values()), {}
        return changes

    def _change(self, run: Run) -> Change:
        return self._changes.setdefault(run.key, Change(run))

    def _read_sweep(self, event: SweepStarted) -> None:
        resumed = self._runs.started
        if resumed:
            self._kill_running(self.state.drivers[-1].last)
        self.skip(event)
        change = self._change(self._runs.sweep())
        if resumed:
            for run in (self._runs.sweep(), *self._runs.arms()):
                self._change(run).set_status("RUNNING")
        else:
            fixed = params(self.config).items()
            change.params = {key: text for key, text in fixed if not key.startswith(CHANGING)}
        change.tags["supersnn.code"] = str(event.code)
        change.files["config.yaml"] = yaml.safe_dump(dict(self.config), sort_keys=False)
        change.files["environment.json"] = json.dumps(event.versions, indent=1, sort_keys=True)

    def _read_split(self, event: DatasetSplit | TeacherTrained) -> bool:
        """Tag the sweep with the split's fingerprint, from the first event that has it."""
        known = self.state.split
        new = self.state.apply(event)
        if known is None and self.state.split is not None:
            change = self._change(self._runs.sweep())
            change.tags["supersnn.split"] = self.state.split
            change.dataset = self._dataset(params(self.config))
        return new

    def _read_teacher(self, event: TeacherTrained) -> None:
        if self._read_split(event):
            facts = {"val_accuracy": event.val_accuracy, "parameters": event.parameters, "seconds": event.seconds}
            points = {f"teacher/{event.name}/{name}": value for name, value in facts.items()}
            self._change(self._runs.sweep()).add_points(points, event.time, 0)

    def _read_start(self, event: TrialStarted) -> None:
        known = self.state.trial(event.arm, event.trial)
        self.state.apply(event)
        if known is not None:
            self._change(self._runs.trial(event.arm, event.trial)).set_status("RUNNING")
            return
        arm = self.state.search(event.arm)
        if len(arm.trials) == 1:
            described = (self.config.get("arms") or {}).get(event.arm) or {}
            self._change(self._runs.arm(event.arm)).params = params(described)
        self._describe(self._runs.trial(event.arm, event.trial), event.config)
        self._label(arm, arm.trials[event.trial])

    def _read_epoch(self, event: EpochReported) -> None:
        new = self.state.apply(event)
        run = self._runs.trial(event.arm, event.trial)
        if new:
            first = {VAL_ACCURACY.key: event.metrics.get(VAL_ACCURACY.key)}
            self._change(run).add_points(first | event.metrics, event.time, event.epoch)

    def _read_end(self, event: TrialEnded) -> None:
        new = self.state.apply(event)
        run = self._runs.trial(event.arm, event.trial)
        if not new:
            return
        change = self._change(run)
        change.tags["supersnn.end"] = event.end
        change.set_status("FAILED" if event.state == "failed" else "FINISHED", event.time)
        arm = self.state.search(event.arm)
        trial = arm.trials[event.trial]
        if self.state.constraints and trial.metrics:
            change.tags["supersnn.feasible"] = "yes" if trial.feasible else "no"
        traceback = self.folder / "trials" / event.arm / str(event.trial) / "traceback.txt"
        if change.status == "FAILED" and traceback.is_file():
            change.tags["supersnn.traceback"] = self._name(traceback)
        self._count(arm, event.time)

    def _read_verified(self, event: WinnerVerified) -> None:
        new = self.state.apply(event)
        run = self._runs.verification(event)
        if not new:
            return
        self._describe(run, event.config)
        change = self._change(run)
        layers = {f"spikes/rate/{layer}": rate for layer, rate in (event.rates or {}).items()}
        change.add_points(event.metrics | layers, event.time, event.config.get("train.epochs", 0))
        change.set_status("FAILED" if end_state(event.ended) == "failed" else "FINISHED", event.time)
        self._average(self.state.search(event.arm), event.time)

    def _read_winner(self, event: WinnerChosen) -> None:
        arm = self.state.searches.get(event.arm)
        before = arm.winner.trial if arm is not None and arm.winner is not None else None
        self.state.apply(event)
        run = self._runs.trial(event.arm, event.trial)
        if before is not None and before != event.trial and self.state.trial(event.arm, before) is not None:
            self._change(self._runs.trial(event.arm, before)).tags["supersnn.winner"] = "no"
        self._change(run).tags["supersnn.winner"] = "yes"
        self._change(self._runs.arm(event.arm)).tags["supersnn.winner"] = str(event.trial)

    def _read_export(self, event: WinnerExported) -> None:
        self.state.apply(event)
        folder = self._export_folder(event.folder)
        self._change(self._runs.arm(event.arm)).tags["supersnn.export"] = self._name(folder)
        arm = self.state.search(event.arm)
        score = summary(arm).get("test/mean")
        verified = next((run for run in arm.final_runs() if run.seed == event.seed), None)
        if verified is not None and score is not None:
            self._change(self._runs.verification(verified)).exports.append(Export(folder, score, self._name(folder)))

    def _export_folder(self, written: str) -> Path:
        """Return an export folder; absolute ones of schema 1 may be from before the store was moved."""
        folder = self.folder / written
        moved = self.folder / "best" / folder.name
        return moved if folder.parts[-3:-1] == moved.parts[-3:-1] else folder

    def _name(self, path: Path) -> str:
        """Return a path relative to the store, which may be moved; one that is outside of it as it is."""
        store = self.folder.parent.parent
        return path.relative_to(store).as_posix() if path.is_relative_to(store) else str(path)

    def _read_close(self, event: SweepClosed) -> None:
        self._kill_running(event.time)
        self.state.apply(event)
        for run in (*self._runs.arms(), self._runs.sweep()):
            self._change(run).set_status(ON_CLOSE[event.end], event.time)

    def _kill_running(self, time: float) -> None:
        """Mark the trials under way as KILLED: their driver has closed, or was killed and `time` is its last event."""
        for arm in self.state.searches.values():
            for number in arm.running:
                if number in arm.trials and arm.trials[number].end is None:
                    self._change(self._runs.trial(arm.name, number)).set_status("KILLED", time)

    def _describe(self, run: Run, config: Mapping[str, Any]) -> None:
        change = self._change(run)
        change.params = params(config)
        change.dataset = self._dataset(config)

    def _dataset(self, config: Mapping[str, Any]) -> Dataset | None:
        name, split = config.get("dataset.name"), self.state.split
        return Dataset(name, split) if name and split else None

    def _label(self, arm: SearchRecord, trial: TrialRecord) -> None:
        """Tag an arm with every distinct label of its trials."""
        if arm.name not in self._labels:
            known = self._labels[arm.name] = defaultdict(set)
            for other in arm.trials.values():
                if other is not trial:
                    for tag, value in labels(other).items():
                        known[tag].add(value)
        for tag, value in labels(trial).items():
            values = self._labels[arm.name][tag]
            if value not in values:
                values.add(value)
                self._change(self._runs.arm(arm.name)).tags[tag] = joined(values)

    def _count(self, arm: SearchRecord, time: float) -> None:
        """Add an arm's and the sweep's counts and best value, at as many steps as trials have ended."""
        self._add_counts(self._runs.arm(arm.name), [arm], time)
        self._add_counts(self._runs.sweep(), list(self.state.searches.values()), time)

    def _add_counts(self, run: Run, arms: list[SearchRecord], time: float) -> None:
        best = max((arm.best_value for arm in arms if arm.best_value is not None), default=None)
        counts = {"trials/started": sum(len(arm.trials) for arm in arms)}
        counts |= {f"trials/{end}": sum(arm.counts[end] for arm in arms) for end in arms[0].counts}
        self._change(run).add_points({"val/best": best, **counts}, time, sum(arm.ended for arm in arms))

    def _average(self, arm: SearchRecord, time: float) -> None:
        """Add an arm's verified results, and the sweep's: those of the arm whose fresh seeds validate best."""
        self._change(self._runs.arm(arm.name)).add_points(summary(arm) | mean_costs(arm), time, len(accuracies(arm)))
        by_search = (self.config.get("verify") or {}).get("train_on", "train") != "train"
        best = self.state.best_search(by_search) or arm
        change = self._change(self._runs.sweep())
        change.tags["supersnn.best_arm"] = best.name
        change.add_points(summary(best), time, sum(len(accuracies(arm)) for arm in self.state.searches.values()))
