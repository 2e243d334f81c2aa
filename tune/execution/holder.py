"""Packs on Ray: for each GPU one process that holds the images and runs the trials, and thin clients, one a trial.

A client is a trial's actor with its share of the GPU; it asks the holder of its GPU for one epoch after the other. The
keeper, one process of the driver's, starts the holders, so that they end with the driver. A client imports nothing that
trains.
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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ABANDONED = 300.0
"""Seconds after which a trial whose client has not asked for its next epoch is dropped: the client was lost."""
HANGS = 1800.0
"""Seconds after which a turn of one trial is taken to hang, and the holder with it; a first turn loads the images."""
SIGN_EVERY = 10.0
"""Seconds without a report after which a trial that waits for a place, or repeats epochs, gives a sign."""
_CALLS = 64
"""Calls that a holder answers at once: each client waits in one."""
_ON_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}
"""A holder takes no GPUs by Ray's count; streams that shared one of CUDA's 8 hardware queues would wait in turn."""


class TrialLost(ray.exceptions.WorkerCrashedError):
    """A trial is not in its holder any more, or its holder hangs: as where a worker was lost, it is no fault of its."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return self._text


class Keeper:
    """Starts the holders, each once, and again where one was lost or hangs."""

    def __init__(self, pack: int | Literal["auto"], device: str) -> None:
        self._pack, self._device = pack, device
        self._holders: dict[tuple[str, tuple[str, ...]], Any] = {}

    def holder(self, node: str, gpus: tuple[str, ...]) -> Any:
        """Return the holder of a node's GPUs (none for its CPUs), by Ray's ids."""
        place = node, gpus
        if place in self._holders:
            try:
                ray.get(self._holders[place].alive.remote(), timeout=60)
                return self._holders[place]
            except ray.exceptions.RayError:
                ray.kill(self._holders[place])
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), **_ON_GPUS} if gpus else {}
        remote = ray.remote(Holder).options(
            num_cpus=0,
            num_gpus=0,
            max_concurrency=_CALLS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **({"runtime_env": {"env_vars": visible}} if visible else {}),
        )
        self._holders[place] = remote.remote(self._pack, self._device)
        return self._holders[place]


class Holder:
    """Runs the packed trials of one GPU in a thread; the methods are called by clients."""

    def __init__(self, pack: int | Literal["auto"], device: str) -> None:
        from tune.execution.pack import Pack
        from tune.execution.places import Places
        from tune.execution.trial import TrialRunner

        self._device = device
        self._runner, self._pack = TrialRunner(device), Pack(Places(pack, device), self._repeated)
        self._reports: dict[str, SimpleQueue[Any]] = {}
        self._asked: dict[str, float] = {}
        self._changed = threading.Condition()
        self._turn_began: float | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def alive(self) -> bool:
        """Return that this process answers.

        Raises:
            TrialLost: a turn lasts so long that its training hangs.
        """
        began = self._turn_began
        if began is not None and (seconds := time.monotonic() - began) > HANGS:
            raise TrialLost(f"a training has hung for {seconds:.0f} s in the process of its GPU")
        return True

    @contextmanager
    def _between_turns(self) -> Iterator[None]:
        """Hold the lock, which a turn has; raise `TrialLost` where that hangs."""
        while not self._changed.acquire(timeout=min(1.0, HANGS)):
            self.alive()
        try:
            yield
        finally:
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
            TrialLost: it is not here any more, or a training hangs.
            Exception: what the training has raised.
        """
        with self._between_turns():
            if (reports := self._reports.get(key)) is None:
                raise TrialLost(f"{key} was dropped, as its worker had not asked for {ABANDONED:.0f} s")
            if reports.empty():  # else it came after a sign, and the next epoch has not been asked for
                self._pack.held.discard(key)
            self._asked[key] = time.monotonic()
            self._changed.notify()
        began = time.monotonic()
        while True:
            try:
                outcome = reports.get(timeout=SIGN_EVERY)
            except Empty:
                self.alive()
                if self._pack.waits(key):
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
        self._reports[key].put(None)

    def stop(self, key: str) -> None:
        """Drop a trial, if it is still here."""
        with self._between_turns():
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._pack.remove(key)
        self._pack.held.discard(key)
        self._asked.pop(key, None)
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
                self._turn_began = time.monotonic()
                happened = self._pack.turn()
                self._turn_began = None
                if happened is not None:
                    self._take(*happened)
            time.sleep(0)  # the clients' calls

    def _take(self, key: str, outcome: Any) -> None:
        from tune.search.messages import Report

        if isinstance(outcome, Report):
            self._pack.held.add(key)
            self._reports[key].put(json.dumps(vars(outcome)))
            return
        self._reports[key].put(outcome.error)  # its client may ask later, after a sign
        if self._device == "cuda":
            _require_context()


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
        self._key: str | None = None

    def fault(self) -> str | None:
        """Return why trials cannot run on this process's GPU."""
        return str(found) if (found := ray.get(self._holder.fault.remote())) else None

    def start(self, job: Mapping[str, Any]) -> None:
        """Start a trial instead of the last one."""
        self.stop()
        self._key = str(job["key"])
        ray.get(self._holder.start.remote(dict(job)))

    def next(self) -> str | None:
        """Return the report of the trial's next epoch as JSON; None as a sign, see `Holder.next`.

        Raises:
            Exception: what the training has raised, or that the holder was lost.
        """
        report = ray.get(self._holder.next.remote(self._key))
        return None if report is None else str(report)

    def stop(self) -> None:
        """Drop the trial."""
        key, self._key = self._key, None
        if key is not None:
            try:
                ray.get(self._holder.stop.remote(key), timeout=60)
            except ray.exceptions.RayError:
                return  # the holder is gone, and the trial with it
