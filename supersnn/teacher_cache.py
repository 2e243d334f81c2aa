"""Cache of a frozen teacher's outputs for every augmented view of the training images.

The outputs are computed once, stored in a folder, and memory-mapped by all trainings on a machine. Beside each array is
its SHA-256 in the form of `sha256sum`, which is verified once in every process that uses the array, so that no training
learns from damaged outputs: 25 ms for 43 MB, once, against seconds for an epoch with so many images. A file of its own
for each array, and not one for all, because nodes with a shared storage contribute arrays independently.
"""

import functools
import json
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.device_copies import DeviceCopy, device_copy
from supersnn.digests import digest, digested
from supersnn.files import DamagedFile, atomic_file, locked, sha256, write_atomically
from supersnn.losses import TeacherOutputs
from supersnn.streams import to_device
from supersnn.teacher_outputs import OutputKind, as_teacher_outputs, compute_outputs
from supersnn.teachers import Progress, Teacher
from supersnn.views import augmented

_CHUNK_ON_GPU = 1024
_CHUNK = 128  # images in one forward pass of the teacher; the stored bits depend on it
_ON_DEVICE = 2**30  # bytes of a view that is kept on a GPU
_HALF_MAX = torch.finfo(torch.float16).max
_MANIFEST, _CHECKSUM = "manifest.json", "sha256"

Chunk = dict[OutputKind, NDArray[np.float16]]


class TeacherCache:
    """A `teacher_outputs.TeacherSource` that reads cached outputs.

    The folder has a file for each kind of output and view, an array [N, ...] of 16-bit floats over the N training
    images, written atomically, and its checksum. `digest` identifies the teacher, the split and the views; `seconds` is
    the time that computing the outputs took.

    Raises:
        DamagedFile: the manifest is damaged; and when outputs are read, the file with them is damaged.
    """

    def __init__(self, folder: Path, kinds: Collection[OutputKind]) -> None:
        self.folder, self._kinds = folder, tuple(kinds)
        self.digest = folder.name
        self.seconds: float = _manifest(folder)["seconds"]
        self._maps: dict[tuple[OutputKind, int], NDArray[np.float16]] = {}
        self._views: dict[OutputKind, tuple[int, DeviceCopy]] = {}

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
        """Return the cache of a teacher's outputs; outputs that are missing or damaged are computed first.

        Of `config` the cache depends on `dataset.augment` and `dataset.split_seed` only. A file lock keeps two
        processes from computing the same outputs: the second waits. Views that a killed process completed are kept.
        Damaged files are named by the manifest's `replaced`. A cache that was written before there were checksums is
        checked for its form, and its arrays get checksums.

        Args:
            folder: of all caches.
            teacher: on the device that computes the outputs.
            data: its training images are the inputs.
            config: of the student's training; `dataset.augment.views` must be a number.
            kinds: the outputs that are needed now; others can be added to the cache later.
            progress: called after every view.
        """
        views, identity = _views(config), _identity(teacher, data, config)
        own, images = folder / digest(identity), len(data.train)
        stage = f"teacher cache {teacher.config.student.architecture}"
        if not _has_manifest(own) or _missing(own, kinds, views, images):
            own.mkdir(parents=True, exist_ok=True)
            waits = None if progress is None else functools.partial(progress, f"{stage} in another process", 0, views)
            with locked(own / ".lock", waits):
                _delete_unfinished(own)
                _write_manifest(own, {**identity, "images": images, "seconds": 0.0, "checksums": _CHECKSUM})
                for view, missing in _missing(own, kinds, views, images).items():
                    damaged = [name for kind in missing if (name := _file(own, kind, view)).exists()]
                    started = time.perf_counter()
                    _write_view(own, view, missing, _compute_view(teacher, data, config, view, missing), images)
                    _record(own, time.perf_counter() - started, damaged)
                    if progress is not None:
                        again = f": {', '.join(path.name for path in damaged)} was damaged" if damaged else ""
                        progress(f"{stage}{again}", view + 1, views)
        _add_checksums(own, images)
        return cls(own, kinds)

    @property
    def bytes(self) -> int:
        """Size of all stored outputs."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        """Return the cached outputs of some rows, on the device of `images`; see `TeacherSource`."""
        if images.is_cuda:
            there = to_device(position, images.device)
            return as_teacher_outputs({kind: self._on_device(kind, view, position, there) for kind in self._kinds})
        rows = position.numpy()
        halves = {kind: torch.from_numpy(self._map(kind, view).take(rows, axis=0)) for kind in self._kinds}
        return as_teacher_outputs({kind: values.float() for kind, values in halves.items()})

    def _on_device(self, kind: OutputKind, view: int, position: Tensor, rows: Tensor) -> Tensor:
        """Return one kind of output for some rows, on the device of `rows`, without waiting for that.

        The whole view is copied there once, where it has at most `_ON_DEVICE` bytes, and kept until another is asked
        for; all trainings of a process share the copy. A larger one stays in the file, and its rows are copied.

        Args:
            kind, view: which outputs.
            position: the rows on the host, int64 [B].
            rows: the same on the device.
        """
        values = self._map(kind, view)
        if values.nbytes > _ON_DEVICE:
            return to_device(torch.from_numpy(values.take(position.numpy(), axis=0)), rows.device).float()
        kept = self._views.get(kind)
        if kept is None or kept[0] != view:
            name = _file(self.folder, kind, view).absolute()  # its folder is named by all that the outputs depend on
            kept = self._views[kind] = view, device_copy(name, values, rows.device)
        return kept[1].rows(rows).float()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory maps: the process that unpickles this object maps the files itself."""
        return {**vars(self), "_maps": {}, "_views": {}}

    def _map(self, kind: OutputKind, view: int) -> NDArray[np.float16]:
        if (kind, view) not in self._maps:
            path = _file(self.folder, kind, view)
            if problem := _damage(path, None):
                raise DamagedFile(f"{path}: {problem}; it is computed again when the training is started again")
            self._maps[kind, view] = np.asarray(np.lib.format.open_memmap(path, mode="r"))
        return self._maps[kind, view]


