"""The driver's side of a search, the same on Ray and in process: hand trials out, take reports, keep the journal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supersnn.config_model import flatten
from supersnn.errors import UserError
from tune.journal import Journal
from tune.search.arm_study import END, Assignment
from tune.search.budget import Budget
from tune.search.studies import Studies, split_key
from tune.storage import Storage

TRIALS = "trials"
"""The sweep's folder with a folder ARM/N for each trial."""
OWNER, TRACEBACK, CHECKPOINTS = "owner", "traceback.txt", "checkpoint-*"
NO_ROOM = "No space left on device"


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a trial: plain values only, so that it travels anywhere.

    `config` is trained once for each of `seeds`; the first `reported` epochs of all of them are known already. `store`
    is the address of the storage that driver and workers share (`storage.storage_at`); `folder` of the trial and
    `sweep` are names in it.
    """

    key: str
    config: dict[str, Any]
    seeds: tuple[int, ...]
    folder: str
    sweep: str
    store: str
    token: str
    reported: int = 0


@dataclass(frozen=True)
class Report:
    """One epoch of a trial, in plain values; `ended` is None while the training goes on."""

    epoch: int
    metrics: dict[str, float]
    ended: str | None


class Search:
    """One search under way: the studies decide, the journal remembers, a listener may watch.

    A report is written to the journal before the study hears of it, so that the journal never misses an epoch that the
    study counts; `known` are the epochs of interrupted trials that it has. After the search `halted` says why it was
    cut short, if it was.
    """

    def __init__(
        self,
        studies: Studies,
        journal: Journal,
        budget: Budget,
        folder: Path,
        storage: Storage,
        token: str,
        seeds: tuple[int, ...],
        known: Mapping[str, int],
        watch: Callable[[str, Mapping[str, Any]], None] = lambda event, fields: None,
    ) -> None:
        self.studies = studies
        self._journal, self._budget, self._watch = journal, budget, watch
        self._folder, self._storage, self._token, self._seeds = folder, storage, token, seeds
        self._sweep = storage.name(folder)
        self._known = dict(known)
        self._running: dict[str, Assignment] = {}
        self._last: dict[str, tuple[int, float | None]] = {}
        self.halted: UserError | None = None

    def next_job(self) -> Job | None:
        """Hand out the next trial, or None when there is none left or the budget is spent."""
        if self.halted is None and (complaint := self._budget.disk_full()):
            self.halted = UserError(complaint)
        if self.halted is not None:
            return None
        assignment = self.studies.next(new=self._budget.exhausted() is None)
        if assignment is None:
            return None
        key = assignment.key
        self._running[key] = assignment
        self._last[key] = assignment.reported, None
        self._storage.remove(self._trial(key), f"{TRACEBACK}*")  # of an earlier attempt
        config = flatten(assignment.config)
        self._write("start", key, config=config, params=assignment.values, resumed_at=assignment.reported)
        return Job(
            key=key,
            config=assignment.config.model_dump(mode="json"),
            seeds=self._seeds,
            folder=self._trial(key),
            sweep=self._sweep,
            store=self._storage.address,
            token=self._token,
            reported=assignment.reported,
        )

    def _trial(self, key: str) -> str:
        """The name of the folder with a trial's checkpoints and its traceback."""
        return f"{self._sweep}/{TRIALS}/{key}"

    def reported(self, key: str, report: Report) -> bool:
        """Take a trial's epoch; return whether the trial is to stop. What is known already is not taken twice.

        A trial that has ended, and was begun again because its worker was lost just then, is to stop.
        """
        if key not in self._running:
            return True
        if report.epoch > self._known.get(key, 0):
            self._write("epoch", key, epoch=report.epoch, metrics=report.metrics)
            self._known[key] = report.epoch
            self._budget.spend(report.metrics)
        stop = self.studies.report(key, report.epoch, report.metrics)
        self._last[key] = report.epoch, report.metrics.get("val/accuracy")
        if report.ended is not None or stop:
            self.ended(key, report.ended or "stopped")
        return stop or report.ended is not None

    def ended(self, key: str, end: str) -> None:
        """Close a trial once: ``finished``, ``stopped`` or ``failed:REASON``; a second call changes nothing.

        Its checkpoints go: a winner is trained again from its seed, so none is needed any more.
        """
        if self._running.pop(key, None) is None:
            return
        epochs, value = self._last.pop(key)
        self.studies.finish(key, end)
        self._write("end", key, end=end, epochs=epochs, value=value)
        self._tidy(key)

    def requeue(self, key: str) -> None:
        """Take a trial back that could not begin where it was sent; it is the next to be handed out."""
        if self._running.pop(key, None) is not None:
            del self._last[key]
            self.studies.requeue(key)

    def halt(self, reason: UserError) -> None:
        """Come to a halt at once: what is under way is handed back, for the next driver to go on with."""
        self.halted = self.halted or reason
        for key in list(self._running):
            self.requeue(key)

    def failed(self, key: str) -> None:
        """Close a trial whose worker gave up, with the reason that it left behind, if any.

        A full disk is no fault of the trial: it stays interrupted, and the search comes to a halt.
        """
        if key not in self._running:
            return
        trace = self._storage.fetch(f"{self._trial(key)}/{TRACEBACK}")
        lines = trace.read_text(encoding="utf-8").strip().splitlines() if trace.exists() else []
        if lines and NO_ROOM in lines[-1]:
            self.halted = UserError(f"{self._folder}: the disk is full; make room, then give the same command again")
            return
        self.ended(key, f"failed:{lines[-1][:300] if lines else 'the worker died'}")

    def reconcile(self, ended_in_journal: set[str]) -> None:
        """Write the end of each trial that the studies know as ended and the journal does not."""
        left_behind = self._storage.folders(f"{self._sweep}/{TRIALS}")
        for key, trial in self.studies.ended().items():
            if key not in ended_in_journal:
                end = trial.user_attrs.get(END, "stopped" if trial.state.name == "PRUNED" else "failed:unknown")
                value = trial.values[0] if trial.values else None
                self._write("end", key, end=end, epochs=self._known.get(key, 0), value=value)
            if key in left_behind:
                self._tidy(key)

    def _tidy(self, key: str) -> None:
        self._storage.remove(self._trial(key), CHECKPOINTS)

    def _write(self, event: str, key: str, **fields: Any) -> None:
        arm, number = split_key(key)
        fields = {"arm": arm, "trial": number, **fields}
        self._journal.append(event, **fields)
        self._watch(event, fields)
