"""The comparison of a node with the driver, which each process makes before it works: nodes may join at any time.

This module imports nothing that trains: a node whose libraries differ must be found before torch is imported.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

import ray

from supersnn import plugins
from tune.execution.device import visible_gpus
from tune.execution.failures import SystemFailure
from tune.storage import Storage, storage_at
from tune.versions import PACKAGES, library_versions, source_digest


@dataclass(frozen=True)
class NodeReport:
    """What a process found on its node.

    Attributes:
        versions: of Python and of the libraries.
        code: the digest of our sources.
        storage_fault: why the storage is not usable, None where it is.
        gpu_fault: why a trial does not get its GPUs, None where it does.
        plugin_fault: how a package of the user's own differs from the driver's, None where none does.
    """

    versions: Mapping[str, str]
    code: str
    storage_fault: str | None = None
    gpu_fault: str | None = None
    plugin_fault: str | None = None


@dataclass(frozen=True)
class NodeRequirements:
    """What a process must find on its node: plain values only, so that they travel anywhere.

    Attributes:
        versions: those of the driver.
        code: the driver's digest of our sources.
        gpus: how many torch must detect.
        address: of the storage.
        check_file: the name of a text in the storage that must be readable.
        plugins: what identifies the user's own packages (`supersnn.plugins.identities`).
    """

    versions: Mapping[str, str]
    code: str
    gpus: float
    address: str
    check_file: str
    plugins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeMismatch:
    """A node that does not match the driver: its Ray id, and why."""

    node: str
    reason: str


def node_mismatch(required: NodeRequirements) -> NodeMismatch | None:
    """Compare this process's node with the requirements; None where it matches.

    Raises:
        SystemFailure: the storage or a GPU cannot be used, which may pass: it does not exclude the node for good.
    """
    node, storage = ray.get_runtime_context().get_node_id(), storage_at(required.address)
    found = local_report(check_file_fault(storage, required.check_file), required.gpus, required.plugins)
    if reason := difference(found, required.versions, required.code):
        return NodeMismatch(node, reason)
    if found.storage_fault is not None:
        raise SystemFailure("io", found.storage_fault, node)
    if found.gpu_fault is not None:
        raise SystemFailure("gpu", found.gpu_fault, node, visible_gpus("cuda"))
    return None


def local_report(storage_fault: str | None, gpus: float, own: Mapping[str, str] | None = None) -> NodeReport:
    """Return the report of this process's node; torch must detect `gpus` GPUs, `own` identifies the user's packages."""
    versions = {"python": platform.python_version(), **library_versions()}
    return NodeReport(versions, source_digest(), storage_fault, _gpu_fault(gpus), plugins.difference(own or {}))


def difference(found: NodeReport, versions: Mapping[str, str], code: str) -> str | None:
    """Return how a node differs from the driver's versions and code, and in plugins; None where it does not."""
    for name, version in versions.items():
        if _base(found.versions[name]) != _base(version):
            return f"{name}: {found.versions[name]}, the driver has {version}; install the same version"
    if found.code != code:
        return f"the sources of {', '.join(PACKAGES)} differ from the driver's; were they changed, or installed?"
    return found.plugin_fault


def _base(version: str) -> str:
    """Return a version without its build: torch 2.14.1+cu130 and 2.14.1+cpu are the same sources."""
    return version.partition("+")[0]


def check_file_fault(storage: Storage, name: str) -> str | None:
    """Return why a text of the driver cannot be read, None where it can."""
    try:
        if storage.read_text(name) is None:
            return f"it does not see what the driver writes to {storage}; {storage.requirement}"
    except OSError as error:
        return unusable(storage, error)
    return None


def unusable(storage: Storage, error: OSError | str) -> str:
    """Return the text for a storage that a node cannot use."""
    return f"it cannot use {storage}: {' '.join(str(error).split())[:300]}"


def _gpu_fault(gpus: float) -> str | None:
    """Return a text where torch detects fewer GPUs than a trial takes, or one of them is not sound."""
    if not gpus:
        return None
    import torch

    detected = torch.cuda.device_count()
    if detected >= gpus:
        from supersnn.gpus import gpu_fault

        return next(filter(None, map(gpu_fault, range(detected))), None)
    return f"resources.gpus: torch {torch.__version__} detects {detected} GPUs, a trial takes {gpus:g}"
