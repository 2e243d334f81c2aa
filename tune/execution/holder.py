"""Packs on Ray: for each GPU one process that holds the images and runs the trials, and thin clients, one a trial.

A client is a trial's actor with its share of the GPU; it asks the holder of its GPU for one epoch after the other. The
keeper (`keeper.py`) starts the holders. A client imports nothing that trains.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Literal

import ray

from tune.execution.failures import failure_of, lost_worker
from tune.execution.progress import FIRST_EPOCH

ABANDONED = 300.0
"""Seconds after which a trial whose client has not asked for its next epoch is dropped: the client was lost."""
TURNS = 9
"""A turn may last so many times the longest one so far: less than the driver allows of the longest epochs."""
SIGN_EVERY = 10.0
"""Seconds without a report after which a trial that waits for a place, or repeats epochs, gives a sign."""
CALLS = 64
"""Calls that a holder answers at once: each client waits in one."""


class HolderLost(ray.exceptions.RayError):
    """A holder is gone, or hangs, and all its trials are lost at once, by no fault of theirs.

    Attributes:
        holder: which one, the same for all its clients; empty until a client has noted it.
    """

    def __init__(self, text: str, holder: str = "") -> None:
        super().__init__(text, holder)
        self._text, self.holder = text, holder

    def __str__(self) -> str:
        return self._text


class TrialLost(ray.exceptions.WorkerCrashedError):
    """A trial is not in its holder any more: as where a worker was lost, it is no fault of its."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return self._text


class Holder:
    """Runs the packed trials of one GPU in a thread; the methods are called by clients."""

    def __init__(self, pack: int | Literal["auto"], device: str, stall: float) -> None:
        from tune.execution.pack import Pack
        from tune.execution.places import Places
        from tune.execution.trial import TrialRunner

        self._device, self._stall = device, stall
        self._runner, self._pack = TrialRunner(device), Pack(Places(pack, device), self._repeated)
        self._reports: dict[str, SimpleQueue[Any]] = {}
        self._asked: dict[str, float] = {}
        self._changed = threading.Condition()
        self._turn_began: float | None = None
        self._begun: set[str] = set()
        self._proven: set[str] = set()
        self._longest = 0.0
        threading.Thread(target=self._work, daemon=True).start()

    def tune(self, stall: float) -> None:
        """Take another `resources.stall`."""
        self._stall = stall

    def alive(self) -> bool:
        """Return that this process answers.

        Raises:
            HolderLost: a turn lasts so long that its training hangs: somewhat less than the driver waits for a report.
        """
        seconds, turn_of = self._turn()
        usual = max(self._stall - 3 * SIGN_EVERY, self._stall / 2)
        if seconds > max(usual if turn_of in self._proven else FIRST_EPOCH * usual, TURNS * self._longest):
            raise HolderLost(f"a training has hung for {seconds:.0f} s in the process of its GPU")
        return True

    def _turn(self) -> tuple[float, str | None]:
        """Return for how many seconds a turn has lasted, and whose it is."""
        began, turn_of = self._turn_began, self._pack.turn_of
        return (0.0, None) if began is None else (time.monotonic() - began, turn_of)

    @contextmanager
    def _between_turns(self, within: float | None = None) -> Iterator[bool]:
        """Hold the lock, which a turn has, unless that takes longer; yield whether it is held.

        Raises:
            HolderLost: the turn hangs.
        """
        began = time.monotonic()
        while not (held := self._changed.acquire(timeout=1.0)):
            self.alive()
            if within is not None and time.monotonic() - began > within:
                break
        try:
            yield held
        finally:
            if held:
                self._changed.release()

    def fault(self) -> str | None:
        """Return why trials cannot run here, None where they can."""
        if self._device != "cuda":
            return None
        from supersnn.gpus import gpu_fault

        return gpu_fault(0)

    def start(self, job: Mapping[str, Any]) -> None:
        """Take a trial in; one of the same name, of a client that was lost, is dropped."""
        from functools import partial

        from tune.search.messages import Job

        plain = Job(**job)
        with self._between_turns():
            self._drop(plain.key)
            self._reports[plain.key], self._asked[plain.key] = SimpleQueue(), time.monotonic()
            self._pack.add(plain.key, partial(self._runner.run_in_parts, plain))
            self._changed.notify()

    def next(self, key: str) -> str | None:
        """Train a trial for an epoch, and return its report as JSON; None where it waits, or repeats epochs, for long.

        Raises:
            TrialLost: it is not here any more.
            HolderLost: a training hangs.
            Exception: what the training has raised.
        """
        began, reports = time.monotonic(), self._reports.get(key)
        if key in self._asked:
            self._asked[key] = began
        if reports is None or reports.empty():  # else one came after a sign, and the next epoch is not asked for yet
            with self._between_turns(SIGN_EVERY) as held:
                if not held:  # the turn of another trial, which loads its data for instance
                    return None
                if (reports := self._reports.get(key)) is None:
                    raise TrialLost(f"{key} was dropped, as its worker had not asked for {ABANDONED:.0f} s")
                if reports.empty():
                    self._pack.held.discard(key)
                self._asked[key] = time.monotonic()
                self._changed.notify()
        while True:
            try:
                outcome = reports.get(timeout=SIGN_EVERY)
            except Empty:
                self.alive()
                seconds, turn_of = self._turn()
                if self._pack.waits(key) or (seconds >= SIGN_EVERY and turn_of != key):
                    return None
                continue
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                return str(outcome)
            if time.monotonic() - began >= SIGN_EVERY:
                return None

    def _repeated(self, key: str) -> None:
        """Take a sign that a trial has repeated an epoch."""
        self._proven.add(key)
        self._reports[key].put(None)

    def stop(self, key: str) -> None:
        """Drop a trial, if it is still here."""
        with self._between_turns():
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._pack.remove(key)
        self._pack.held.discard(key)
        self._asked.pop(key, None)
        self._begun.discard(key)
        self._proven.discard(key)
        if (reports := self._reports.pop(key, None)) is not None:
            reports.put(TrialLost(f"{key} was stopped"))

    def _work(self) -> None:
        """Let the trials take their turns; those whose clients have not asked for more are held."""
        while True:
            with self._changed:
                for key in [key for key in self._pack.held if time.monotonic() - self._asked[key] > ABANDONED]:
                    self._drop(key)
                if not self._pack.ready():
                    self._changed.wait(timeout=1.0)
                    continue
                self._turn_began = began = time.monotonic()
                happened = self._pack.turn()
                self._turn_began = None
                self._learn(time.monotonic() - began)
                if happened is not None:
                    self._take(*happened)
            time.sleep(0)  # the clients' calls

    def _learn(self, seconds: float) -> None:
        """Take the time of a turn; the first one of a trial downloads and compiles."""
        if (key := self._pack.turn_of) in self._begun:
            self._longest = max(self._longest, seconds)
        elif key is not None:
            self._begun.add(key)

    def _take(self, key: str, outcome: Any) -> None:
        from tune.search.messages import Report

        if isinstance(outcome, Report):
            self._pack.held.add(key)
            self._proven.add(key)
            self._reports[key].put(json.dumps(vars(outcome)))
            return
        self._reports[key].put(self._told(outcome.error))  # its client may ask later, after a sign
        if self._device == "cuda":
            _require_context()

    def _told(self, error: Exception) -> Exception:
        """Return what a client is told; an error that ends this process may be that of another of its trials."""
        failure = failure_of(error)
        if failure.fatal and self._pack.running:
            return HolderLost(f"a training has failed in the process of its GPU: {failure.text}")
        return error


