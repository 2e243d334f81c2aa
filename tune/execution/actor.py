"""A trial's process on a node: it compares the node with the driver before it imports anything that trains."""

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import ray.tune

from tune.execution.node_check import NodeRequirements, node_mismatch

if TYPE_CHECKING:
    from tune.search.messages import Report


class StudentTrial(ray.tune.Trainable):
    """The actor: a step is an epoch, or a teacher; a reused actor keeps its images and starts its next job at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Compare the node with the driver, and start the first job."""
        self._mismatch = node_mismatch(NodeRequirements(**config["requirements"])) if config["requirements"] else None
        self._reports: Generator[Report] | None = None
        if self._mismatch is None:
            from tune.execution.trial import TrialRunner

            self._device = config["device"]
            self._runner = TrialRunner(self._device)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next job in the same process."""
        if self._mismatch is not None:
            return True
        self._preparation = new_config.get("preparation")
        if self._preparation is None:
            from tune.search.messages import Job

            self._reports = self._runner.run(Job(**new_config["job"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and return its report, or prepare a teacher; as JSON because Tune would flatten mappings.

        A trial never reports that it is done: Tune would not pass that last result to the scheduler.
        """
        if self._mismatch is not None:
            return {"node_mismatch": json.dumps(vars(self._mismatch))}
        if self._preparation is not None:
            return _prepare(self._preparation, self._device)
        assert self._reports is not None
        return {"report": json.dumps(vars(next(self._reports)))}

    def cleanup(self) -> None:
        """Close the last job, which removes its files from this node."""
        if self._mismatch is None and self._reports is not None:
            self._reports.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the runner saves the trial's checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the runner reads the trial's checkpoints."""


def _prepare(task: dict[str, Any], device: str) -> dict[str, Any]:
    """Prepare a teacher on a device; return the result or the failure: Tune would try a failed one again."""
    from tune.execution.device import run_on
    from tune.execution.preparations import Preparation, PreparationFailed
    from tune.execution.prepare import prepare_one

    try:
        return {"prepared": run_on(device, prepare_one, Preparation(**task)).as_text()}
    except Exception as error:
        return {"failed": json.dumps(vars(PreparationFailed.of(error)))}
