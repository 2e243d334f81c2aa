"""A trial's process on a node. It compares the node with the driver before it imports anything that trains."""

import json
from typing import Any

import ray.tune

from tune.execution.preflight import NodeRequirements, node_mismatch


class StudentTrial(ray.tune.Trainable):
    """The actor: one step is one epoch; a reused actor keeps its images and starts the next job at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Look whether the node is fit, and begin the first job."""
        self._misfit = node_mismatch(NodeRequirements(**config["expected"])) if config["expected"] else None
        if self._misfit is None:
            from tune.execution.trial import Runner

            self._runner = Runner()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next job in the same process."""
        if self._misfit is None:
            from tune.search.messages import Job

            self._reports = self._runner.run(Job(**new_config["job"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and return its report, as text, because Tune would take its mappings apart.

        A trial never says itself that it is done: Tune would not show that last result to the scheduler.
        """
        if self._misfit is not None:
            return {"node_mismatch": json.dumps(vars(self._misfit))}
        return {"report": json.dumps(vars(next(self._reports)))}

    def cleanup(self) -> None:
        """Close the last job, so that nothing of it stays on this node."""
        if self._misfit is None:
            self._reports.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the runner keeps the trial's own checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: the runner reads the trial's own checkpoint."""
