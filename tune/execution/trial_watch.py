"""Watches the trials of a Tune run: which actor each has, when it reported last, and what it failed of.

Tune has no deadlines. A trial whose actor has reported nothing for too long, or does not start, is ended here by ending
its process, also one that is stopped or waits for a disk or a GPU for ever; Tune then passes it to `StudySearcher` as
any lost worker.
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune

from supersnn.records.searches import split_key
from tune.execution.cluster_state import ClusterState, node_of_group
from tune.execution.failures import Failure, SystemFailure, failure_of, lost_worker
from tune.execution.progress import FIRST_EPOCH
from tune.search.search import Search

CHECK_EVERY = 2.0
"""Seconds between two looks."""
EPOCHS = 10
"""A deadline is at least so many times the slowest epoch so far of the trial's search."""
LONGEST_STEP = 30.0
"""Seconds that count between two looks at most: while the driver itself was away no trial could report."""


@dataclass
class _Watched:
    trial: Any
    key: str
    heard: float
    actor: Any = None
    starting: Any = None
    group: Any = None
    stalled: float | None = None
    failure: Failure | None = None
    node: str | None = None


class TrialWatch(ray.tune.Callback):
    """The trials of one Tune run, by Tune's names; a preparation's epoch is the time between its signs of progress.

    Attributes:
        controller: Tune's controller, None before it has a trial.
    """

    def __init__(
        self,
        search: Search,
        cluster: ClusterState,
        slowest: Callable[[str], float | None] | None = None,
        kill: Callable[[Any], None] = ray.kill,
        node_of: Callable[[Any], str | None] | None = None,
    ) -> None:
        """Watch nothing yet.

        Args:
            search: whose trials these are.
            cluster: whose nodes are looked at again, and waited for.
            slowest: returns the seconds of the slowest epoch so far of what a key is of, None before any.
            kill: ends an actor.
            node_of: returns the id of an actor's node.
        """
        self._search, self._cluster = search, cluster
        self._slowest = slowest or (lambda key: search.slowest_epoch(key))
        self._kill, self._node_of = kill, node_of or node_of_actor
        self._watched: dict[str, _Watched] = {}
        self._now, self._looked = 0.0, time.monotonic()
        self._worked = 0.0
        self._proven: set[tuple[Any, str]] = set()
        self.controller: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def add(self, trial: Any) -> None:
        """Watch a trial, from now on or again."""
        self._watched[trial.trial_id] = _Watched(trial, str(trial.config["key"]), self._now)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the actor that a trial has got."""
        del iteration, trials, info
        if (watched := self._watched.get(trial.trial_id)) is not None:
            self._note_actor(watched)
            watched.heard = self._now

    def _note_actor(self, watched: _Watched) -> None:
        """Note a trial's actor; one that ran an earlier trial is known before it has taken up this one."""
        if watched.actor is None and (actor := watched.trial.temporary_state.ray_actor) is not None:
            watched.actor, watched.heard = actor, self._now

    def _note_starting(self, watched: _Watched) -> None:
        """Note the process that is starting for a trial, from when on it has its resources."""
        if watched.starting is None and self.controller is not None:
            watched.starting, watched.group = starting_actor(self.controller, watched.trial)
            watched.heard = self._now

    def heard(self, trial_id: str, reported: bool = True) -> None:
        """Note that a trial has reported, or given a sign that it waits or repeats epochs."""
        if (watched := self._watched.get(trial_id)) is not None:
            watched.heard = self._now
            if reported and watched.actor is not None:
                self._proven.add((_identity(watched.actor), _work_of(watched.key)))

    def failed(self, trial: Any) -> None:
        """Note what a trial has failed of, while that can be told."""
        watched = self._watched.get(trial.trial_id)
        if watched is None:
            return
        error = _error_of(trial)
        cause = getattr(error, "cause", None)
        if watched.actor is not None:
            watched.node = self._node_of(watched.actor)
        if watched.stalled is not None:
            what = "a process has not started" if watched.actor is None else "no report"
            watched.failure = Failure("stall", f"{what} for {watched.stalled:.0f} s")
        elif isinstance(cause, SystemFailure):
            watched.failure, watched.node = cause.failure, cause.node
        elif isinstance(error, ray.exceptions.RayActorError) or error is None:
            watched.failure = lost_worker(str(error or "the worker died"))
        else:
            watched.failure = failure_of(error)
        if watched.node is None:
            watched.node = _node_named(str(error))

    def drop(self, trial_id: str) -> tuple[Failure, str | None]:
        """Forget a trial; return what it has failed of and on which node, a lost worker where nothing is known."""
        watched = self._watched.pop(trial_id, None)
        if watched is None or watched.failure is None:
            return lost_worker("the worker died"), None
        return watched.failure, watched.node

    def look(self) -> None:
        """End the actors that have reported nothing for too long, and say whether the driver waits for a node."""
        elapsed = time.monotonic() - self._looked
        if elapsed < CHECK_EVERY:
            return
        self._looked += elapsed
        self._now += min(elapsed, LONGEST_STEP)
        self._cluster.look_again()
        for watched in self._watched.values():
            self._note_actor(watched)
            if watched.actor is None:
                self._note_starting(watched)
            self._end_late(watched)
        self._note_waiting()

    def _end_late(self, watched: _Watched) -> None:
        """End a trial's process that has not started, or given no sign, within its deadline."""
        actor, silent = watched.actor or watched.starting, self._now - watched.heard
        if actor is None or watched.stalled is not None or silent <= self._search.settings.resources.stall:
            return
        if silent <= self._deadline(watched):
            return
        watched.stalled = silent
        if watched.actor is None:
            watched.node = node_of_group(watched.group)  # afterwards Ray does not tell it
        with suppress(ray.exceptions.RayError):
            self._kill(actor)

    def _deadline(self, watched: _Watched) -> float:
        """Return the seconds within which a trial must report, or its process start.

        Before its first report a process may download and compile much.
        """
        stall, slowest = self._search.settings.resources.stall, self._slowest(watched.key)
        if watched.actor is None:
            return FIRST_EPOCH * stall
        proven = slowest is not None and (_identity(watched.actor), _work_of(watched.key)) in self._proven
        return max(stall if proven else FIRST_EPOCH * stall, EPOCHS * (slowest or 0.0))

    def _note_waiting(self) -> None:
        """Record what the driver waits for where no trial has an actor."""
        if any(watched.actor is not None for watched in self._watched.values()):
            self._worked = self._now
            self._search.waits("")
        elif not self._watched and self._search.held:
            self._search.waits(f"the next attempt of {self._search.held[0]}")
        else:
            self._search.waits(self._cluster.waits_for(self._now - self._worked if self._watched else 0.0))


