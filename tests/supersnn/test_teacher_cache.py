"""Cached and online teacher outputs: equal values, atomic files, addresses, and the choice between the two."""

import json
import math
import pickle
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from torch import Tensor

from supersnn import device_copies, teacher_cache
from supersnn.augment import normalise
from supersnn.config import LossConfig, TrainConfig
from supersnn.data import TrainingData
from supersnn.files import DamagedFile, sha256
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import Network, Output
from supersnn.teacher_cache import TeacherCache, is_complete
from supersnn.teacher_outputs import (
    FEATURES,
    LOGITS,
    OutputKind,
    TeacherSource,
    compute_outputs,
    needed_outputs,
    output_kinds,
)
from supersnn.teacher_sources import OnlineTeacher, teacher_source_for
from supersnn.teachers import Teacher, TeacherStore
from supersnn.training import train
from supersnn.views import augmented

Configured = Callable[..., TrainConfig]
TAUGHT: dict[str, Any] = {
    "teacher__name": "resnet8",
    "loss__relation__weight": 1.0,
    "loss__logit__weight": 1.0,
    "loss__feature__weight": 1.0,
}
VECTORS1, VECTORS2 = OutputKind("vectors", 1), OutputKind("vectors", 2)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TeacherStore:
    """One teacher serves all tests of this file: a cache never writes to the teachers' store."""
    return TeacherStore(tmp_path_factory.mktemp("store") / "teachers")


@pytest.fixture
def teacher(store: TeacherStore, configured: Configured, bars: TrainingData) -> Teacher:
    return store.get(configured(**TAUGHT), bars)


def outputs_of(source: TeacherSource, data: TrainingData, config: TrainConfig, view: int) -> TeacherOutputs:
    rows = torch.tensor([5, 0, 71, 5])
    return source(rows, view, normalise(augmented(data.train, rows, view, config), data.mean, data.std))


def present(values: Tensor | None) -> Tensor:
    assert values is not None
    return values


@pytest.mark.parametrize(
    ("weights", "kinds"),
    [
        ({}, {LOGITS}),
        ({"logit": {"weight": 1}}, {LOGITS}),
        ({"relation": {"weight": 1, "pool": 2}}, {LOGITS, VECTORS2}),
        ({"relation": {"pool": 2}, "feature": {"weight": 1}}, {LOGITS, FEATURES}),
        ({"relation": {"weight": 1, "pool": "full"}, "feature": {"weight": 1}}, {LOGITS, FEATURES}),
        (
            {"relation": {"weight": 1, "pool": 2, "layers": ["last", "last-1"]}},
            {LOGITS, VECTORS2, OutputKind("vectors", 2, "last-1")},
        ),
    ],
)
def test_needed_outputs(weights: dict[str, Any], kinds: set[OutputKind]) -> None:
    needed = needed_outputs(LossConfig.model_validate(weights))
    assert len(needed) == len(kinds)
    assert set(needed) == kinds


def test_output_kinds_have_the_names_of_their_files() -> None:
    kinds = output_kinds(("relation", "logit", "feature"), [4, 1, 2, 1])
    assert [str(kind) for kind in kinds] == ["logits", "vectors1", "vectors2", "vectors4", "features"]
    kinds = output_kinds(("relation",), ["full", 1], ["last-1", "last"])
    names = ["logits", "last.vectors1", "last-1.vectors1", "last.features", "last-1.features"]
    assert [str(kind) for kind in kinds] == [name.removeprefix("last.") for name in names]


@pytest.mark.parametrize("view", [0, 1])
def test_cached_outputs_equal_online_outputs(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, view: int
) -> None:
    config, kinds = configured(**TAUGHT), (LOGITS, VECTORS1, VECTORS2, FEATURES)
    stored = outputs_of(TeacherCache.open(tmp_path, teacher, bars, config, kinds), bars, config, view)
    live = outputs_of(OnlineTeacher(teacher, kinds), bars, config, view)
    assert live.vectors.keys() == stored.vectors.keys() == {1, 2}
    pairs = [(stored.vectors[1], live.vectors[1]), (stored.vectors[2], live.vectors[2])]
    pairs += [(present(stored.logits), present(live.logits)), (present(stored.features), present(live.features))]
    for cached, online in pairs:
        assert cached.dtype == torch.float32
        torch.testing.assert_close(cached, online, rtol=2e-3, atol=2e-3)
    assert present(live.features).shape == (4, 64, 2, 2)


