"""Objects for other processes of this machine: their tensors lie in one memory-mapped file that all of them share.

What is left of an object without its tensors is small, and goes through a pipe.
"""

import io
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Shared:
    """An object that `share` has written.

    rest: the object, pickled without its tensors.
    tensors: the file with its tensors, by number.
    """

    rest: bytes
    tensors: Path

    def load(self, device: torch.device) -> Any:
        """Return the object with its tensors on a device; on the CPU they are the file's memory until written to.

        The file may be removed afterwards.
        """
        found = load_file(self.tensors)
        return _Unpickler(self.rest, [found[str(number)].to(device) for number in range(len(found))]).load()


@contextmanager
def share(value: Any) -> Iterator[Shared]:
    """Yield an object for other processes, which load it within this context.

    Its tensors are detached and contiguous there. Only processes that are trusted may send what is loaded.

    Raises:
        pickle.PicklingError: a part of the object other than its tensors cannot be pickled.
        OSError: there is no space for the tensors.
    """
    content = io.BytesIO()
    pickler = _Pickler(content)
    pickler.dump(value)
    tensors = _separate(pickler.tensors)
    size = sum(tensor.nbytes for tensor in tensors.values())
    with tempfile.TemporaryDirectory(prefix="supersnn-", dir=_parent(size)) as folder:
        path = Path(folder) / "tensors.safetensors"
        save_file(tensors, path)
        yield Shared(content.getvalue(), path)


def _parent(size: int) -> Path | None:
    """Return the file system in memory, None (the usual one) where it does not exist or has too little space."""
    return _IN_MEMORY if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > 2 * size else None


def _separate(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the host by number, each in memory of its own."""
    found, known = {}, set()
    for number, tensor in enumerate(tensors):
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        found[str(number)] = plain.clone() if storage in known else plain
        known.add(storage)
    return found


class _Pickler(pickle.Pickler):
    """Pickles an object, and keeps its tensors aside."""

    def __init__(self, content: io.BytesIO) -> None:
        super().__init__(content)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """Return the number of a tensor; None for anything else, subclasses such as parameters included."""
        if type(obj) is not Tensor:
            return None
        if id(obj) not in self._numbers:
            self._numbers[id(obj)] = len(self.tensors)
            self.tensors.append(obj)
        return self._numbers[id(obj)]


class _Unpickler(pickle.Unpickler):
    """Puts the tensors back into an object."""

    def __init__(self, rest: bytes, tensors: Sequence[Tensor]) -> None:
        super().__init__(io.BytesIO(rest))
        self._tensors = tensors

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the tensor with a number."""
        return self._tensors[pid]
