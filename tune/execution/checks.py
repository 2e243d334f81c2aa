"""Before anything starts on a cluster: each node that may run a trial runs a probe, and is compared with the driver."""

import hashlib
import importlib.metadata
import importlib.util
import platform
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.nodes import Node, living, offered, slots_on, wanted
from tune.versions import LIBRARIES

PACKAGES = ("supersnn", "tune", "analysis")
"""Our own source folders, the same on every node."""

PATIENCE = 120.0
"""Seconds that a node has for its answer; a new node unpacks our sources first."""

SEEN_WITHIN = 10.0
"""Seconds in which a file that a node has written must appear to the driver: network file systems lag behind."""


@dataclass(frozen=True)
class Found:
    """What a probe found where it ran; `missing` is None where torch sees the GPU that was asked for, or none was."""

    versions: Mapping[str, str]
    code: str
    store: str | None
    missing: str | None


def preflight(store: Path, need: ResourcesConfig) -> None:
    """Check every node that may run a trial: the store, the library versions, our code, the GPUs.

    Raises:
        UserError: the first thing that is not as it must be, with the node's name.
    """
    nodes = [node for node in living(ray.nodes()) if slots_on(node, need)]
    folder = store / f".preflight-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        (folder / "driver").write_text("driver", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--store {store}: the driver cannot write there: {error}") from error
    here = probe(str(folder), None, gpu=False)
    try:
        for node, found in _probed(nodes, folder, need):
            complaint = compare(found, here) or _unseen(folder, node)
            if complaint:
                raise UserError(f"node {node.name}: {complaint}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_room(nodes: Iterable[Node], need: ResourcesConfig) -> None:
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


def compare(found: Found, here: Found) -> str | None:
    """Return what is wrong with a node, in words, None where nothing is."""
    for name, version in here.versions.items():
        if found.versions[name] != version:
            return f"{name} is {found.versions[name]} there and {version} at the driver; both must be the same"
    if found.code != here.code:
        return f"the code of {', '.join(PACKAGES)} is another there than at the driver; remove the installed supersnn"
    return found.store or found.missing


def probe(folder: str, node: str | None, gpu: bool) -> Found:
    """Look around in this process: read the driver's file in a folder of the store, write the node's own beside it."""
    return Found(_versions(), source_digest(), _share(Path(folder), node), _without_gpu() if gpu else None)


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


def _probed(nodes: Iterable[Node], folder: Path, need: ResourcesConfig) -> Iterator[tuple[Node, Found]]:
    """Each node with what its probe found; a node that went away meanwhile is left out."""
    remote = ray.remote(num_cpus=0, num_gpus=need.gpus, max_retries=1)(probe)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked.append((node, remote.options(scheduling_strategy=there).remote(str(folder), node.id, bool(need.gpus))))
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


def _share(folder: Path, node: str | None) -> str | None:
    """A complaint where the driver's file cannot be read, or the node's own not be written."""
    try:
        (folder / "driver").read_text(encoding="utf-8")
        if node is not None:
            (folder / node).write_text(node, encoding="utf-8")
    except FileNotFoundError:
        return f"it does not see the store {folder.parent}: the store must be a folder that all nodes share"
    except OSError as error:
        return f"it cannot write to the store {folder.parent}: {error}"
    return None


def _unseen(folder: Path, node: Node) -> str | None:
    """A complaint where what a node has written does not appear to the driver."""
    deadline = time.monotonic() + SEEN_WITHIN
    while not (folder / node.id).exists():
        if time.monotonic() > deadline:
            return f"what it writes to the store {folder.parent} does not appear to the driver"
        time.sleep(0.1)
    return None


def _without_gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    return f"resources.gpus: torch {torch.__version__} sees no GPU there"
