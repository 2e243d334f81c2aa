"""A trial's process on a node: it compares the node with the driver before it imports anything that trains."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import ray.tune

from tune.execution.device import visible_gpus
from tune.execution.failures import Failure, SystemFailure, failure_of
from tune.execution.node_check import NodeMismatch, NodeRequirements, node_mismatch


class Course(Protocol):
    """A way to run one trial after the other: in this process, or packed in another."""

    def start(self, job: Mapping[str, Any]) -> None:
        """Start a trial instead of the last one."""

    def next(self) -> str | None:
        """Return the report of the trial's next epoch as JSON; None where it only waits, or repeats epochs, so far."""
        ...

    def stop(self) -> None:
        """End the trial, which removes its files from this node."""


class Own:
    """Trials in this process; the images stay loaded between them."""

    def __init__(self, device: str, gpus: float) -> None:
        """Run on a device; where that is a part of a GPU, with so much of its memory."""
        import torch

        from tune.execution.trial import TrialRunner

        self._device = device
        if device == "cuda" and 0 < gpus < 1:
            torch.cuda.set_per_process_memory_fraction(gpus)
        self._runner = TrialRunner(device)
        self._parts: Any = None

    def start(self, job: Mapping[str, Any]) -> None:
        """Start a trial instead of the last one, whose memory on the GPU is given back."""
        from tune.search.messages import Job

        self.stop()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()
        self._parts = self._runner.run_in_parts(Job(**job))

    def next(self) -> str | None:
        """Return the report of the trial's next epoch as JSON; None where it has repeated epochs for a while."""
        from tune.execution.holder import SIGN_EVERY
        from tune.execution.trial import Repeated
        from tune.search.messages import Report

        began = time.monotonic()
        while True:
            part = next(self._parts)
            if isinstance(part, Report):
                return json.dumps(vars(part))
            if isinstance(part, Repeated) and time.monotonic() - began >= SIGN_EVERY:
                return None

    def stop(self) -> None:
        """Close the last trial."""
        if self._parts is not None:
            self._parts.close()


class StudentTrial(ray.tune.Trainable):
    """The actor: a step is an epoch, or a teacher; a reused actor keeps its images and starts its next job at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Compare the node with the driver, and start the first job."""
        self._mismatch: NodeMismatch | None = None
        self._unusable: Exception | None = None
        self._failed: Exception | None = None
        self._gpus = visible_gpus(config["device"])
        try:
            self._mismatch = self._compared(config)
            if self._mismatch is None and config.get("keeper") is None:
                self._course: Course = Own(config["device"], config["gpus"])
        except Exception as error:
            self._unusable = error
        self.reset_config(config)

    def _compared(self, config: dict[str, Any]) -> NodeMismatch | None:
        """Compare the node; where trials are packed, the GPU is the holder's, and checked by it.

        Raises:
            SystemFailure: the storage or a GPU cannot be used.
        """
        keeper, required = config.get("keeper"), config["requirements"]
        needed = NodeRequirements(**required) if required else None
        if needed is not None and keeper is not None:
            needed = replace(needed, gpus=0.0)
        mismatch = node_mismatch(needed) if needed is not None else None
        if mismatch is not None or keeper is None:
            return mismatch
        from tune.execution.holder import Client

        client = Client(keeper)
        self._course = client
        if fault := client.fault():
            raise SystemFailure("gpu", fault, client.node, self._gpus)
        return None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next job in the same process."""
        if self._mismatch is not None or self._unusable is not None:
            return True
        self._failed = None
        self._preparing: Any = None
        try:
            if (task := new_config.get("preparation")) is not None:
                from tune.execution.preparing import Preparing

                self._course.stop()  # its memory would stay taken beside the teacher
                self._preparing = Preparing(task, new_config["device"])
            else:
                self._course.start(new_config["job"])
        except Exception as error:
            self._failed = error
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and return its report, or part of a teacher; as JSON because Tune would flatten mappings.

        A trial never reports that it is done: Tune would not pass that last result to the scheduler. An error of the
        trial's own is its last result. One that has waited, or repeated epochs, for a while gives a sign, `waits`.

        Raises:
            SystemFailure: the machine has failed, or this process could not begin, whatever the error, or an error of
                the trial's own has made the process unusable. Tune ends this process then, in which nothing more may
                work.
        """
        if self._mismatch is not None:
            return {"node_mismatch": json.dumps(vars(self._mismatch))}
        node = ray.get_runtime_context().get_node_id()
        place = {"node": node} if self._gpus is None else {"node": node, "gpus": self._gpus}
        if isinstance(self._unusable, SystemFailure):
            raise self._unusable
        if self._unusable is not None:
            failure = failure_of(self._unusable)
            failure = failure if failure.of_system else Failure("worker", failure.text)
            raise failure.raised_on(node, self._gpus) from self._unusable
        try:
            if self._failed is not None:
                raise self._failed
            if self._preparing is not None:
                return {**self._preparing.next(), **place}
            report = self._course.next()
            return {"waits": True, **place} if report is None else {"report": report, **place}
        except Exception as error:
            failure = failure_of(error)
            if failure.ends_process:
                raise failure.raised_on(node, self._gpus) from error
            stale = type(error).__name__ == "StaleDriverError"
            return {"failure": failure.text, **place, "stale": stale}

    def cleanup(self) -> None:
        """End the last job, which removes its files from this node."""
        if self._mismatch is None and self._unusable is None:
            self._course.stop()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the runner saves the trial's checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the runner reads the trial's checkpoints."""
