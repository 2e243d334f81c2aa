"""The driver's side of a search, the same on Ray and in process: suggests trials, takes reports, records events."""

import time
from collections.abc import Callable
from pathlib import Path

from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.networks.build import family
from supersnn.records.events import AnyEvent, EpochReported, TrialEnded, TrialStarted
from supersnn.records.failure_events import AttemptFailed
from supersnn.records.metrics import VAL_ACCURACY, feasible, judged
from supersnn.records.pairing import pairing
from supersnn.records.searches import split_key
from tune.description.searches import PlannedSearch
from tune.description.sweep import SweepConfig
from tune.search.arm_study import Assignment, Outcome
from tune.search.budget import Budget
from tune.search.messages import CHECKPOINTS, TRIALS, Job, Report, traceback_name
from tune.search.pruning import rungs
from tune.search.studies import Studies
from tune.storage import Storage
from tune.sweep_record import SweepRecord


class Search:
    """One search under way: the studies decide, the record remembers.

    An epoch is in the journal before the study has it, so that the journal never lacks an epoch that the study counts.

    Attributes:
        studies: the source of truth about what runs next.
        halted: why the search was ended early, None while it was not.
        gpus: how many each trial takes; the executor sets it.
        left: whether it was ended early by `leave`.
        poll: is called often, in the driver's own thread, while trials run.
    """

    def __init__(
        self,
        studies: Studies,
        record: SweepRecord,
        budget: Budget,
        folder: Path,
        storage: Storage,
        token: str,
    ) -> None:
        self.studies = studies
        self._record, self._budget = record, budget
        self._folder, self._storage, self._token = folder, storage, token
        self._sweep = storage.name(folder)
        self._running: dict[str, Assignment] = {}
        self._held: dict[str, tuple[float, bool]] = {}
        self.halted: UserError | None = None
        self.gpus: float | None = None
        self.poll: Callable[[], None] = lambda: None
        self.left = False

    @property
    def settings(self) -> SweepConfig:
        """The sweep as it is now: some of its keys may change while it runs."""
        return self._budget.sweep

    def leave(self) -> None:
        """End the search early, to be begun again: what is under way is requeued, and resumes after its last epoch."""
        self.left = True
        for key in list(self._running):
            self.requeue(key)

    def next_job(self, ready: Callable[[PlannedSearch], bool] = lambda _: True) -> Job | None:
        """Return the next trial to run, None where there is none now, or the budget is spent.

        Where `held` names trials, one of them is the next after a while.

        Args:
            ready: whether a trial of a search can run now; see `Studies.next`.
        """
        if self.halted is None and (complaint := self._budget.disk_full()):
            self.halted = UserError(complaint)
        if self.halted is not None or self.left:
            return None
        self._release()
        assignment = self.studies.next(self._budget.spent() is None, ready)
        if assignment is None:
            return None
        key = assignment.key
        self._running[key] = assignment
        self._record.write(_started(assignment, self._recorded_epochs(key), self.gpus))
        return Job(
            key=key,
            config=assignment.config.model_dump(mode="json"),
            seeds=assignment.search.seeds,
            folder=self._trial_folder(key),
            sweep=self._sweep,
            store=self._storage.address,
            token=self._token,
            reported=assignment.reported,
            save_every=assignment.search.sweep.checkpoint.seconds,
            rungs=rungs(assignment.search.sweep),
            attempt=self._starts(key),
        )

    def reported(self, key: str, report: Report) -> bool:
        """Take an epoch of a trial, and record it unless it is already; return whether the trial is to stop.

        A trial that has ended, and was started again because its worker was lost just then, is to stop. So is one of an
        arm that is paused: it is requeued here, not before, as nobody else may train it while its worker does.
        """
        if not self.is_running(key):
            return True
        if report.epoch > self._recorded_epochs(key):
            name, number = split_key(key)
            metrics: dict[str, float | None] = dict(report.metrics)
            place = self.studies.searches[name].place
            event = EpochReported(**place, trial=number, epoch=report.epoch, metrics=metrics, place=report.place)
            self._record.write(event)
        stop = self.studies.report(key, report.epoch, report.metrics)
        if report.ended is not None or stop:
            self.ended(key, report.ended or "stopped")
            return True
        if self.studies.wishes.paused(split_key(key)[0]):
            self.requeue(key)
            return True
        return False

    def ended(self, key: str, end: str, node: str | None = None) -> None:
        """Close a trial once: ``finished``, ``stopped`` or ``failed:REASON``; a second call changes nothing.

        Its checkpoints are removed: a winner is trained again from its seed, so that none is needed any more. The
        tracebacks of attempts that were got over are removed too.

        Args:
            key, end: which trial, and how.
            node: the machine on which it has failed, where that need not be the one of its last epoch.
        """
        if self._running.pop(key, None) is None:
            return
        self.studies.finish(key, end)
        self._remove_tracebacks(key)
        self._write_end(key, end, node=node)
        self._remove_checkpoints(key)

    def requeue(self, key: str, set_back: bool = False, wait: float = 0.0) -> None:
        """Take a trial back that cannot go on where it was sent; it is the next to be suggested, or the last.

        `wait`: it is not suggested before so many seconds.
        """
        if wait > 0 and key in self._running:
            self._held[key] = time.monotonic() + wait, set_back
            return
        self._held.pop(key, None)
        if self._running.pop(key, None) is not None:
            self.studies.requeue(key, set_back)

    @property
    def held(self) -> list[str]:
        """The trials that are to be tried again, and not yet; none where nothing more is begun."""
        return list(self._held) if self.halted is None else []

    def _release(self) -> None:
        """Requeue the trials that have been held for long enough."""
        for key, (due, set_back) in list(self._held.items()):
            if time.monotonic() >= due:
                self.requeue(key, set_back)

    def attempt_failed(self, key: str, number: int, kind: str, reason: str, node: str | None) -> None:
        """Record that a trial's attempt has failed; see `AttemptFailed`. Nothing where it is not under way."""
        if not self.is_running(key):
            return
        name, trial = split_key(key)
        self._record.write(
            AttemptFailed(
                **self.studies.searches[name].place,
                trial=trial,
                attempt=number,
                kind=kind,
                reason=reason,
                node=node,
                epochs=self._recorded_epochs(key),
            )
        )

    def waits(self, reason: str) -> None:
        """Record what the driver waits for; see `SweepRecord.waits`."""
        self._record.waits(reason)

    def slowest_epoch(self, key: str) -> float | None:
        """Return the seconds of the slowest epoch so far of a trial's search; None before any."""
        return self._record.state.search(split_key(key)[0]).slowest

    def comparable(self, key: str) -> str:
        """Return what a trial's times can be compared by: its kind of training, and its GPU."""
        trial = self._record.state.trial(*split_key(key))
        return "" if trial is None else trial.timed_as

    def halt(self, reason: UserError) -> None:
        """End the search at once: what is under way is requeued, for the next driver to continue."""
        self.halted = self.halted or reason
        for key in list(self._running):
            self.requeue(key)

    @property
    def over(self) -> bool:
        """Whether it was ended early, and nothing of it is under way."""
        return self.left or (self.halted is not None and not self._running)

    def is_running(self, key: str) -> bool:
        """Return whether a trial is under way."""
        return key in self._running and key not in self._held

    def store_full(self, text: str) -> UserError | None:
        """Return the error that ends the search where the full disk that a worker met is the store's, else None.

        Args:
            text: the worker's error.
        """
        if str(self._folder) not in text and not self._budget.store_full():
            return None
        return UserError(f"{self._folder}: the disk is full; free some space and rerun the same command")

    def reconcile(self) -> None:
        """Record the end of each trial that has ended in the studies, but not in the journal.

        A trial that the journal does not know, because the line of its start is damaged, is started there again.
        """
        for key, outcome in self.studies.ended().items():
            trial = self._record.state.trial(*split_key(key))
            if trial is None:
                self._record.write(_started(self._assignment(key), recorded=0, gpus=None))
            if trial is None or trial.end is None:
                self._write_end(key, outcome.end, outcome)
        self.tidy()

    def tidy(self) -> None:
        """Remove the checkpoints of all trials that have ended, while no trial runs, and wait until they are gone.

        A worker may still be writing one when its trial is ended: it lands after the trial's own removal.
        """
        left_behind = self._storage.folders(f"{self._sweep}/{TRIALS}")
        for key in left_behind & self.studies.ended().keys():
            self._remove_checkpoints(key)
        self._storage.flush()

    def _assignment(self, key: str) -> Assignment:
        """Return a trial as the studies have it."""
        name, number = split_key(key)
        values, config = self.studies.values(name, number), self.studies.config(name, number)
        return Assignment(self.studies.searches[name], number, values, config, 0)

    def _recorded_epochs(self, key: str) -> int:
        trial = self._record.state.trial(*split_key(key))
        return 0 if trial is None else trial.epochs

    def _starts(self, key: str) -> int:
        trial = self._record.state.trial(*split_key(key))
        return 0 if trial is None else trial.starts

    def _trial_folder(self, key: str) -> str:
        """The name of the folder with a trial's checkpoints and its tracebacks."""
        return f"{self._sweep}/{TRIALS}/{key}"

    def _remove_checkpoints(self, key: str) -> None:
        self._storage.remove_later(self._trial_folder(key), CHECKPOINTS)

    def _remove_tracebacks(self, key: str) -> None:
        """Remove the tracebacks of a trial's attempts before the last one."""
        for attempt in range(1, self._starts(key)):
            self._storage.remove_later(self._trial_folder(key), f"{traceback_name(attempt)}*")

    def _write_end(self, key: str, end: str, outcome: Outcome | None = None, node: str | None = None) -> None:
        """Record a trial's end with what the record has of its last epoch, or where it has nothing, the study."""
        name, number = split_key(key)
        trial = self._record.state.trial(name, number)
        epochs, metrics = (0, {}) if trial is None else (trial.epochs, trial.metrics)
        value = judged(metrics).get(VAL_ACCURACY.key)
        within = feasible(metrics, self._record.state.constraints) if metrics else None
        if not metrics and outcome is not None:
            value, within = outcome.value, outcome.feasible
        place = self.studies.searches[name].place
        ended = TrialEnded(**place, trial=number, end=end, epochs=epochs, value=value, feasible=within, node=node)
        self._record.write(ended)


def _started(assignment: Assignment, recorded: int, gpus: float | None) -> AnyEvent:
    """Return the event of a trial that is sent to a worker now, of which the journal has so many epochs."""
    student, teacher = assignment.config.student.architecture, assignment.config.teacher.name
    student_family, teacher_family = family(student), family(teacher) if teacher else None
    return TrialStarted(
        **assignment.search.place,
        trial=assignment.number,
        config=flatten(assignment.config),
        params=assignment.values,
        resumed_at=recorded,
        gpus=gpus,
        student_family=student_family,
        teacher_family=teacher_family,
        pairing=pairing(student_family, teacher_family),
        request=assignment.request,
    )
