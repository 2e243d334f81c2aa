"""A trial's process on a node: it compares the node with the driver before it imports anything that trains."""

import json
from typing import Any

import ray.tune

from tune.execution.node_check import NodeRequirements, node_mismatch


class StudentTrial(ray.tune.Trainable):
    """The actor: one step is one epoch; a reused actor keeps its images and starts the next job at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Compare the node with the driver, and start the first job."""
        self._mismatch = node_mismatch(NodeRequirements(**config["requirements"])) if config["requirements"] else None
        if self._mismatch is None:
            from tune.execution.trial import TrialRunner

            self._runner = TrialRunner(config["device"])
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next job in the same process."""
        if self._mismatch is None:
            from tune.search.messages import Job

            self._reports = self._runner.run(Job(**new_config["job"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and return its report, as JSON because Tune would flatten mappings.

        A trial never reports that it is done: Tune would not pass that last result to the scheduler.
        """
        if self._mismatch is not None:
            return {"node_mismatch": json.dumps(vars(self._mismatch))}
        return {"report": json.dumps(vars(next(self._reports)))}

    def cleanup(self) -> None:
        """Close the last job, which removes its files from this node."""
        if self._mismatch is None:
            self._reports.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the runner saves the trial's checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the runner reads the trial's checkpoints."""