def address(teacher: Teacher, data: TrainingData, config: TrainConfig) -> str:
    """Return the digest of a teacher's cache: the name of its folder in a store."""
    return digest(_identity(teacher, data, config))


def is_complete(
    folder: Path, teacher: Teacher, data: TrainingData, config: TrainConfig, kinds: Collection[OutputKind]
) -> bool:
    """Return whether the outputs are cached, so that `TeacherCache.open` with these arguments computes nothing."""
    return not _missing(folder / address(teacher, data, config), kinds, _views(config), len(data.train))


def _views(config: TrainConfig) -> int:
    views = config.dataset.augment.views
    if views == "off":
        raise ValueError("dataset.augment.views is off: outputs for views that are used once are not cached")
    return views


def _identity(teacher: Teacher, data: TrainingData, config: TrainConfig) -> dict[str, Any]:
    """Return everything that the outputs depend on; their precision only if it is not that of a CPU."""
    return {
        "teacher": teacher.digest,
        "weights": teacher.weights_digest,
        "split": data.fingerprint,
        "augment": {name: value for name, value in digested(config.dataset.augment).items() if name != "views"},
        "augment_seed": config.dataset.split_seed,
        "views": config.dataset.augment.views,
        **({} if teacher.precision == "fp32" else {"precision": teacher.precision}),
    }


def _file(folder: Path, kind: OutputKind, view: int) -> Path:
    return folder / f"{kind}-{view}.npy"


def _missing(folder: Path, kinds: Collection[OutputKind], views: int, images: int) -> dict[int, list[OutputKind]]:
    """Return the kinds that are not stored or damaged, by view; complete views are left out."""
    by_view = {view: [kind for kind in kinds if _damage(_file(folder, kind, view), images)] for view in range(views)}
    return {view: missing for view, missing in by_view.items() if missing}


def _damage(path: Path, images: int | None) -> str | None:
    """Return what is wrong with a stored array, None if nothing is.

    An array without a checksum is damaged too, unless the cache was written before there were checksums: then its form
    is checked, and its number of `images` if that is known.
    """
    try:
        expected = _checksum_file(path).read_text(encoding="utf-8").partition(" ")[0]
    except (OSError, UnicodeDecodeError):
        return _bad_form(path, images) if _is_without_checksums(path.parent) else _no_checksum(path)
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    found = _sha256(path, status.st_ino, status.st_size, status.st_mtime_ns)
    return None if found == expected else "not the outputs that were stored (its SHA-256 differs)"


