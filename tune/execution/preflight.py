"""Whether a cluster's nodes are fit: each is compared with the driver before anything starts, and each process that is
to do a piece of work compares its own node before it does, because nodes may join at any time.
"""

import hashlib
import importlib.metadata
import importlib.util
import platform
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.nodes import Node, living, offered, slots_on, wanted
from tune.storage import Storage, storage_at
from tune.versions import LIBRARIES

PACKAGES = ("supersnn", "supersnn_cli", "tune", "analysis")
"""Our own source folders, the same on every node."""

PATIENCE = 120.0
"""Seconds that a node has for its answer; a new node unpacks our sources first."""

SEEN_WITHIN = 10.0
"""Seconds in which a file that a node has written must appear to the driver: network file systems lag behind."""


@dataclass(frozen=True)
class NodeReport:
    """What a probe found where it ran; `missing` is None where torch sees the GPU that was asked for, or none was."""

    versions: Mapping[str, str]
    code: str
    store: str | None
    missing: str | None


@dataclass(frozen=True)
class NodeRequirements:
    """What a process must find before it works, in plain values: the driver's versions and code, GPUs for torch, and in
    the place at an address the text that has the name `witness`.
    """

    versions: Mapping[str, str]
    code: str
    gpus: float
    address: str
    witness: str


@dataclass(frozen=True)
class NodeMismatch:
    """A node that is not fit, by its Ray id, and why."""

    node: str
    reason: str


def preflight(storage: Storage, need: ResourcesConfig, witness: str) -> NodeRequirements:
    """Check every node that may run a trial: what it shares, the library versions, our code, the GPUs.

    Returns:
        what each process is to find later; `witness` is the name of a text that the driver has written by then.

    Raises:
        UserError: the first thing that is not as it must be, with the node's name.
    """
    nodes = [node for node in living(ray.nodes()) if slots_on(node, need)]
    folder = f".preflight-{uuid.uuid4().hex}"
    try:
        storage.write_text(f"{folder}/driver", "driver")
    except OSError as error:
        raise UserError(f"{_shown(storage)}: the driver cannot write there: {error}") from error
    here = probe(storage.address, folder, None)
    try:
        for node, found in _probed(nodes, storage, folder, need):
            complaint = compare(found, here) or _unseen(storage, folder, node)
            if complaint:
                raise UserError(f"node {node.name}: {complaint}")
    finally:
        storage.remove(folder, "*")
    return NodeRequirements(here.versions, here.code, need.gpus, storage.address, witness)


def node_mismatch(expected: NodeRequirements) -> NodeMismatch | None:
    """Compare this process with what it must find; None where its node is fit."""
    storage, store = storage_at(expected.address), None
    try:
        if storage.read_text(expected.witness) is None:
            store = _not_seen(storage)
    except OSError as error:
        store = f"it cannot use {_shown(storage)}: {' '.join(str(error).split())[:300]}"
    here = NodeReport(expected.versions, expected.code, None, None)
    complaint = compare(NodeReport(_versions(), source_digest(), store, None), here) or _lacking(expected.gpus)
    return NodeMismatch(ray.get_runtime_context().get_node_id(), complaint) if complaint else None


def run_if_node_matches(work: bytes, expected: Mapping[str, Any]) -> Any:
    """Return what a pickled function and its argument come to, or the `NodeMismatch` that this node is.

    They are unpickled after the comparison, because that imports what trains.
    """
    unfit = node_mismatch(NodeRequirements(**expected))
    if unfit is not None:
        return unfit
    function, item = ray.cloudpickle.loads(work)
    return function(item)


def require_capacity(nodes: Iterable[Node], need: ResourcesConfig) -> None:
    """Refuse a cluster none of whose nodes can hold a trial.

    Raises:
        UserError: what a trial needs, and what each node has.
    """
    nodes = list(nodes)
    if not any(slots_on(node, need) for node in nodes):
        raise UserError(
            f"resources: a trial needs {wanted(need)}; no node has that ({offered(nodes)}). On a cluster that starts "
            "nodes when they are asked for, set resources.trials_at_once"
        )


def compare(found: NodeReport, here: NodeReport) -> str | None:
    """Return what is wrong with a node, in words, None where nothing is."""
    for name, version in here.versions.items():
        if found.versions[name] != version:
            return f"{name} is {found.versions[name]} there and {version} at the driver; both must be the same"
    if found.code != here.code:
        return f"the code of {', '.join(PACKAGES)} is another there than at the driver; was it changed, or installed?"
    return found.store or found.missing


def probe(address: str, folder: str, node: str | None, gpus: float = 0.0) -> NodeReport:
    """Look around in this process: read the driver's text in a folder at an address, write the node's own beside it."""
    return NodeReport(_versions(), source_digest(), _share(address, folder, node), _lacking(gpus))


def source_digest() -> str:
    """Return a digest of our source files as this process would import them."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        root = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
        for path in sorted(root.rglob("*.py")) if spec else ():
            digest.update(f"{package}/{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _probed(
    nodes: Iterable[Node], storage: Storage, folder: str, need: ResourcesConfig
) -> Iterator[tuple[Node, NodeReport]]:
    """Each node with what its probe found; a node that went away meanwhile is left out."""
    remote = ray.remote(num_cpus=0, num_gpus=need.gpus, max_retries=1)(probe)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        answer = remote.options(scheduling_strategy=there).remote(storage.address, folder, node.id, need.gpus)
        asked.append((node, answer))
    deadline = time.monotonic() + PATIENCE
    for node, answer in asked:
        try:
            yield node, ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
        except ray.exceptions.GetTimeoutError as error:
            raise UserError(f"node {node.name}: no answer within {PATIENCE:.0f} s; it is busy or hangs") from error
        except ray.exceptions.RayError as error:
            if node.id in {other.id for other in living(ray.nodes())}:
                text = " ".join(str(error).split())
                raise UserError(f"node {node.name}: our code does not run there: {text[-300:]}") from error


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _share(address: str, folder: str, node: str | None) -> str | None:
    """A complaint where the driver's text cannot be read, or the node's own not be written and removed."""
    storage = storage_at(address)
    try:
        if node and (complaint := storage.complaint(f"{folder}/{node}-own")):
            return f"it cannot use {_shown(storage)}: {complaint}"
        if storage.read_text(f"{folder}/driver") is None:
            return _not_seen(storage)
        if node is not None:
            storage.write_text(f"{folder}/{node}", node)
            storage.evict(folder)
    except OSError as error:
        return f"it cannot use {_shown(storage)}: {' '.join(str(error).split())[:300]}"
    return None


def _not_seen(storage: Storage) -> str:
    also = ": the store must be a folder that all nodes share, else give --shared" if storage.direct else ""
    return f"it does not see what the driver writes to {_shown(storage)}{also}"


def _unseen(storage: Storage, folder: str, node: Node) -> str | None:
    """A complaint where what a node has written does not appear to the driver."""
    deadline = time.monotonic() + SEEN_WITHIN
    while storage.read_text(f"{folder}/{node.id}") is None:
        if time.monotonic() > deadline:
            return f"what it writes to {_shown(storage)} does not appear to the driver"
        time.sleep(0.1)
    return None


def _shown(storage: Storage) -> str:
    return f"{'--store' if storage.direct else '--shared'} {storage.address}"


def _lacking(gpus: float) -> str | None:
    """A complaint where torch sees fewer GPUs than a trial takes."""
    if not gpus:
        return None
    import torch

    seen = torch.cuda.device_count()
    if seen >= gpus:
        return None
    return f"resources.gpus: torch {torch.__version__} sees {seen} GPUs there, a trial takes {gpus:g}"
