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
    PrecisionLooked,
    RequestTaken,
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
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord
from tune.description.changes import changed_plain
from tune.search.messages import TRACEBACK, TRIALS, traceback_name
from tune.tracking.changes import Change, Dataset, Export, Run, Status, joined, params
from tune.tracking.runs import LONGEST_TAG, Runs, labels
from tune.tracking.standings import accuracies, mean_costs, summary

CHANGING = ("search.", "verify.", "resources.", "datasets", "replicates")
"""The sweep's sections that a continued sweep may change: MLflow never changes a param."""
ON_CLOSE: Mapping[str, Status] = {"done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Tree:
    """Derives one `Change` a run from events.

    Attributes:
        config: the sweep as plain nested values: as its last driver found it, with the changes since.
        folder: the sweep's; an event's paths are relative to it.
        state: what the events so far add up to.
    """

    def __init__(self, sweep: str, config: Mapping[str, Any], folder: Path) -> None:
        self.config = self._found = config
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
            self.config = self._found
        new = self.state.apply(event)
        if new and isinstance(event, RequestTaken) and event.kind == "change" and event.refused is None:
            self.config = changed_plain(self.config, event.values)
        return new

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
            case PrecisionLooked():
                self._read_look(event)
            case RequestTaken():
                self._read_request(event)
            case SweepClosed():
                self._read_close(event)
            case _:
                self.state.apply(event)

    def take(self) -> list[Change]:
        """Return the changes gathered since the last call, in the order of their first events."""
        changes, self._changes = list(self._changes.values()), {}
        return changes

    def _change(self, run: Run) -> Change:
        change = self._changes.setdefault(run.key, Change(run))
        change.run = run  # its parent may be another one than at an earlier event
        return change

    def _read_sweep(self, event: SweepStarted) -> None:
        resumed = self._runs.started
        if resumed:
            self._kill_running(self.state.drivers[-1].last)
        levels = self._levels()
        self.skip(event)
        change = self._change(self._runs.sweep())
        if resumed:
            for run in self._runs.groups():
                self._change(run).set_status("RUNNING")
            if levels != self._levels():
                self._move_all()
                self._fill(levels, event.time)
        else:
            fixed = params(self.config).items()
            change.params = {key: text for key, text in fixed if not key.startswith(CHANGING)}
        change.tags["supersnn.code"] = str(event.code)
        self._add_config(change)
        change.files["environment.json"] = json.dumps(event.versions, indent=1, sort_keys=True)

    def _add_config(self, change: Change) -> None:
        change.files["config.yaml"] = yaml.safe_dump(dict(self.config), sort_keys=False)

    def _read_request(self, event: RequestTaken) -> None:
        before = self.config
        self.skip(event)
        if self.config is not before:
            self._add_config(self._change(self._runs.sweep()))

    def _levels(self) -> tuple[bool, bool]:
        """Return whether there are runs of data sets, and of replicates."""
        return len(self.state.datasets) > 1, self.state.replicates > 1

    def _move_all(self) -> None:
        """Give every trial and verification a change, which moves its run below its parent as of now."""
        for (search, number), _ in self.state.trials():
            self._change(self._runs.trial(search, number))
        for record in self.state.searches.values():
            for runs in record.verified.values():
                for run in runs.values():
                    if self.state.trial(record.name, run.trial) is not None:
                        self._change(self._runs.verification(run))

    def _fill(self, before: tuple[bool, bool], time: float) -> None:
        """Give the runs of data sets and of replicates that there were not `before` what their trials add up to."""
        datasets, replicates = (now and not earlier for now, earlier in zip(self._levels(), before, strict=True))
        searches = [search for search in self.state.searches.values() if search.trials]
        for search in searches if replicates else ():
            run = self._runs.search(search.name)
            self._add_counts(run, [search], time)
            self._add_verified(run, [search], time)
            if search.winner is not None:
                self._change(run).tags["supersnn.winner"] = str(search.winner.trial)
        for label in dict.fromkeys(search.dataset for search in searches) if datasets else ():
            of_dataset = [search for search in searches if search.dataset == label]
            self._tag_split(label)
            self._add_counts(self._runs.dataset(label), of_dataset, time)
            if any(search.final_runs() for search in of_dataset):
                self._add_best(of_dataset[0], time)

    def _tag_split(self, label: str | None) -> None:
        """Tag the sweep, or one of several data sets, with its split's fingerprint, as far as it is known."""
        if (split := self.state.split_of(label)) is not None:
            change = self._change(self._runs.dataset(label))
            change.tags["supersnn.split"] = split
            data = self.state.data_of(label)
            name = data.dataset if data is not None and data.dataset else params(self.config).get("dataset.name")
            change.dataset = Dataset(name, split) if name else None

    def _read_split(self, event: DatasetSplit | TeacherTrained) -> bool:
        """Tag the sweep, or a data set, with the split's fingerprint, from the first event that has it."""
        label = event.label if isinstance(event, DatasetSplit) else event.dataset
        known = self.state.split_of(label)
        new = self.state.apply(event)
        if known is None:
            self._tag_split(label)
        return new

    def _read_teacher(self, event: TeacherTrained) -> None:
        if self._read_split(event):
            facts = {"val_accuracy": event.val_accuracy, "parameters": event.parameters, "seconds": event.seconds}
            points = {f"teacher/{event.name}/{name}": value for name, value in facts.items()}
            self._change(self._runs.dataset(event.dataset)).add_points(points, event.time, event.replicate)

    def _read_start(self, event: TrialStarted) -> None:
        name = self.state.search_name(event)
        known = self.state.trial(name, event.trial)
        self.state.apply(event)
        if known is not None:
            self._change(self._runs.trial(name, event.trial)).set_status("RUNNING")
            return
        search = self.state.searches[name]
        if len(search.trials) == 1:
            described = (self.config.get("arms") or {}).get(event.arm) or {}
            for run in self._runs.above(name):
                self._change(run)
            self._change(self._runs.arm(name)).params = params(described)
        self._describe(self._runs.trial(name, event.trial), event.config, search)
        self._label(search, search.trials[event.trial])

    def _read_epoch(self, event: EpochReported) -> None:
        new = self.state.apply(event)
        run = self._runs.trial(self.state.search_name(event), event.trial)
        if new:
            first = {VAL_ACCURACY.key: event.metrics.get(VAL_ACCURACY.key)}
            self._change(run).add_points(first | event.metrics, event.time, event.epoch)
            for name, value in (event.place or {}).items():
                self._change(run).tags[f"supersnn.{name}"] = value

    def _read_end(self, event: TrialEnded) -> None:
        new = self.state.apply(event)
        name = self.state.search_name(event)
        run = self._runs.trial(name, event.trial)
        if not new:
            return
        change = self._change(run)
        change.tags["supersnn.end"] = event.end
        change.set_status("FAILED" if event.state == "failed" else "FINISHED", event.time)
        search = self.state.searches[name]
        trial = search.trials[event.trial]
        if self.state.constraints and trial.metrics:
            change.tags["supersnn.feasible"] = "yes" if trial.feasible else "no"
        files = (traceback_name(trial.starts), TRACEBACK)  # earlier versions had one name for all attempts
        tracebacks = [self.folder / TRIALS / name / str(event.trial) / file for file in files]
        if change.status == "FAILED" and (found := next(filter(Path.is_file, tracebacks), None)) is not None:
            change.tags["supersnn.traceback"] = self._name(found)
        self._count(search, event.time)

    def _read_verified(self, event: WinnerVerified) -> None:
        new = self.state.apply(event)
        run = self._runs.verification(event)
        if not new:
            return
        search = self.state.search_of(event)
        self._describe(run, event.config, search)
        change = self._change(run)
        layers = {f"spikes/rate/{layer}": rate for layer, rate in (event.rates or {}).items()}
        change.add_points(event.metrics | layers, event.time, event.config.get("train.epochs", 0))
        change.set_status("FAILED" if end_state(event.ended) == "failed" else "FINISHED", event.time)
        self._average(search, event.time)

    def _read_winner(self, event: WinnerChosen) -> None:
        name = self.state.search_name(event)
        winner = self.state.search(name).winner
        before = None if winner is None else winner.trial
        self.state.apply(event)
        run = self._runs.trial(name, event.trial)
        if before is not None and before != event.trial and self.state.trial(name, before) is not None:
            self._change(self._runs.trial(name, before)).tags["supersnn.winner"] = "no"
        self._change(run).tags["supersnn.winner"] = "yes"
        self._change(self._runs.search(name)).tags["supersnn.winner"] = str(event.trial)

    def _read_export(self, event: WinnerExported) -> None:
        self.state.apply(event)
        folder = self._export_folder(event.folder)
        search = self.state.search_of(event)
        self._change(self._runs.arm(search.name)).tags["supersnn.export"] = self._name(folder)
        test, validation = summary([search]).get("test/mean"), search.validation(self._by_search)
        verified = next((run for run in search.final_runs() if run.seed == event.seed), None)
        if verified is not None and test is not None:
            label = search.dataset if len(self.state.datasets) > 1 else None
            export = Export(folder, validation, test, self._name(folder), label)
            self._change(self._runs.verification(verified)).exports.append(export)

    def _read_look(self, event: PrecisionLooked) -> None:
        """Tag the sweep with all looks, as long as a tag holds them: intervals and p values depend on them."""
        self.state.apply(event)
        plain = [look.model_dump(mode="json", exclude={"event"}) for look in self.state.looks]
        if len(text := json.dumps(plain, separators=(",", ":"))) <= LONGEST_TAG:
            self._change(self._runs.sweep()).tags["supersnn.looks"] = text

    def _export_folder(self, written: str) -> Path:
        """Return an export folder; absolute ones of schema 1 may be from before the store was moved."""
        folder = self.folder / written
        moved = self.folder / "best" / folder.name  # schema 1 knew one data set only
        return moved if folder.parts[-3:-1] == moved.parts[-3:-1] else folder

    def _name(self, path: Path) -> str:
        """Return a path relative to the store, which may be moved; one that is outside of it as it is."""
        store = self.folder.parent.parent
        return path.relative_to(store).as_posix() if path.is_relative_to(store) else str(path)

    def _read_close(self, event: SweepClosed) -> None:
        self._kill_running(event.time)
        self.state.apply(event)
        every = self.state.searches.values()
        self._add_costs(event.time, sum(one.ended + len(one.final_runs()) for one in every) + len(self.state.drivers))
        for run in reversed(list(self._runs.groups())):
            self._change(run).set_status(ON_CLOSE[event.end], event.time)
        if event.end == "done" and any(search.verified for search in self.state.searches.values()):
            self._change(self._runs.sweep()).report = self.folder

    def _kill_running(self, time: float) -> None:
        """Mark the trials under way as KILLED: their driver has closed, or was killed and `time` is its last event."""
        for search in self.state.searches.values():
            for number in search.running:
                if number in search.trials and search.trials[number].end is None:
                    self._change(self._runs.trial(search.name, number)).set_status("KILLED", time)

    def _describe(self, run: Run, config: Mapping[str, Any], search: SearchRecord) -> None:
        change = self._change(run)
        change.params = params(config)
        name, split = config.get("dataset.name"), self.state.split_of(search.dataset, search.replicate)
        change.dataset = Dataset(name, split) if name and split else None

    def _label(self, search: SearchRecord, trial: TrialRecord) -> None:
        """Tag an arm with every distinct label of its trials."""
        run = self._runs.arm(search.name)
        if run.key not in self._labels:
            known = self._labels[run.key] = defaultdict(set)
            for replicate in self.state.searches_of(search.arm, search.dataset):
                for other in replicate.trials.values():
                    if other is not trial:
                        for tag, value in labels(other).items():
                            known[tag].add(value)
        for tag, value in labels(trial).items():
            values = self._labels[run.key][tag]
            if value not in values:
                values.add(value)
                self._change(run).tags[tag] = joined(values)

    def _count(self, search: SearchRecord, time: float) -> None:
        """Add counts and best value of a search and of what it belongs to, at as many steps as trials have ended."""
        arm = self.state.searches_of(search.arm, search.dataset)
        dataset = [one for one in self.state.searches.values() if one.dataset == search.dataset]
        self._add_counts(self._runs.search(search.name), [search], time)
        if len(arm) > 1 or self.state.replicates > 1:
            self._add_counts(self._runs.arm(search.name), arm, time)
        self._add_counts(self._runs.dataset(search.dataset), dataset, time)
        every = list(self.state.searches.values())
        if len(self.state.datasets) > 1:
            self._add_counts(self._runs.sweep(), every, time, best=False)
        self._add_costs(time, sum(one.ended for one in every))

    def _add_costs(self, time: float, step: int) -> None:
        """Add what the sweep has taken so far to its run."""
        costs = self.state.costs.row()
        points = {f"cost/{name}": costs[name] for name in ("slot_hours", "gpu_hours")}
        self._change(self._runs.sweep()).add_points(points, time, step)

    def _add_counts(self, run: Run, searches: list[SearchRecord], time: float, best: bool = True) -> None:
        """Add how many trials there were; `best`: and their best value, which only means something on one data set."""
        values = [search.best_value for search in searches if best and search.best_value is not None]
        counts = {"trials/started": sum(len(search.trials) for search in searches)}
        counts |= {f"trials/{end}": sum(search.counts[end] for search in searches) for end in searches[0].counts}
        ended = sum(search.ended for search in searches)
        self._change(run).add_points({"val/best": max(values, default=None), **counts}, time, ended)

    @property
    def _by_search(self) -> bool:
        """Whether winners are compared by their values in the search; see `SearchRecord.validation`."""
        return (self.config.get("verify") or {}).get("train_on", "train") != "train"

    def _average(self, search: SearchRecord, time: float) -> None:
        """Add the verified results of a search and its arm, and those of its data set's best arm by validation."""
        self._add_verified(self._runs.search(search.name), [search], time)
        if self.state.replicates > 1:
            arm = self.state.searches_of(search.arm, search.dataset)
            self._add_verified(self._runs.arm(search.name), arm, time, replicated=True)
        self._add_best(search, time)

    def _add_verified(self, run: Run, searches: list[SearchRecord], time: float, replicated: bool = False) -> None:
        """Add verified results to the run of a search, or of an arm with its replicates."""
        seeds = sum(len(accuracies(search)) for search in searches)
        self._change(run).add_points(summary(searches, replicated) | mean_costs(searches), time, seeds)

    def _add_best(self, search: SearchRecord, time: float) -> None:
        """Add to the run of a search's data set the results of its best arm."""
        best = self.state.best_search(self._by_search, search.dataset) or search
        change = self._change(self._runs.dataset(search.dataset))
        change.tags["supersnn.best_arm"] = best.arm
        best_arm = self.state.searches_of(best.arm, best.dataset)
        verified = [one for one in self.state.searches.values() if one.dataset == search.dataset]
        seeds = sum(len(accuracies(one)) for one in verified)
        change.add_points(summary(best_arm, self.state.replicates > 1), time, seeds)
