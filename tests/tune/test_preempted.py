"""A trial whose node was drained: Ray Tune passes it to the driver, as any other whose node was lost."""

import ray.exceptions
from ray.tune.experiment import Trial

from tune.execution import cluster


def test_a_drained_node_is_a_failed_attempt() -> None:
    assert cluster.QUIET, "the module sets Ray Tune up"
    trial = Trial("x", stub=True)
    assert trial.should_recover(), "before any failure"
    trial._handle_ray_actor_error(ray.exceptions.RayActorError(error_msg="preempted", preempted=True))
    assert not trial.should_recover(), "Tune would start it again by itself"
