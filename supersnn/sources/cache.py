"""Decoded images, kept under the data folder as one file a part, which later reads map into memory."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import safetensors
from filelock import FileLock
from safetensors.torch import save_file

from supersnn.config_model import digest
from supersnn.errors import UserError
from supersnn.sources.base import RawImages, data_root


def cached(name: str, key: object, decode: Callable[[], RawImages]) -> RawImages:
    """Return what `decode` returned when it was first called for this key; several processes may ask at once.

    Args:
        name: what the file's name begins with.
        key: JSON-able; all that the images depend on.
        decode: makes the images, once; a file that is torn is made anew.

    Raises:
        UserError: the data folder cannot be written to, or what `decode` raises.
    """
    path = data_root() / "cache" / f"{name}-{digest(key)}.safetensors"
    found = _load(path)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            found = _load(path)
            return _store(path, decode()) if found is None else found
    except OSError as error:
        raise UserError(f"{path.parent}: {error}: set SUPERSNN_DATA to a folder that can be written to") from error


def _load(path: Path) -> RawImages | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            classes = tuple(json.loads(file.metadata()["classes"]))
            return RawImages(file.get_tensor("pixels"), file.get_tensor("labels"), classes)
    except (FileNotFoundError, safetensors.SafetensorError):
        return None


def _store(path: Path, images: RawImages) -> RawImages:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {"pixels": images.pixels.contiguous(), "labels": images.labels.contiguous()}
    try:
        save_file(tensors, unfinished, metadata={"classes": json.dumps(images.classes)})
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return images