def _require_context() -> None:
    """End this process where an error has destroyed its context on the GPU: nothing more could run in it."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        time.sleep(1.0)  # for the error to reach its client
        os._exit(1)


class Client:
    """A trial's side: one trial at a time, in the holder of this process's GPU."""

    def __init__(self, keeper: Any) -> None:
        context = ray.get_runtime_context()
        gpus = tuple(str(number) for number in ray.get_gpu_ids())
        self.node = context.get_node_id()
        self._holder = ray.get(keeper.holder.remote(self.node, gpus))
        self._id = self._holder._actor_id.hex()
        self._key: str | None = None

    def _answer(self, asked: Any) -> Any:
        """Return the holder's answer.

        Raises:
            HolderLost: it is gone, or hangs.
            Exception: what the training has raised.
        """
        try:
            return ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, HolderLost):
                raise HolderLost(str(error.cause), self._id) from error
            raise
        except ray.exceptions.RayError as error:
            text = lost_worker(str(error)).text
            raise HolderLost(f"the process of its GPU was lost: {text}", self._id) from error

    def fault(self) -> str | None:
        """Return why trials cannot run on this process's GPU."""
        return str(found) if (found := self._answer(self._holder.fault.remote())) else None

    def start(self, job: Mapping[str, Any]) -> None:
        """Start a trial instead of the last one."""
        self.stop()
        self._key = str(job["key"])
        self._answer(self._holder.start.remote(dict(job)))

    def next(self) -> str | None:
        """Return the report of the trial's next epoch as JSON; None as a sign, see `Holder.next`.

        Raises:
            HolderLost: the holder is gone, or hangs.
            Exception: what the training has raised.
        """
        report = self._answer(self._holder.next.remote(self._key))
        return None if report is None else str(report)

    def stop(self) -> None:
        """Drop the trial."""
        key, self._key = self._key, None
        if key is not None:
            try:
                ray.get(self._holder.stop.remote(key), timeout=60)
            except ray.exceptions.RayError:
                return  # the holder is gone, and the trial with it
