"""Cache of decoded images: one file per part under the data folder, memory-mapped by later reads."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import safetensors
from filelock import FileLock
from safetensors.torch import save_file

from supersnn.digests import digest
from supersnn.errors import UserError
from supersnn.files import atomic_file
from supersnn.sources.base import RawImages, data_root


def cached(name: str, key: object, decode: Callable[[], RawImages]) -> RawImages:
    """Return the images of `decode`, which is called once per key, even by concurrent processes.

    Args:
        name: prefix of the file's name.
        key: JSON-able; everything that the images depend on.
        decode: returns the images; called again if the file is damaged.

    Damage is found by a checksum at every call (0.5 ms a megabyte), and the images are decoded again.

    Raises:
        UserError: the data folder is not writable, and the errors of `decode`.
    """
    path = _path(name, key)
    images = _load(path)
    if images is not None:
        return images
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            images = _load(path)
            return _store(path, decode()) if images is None else images
    except OSError as error:
        raise UserError(f"{path.parent}: {error}: set SUPERSNN_DATA to a writable folder") from error


def stored_shape(name: str, key: object) -> tuple[int, ...] | None:
    """Return the shape [C, H, W] of the images that `cached` has stored under a key, with N before it; else None."""
    path = _path(name, key)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return tuple(file.get_slice("pixels").get_shape())
    except (OSError, safetensors.SafetensorError):
        return None


def _path(name: str, key: object) -> Path:
    return data_root() / "cache" / f"{name}-{digest(key)}.safetensors"


def _load(path: Path) -> RawImages | None:
    """Return the stored images, None if there are none or they are damaged.

    Pixels and labels are compared with the checksum in the file, which files of older versions do not have.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            classes = tuple(json.loads(metadata["classes"]))
            images = RawImages(file.get_tensor("pixels"), file.get_tensor("labels"), classes)
        return images if metadata.get("sha256") in (None, _sha256(images)) else None
    except (FileNotFoundError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None


def _store(path: Path, images: RawImages) -> RawImages:
    images = RawImages(images.pixels.contiguous(), images.labels.contiguous(), images.classes)
    tensors = {"pixels": images.pixels, "labels": images.labels}
    with atomic_file(path) as unfinished:
        metadata = {"classes": json.dumps(images.classes), "sha256": _sha256(images)}
        save_file(tensors, unfinished, metadata=metadata)
    return images


def _sha256(images: RawImages) -> str:
    sha = hashlib.sha256(images.pixels.numpy().data)
    sha.update(images.labels.numpy().data)
    return sha.hexdigest()