def test_layers_before_the_last_are_cached_beside_what_is_there(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    config = configured(**TAUGHT)
    earlier = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS, VECTORS1])
    old = {path: path.stat().st_mtime_ns for path in earlier.folder.glob("*.npy")}
    kinds = output_kinds(("relation",), [1, "full"], ["last, last-2"])
    cache = TeacherCache.open(tmp_path, teacher, bars, config, kinds)
    assert cache.folder == earlier.folder
    assert {path: path.stat().st_mtime_ns for path in old} == old
    stored, live = outputs_of(cache, bars, config, 1), outputs_of(OnlineTeacher(teacher, kinds), bars, config, 1)
    assert present(stored.related("last-2", "full")).shape == (4, 16 * 8 * 8)
    places: list[tuple[str, int | str]] = [("last", 1), ("last", "full"), ("last-2", 1), ("last-2", "full")]
    for layer, pool in places:
        cached, online = present(stored.related(layer, pool)), present(live.related(layer, pool))
        torch.testing.assert_close(cached, online, rtol=2e-3, atol=2e-3)


def test_augmentations_of_later_versions_leave_the_address_of_earlier_caches(
    configured: Configured, bars: TrainingData, teacher: Teacher
) -> None:
    plain = teacher_cache._identity(teacher, bars, configured(**TAUGHT))
    assert plain["augment"] == {"crop": 1, "flip": False, "cutout": 0}
    mixed = teacher_cache._identity(teacher, bars, configured(**TAUGHT, dataset__augment__mixup=0.2))
    assert mixed["augment"] == {"crop": 1, "flip": False, "cutout": 0, "mixup": 0.2}


def test_outputs_that_are_not_needed_are_not_stored(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    config = configured(**TAUGHT)
    cache = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS])
    assert {path.name for path in cache.folder.glob("*.npy")} == {"logits-0.npy", "logits-1.npy"}
    assert cache.bytes == sum(path.stat().st_size for path in cache.folder.glob("*.npy")) > 72 * 4 * 2 * 2
    outputs = outputs_of(cache, bars, config, 0)
    assert not outputs.vectors
    assert outputs.features is None


def test_training_from_a_cache_equals_online_training_to_half_precision(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    # At a usual rate the first spike that flips at its threshold by half a precision changes all that follows.
    config = configured(**TAUGHT, loss__relation__pool=2, train__epochs=2, optimizer__lr=1e-3)
    kinds = needed_outputs(config.loss)
    stored = train(config, bars, TeacherCache.open(tmp_path, teacher, bars, config, kinds))
    live = train(config, bars, OnlineTeacher(teacher, kinds))
    for cached, online in zip(stored, live, strict=True):
        for name in ("train/loss", "loss/label", "loss/relation", "loss/logit", "loss/feature"):
            assert cached.metrics[name] == pytest.approx(online.metrics[name], rel=1e-3, abs=1e-3)


def test_killed_between_views(configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path) -> None:
    config, kinds = configured(**TAUGHT, dataset__augment__views=4), [LOGITS, VECTORS1]
    uninterrupted = TeacherCache.open(tmp_path / "uninterrupted", teacher, bars, config, kinds)

    def kill(_: str, view: int, __: int) -> None:
        if view == 2:
            raise Killed

    with pytest.raises(Killed):
        TeacherCache.open(tmp_path / "killed", teacher, bars, config, kinds, progress=kill)
    views: list[int] = []
    cache = TeacherCache.open(
        tmp_path / "killed", teacher, bars, config, kinds, progress=lambda _, v, __: views.append(v)
    )
    assert views == [3, 4]
    for path in uninterrupted.folder.glob("*.npy"):
        assert path.read_bytes() == (cache.folder / path.name).read_bytes()


def test_killed_within_a_view(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, kinds = configured(**TAUGHT), [LOGITS, VECTORS1]
    compute, calls = compute_outputs, 0

    def killed_at_the_second_chunk(
        network: Network, images: Tensor, kinds: Collection[OutputKind]
    ) -> dict[OutputKind, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return compute(network, images, kinds)

    monkeypatch.setattr(teacher_cache, "_CHUNK", 50)
    monkeypatch.setattr(teacher_cache, "compute_outputs", killed_at_the_second_chunk)
    with pytest.raises(Killed):
        TeacherCache.open(tmp_path, teacher, bars, config, kinds)
    assert not list(tmp_path.rglob("*.npy*"))
    (folder,) = tmp_path.iterdir()
    (folder / ".logits-0.npy.4711").write_bytes(b"of a process that was killed with SIGKILL")
    cache = TeacherCache.open(tmp_path, teacher, bars, config, kinds)
    assert not list(folder.glob(".*.npy.*"))
    live = outputs_of(OnlineTeacher(teacher, kinds), bars, config, 1).vectors[1]
    torch.testing.assert_close(outputs_of(cache, bars, config, 1).vectors[1], live, rtol=2e-3, atol=2e-3)


def test_missing_kinds_are_added(configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path) -> None:
    config = configured(**TAUGHT)
    first = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS, VECTORS1])
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.npy")}
    second = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS, VECTORS1, VECTORS2, FEATURES])
    assert second.folder == first.folder
    after = {path.name: path.stat().st_mtime_ns for path in second.folder.glob("*.npy")}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {
        f"{kind}-{view}.npy" for kind in ("vectors2", "features") for view in (0, 1)
    }


