import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from supersnn import teacher_cache as cache
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import Network, Output
from supersnn.teacher_cache import OnlineTeacher, TeacherCache, teacher_source_for
from supersnn.teachers import Teacher, TeacherStore
from supersnn.training import shown, train

Configured = Callable[..., TrainConfig]
TAUGHT = {
    "teacher__name": "resnet8",
    "loss__relation__weight": 1.0,
    "loss__logit__weight": 1.0,
    "loss__feature__weight": 1.0,
}


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TeacherStore:
    """One teacher serves all tests of this file: a bank never writes to the teachers' store."""
    return TeacherStore(tmp_path_factory.mktemp("store") / "teachers")


@pytest.fixture
def teacher(store: TeacherStore, configured: Configured, bars: TrainingData) -> Teacher:
    return store.get(configured(**TAUGHT), bars)


def says(
    teacher_source: TeacherCache | OnlineTeacher, data: TrainingData, config: TrainConfig, view: int
) -> TeacherOutputs:
    rows = torch.tensor([5, 0, 71, 5])
    return teacher_source(rows, view, normalise(shown(data.train, rows, view, config), data.mean, data.std))


@pytest.mark.parametrize("view", [0, 1])
def test_a_bank_says_what_the_teacher_says(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, view: int
):
    config = configured(**TAUGHT)
    stored = says(TeacherCache.open(tmp_path, teacher, bars, config, [1, 2], True), bars, config, view)
    live = says(OnlineTeacher(teacher, [1, 2], True), bars, config, view)
    assert live.vectors.keys() == stored.vectors.keys() == {1, 2}
    pairs = [(stored.vectors[1], live.vectors[1]), (stored.vectors[2], live.vectors[2])]
    pairs += [(stored.logits, live.logits), (stored.features, live.features)]
    for ours, theirs in pairs:
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)
    assert live.features.shape == (4, 64, 2, 2)


def test_what_is_not_asked_for_is_not_stored(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
):
    config = configured(**TAUGHT)
    opened = TeacherCache.open(tmp_path, teacher, bars, config, [])
    assert {path.name for path in opened.folder.glob("*.npy")} == {"logits-0.npy", "logits-1.npy"}
    assert opened.bytes == sum(path.stat().st_size for path in opened.folder.glob("*.npy")) > 72 * 4 * 2 * 2
    said = says(opened, bars, config, 0)
    assert not said.vectors
    assert said.features is None


def test_training_with_a_bank_is_training_with_the_teacher_to_half_precision(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
):
    # At a usual rate the first spike that flips at its threshold by half a precision changes all that follows.
    config = configured(**TAUGHT, loss__relation__pool=2, train__epochs=2, optimizer__lr=1e-3)
    stored = train(config, bars, TeacherCache.open(tmp_path, teacher, bars, config, [2], True))
    live = train(config, bars, OnlineTeacher(teacher, [2], True))
    for ours, theirs in zip(stored, live, strict=True):
        for name in ("train/loss", "loss/label", "loss/relation", "loss/logit", "loss/feature"):
            assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-3, abs=1e-3)


def test_a_killed_bank_goes_on_where_it_was(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
):
    config = configured(**TAUGHT, dataset__augment__views=4)
    whole = TeacherCache.open(tmp_path / "whole", teacher, bars, config, [1])

    def kill(_: str, view: int, __: int) -> None:
        if view == 2:
            raise Killed

    with pytest.raises(Killed):
        TeacherCache.open(tmp_path / "killed", teacher, bars, config, [1], progress=kill)
    views: list[int] = []
    opened = TeacherCache.open(
        tmp_path / "killed", teacher, bars, config, [1], progress=lambda _, v, __: views.append(v)
    )
    assert views == [3, 4]
    for path in whole.folder.glob("*.npy"):
        assert path.read_bytes() == (opened.folder / path.name).read_bytes()


