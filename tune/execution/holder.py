"""Packs on Ray: for each GPU one process that holds the images and runs the trials, and thin clients, one a trial.

A client is a trial's actor with its share of the GPU; it asks the holder of its GPU for one epoch after the other. The
keeper, one process of the driver's, starts the holders, so that they end with the driver. A client imports nothing that
trains.
"""

import json
import os
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ABANDONED = 300.0
"""Seconds after which a trial whose client has not asked for its next epoch is dropped: the client was lost."""
_CALLS = 64
"""Calls that a holder answers at once: each client waits in one."""


class Keeper:
    """Starts the holders, each once, and again where one was lost."""

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
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"} if gpus else {}
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
        self._runner, self._pack = TrialRunner(device), Pack(Places(pack, device))
        self._reports: dict[str, SimpleQueue[Any]] = {}
        self._asked: dict[str, float] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    def alive(self) -> bool:
        """Return that this process answers."""
        return True

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
        with self._changed:
            self._drop(plain.key)
            self._reports[plain.key], self._asked[plain.key] = SimpleQueue(), time.monotonic()
            self._pack.add(plain.key, partial(self._runner.run_in_parts, plain))
            self._changed.notify()

    def next(self, key: str) -> str:
        """Train a trial for an epoch, and return its report as JSON.

        Raises:
            Exception: what the training has raised.
        """
        with self._changed:
            reports = self._reports[key]
            self._pack.held.discard(key)
            self._asked[key] = time.monotonic()
            self._changed.notify()
        outcome = reports.get()
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    def stop(self, key: str) -> None:
        """Drop a trial, if it is still here."""
        with self._changed:
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._pack.remove(key)
        self._pack.held.discard(key)
        self._asked.pop(key, None)
        if (reports := self._reports.pop(key, None)) is not None:
            reports.put(RuntimeError(f"{key} was stopped"))

    def _work(self) -> None:
        """Let the trials take their turns; those whose clients have not asked for more are held."""
        while True:
            with self._changed:
                for key in [key for key in self._pack.held if time.monotonic() - self._asked[key] > ABANDONED]:
                    self._drop(key)
                if not self._pack.ready():
                    self._changed.wait(timeout=1.0)
                    continue
                happened = self._pack.turn()
                if happened is not None:
                    self._take(*happened)
            time.sleep(0)  # the clients' calls

    def _take(self, key: str, outcome: Any) -> None:
        from tune.search.messages import Report

        if isinstance(outcome, Report):
            self._pack.held.add(key)
            self._reports[key].put(json.dumps(vars(outcome)))
            return
        reports = self._reports.pop(key)
        self._asked.pop(key, None)
        reports.put(outcome.error)
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

    def next(self) -> str:
        """Return the report of the trial's next epoch as JSON.

        Raises:
            Exception: what the training has raised, or that the holder was lost.
        """
        return str(ray.get(self._holder.next.remote(self._key)))

    def stop(self) -> None:
        """Drop the trial."""
        key, self._key = self._key, None
        if key is not None:
            try:
                ray.get(self._holder.stop.remote(key), timeout=60)
            except ray.exceptions.RayError:
                return  # the holder is gone, and the trial with it
