"""Preflight checks: before anything starts, every node that may run a trial is compared with the driver."""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.node_check import NodeReport, NodeRequirements, check_file_fault, compare, local_report, unusable
from tune.execution.nodes import Node, living, offered, slots_on, wanted
from tune.notices import NodeUnchecked, Notify, ignore
from tune.storage import Storage, storage_at

ANSWER_WITHIN = 60.0
"""Seconds that a node has for its answer; a new node unpacks our sources first. One that is late is checked later."""

SEEN_WITHIN = 10.0
"""Seconds in which a file that a node has written must appear to the driver: network file systems lag behind."""


def preflight(
    storage: Storage,
    need: ResourcesConfig,
    check_file: str,
    own: Mapping[str, str] | None = None,
    notify: Notify = ignore,
) -> NodeRequirements:
    """Check every node that may run a trial: shared storage, library versions, our code and the user's own, GPUs.

    The probes take neither a slot nor a GPU. A node that does not answer in time is named by `notify`; each process
    makes the same comparison before it works there.

    Returns:
        what each process compares its node with later; the driver will have written the text `check_file` by then.

    Raises:
        UserError: the first difference or fault, with the node's name.
    """
    nodes = [node for node in living(ray.nodes()) if slots_on(node, need)]
    folder = f".preflight-{uuid.uuid4().hex}"
    driver = local_report(None, gpus=0.0)
    try:
        storage.write_text(f"{folder}/driver", "driver")
    except OSError as error:
        raise UserError(f"{storage}: the driver cannot write to it: {error}") from error
    try:
        for node, found in _probed(nodes, storage, folder, need, own or {}, notify):
            reason = compare(found, driver.versions, driver.code) or _unseen(storage, folder, node)
            if reason:
                raise UserError(f"node {node.name}: {reason}")
    finally:
        storage.remove(folder, "*")
    return NodeRequirements(driver.versions, driver.code, need.gpus_taken, storage.address, check_file, dict(own or {}))


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
) -> Iterator[tuple[Node, NodeReport]]:
    """Yield each node with its report; one that is lost meanwhile, or late, is left out."""
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
        except ray.exceptions.RayError as error:
            if node.id in {other.id for other in living(ray.nodes())}:
                text = " ".join(str(error).split())
                raise UserError(f"node {node.name}: our code does not run on it: {text[-300:]}") from error


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
