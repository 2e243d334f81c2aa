"""The same measurement on a cluster: the trainings are timed on one of its nodes, in the resources of a trial."""

import ray

from supersnn.errors import UserError, shortened
from supersnn.networks.base import ImageShape
from supersnn.step_time import StepTime
from tune.description.sweep import SweepConfig
from tune.execution.cluster import join, leave
from tune.execution.cluster_state import living_nodes
from tune.execution.device import device_of, working_on
from tune.execution.measuring import TimedTraining, time_trainings
from tune.execution.nodes import slots
from tune.execution.preflight import require_capacity


def time_on_cluster(
    address: str, sweep: SweepConfig, items: list[TimedTraining], shape: ImageShape, classes: int, seconds: float
) -> tuple[list[StepTime], int]:
    """Return the times of some trainings, and how many trials the cluster holds.

    Args:
        address: of the cluster.
        sweep: whose resources a training takes.
        items, shape, classes, seconds: see `time_trainings`.

    Raises:
        UserError: the cluster cannot be joined, holds no trial, or a training cannot be timed there.
    """
    join(address)
    try:
        nodes = living_nodes()
        need = sweep.resources.resolved(sweep.train.shards, (node.resources.get("GPU", 0.0) for node in nodes))
        require_capacity(nodes, need)
        options = {
            "num_cpus": need.cpus,
            "num_gpus": need.gpus_taken,
            "memory": need.memory,
            "accelerator_type": need.accelerator,
            "label_selector": need.labels or None,
        }
        timed = ray.remote(**{name: value for name, value in options.items() if value is not None})(_timed_on)
        try:
            times = ray.get(timed.remote(device_of(need.gpus_taken), items, shape, classes, seconds))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise UserError(f"--address {address}: a step cannot be timed: {shortened(str(cause), 300)}") from error
        return times, need.trials_at_once or slots(nodes, need)
    finally:
        leave()


def _timed_on(
    device: str, items: list[TimedTraining], shape: ImageShape, classes: int, seconds: float
) -> list[StepTime]:
    with working_on(device):
        return time_trainings(items, shape, classes, seconds)