def test_is_complete(configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path) -> None:
    config, kinds = configured(**TAUGHT), [LOGITS, VECTORS1]
    assert not is_complete(tmp_path, teacher, bars, config, kinds)
    cache = TeacherCache.open(tmp_path, teacher, bars, config, kinds)
    assert is_complete(tmp_path, teacher, bars, config, kinds)
    assert not is_complete(tmp_path, teacher, bars, config, [*kinds, VECTORS2])
    assert not is_complete(tmp_path, teacher, bars, config, [*kinds, FEATURES])
    next(cache.folder.glob("logits-*")).unlink()
    assert not is_complete(tmp_path, teacher, bars, config, kinds)
    with pytest.raises(ValueError, match="views"):
        is_complete(tmp_path, teacher, bars, configured(**TAUGHT, dataset__augment__views="off"), kinds)


def test_two_threads_compute_one_cache(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    views: list[int] = []

    def fill() -> None:
        TeacherCache.open(
            tmp_path, teacher, bars, configured(**TAUGHT), [LOGITS], progress=lambda _, v, __: views.append(v)
        )

    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert views == [1, 2]


@pytest.mark.parametrize(
    ("values", "differs"),
    [
        ({"seed": 3, "optimizer__lr": 0.3, "train__batch_size": 8}, False),
        ({"dataset__augment__crop": 2}, True),
        ({"dataset__split_seed": 1}, True),
        ({"dataset__augment__views": 3}, True),
    ],
)
def test_digest_depends_on_teacher_and_views(
    configured: Configured,
    bars: TrainingData,
    teacher: Teacher,
    tmp_path: Path,
    values: dict[str, Any],
    differs: bool,
) -> None:
    digests = {
        TeacherCache.open(tmp_path, teacher, bars, configured(**(TAUGHT | changed)), [LOGITS]).digest
        for changed in ({}, values)
    }
    assert len(digests) == 1 + differs


def test_outputs_are_copies(configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path) -> None:
    config = configured(**TAUGHT)
    cache = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS, VECTORS1, FEATURES])
    before = {path: path.read_bytes() for path in cache.folder.glob("*.npy")}
    outputs = outputs_of(cache, bars, config, 0)
    expected = outputs.vectors[1].clone()
    for tensor in (outputs.vectors[1], present(outputs.logits), present(outputs.features)):
        tensor.fill_(7.0)
    assert torch.equal(outputs_of(cache, bars, config, 0).vectors[1], expected)
    assert {path: path.read_bytes() for path in before} == before
    elsewhere = pickle.loads(pickle.dumps(cache))
    assert torch.equal(outputs_of(elsewhere, bars, config, 0).vectors[1], expected)
    assert len(pickle.dumps(cache)) < 5000, "the files' content is not pickled"