def _no_checksum(path: Path) -> str:
    return "its checksum is missing" if path.exists() else "missing"


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, *_identity: int) -> str:
    """Return a file's SHA-256, computed once in a process as long as the file's identity stays the same."""
    return sha256(path)


def _bad_form(path: Path, images: int | None) -> str | None:
    """Return what is wrong with the form of an array's file: its type, its shape or its size; None if nothing is."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises whatever a damaged header leads it to
        return f"no complete array: {' '.join(str(error).split())}"
    if array.dtype != np.dtype("<f2") or array.ndim < 2 or images not in (None, len(array)):
        return f"array of {array.dtype} {list(array.shape)}, expected float16 [{images or 'N'}, ...]"
    surplus = path.stat().st_size - array.offset - array.nbytes
    return f"{surplus} bytes too long" if surplus else None


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.sha256")


def _write_checksum(path: Path) -> None:
    """Write an array's checksum; `sha256sum -c` in the folder verifies it."""
    write_atomically(_checksum_file(path), f"{sha256(path)}  {path.name}\n")


def _is_without_checksums(folder: Path) -> bool:
    """Return whether a cache was written before there were checksums."""
    return _has_manifest(folder) and "checksums" not in _manifest(folder)


def _add_checksums(folder: Path, images: int) -> None:
    """Add checksums to a cache that has none, unless it cannot be written to."""
    if not _is_without_checksums(folder):
        return
    with suppress(OSError), FileLock(folder / ".lock"):
        for path in folder.glob("*.npy"):
            if not _checksum_file(path).exists() and _bad_form(path, images) is None:
                _write_checksum(path)
        write_atomically(folder / _MANIFEST, json.dumps({**_manifest(folder), "checksums": _CHECKSUM}))


def _compute_view(
    teacher: Teacher, data: TrainingData, config: TrainConfig, view: int, kinds: Collection[OutputKind]
) -> Iterator[Chunk]:
    """Yield the teacher's outputs for a view, chunk by chunk in the order of the images, as finite 16-bit floats."""
    device = next(teacher.network.parameters()).device
    for rows in torch.arange(len(data.train)).split(_CHUNK_ON_GPU if device.type == "cuda" else _CHUNK):
        images = normalise(augmented(data.train, rows, view, config), data.mean, data.std).to(device)
        outputs = compute_outputs(teacher.network, images, kinds)
        yield {k: v.clamp(-_HALF_MAX, _HALF_MAX).half().contiguous().cpu().numpy() for k, v in outputs.items()}


def _write_view(folder: Path, view: int, kinds: Collection[OutputKind], chunks: Iterator[Chunk], images: int) -> None:
    """Write the chunks of one view to a `.npy` file for each kind, then the files' checksums."""
    with ExitStack() as stack:
        unfinished = {kind: stack.enter_context(atomic_file(_file(folder, kind, view))) for kind in kinds}
        files = {kind: stack.enter_context(path.open("wb")) for kind, path in unfinished.items()}
        for chunk in chunks:
            for kind, values in chunk.items():
                if files[kind].tell() == 0:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (images, *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(files[kind], header)
                files[kind].write(values.tobytes())
    for kind in kinds:
        _write_checksum(_file(folder, kind, view))


def _delete_unfinished(folder: Path) -> None:
    """Delete the files that a killed process left unfinished; the caller holds the lock."""
    for path in (*folder.glob(".*.npy.*"), *folder.glob(".*.sha256.*")):
        path.unlink()


def _manifest(folder: Path) -> dict[str, Any]:
    """Return a cache's manifest.

    Raises:
        DamagedFile: it is missing or not a manifest.
    """
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        float(manifest["seconds"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{path}: not the manifest of a teacher cache: {' '.join(str(error).split())}") from error
    return dict(manifest)


def _has_manifest(folder: Path) -> bool:
    try:
        _manifest(folder)
    except DamagedFile:
        return False
    return True


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest unless there is one; a damaged one is replaced."""
    if not _has_manifest(folder):
        write_atomically(folder / _MANIFEST, json.dumps(manifest))


def _record(folder: Path, seconds: float, replaced: Collection[Path]) -> None:
    """Add the time that computing a view took, and the damaged files that it replaced, to the manifest."""
    manifest = _manifest(folder)
    manifest["seconds"] += seconds
    if replaced:
        manifest["replaced"] = [*manifest.get("replaced", []), *(path.name for path in replaced)]
    write_atomically(folder / _MANIFEST, json.dumps(manifest))