def test_an_answer_that_breaks_off_counts_for_nothing(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = configured(**TAUGHT)
    answer = cache._answers

    def breaks_off(*what: object) -> object:
        monkeypatch.setattr(cache, "_answers", killed)
        return answer(*what)

    def killed(*_: object) -> object:
        raise Killed

    monkeypatch.setattr(cache, "_CHUNK", 50)
    monkeypatch.setattr(cache, "_answers", breaks_off)
    with pytest.raises(Killed):
        TeacherCache.open(tmp_path, teacher, bars, config, [1])
    assert not list(tmp_path.rglob("*.npy"))
    monkeypatch.setattr(cache, "_answers", answer)
    opened = TeacherCache.open(tmp_path, teacher, bars, config, [1])
    live = says(OnlineTeacher(teacher, [1]), bars, config, 1).vectors[1]
    torch.testing.assert_close(says(opened, bars, config, 1).vectors[1], live, rtol=2e-3, atol=2e-3)


def test_a_pool_that_is_missing_is_added(configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path):
    config = configured(**TAUGHT)
    first = TeacherCache.open(tmp_path, teacher, bars, config, [1])
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.npy")}
    second = TeacherCache.open(tmp_path, teacher, bars, config, [1, 2], True)
    assert second.folder == first.folder
    after = {path.name: path.stat().st_mtime_ns for path in second.folder.glob("*.npy")}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {
        f"{kind}-{view}.npy" for kind in ("vectors2", "features") for view in (0, 1)
    }


def test_a_bank_lacks_what_was_not_asked_yet(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
):
    config = configured(**TAUGHT)
    assert cache.lacks(tmp_path, teacher, bars, config, [1])
    opened = TeacherCache.open(tmp_path, teacher, bars, config, [1])
    assert not cache.lacks(tmp_path, teacher, bars, config, [1])
    assert cache.lacks(tmp_path, teacher, bars, config, [1, 2])
    assert cache.lacks(tmp_path, teacher, bars, config, [1], True)
    next(opened.folder.glob("logits-*")).unlink()
    assert cache.lacks(tmp_path, teacher, bars, config, [1])
    with pytest.raises(ValueError, match="views"):
        cache.lacks(tmp_path, teacher, bars, configured(**TAUGHT, dataset__augment__views="off"), [1])


def test_two_who_want_a_bank_fill_one(configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path):
    views: list[int] = []

    def want() -> None:
        TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT), [1], progress=lambda _, v, __: views.append(v))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert views == [1, 2]


@pytest.mark.parametrize(
    ("values", "own"),
    [
        ({"seed": 3, "optimizer__lr": 0.3, "train__batch_size": 8}, False),
        ({"dataset__augment__crop": 2}, True),
        ({"dataset__split_seed": 1}, True),
        ({"dataset__augment__views": 3}, True),
    ],
)
def test_a_bank_belongs_to_teacher_and_views(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, values: dict, own: bool
):
    one = TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT), [1])
    other = TeacherCache.open(tmp_path, teacher, bars, configured(**(TAUGHT | values)), [1])
    assert (one.digest != other.digest) == own


def test_nobody_can_write_to_what_all_read(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
):
    config = configured(**TAUGHT)
    opened = TeacherCache.open(tmp_path, teacher, bars, config, [1], True)
    before = {path: path.read_bytes() for path in opened.folder.glob("*.npy")}
    said = says(opened, bars, config, 0)
    expected = said.vectors[1].clone()
    for tensor in (said.vectors[1], said.logits, said.features):
        tensor.fill_(7.0)
    assert torch.equal(says(opened, bars, config, 0).vectors[1], expected)
    assert {path: path.read_bytes() for path in before} == before
    assert not opened._map("logits", 0).flags.writeable


def test_what_half_precision_cannot_hold_stays_finite(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    forward = Network.forward
    loud = lambda self, images: Output(forward(self, images).logits * 1e9, forward(self, images).features)  # noqa: E731
    monkeypatch.setattr(Network, "forward", loud)
    opened = TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT), [])
    for path in opened.folder.glob("*.npy"):
        assert np.abs(np.load(path)).max() == 65504


def test_views_drawn_anew_cannot_be_stored(
    configured: Configured, bars: TrainingData, teacher: Teacher, tmp_path: Path
):
    with pytest.raises(ValueError, match="views"):
        TeacherCache.open(tmp_path, teacher, bars, configured(**TAUGHT, dataset__augment__views="off"), [1])


@pytest.mark.parametrize(("views", "kind"), [(2, TeacherCache), ("off", OnlineTeacher)])
def test_the_guide_of_a_training_is_found_or_made(
    configured: Configured, bars: TrainingData, tmp_path: Path, views: int | str, kind: type
):
    assert teacher_source_for(configured(), bars, tmp_path) is None
    assert not list(tmp_path.iterdir())
    stages: list[str] = []
    config = configured(**TAUGHT, dataset__augment__views=views, train__epochs=1)
    teacher_source = teacher_source_for(config, bars, tmp_path, progress=lambda stage, _, __: stages.append(stage))
    assert isinstance(teacher_source, kind)
    assert stages == ["teacher resnet8"] * 2 + ["bank resnet8"] * (2 if views == 2 else 0)
    (report,) = train(config, bars, teacher_source)
    assert math.isfinite(report.metrics["train/loss"])
    teacher_source_for(config, bars, tmp_path, progress=lambda stage, _, __: stages.append(stage))
    assert len(stages) == (4 if views == 2 else 2)