def test_values_beyond_half_precision_stay_finite(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Network.forward

    def loud(self: Network, images: Tensor) -> Output:
        return Output(forward(self, images).logits * 1e9, forward(self, images).features)

    monkeypatch.setattr(Network, "forward", loud)
    cache = TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT), [LOGITS])
    for path in cache.folder.glob("*.npy"):
        assert np.abs(np.load(path)).max() == 65504


def test_views_off_cannot_be_cached(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="views"):
        TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT, dataset__augment__views="off"), [LOGITS])


@pytest.mark.parametrize(("views", "kind"), [(2, TeacherCache), ("off", OnlineTeacher)])
def test_teacher_source_for(
    configured: Configured, bars: TrainingData, tmp_path: Path, views: int | str, kind: type
) -> None:
    assert teacher_source_for(configured(), bars, tmp_path) is None
    assert not list(tmp_path.iterdir())
    stages: list[str] = []
    config = configured(**TAUGHT, dataset__augment__views=views, train__epochs=1)
    source = teacher_source_for(config, bars, tmp_path, progress=lambda stage, _, __: stages.append(stage))
    assert isinstance(source, kind)
    assert stages == ["teacher resnet8"] * 2 + ["teacher cache resnet8"] * (2 if views == 2 else 0)
    (report,) = train(config, bars, source)
    assert math.isfinite(report.metrics["train/loss"])
    teacher_source_for(config, bars, tmp_path, progress=lambda stage, _, __: stages.append(stage))
    assert len(stages) == (4 if views == 2 else 2)


def zeros(path: Path) -> None:
    np.save(path, np.zeros_like(np.load(path)))


