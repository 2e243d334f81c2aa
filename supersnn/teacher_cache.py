"""Cache of a frozen teacher's outputs for every augmented view of the training images.

The outputs are computed once, stored in a folder, and memory-mapped by all trainings on a machine.
"""

import json
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.config_model import digest
from supersnn.data import TrainingData
from supersnn.files import atomic_file, write_atomically
from supersnn.losses import TeacherOutputs
from supersnn.teacher_outputs import OutputKind, as_teacher_outputs, compute_outputs
from supersnn.teachers import Progress, Teacher
from supersnn.training import augmented

_CHUNK = 128  # images in one forward pass of the teacher; the stored bits depend on it
_HALF_MAX = torch.finfo(torch.float16).max
_MANIFEST = "manifest.json"

Chunk = dict[OutputKind, NDArray[np.float16]]


class TeacherCache:
    """A `training.TeacherSource` that reads cached outputs.

    The folder has a file for each kind of output and view, an array [N, ...] of 16-bit floats over the N training
    images, written atomically. `digest` identifies the teacher, the split and the views; `seconds` is the time that
    computing the outputs took.
    """

    def __init__(self, folder: Path, kinds: Collection[OutputKind]) -> None:
        self.folder, self._kinds = folder, tuple(kinds)
        self.digest = folder.name
        self.seconds: float = json.loads((folder / _MANIFEST).read_text())["seconds"]
        self._maps: dict[tuple[OutputKind, int], NDArray[np.float16]] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        teacher: Teacher,
        data: TrainingData,
        config: TrainConfig,
        kinds: Collection[OutputKind],
        progress: Progress | None = None,
    ) -> "TeacherCache":
        """Return the cache of a teacher's outputs; outputs that are missing are computed first.

        Of `config` the cache depends on `dataset.augment` and `dataset.split_seed` only. A file lock keeps two
        processes from computing the same outputs: the second waits. Views that a killed process completed are kept.

        Args:
            folder: of all caches.
            teacher: on the device that computes the outputs.
            data: its training images are the inputs.
            config: of the student's training; `dataset.augment.views` must be a number.
            kinds: the outputs that are needed now; others can be added to the cache later.
            progress: called after every view.
        """
        views, identity = _views(config), _identity(teacher, data, config)
        own = folder / digest(identity)
        if _missing(own, kinds, views):
            own.mkdir(parents=True, exist_ok=True)
            with FileLock(own / ".lock"):
                _delete_unfinished(own)
                _write_manifest(own, {**identity, "images": len(data.train), "seconds": 0.0})
                for view, missing in _missing(own, kinds, views).items():
                    started = time.perf_counter()
                    _write_view(
                        own, view, missing, _compute_view(teacher, data, config, view, missing), len(data.train)
                    )
                    _add_seconds(own, time.perf_counter() - started)
                    if progress is not None:
                        progress(f"teacher cache {teacher.config.student.architecture}", view + 1, views)
        return cls(own, kinds)

    @property
    def bytes(self) -> int:
        """Size of all stored outputs."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        """Return the cached outputs of some rows, copied to the device of `images`; see `training.TeacherSource`."""
        rows = position.numpy()
        halves = {kind: torch.from_numpy(self._map(kind, view).take(rows, axis=0)) for kind in self._kinds}
        return as_teacher_outputs({kind: values.to(images.device).float() for kind, values in halves.items()})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory maps: the process that unpickles this object maps the files itself."""
        return {**vars(self), "_maps": {}}

    def _map(self, kind: OutputKind, view: int) -> NDArray[np.float16]:
        if (kind, view) not in self._maps:
            self._maps[kind, view] = np.asarray(np.load(_file(self.folder, kind, view), mmap_mode="r"))
        return self._maps[kind, view]


def address(teacher: Teacher, data: TrainingData, config: TrainConfig) -> str:
    """Return the digest of a teacher's cache: the name of its folder in a store."""
    return digest(_identity(teacher, data, config))


def is_complete(
    folder: Path, teacher: Teacher, data: TrainingData, config: TrainConfig, kinds: Collection[OutputKind]
) -> bool:
    """Return whether the outputs are cached, so that `TeacherCache.open` with these arguments computes nothing."""
    return not _missing(folder / address(teacher, data, config), kinds, _views(config))


def _views(config: TrainConfig) -> int:
    views = config.dataset.augment.views
    if views == "off":
        raise ValueError("dataset.augment.views is off: outputs for views that are used once are not cached")
    return views


def _identity(teacher: Teacher, data: TrainingData, config: TrainConfig) -> dict[str, Any]:
    """Return everything that the outputs depend on."""
    return {
        "teacher": teacher.digest,
        "weights": teacher.weights_digest,
        "split": data.fingerprint,
        "augment": config.dataset.augment.model_dump(mode="json", exclude={"views"}),
        "augment_seed": config.dataset.split_seed,
        "views": config.dataset.augment.views,
    }


def _file(folder: Path, kind: OutputKind, view: int) -> Path:
    return folder / f"{kind}-{view}.npy"


def _missing(folder: Path, kinds: Collection[OutputKind], views: int) -> dict[int, list[OutputKind]]:
    """Return the kinds that are not stored, by view; complete views are left out."""
    by_view = {view: [kind for kind in kinds if not _file(folder, kind, view).exists()] for view in range(views)}
    return {view: missing for view, missing in by_view.items() if missing}


def _compute_view(
    teacher: Teacher, data: TrainingData, config: TrainConfig, view: int, kinds: Collection[OutputKind]
) -> Iterator[Chunk]:
    """Yield the teacher's outputs for a view, chunk by chunk in the order of the images, as finite 16-bit floats."""
    device = next(teacher.network.parameters()).device
    for rows in torch.arange(len(data.train)).split(_CHUNK):
        images = normalise(augmented(data.train, rows, view, config), data.mean, data.std).to(device)
        outputs = compute_outputs(teacher.network, images, kinds)
        yield {k: v.clamp(-_HALF_MAX, _HALF_MAX).half().contiguous().cpu().numpy() for k, v in outputs.items()}


def _write_view(folder: Path, view: int, kinds: Collection[OutputKind], chunks: Iterator[Chunk], images: int) -> None:
    """Write the chunks of one view to a `.npy` file for each kind."""
    with ExitStack() as stack:
        unfinished = {kind: stack.enter_context(atomic_file(_file(folder, kind, view))) for kind in kinds}
        files = {kind: stack.enter_context(path.open("wb")) for kind, path in unfinished.items()}
        for chunk in chunks:
            for kind, values in chunk.items():
                if files[kind].tell() == 0:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (images, *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(files[kind], header)
                files[kind].write(values.tobytes())


def _delete_unfinished(folder: Path) -> None:
    """Delete the files that a killed process left unfinished; the caller holds the lock."""
    for path in folder.glob(".*.npy.*"):
        path.unlink()


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    if not (folder / _MANIFEST).exists():
        write_atomically(folder / _MANIFEST, json.dumps(manifest))


def _add_seconds(folder: Path, seconds: float) -> None:
    manifest = json.loads((folder / _MANIFEST).read_text())
    manifest["seconds"] += seconds
    write_atomically(folder / _MANIFEST, json.dumps(manifest))
