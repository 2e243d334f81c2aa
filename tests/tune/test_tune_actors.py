"""What Tune does where a trial's process ends with an error that it does not know."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray.air.execution._internal import RayActorManager, TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError, RuntimeEnvSetupError
from ray.tune.execution import tune_controller

from tune.execution.failures import Failure
from tune.execution.trial_watch import TrialWatch
from tune.execution.tune_actors import ActorManager, adapted_tune
from tune.search.search import Search

KILLED = """Task was killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.2, ID: f1) where the task (actor ID: 1) was running was 62.87GB / 62.88GB (0.999)
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"""


def failed(manager: type[RayActorManager], error: Exception, starting: bool = False) -> list[Exception]:
    """Return what the trial hears of an error of its process, at work or starting."""
    heard: list[Exception] = []
    actor = TrackedActor(1, on_error=lambda _actor, told: heard.append(told))
    made = manager(cast(Any, SimpleNamespace(free_resources=lambda **_: None)))
    made._live_actors_to_ray_actors_resources[actor] = (None, None)
    if starting:
        made._actor_start_failed(actor, error)
    else:
        made._actor_task_failed(TrackedActorTask(actor, on_error=lambda _actor, told: heard.append(told)), error)
    return heard


def kind_of(error: Exception, tmp_path: Path) -> Failure:
    """Return the failure that a trial's watch makes of an error that Tune has kept."""
    path = tmp_path / "error.pkl"
    path.write_bytes(ray.cloudpickle.dumps(error))
    watch = TrialWatch(cast(Search, None), cast(Any, None), node_of=lambda _: None)
    trial = SimpleNamespace(trial_id="t", config={"key": "x/0"}, pickled_error_file=path)
    watch.add(trial)
    watch.failed(trial)
    return watch.drop("t")[0]


def test_tune_itself_does_not_know_the_memory_monitors_error() -> None:
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        failed(RayActorManager, OutOfMemoryError(KILLED))


@pytest.mark.parametrize("starting", [False, True])
@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            OutOfMemoryError(KILLED),
            Failure("memory", "OutOfMemoryError: Task was killed due to the node running low on memory."),
        ),
        (
            RuntimeEnvSetupError("no disk"),
            Failure("import", "RuntimeEnvSetupError: Failed to set up runtime environment."),
        ),
    ],
)
def test_what_ends_a_process_is_a_failure_of_its_trial(
    error: Exception, failure: Failure, starting: bool, tmp_path: Path
) -> None:
    heard = failed(ActorManager, error, starting)
    assert len(heard) == (1 if starting else 2)
    assert {type(told) for told in heard} == {RayActorError}
    assert kind_of(heard[0], tmp_path) == failure


@pytest.mark.parametrize("error", [ActorDiedError(), RayTaskError("step", "Traceback", KeyError("x"))])
def test_errors_that_tune_knows_stay_what_they_are(error: Exception) -> None:
    assert failed(ActorManager, error)[-1] is error


def test_a_run_uses_the_adapted_manager_and_later_ones_do_not() -> None:
    with adapted_tune():
        assert tune_controller.RayActorManager is ActorManager
    assert tune_controller.RayActorManager is RayActorManager