def shifted(path: Path) -> None:
    np.save(path, np.roll(np.load(path), 1, axis=0))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = [zeros, shifted, cut, empty, flipped]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_outputs_are_computed_again(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    config, kinds = configured(**TAUGHT), [LOGITS, VECTORS1]
    cache = TeacherCache.open(tmp_path, teacher, bars, config, kinds)
    before = {path.name: path.read_bytes() for path in cache.folder.glob("*.npy")}
    damage(cache.folder / "vectors1-1.npy")
    assert not is_complete(tmp_path, teacher, bars, config, kinds)
    stages: list[tuple[str, int]] = []
    again = TeacherCache.open(
        tmp_path, teacher, bars, config, kinds, progress=lambda stage, view, _: stages.append((stage, view))
    )
    assert stages == [("teacher cache resnet8: vectors1-1.npy was damaged", 2)]
    assert {path.name: path.read_bytes() for path in again.folder.glob("*.npy")} == before
    assert json.loads((again.folder / "manifest.json").read_text())["replaced"] == ["vectors1-1.npy"]
    assert is_complete(tmp_path, teacher, bars, config, kinds)
    assert again.digest == cache.digest


@pytest.mark.parametrize("damage", [*DAMAGES, Path.unlink])
def test_no_training_reads_damaged_outputs(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Damaged after the cache was opened, and before another process reads it."""
    config = configured(**TAUGHT)
    cache = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS])
    damage(cache.folder / "logits-0.npy")
    outputs_of(cache, bars, config, 1)
    with pytest.raises(DamagedFile, match=r"logits-0\.npy: ") as refused:
        outputs_of(cache, bars, config, 0)
    assert "\n" not in str(refused.value)


def test_outputs_are_verified_once(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []

    def counted(path: Path) -> str:
        verified.append(path.name)
        return sha256(path)

    monkeypatch.setattr(teacher_cache, "sha256", counted)
    for _ in range(3):
        cache = TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT), [LOGITS])
        outputs_of(cache, bars, configured(**TAUGHT), 0)
    written = ["logits-0.npy", "logits-1.npy"]
    assert verified.count("logits-0.npy") == 2, "once when it was written, once when it was opened"
    assert sorted(set(verified)) == written
    for path in cache.folder.glob("*.sha256"):
        assert path.read_text() == f"{sha256(path.with_suffix('.npy'))}  {path.stem}.npy\n"


def test_a_cache_without_checksums_gets_them(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    """Written by an older version: nothing is computed again, except for files of another form."""
    config = configured(**TAUGHT)
    cache = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS])
    views: list[int] = []

    def opened() -> None:
        TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS], progress=lambda _, view, __: views.append(view))

    def age() -> None:
        manifest = json.loads((cache.folder / "manifest.json").read_text())
        del manifest["checksums"]
        (cache.folder / "manifest.json").write_text(json.dumps(manifest))
        for path in cache.folder.glob("*.sha256"):
            path.unlink()

    age()
    assert is_complete(tmp_path, teacher, bars, config, [LOGITS])
    opened()
    assert views == []
    assert len(list(cache.folder.glob("*.sha256"))) == 2
    zeros(cache.folder / "logits-0.npy")
    opened()
    assert views == [1]
    age()
    cut(cache.folder / "logits-1.npy")
    assert not is_complete(tmp_path, teacher, bars, config, [LOGITS])
    opened()
    assert views == [1, 2]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"seconds": "x"}', "[" * 100_000])
def test_a_damaged_manifest_is_written_again(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, content: str | None
) -> None:
    config = configured(**TAUGHT)
    manifest = TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS]).folder / "manifest.json"
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content)
    with pytest.raises(DamagedFile, match=r"manifest\.json: not the manifest of a teacher cache"):
        TeacherCache(manifest.parent, [LOGITS])
    views: list[int] = []
    cache = TeacherCache.open(
        tmp_path, teacher, bars, config, [LOGITS], progress=lambda _, view, __: views.append(view)
    )
    assert (views, cache.seconds) == ([], 0.0)
    (cache.folder / "logits-0.sha256").unlink()
    assert not is_complete(tmp_path, teacher, bars, config, [LOGITS]), "nothing proves the outputs"


def test_outputs_in_another_precision_have_an_address_of_their_own(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    config = configured(**TAUGHT)
    there = replace(teacher, precision="bf16")
    assert teacher.precision == "fp32"
    assert teacher_cache.address(there, bars, config) != teacher_cache.address(teacher, bars, config)
    cache = TeacherCache.open(tmp_path, there, bars, config, [LOGITS])
    assert json.loads((cache.folder / "manifest.json").read_text(encoding="utf-8"))["precision"] == "bf16"
    assert is_complete(tmp_path, there, bars, config, [LOGITS])
    assert not is_complete(tmp_path, teacher, bars, config, [LOGITS])
    assert "precision" not in teacher_cache._identity(teacher, bars, config)


@pytest.mark.parametrize("kept", [2**30, 0], ids=["kept on the device", "copied in parts"])
def test_a_gpus_way_to_read_the_files_finds_what_is_in_them(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, monkeypatch: Any, kept: int
) -> None:
    """Run on the CPU; each view is copied once, until another is asked for."""
    monkeypatch.setattr(teacher_cache, "_ON_DEVICE", kept)
    cache = TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT), [LOGITS, VECTORS2])
    position = torch.tensor([5, 0, 71, 5])
    held: list[Tensor] = []
    for view in (1, 1, 0, 1):
        for kind in (LOGITS, VECTORS2):
            found = cache._on_device(kind, view, position, position)
            stored = np.load(cache.folder / f"{kind}-{view}.npy")[position.numpy()]
            assert found.dtype == torch.float32
            assert torch.equal(found, torch.from_numpy(stored).float())
        if kept:
            assert {number for number, _ in cache._views.values()} == {view}
            held.append(cache._views[LOGITS][1].values)
    assert held == [] if not kept else (held[0] is held[1] and held[1] is not held[2])
    assert (cache._views == {}) == (kept == 0)


def test_all_trainings_of_a_process_share_the_copy_of_a_view_on_a_device(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
) -> None:
    """Run on the CPU: the trainings of a pack read the caches of their teachers in their own order."""
    config, position = configured(**TAUGHT), torch.tensor([5, 0, 71])
    one, other = (TeacherCache.open(tmp_path, teacher, bars, config, [LOGITS]) for _ in range(2))
    for cache, view in ((one, 0), (other, 0), (other, 1)):
        cache._on_device(LOGITS, view, position, position)
        if view == 0:
            shared = one._views[LOGITS][1]
            assert cache._views[LOGITS][1] is shared
    assert other._views[LOGITS][1] is not shared
    copies, left = device_copies._COPIES, ref(shared)
    assert {*copies.values()} >= {shared, other._views[LOGITS][1]}
    one._on_device(LOGITS, 1, position, position)
    assert one._views[LOGITS][1] is other._views[LOGITS][1]
    del shared
    assert left() is None  # nobody reads view 0 any more
