"""Data sets of your own, by import path: a function or a class that returns images.

A function is called with its arguments, and with ``part="train"`` or ``part="test"`` if it has a parameter `part`;
without one it returns all images, of which a test part is split off. A class is called with its arguments; its object
has a method ``read(part)``, and a test part of its own unless its attribute `test_part` is False.

Images are returned as `RawImages`, or as a tuple (pixels, labels, classes): pixels uint8 [N, C, S, S] and labels [N],
tensors or arrays, and the names of the classes.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supersnn import parts
from supersnn.errors import UserError, shortened
from supersnn.sources.base import Contents, Part, RawImages, contents_of

_KEY = "dataset.arguments"


class Own:
    """The source that an import path names."""

    def __init__(self, path: str, arguments: Mapping[str, Any]) -> None:
        """Import it, and construct its object if it is a class.

        Raises:
            UserError: it cannot be imported, or takes other arguments.
        """
        self._path, self._arguments = path, arguments
        self._called: Callable[..., Any] = parts.function(path)
        if isinstance(self._called, type):
            self._object: Any = parts.call(path, self._called, {}, arguments, _KEY)
            if not callable(getattr(self._object, "read", None)):
                raise UserError(f"{path!r}: expected a method read(part)")
            self._has_parts = getattr(self._object, "test_part", True)
        else:
            self._object = None
            self._has_parts = "part" in inspect.signature(self._called).parameters
            parts.check_arguments(path, self._called, ("part",), arguments, _KEY)

    def has_test(self) -> bool:
        """Return whether it has a test part of its own."""
        return bool(self._has_parts)

    def read(self, part: Part) -> RawImages:
        """Return one part.

        Raises:
            UserError: it raises, or returns something else than images.
        """
        with parts.raised_by(self._path):
            if self._object is not None:
                found = self._object.read(part)
            else:
                found = self._called(**{**({"part": part} if self._has_parts else {}), **self._arguments})
        return self._checked(found)

    def inspect(self, part: Part) -> Contents:
        """Return what a part consists of."""
        return contents_of(self.read(part))

    def _checked(self, found: Any) -> RawImages:
        if isinstance(found, RawImages):
            pixels, labels, classes = found.pixels, found.labels, found.classes
        elif isinstance(found, tuple) and len(found) == 3:
            pixels, labels, classes = _tensor(found[0]), _tensor(found[1]), found[2]
        else:
            self._refuse("expected RawImages or a tuple (pixels, labels, classes)", type(found).__name__)
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.dim() != 4:
            self._refuse("pixels: expected uint8 [N, C, S, S]", _form(pixels))
        if pixels.shape[1] not in (1, 3) or pixels.shape[2] != pixels.shape[3]:
            self._refuse("pixels: expected uint8 [N, C, S, S] with 1 or 3 channels, square", _form(pixels))
        names = tuple(str(name) for name in classes)
        if len(names) < 2 or len(set(names)) < len(names):
            self._refuse("classes: expected two or more names that differ", shortened(repr(names)))
        if not isinstance(labels, Tensor) or labels.shape != pixels.shape[:1] or labels.is_floating_point():
            self._refuse(f"labels: expected {len(pixels)} integers", _form(labels))
        if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= len(names):
            outside = f"{int(labels.min())} to {int(labels.max())}" if len(labels) else "none"
            self._refuse(f"labels: expected positions in the {len(names)} classes", outside)
        return RawImages(pixels, labels.long(), names)

    def _refuse(self, expected: str, found: str) -> None:
        raise UserError(f"dataset.name: {self._path!r}: {expected}, found {found}")


def _tensor(values: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values


def _form(values: Any) -> str:
    if not isinstance(values, Tensor):
        return type(values).__name__
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
