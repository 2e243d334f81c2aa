"""Preflight checks: before anything starts, every node that may run a trial is compared with the driver."""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.node_check import NodeReport, NodeRequirements, check_file_fault, difference, local_report, unusable
from tune.execution.nodes import Node, living, offered, slots_on, wanted
from tune.notices import NodeUnchecked, Notify, ignore
from tune.storage import Storage, storage_at

ANSWER_WITHIN = 60.0
"""Seconds that a node has for its answer; a new node unpacks our sources first. One that is late is checked later."""

SEEN_WITHIN = 10.0
"""Seconds in which a file that a node has written must appear to the driver: network file systems lag behind."""


@dataclass(frozen=True)
class Preflight:
    """What the checks have found.

    Attributes:
        requirements: what each process compares its node with later.
        differing: the nodes that differ from the driver, by their ids, each with the difference.
        faulty: those that cannot be used now, which may pass, each with the fault.
    """

    requirements: NodeRequirements
    differing: dict[str, str] = field(default_factory=dict)
    faulty: dict[str, str] = field(default_factory=dict)


def preflight(
    storage: Storage,
    need: ResourcesConfig,
    check_file: str,
    own: Mapping[str, str] | None = None,
    notify: Notify = ignore,
) -> Preflight:
    """Check every node that may run a trial: shared storage, library versions, our code and the user's own, GPUs.

    The probes take neither a slot nor a GPU. A node that does not answer in time is named by `notify`; each process
    makes the same comparison before it works there.

    Returns:
        what was found; the driver will have written the text `check_file` before any process compares its node.

    Raises:
        UserError: no node is sound, and none is late: the first one's difference or fault, with its name.
    """
    nodes = [node for node in living(ray.nodes()) if slots_on(node, need)]
    folder, own = f".preflight-{uuid.uuid4().hex}", dict(own or {})
    driver = local_report(None, gpus=0.0)
    found = Preflight(NodeRequirements(driver.versions, driver.code, need.gpus_taken, storage.address, check_file, own))
    try:
        storage.write_text(f"{folder}/driver", "driver")
    except OSError as error:
        raise UserError(f"{storage}: the driver cannot write to it: {error}") from error
    usable = False
    try:
        for node, answer in _probed(nodes, storage, folder, need, own, notify):
            if isinstance(answer, NodeReport) and (differs := difference(answer, driver.versions, driver.code)):
                found.differing[node.id] = differs
            elif fault := _fault(answer, storage, folder, node):
                found.faulty[node.id] = fault
            else:
                usable = True
    finally:
        storage.remove(folder, "*")
    if not usable:
        _require_none({**found.differing, **found.faulty}, nodes)
    return found


def _require_none(reasons: Mapping[str, str], nodes: Iterable[Node]) -> None:
    """Refuse a cluster of which no node can be used.

    Raises:
        UserError: there are reasons: one of them, and how many nodes have any.
    """
    first = next((node for node in nodes if node.id in reasons), None)
    if first is not None:
        others = f"; nor can any of the other {len(reasons) - 1} nodes be used" if len(reasons) > 1 else ""
        raise UserError(f"node {first.name}: {reasons[first.id]}{others}")


def require_capacity(nodes: Iterable[Node], need: ResourcesConfig) -> None:
    """Refuse a cluster none of whose nodes can hold a trial.

    Raises:
        UserError: what a trial needs, and what each node has.
    """
    nodes = list(nodes)
    if not any(slots_on(node, need) for node in nodes):
        raise UserError(
            f"resources: a trial needs {wanted(need)}; no node has that ({offered(nodes)}). On a cluster with an "
            "autoscaler, set resources.trials_at_once"
        )


def probe(address: str, folder: str, node: str, gpus: float = 0.0, own: Mapping[str, str] | None = None) -> NodeReport:
    """Return the report of the node with this id: it reads the driver's text in a folder, and writes one of its own."""
    return local_report(_exchange_fault(storage_at(address), folder, node), gpus, own)


def _probed(
    nodes: Iterable[Node], storage: Storage, folder: str, need: ResourcesConfig, own: Mapping[str, str], notify: Notify
) -> Iterator[tuple[Node, NodeReport | str | None]]:
    """Yield each node with its report, or why there is none; None where it is late. A lost one is left out."""
    remote = ray.remote(num_cpus=0, num_gpus=0, max_retries=1)(probe)  # it sees all GPUs, also those in use
    answers = []
    for node in nodes:
        on_node = NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked = remote.options(scheduling_strategy=on_node)
        answer = asked.remote(storage.address, folder, node.id, need.gpus_taken, own)
        answers.append((node, answer))
    deadline = time.monotonic() + ANSWER_WITHIN
    for node, answer in answers:
        try:
            yield node, ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
        except ray.exceptions.GetTimeoutError:
            ray.cancel(answer, force=True)
            notify(NodeUnchecked(node.name))
            yield node, None
        except ray.exceptions.RayError as error:
            if node.id in {other.id for other in living(ray.nodes())}:
                yield node, f"our code does not run on it: {' '.join(str(error).split())[-300:]}"


def _fault(answer: NodeReport | str | None, storage: Storage, folder: str, node: Node) -> str | None:
    """Return why a node that does not differ from the driver cannot be used now; None where it can, or is late."""
    if not isinstance(answer, NodeReport):
        return answer
    return answer.storage_fault or answer.gpu_fault or _unseen(storage, folder, node)


def _exchange_fault(storage: Storage, folder: str, node: str) -> str | None:
    """Return why the driver's text cannot be read, or the node's own not be written and removed."""
    if complaint := storage.complaint(f"{folder}/{node}-own"):
        return unusable(storage, complaint)
    if fault := check_file_fault(storage, f"{folder}/driver"):
        return fault
    try:
        storage.write_text(f"{folder}/{node}", node)
        storage.evict(folder)
    except OSError as error:
        return unusable(storage, error)
    return None


def _unseen(storage: Storage, folder: str, node: Node) -> str | None:
    """Return a text where what a node has written does not appear to the driver."""
    deadline = time.monotonic() + SEEN_WITHIN
    while storage.read_text(f"{folder}/{node.id}") is None:
        if time.monotonic() > deadline:
            return f"what it writes to {storage} does not appear to the driver"
        time.sleep(0.1)
    return None
