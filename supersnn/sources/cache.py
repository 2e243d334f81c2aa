"""Cache of decoded images: one file per part under the data folder, memory-mapped by later reads."""

import json
from collections.abc import Callable
from pathlib import Path

import safetensors
from filelock import FileLock
from safetensors.torch import save_file

from supersnn.config_model import digest
from supersnn.errors import UserError
from supersnn.files import atomic_file
from supersnn.sources.base import RawImages, data_root


def cached(name: str, key: object, decode: Callable[[], RawImages]) -> RawImages:
    """Return the images of `decode`, which is called once per key, even by concurrent processes.

    Args:
        name: prefix of the file's name.
        key: JSON-able; everything that the images depend on.
        decode: returns the images; called again if the file is damaged.

    Raises:
        UserError: the data folder is not writable, and the errors of `decode`.
    """
    path = data_root() / "cache" / f"{name}-{digest(key)}.safetensors"
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


def _load(path: Path) -> RawImages | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            classes = tuple(json.loads(file.metadata()["classes"]))
            return RawImages(file.get_tensor("pixels"), file.get_tensor("labels"), classes)
    except (FileNotFoundError, safetensors.SafetensorError):
        return None


def _store(path: Path, images: RawImages) -> RawImages:
    tensors = {"pixels": images.pixels.contiguous(), "labels": images.labels.contiguous()}
    with atomic_file(path) as unfinished:
        save_file(tensors, unfinished, metadata={"classes": json.dumps(images.classes)})
    return images
