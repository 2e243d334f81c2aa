"""What a frozen teacher says of each view of each training image: asked once, stored, read by every training."""

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
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
from supersnn.files import write_atomically
from supersnn.losses import TeacherOutputs, pooled
from supersnn.networks.base import Network
from supersnn.teachers import Progress, Teacher, TeacherStore
from supersnn.training import TeacherSource, shown

_CHUNK = 128  # images that the teacher sees at once; part of what decides the bits
_HALF_MAX = torch.finfo(torch.float16).max

Kind = str
"""`logits`, `features`, or `vectors1`, `vectors2`, `vectors4`: pooled to that side."""


def _kinds(pools: Collection[int], features: bool) -> tuple[Kind, ...]:
    return ("logits", *(f"vectors{pool}" for pool in sorted(set(pools))), *(("features",) if features else ()))


class OnlineTeacher:
    """The teacher itself beside the training: for views that are drawn anew in every epoch."""

    def __init__(self, teacher: Teacher, pools: Collection[int], features: bool = False) -> None:
        self._network, self._kinds = teacher.network, _kinds(pools, features)

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        """Return what the teacher says of the images; see `training.TeacherSource`."""
        return _guidance(_answers(self._network, images, self._kinds))


class TeacherCache:
    """A teacher_source that reads what the teacher said, from files that all trainings on a machine share.

    Of each kind and view there is one file, an array [N, ...] of 16-bit floats, N the training images; it is
    whole or not there. `digest` stands for the teacher, the split and the views; `seconds` is what asking the
    teacher took, `bytes` what is stored.
    """

    def __init__(self, folder: Path, kinds: Collection[Kind], views: int) -> None:
        self.folder, self.views, self._kinds = folder, views, tuple(kinds)
        self.digest = folder.name
        manifest = json.loads((folder / "manifest.json").read_text())
        self.seconds: float = manifest["seconds"]
        self._maps: dict[tuple[Kind, int], NDArray[np.float16]] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        teacher: Teacher,
        data: TrainingData,
        config: TrainConfig,
        pools: Collection[int],
        features: bool = False,
        progress: Progress | None = None,
    ) -> "TeacherCache":
        """Return the bank of a teacher, after asking it for what is missing.

        It depends on `config` by its `dataset` (augmentation and `split_seed`) and its `teacher.views` alone.
        Two processes never ask for the same: the second waits. What a killed one has finished is kept.

        Args:
            folder: of all banks.
            teacher: on the device where it is to be asked.
            data: whose training images it is asked about.
            config: of the student's training; its `teacher.views` is a number.
            pools: the pooled sides whose vectors are needed now; others may be added later.
            features: whether the unpooled maps are needed too: they are large.
            progress: told of every view.
        """
        views = _stored_views(config)
        identity = _identity(teacher, data, config)
        home, kinds = folder / digest(identity), _kinds(pools, features)
        if _missing(home, kinds, views):
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / ".lock"):
                _ask(home, teacher, data, config, kinds, views, identity, progress)
        return cls(home, kinds, views)

    @property
    def bytes(self) -> int:
        """How much is stored, of all kinds."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        """Return the cached outputs of the rows, copied to the device of `images`; see `training.TeacherSource`."""
        rows = position.numpy()
        said = {kind: torch.from_numpy(self._map(kind, view).take(rows, axis=0)) for kind in self._kinds}
        return _guidance({kind: values.to(images.device).float() for kind, values in said.items()})

    def __getstate__(self) -> dict[str, Any]:
        """Leave the files' content behind: another process maps them anew."""
        return {**vars(self), "_maps": {}}

    def _map(self, kind: Kind, view: int) -> NDArray[np.float16]:
        if (kind, view) not in self._maps:
            self._maps[kind, view] = np.asarray(np.load(_file(self.folder, kind, view), mmap_mode="r"))
        return self._maps[kind, view]