def starting_actor(controller: Any, trial: Any) -> tuple[Any, Any]:
    """Return the actor that is starting for a trial and its placement group; two None where it waits for resources."""
    started = controller._actor_manager._live_actors_to_ray_actors_resources.get(controller._trial_to_actor.get(trial))
    return (None, None) if started is None else (started[0], started[1].placement_group)


def _identity(actor: Any) -> Any:
    """Return what names an actor; a reference to itself would keep its process."""
    return getattr(actor, "_actor_id", actor)


def _node_named(text: str) -> str | None:
    """Return the id of the node that an error of Ray's names: of a process that was killed while it started."""
    named = re.search(r"\bID: ([0-9a-f]{56})\b", text)
    return named and named.group(1)


def node_of_actor(actor: Any) -> str | None:
    """Return the id of the node that an actor runs, or has run on; None where Ray does not know."""
    try:
        found = ray._private.state.actors(actor._actor_id.hex())  # of a dead actor no public function tells
    except Exception:  # Ray's own, whatever they are: the node is only for people and the breaker
        return None
    return str(node) if (node := found.get("Address", {}).get("NodeID")) else None


def _error_of(trial: Any) -> BaseException | None:
    """Return the last error of a trial: Tune has it in a file of the driver's, which it copies to the storage later."""
    try:
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # there is none, or it cannot be unpickled here
        return None
    return error if isinstance(error, BaseException) else None


def _work_of(key: str) -> str:
    """Return what an actor that has reported for a key has loaded: a search's data and teachers, or a preparation."""
    return key if key.startswith("~") else split_key(key)[0]
