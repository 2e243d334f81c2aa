"""The driver's side of a search, the same on Ray and in process: hand trials out, take reports, keep the journal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supersnn.config import flatten
from tune.journal import Journal
from tune.studies import END, Assignment, Studies


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a trial: plain values only, so that it travels anywhere."""

    key: str
    config: dict[str, Any]
    folder: str
    sweep: str
    store: str
    token: str
    told: int


@dataclass(frozen=True)
class Report:
    """One epoch of a trial, in plain values; `ended` is None while the training goes on."""

    epoch: int
    metrics: dict[str, float]
    ended: str | None


class Search:
    """One search under way: the studies decide, the journal remembers, a listener may watch.

    A report is written to the journal before the study hears of it, so that the journal never misses an epoch
    that the study counts.
    """

    def __init__(
        self,
        studies: Studies,
        journal: Journal,
        folder: Path,
        store: Path,
        token: str,
        watch: Callable[[str, Mapping[str, Any]], None] = lambda event, fields: None,
    ) -> None:
        self.studies = studies
        self._journal, self._folder, self._store, self._token, self._watch = (
            journal,
            folder,
            store,
            token,
            watch,
        )
        self._running: dict[str, Assignment] = {}
        self._last: dict[str, tuple[int, float | None]] = {}

    def next_job(self) -> Job | None:
        """Hand out the next trial, or None when every arm has had its number."""
        assignment = self.studies.next()
        if assignment is None:
            return None
        key = assignment.key
        self._running[key] = assignment
        self._last[key] = (assignment.told, None)
        self._write(
            "start",
            key,
            config=flatten(assignment.config),
            params=assignment.values,
            resumed_at=assignment.told,
        )
        folder = self._folder / "trials" / key
        plain = assignment.config.model_dump(mode="json")
        return Job(key, plain, str(folder), str(self._folder), str(self._store), self._token, assignment.told)

    def reported(self, key: str, report: Report) -> bool:
        """Take a trial's epoch; return whether the trial is to stop. An epoch that is known already changes nothing."""
        known, _ = self._last[key]
        value = report.metrics.get("val/accuracy")
        stop = False
        if report.epoch > known:
            self._write("epoch", key, epoch=report.epoch, metrics=report.metrics)
            stop = value is not None and self.studies.report(key, report.epoch, value)
        self._last[key] = max(report.epoch, known), value
        if report.ended is not None or stop:
            self.ended(key, report.ended or "stopped")
        return stop or report.ended is not None

    def ended(self, key: str, end: str) -> None:
        """Close a trial once: ``finished``, ``stopped`` or ``failed:REASON``; a second call changes nothing."""
        if self._running.pop(key, None) is None:
            return
        epochs, value = self._last.pop(key)
        self.studies.finish(key, end, value)
        self._write("end", key, end=end, epochs=epochs, value=value)

    def failed(self, key: str) -> None:
        """Close a trial whose worker gave up, with the reason that it left behind, if any."""
        trace = self._folder / "trials" / key / "traceback.txt"
        lines = trace.read_text(encoding="utf-8").strip().splitlines() if trace.exists() else []
        self.ended(key, f"failed:{lines[-1][:300] if lines else 'the worker died'}")

    def reconcile(self, ended_in_journal: set[str]) -> None:
        """Write the end of each trial that the studies know as ended and the journal does not."""
        for key, trial in self.studies.ended().items():
            if key not in ended_in_journal:
                end = trial.user_attrs.get(END, "stopped" if trial.state.name == "PRUNED" else "failed:unknown")
                epochs = len(trial.intermediate_values)
                self._write("end", key, end=end, epochs=epochs, value=trial.value)

    def _write(self, event: str, key: str, **fields: Any) -> None:
        arm, _, number = key.rpartition("/")
        fields = {"arm": arm, "trial": int(number), **fields}
        self._journal.append(event, **fields)
        self._watch(event, fields)
