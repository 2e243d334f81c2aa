"""The keeper of packs on Ray: one process of the driver's starts the holders, so that they end with the driver."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.execution.holder import CALLS, Holder
from tune.execution.progress import FIRST_EPOCH

ANSWERS = 60.0
"""Seconds in which a holder that has started must say that it is alive."""
TELL_EVERY = 30.0
"""Seconds after which a keeper is told `resources.stall` again: Ray may have started it anew, with the first value."""
_ON_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}
"""A holder takes no GPUs by Ray's count; streams that shared one of CUDA's 8 hardware queues would wait in turn."""


def start_keeper(pack: int | Literal["auto"], device: str, stall: float) -> Any:
    """Start the keeper beside this process, the driver: no other node may take it, and with it all holders, away."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote = ray.remote(Keeper).options(num_cpus=0, max_restarts=3, scheduling_strategy=here)
    return remote.remote(pack, device, stall)


class KeeperInUse:
    """The driver's side: the keeper that there is, if any, and what it is for.

    Attributes:
        actor: the keeper, None before trials are packed.
    """

    def __init__(self) -> None:
        self.actor: Any = None
        self._pack: int | Literal["auto"] = 1
        self._device, self._stall, self._told = "", 0.0, 0.0

    def start(self, pack: int | Literal["auto"], device: str, stall: float) -> None:
        """Start one for such packs, unless it is there."""
        self.end_others(pack, device)
        if self.actor is None:
            self.actor = start_keeper(pack, device, stall)
            self._pack, self._device, self._stall, self._told = pack, device, stall, time.monotonic()

    def end_others(self, pack: int | Literal["auto"], device: str) -> None:
        """End one that is for other packs, and with it its holders."""
        if self.actor is not None and (pack, device) != (self._pack, self._device):
            ray.kill(self.actor)
            self.actor = None

    def tune(self, stall: float) -> None:
        """Let a changed `resources.stall` hold at once; it is called often."""
        now = time.monotonic()
        if self.actor is not None and (stall != self._stall or now - self._told >= TELL_EVERY):
            self._stall, self._told = stall, now
            self.actor.tune.remote(stall)


@dataclass
class _Held:
    """A holder, its answer that it has started, and when it was asked for."""

    actor: Any
    started: Any
    began: float


class Keeper:
    """Starts the holders, each once, and again where one was lost or hangs."""

    def __init__(self, pack: int | Literal["auto"], device: str, stall: float) -> None:
        self._pack, self._device, self._stall = pack, device, stall
        self._holders: dict[tuple[str, tuple[str, ...]], _Held] = {}

    def tune(self, stall: float) -> None:
        """Let a changed `resources.stall` hold at once."""
        if stall == self._stall:
            return
        self._stall = stall
        for held in self._holders.values():
            held.actor.tune.remote(stall)

    def holder(self, node: str, gpus: tuple[str, ...]) -> Any:
        """Return the holder of a node's GPUs (none for its CPUs), by Ray's ids; it may still be starting."""
        place = node, gpus
        held = self._holders.get(place)
        if held is not None:
            if self._usable(held):
                return held.actor
            ray.kill(held.actor)
        actor = self._start(node, gpus)
        self._holders[place] = _Held(actor, actor.alive.remote(), time.monotonic())
        return actor

    def _usable(self, held: _Held) -> bool:
        """Return whether a holder answers; while it starts, which may take minutes, it need not."""
        if not ray.wait([held.started], timeout=0)[0]:
            return time.monotonic() - held.began < FIRST_EPOCH * self._stall
        try:
            ray.get(held.started)
            ray.get(held.actor.alive.remote(), timeout=ANSWERS)
        except ray.exceptions.RayError:
            return False
        return True

    def _start(self, node: str, gpus: tuple[str, ...]) -> Any:
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), **_ON_GPUS} if gpus else {}
        remote = ray.remote(Holder).options(
            num_cpus=0,
            num_gpus=0,
            max_concurrency=CALLS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **({"runtime_env": {"env_vars": visible}} if visible else {}),
        )
        return remote.remote(self._pack, self._device, self._stall)
