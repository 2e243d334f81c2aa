"""Checkpoints: tensors with a JSON description in one safetensors file, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from supersnn.files import DamagedFile, write_atomically

STUDENT = "student."  # prefix of the network's own tensors in a training's snapshot

_META = "supersnn"


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and their JSON-able description to a safetensors file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {_META: json.dumps(meta, allow_nan=False)}
    write_atomically(path, safetensors.torch.save(plain, metadata=header))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the description that `save` wrote.

    The description of other safetensors files is empty.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedFile: the file is torn, or is no safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        meta = json.loads(header.get(_META, "{}"))
        if not isinstance(meta, dict):
            raise ValueError(f"its description is {type(meta).__name__}, expected a mapping")
        return tensors, meta
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a complete safetensors file: {error}") from error


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix` in front of their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it: the inverse of `with_prefix`."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def student_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's state dict from a training's snapshot."""
    return under_prefix(STUDENT, tensors)
