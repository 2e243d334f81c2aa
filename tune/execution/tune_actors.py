"""Ray Tune's actors: those that it keeps, and its manager, adapted: what ends a process is that trial's failure.

Tune knows two: an actor has died, or its method has raised. A process that Ray's memory monitor kills raises another,
as does one whose environment cannot be made; Tune would end the whole run with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller


class ActorManager(RayActorManager):
    """Turns each other error of Ray's into that of an actor, with its text."""

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, _of_actor(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, _of_actor(exception))


def _of_actor(error: Exception) -> Exception:
    if not isinstance(error, RayError) or isinstance(error, (RayActorError, RayTaskError)):
        return error
    return RayActorError(error_msg=f"{type(error).__name__}: {error}")


def kept_processes(controller: Any) -> list[Any]:
    """Return the processes without a trial that Tune's controller keeps for a next one."""
    return [process for kept in controller._actor_cache._cached_objects.values() for process in kept]


@contextmanager
def adapted_tune() -> Iterator[None]:
    """Let a Tune run in this block use our manager."""
    before = tune_controller.RayActorManager
    tune_controller.RayActorManager = ActorManager
    try:
        yield
    finally:
        tune_controller.RayActorManager = before