def teacher_source_for(
    config: TrainConfig,
    data: TrainingData,
    store: Path,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> TeacherSource | None:
    """Return the teacher outputs' source of a training, None without a teacher; what is missing is computed.

    Args:
        config: of the student's training.
        data: its images.
        store: the folder with `teachers` and `banks`.
        device: where teachers are trained and asked.
        progress: told of teacher epochs and bank views.
    """
    if config.teacher.name is None:
        return None
    teacher = TeacherStore(store / "teachers").get(config, data, device, progress)
    return teacher_source(teacher, config, data, store, progress)


def teacher_source(
    teacher: Teacher, config: TrainConfig, data: TrainingData, store: Path, progress: Progress | None = None
) -> TeacherSource:
    """Return the teacher_source of a training whose teacher is there; see `teacher_source_for`."""
    pools = [config.loss.relation.pool] if config.loss.relation.weight > 0 else []
    features = config.loss.feature.weight > 0
    if config.dataset.augment.views == "off":
        return OnlineTeacher(teacher, pools, features)
    return TeacherCache.open(store / "banks", teacher, data, config, pools, features, progress)


def address(teacher: Teacher, data: TrainingData, config: TrainConfig) -> str:
    """Return the digest of a teacher's bank: the name of its folder in a store."""
    return digest(_identity(teacher, data, config))


def lacks(
    folder: Path,
    teacher: Teacher,
    data: TrainingData,
    config: TrainConfig,
    pools: Collection[int],
    features: bool = False,
) -> bool:
    """Say whether `TeacherCache.open`, called with the same, would have to ask the teacher for something."""
    return bool(_missing(folder / address(teacher, data, config), _kinds(pools, features), _stored_views(config)))


def _stored_views(config: TrainConfig) -> int:
    if config.dataset.augment.views == "off":
        raise ValueError("views that are drawn anew in every epoch cannot be stored")
    return config.dataset.augment.views


def _identity(teacher: Teacher, data: TrainingData, config: TrainConfig) -> dict[str, Any]:
    return {
        "teacher": teacher.digest,
        "weights": teacher.weights_digest,
        "split": data.fingerprint,
        "augment": config.dataset.augment.model_dump(mode="json", exclude={"views"}),
        "augment_seed": config.dataset.split_seed,
        "views": config.dataset.augment.views,
    }


def _answers(network: Network, images: Tensor, kinds: Collection[Kind]) -> dict[Kind, Tensor]:
    """Return what an artificial network says of images [B, C, H, W]: by kind, tensors [B, ...]."""
    with torch.no_grad():
        logits, features = network(images)
        say: dict[Kind, Any] = {"logits": lambda: logits[0], "features": lambda: features[0]}
        return {k: say[k]() if k in say else pooled(features, int(k.removeprefix("vectors")))[0] for k in kinds}


def _guidance(said: Mapping[Kind, Tensor]) -> TeacherOutputs:
    vectors = {int(k.removeprefix("vectors")): v for k, v in said.items() if k.startswith("vectors")}
    return TeacherOutputs(vectors, said.get("logits"), said.get("features"))


def _file(home: Path, kind: Kind, view: int) -> Path:
    return home / f"{kind}-{view}.npy"


def _missing(home: Path, kinds: Collection[Kind], views: int) -> dict[int, list[Kind]]:
    """Return, by view, the kinds that are not stored; views with nothing missing are left out."""
    by_view = {view: [k for k in kinds if not _file(home, k, view).exists()] for view in range(views)}
    return {view: lacking for view, lacking in by_view.items() if lacking}


def _ask(
    home: Path,
    teacher: Teacher,
    data: TrainingData,
    config: TrainConfig,
    kinds: Collection[Kind],
    views: int,
    identity: dict[str, Any],
    progress: Progress | None,
) -> None:
    """Ask the teacher for what is missing, view by view; the caller holds the lock."""
    manifest = home / "manifest.json"
    if not manifest.exists():
        write_atomically(manifest, json.dumps({**identity, "images": len(data.train), "seconds": 0.0}))
    for view, lacking in _missing(home, kinds, views).items():
        started = time.perf_counter()
        _store(home, view, lacking, _said(teacher, data, config, view, lacking), len(data.train))
        record = json.loads(manifest.read_text())
        record["seconds"] += time.perf_counter() - started
        write_atomically(manifest, json.dumps(record))
        if progress is not None:
            progress(f"bank {teacher.config.student.architecture}", view + 1, views)


def _said(
    teacher: Teacher, data: TrainingData, config: TrainConfig, view: int, kinds: Collection[Kind]
) -> Iterator[dict[Kind, NDArray[np.float16]]]:
    """Yield the teacher's answers to a view, chunk by chunk, in the order of the rows, as finite 16-bit floats."""
    device = next(teacher.network.parameters()).device
    for rows in torch.arange(len(data.train)).split(_CHUNK):
        images = normalise(shown(data.train, rows, view, config), data.mean, data.std).to(device)
        answers = _answers(teacher.network, images, kinds)
        yield {k: v.clamp(-_HALF_MAX, _HALF_MAX).half().contiguous().cpu().numpy() for k, v in answers.items()}


def _store(
    home: Path, view: int, kinds: Collection[Kind], chunks: Iterator[dict[Kind, NDArray[np.float16]]], images: int
) -> None:
    """Write the chunks of one view, a file for each kind that takes its name when it is whole."""
    unfinished = {kind: home / f".{kind}-{view}" for kind in kinds}
    files = {kind: path.open("wb") for kind, path in unfinished.items()}
    try:
        for chunk in chunks:
            for kind, values in chunk.items():
                if files[kind].tell() == 0:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (images, *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(files[kind], header)
                files[kind].write(values.tobytes())
    finally:
        for file in files.values():
            file.close()
    for kind, path in unfinished.items():
        os.replace(path, _file(home, kind, view))
