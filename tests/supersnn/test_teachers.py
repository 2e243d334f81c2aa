import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from supersnn import checkpoint, teachers
from supersnn.config import TrainConfig, load
from supersnn.data import TrainingData
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.files import DamagedFile
from supersnn.networks.base import ImageShape
from supersnn.teachers import Teacher, TeacherStore, recipe, require_available

Configured = Callable[..., TrainConfig]
TAUGHT = {"teacher__name": "resnet8", "loss__logit__weight": 1.0}


class Killed(BaseException):
    pass


@pytest.fixture
def store(tmp_path: Path) -> TeacherStore:
    return TeacherStore(tmp_path / "teachers")


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("trained a second time")


def test_a_recipe_is_of_the_teacher_alone(configured: Configured) -> None:
    own = recipe(configured(**TAUGHT, teacher__lr=0.03, teacher__seed=4, train__threads=2))
    assert own.student.architecture == "resnet8"
    assert own.neuron.kind == "relu"
    assert own.teacher.name is None
    assert (own.optimizer.lr, own.seed, own.train.epochs, own.train.threads) == (0.03, 4, 2, 2)
    searched = {
        "student__architecture": "vgg8",
        "student__time_steps": 4,
        "neuron__threshold": 0.3,
        "loss__logit__weight": 2.0,
        "optimizer__lr": 0.2,
        "train__batch_size": 8,
        "train__epochs": 9,
        "train__channels_last": False,
        "seed": 7,
    }
    assert recipe(configured(**(TAUGHT | searched), teacher__lr=0.03, teacher__seed=4, train__threads=2)) == own
    assert recipe(configured(**TAUGHT)) != recipe(configured(**TAUGHT, dataset__split_seed=1))


def test_a_teacher_is_trained_once_and_found_again(
    configured: Configured, bars: TrainingData, store: TeacherStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress: list[tuple[str, int, int]] = []
    teacher = store.get(configured(**TAUGHT), bars, progress=lambda *what: progress.append(what))
    assert progress == [("teacher resnet8", 1, 2), ("teacher resnet8", 2, 2)]
    assert not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert teacher.known_split
    assert teacher.family == "resnet"
    assert teacher.parameters == sum(parameter.numel() for parameter in teacher.network.parameters())
    assert teacher.val_accuracy == evaluate(teacher.network, bars.validation, bars.mean, bars.std).accuracy
    assert teacher.operations.synaptic == 0
    assert teacher.seconds > 0
    home = store.folder / teacher.digest
    assert {path.name for path in home.iterdir()} == {"config.yaml", "weights.safetensors", "metrics.json"}
    assert load(home / "config.yaml") == teacher.config
    monkeypatch.setattr(teachers, "train", refuse)
    again = store.get(configured(**TAUGHT, seed=9), bars)
    for field in dataclasses.fields(Teacher):
        if field.name != "network":
            assert getattr(again, field.name) == getattr(teacher, field.name)


def test_finding_a_teacher_leaves_torchs_generator_alone(
    configured: Configured, bars: TrainingData, store: TeacherStore
) -> None:
    before = torch.get_rng_state()
    store.get(configured(**TAUGHT), bars)
    store.get(configured(**TAUGHT), bars)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_split_has_another_teacher(configured: Configured, bars: TrainingData, store: TeacherStore) -> None:
    other = dataclasses.replace(bars, fingerprint="f" * 16)
    assert store.get(configured(**TAUGHT), bars).digest != store.get(configured(**TAUGHT), other).digest


def test_a_teacher_of_another_split_is_refused(configured: Configured, bars: TrainingData, store: TeacherStore) -> None:
    teacher = store.get(configured(**TAUGHT), bars)
    path = store.folder / teacher.digest / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split": "f" * 16}))
    with pytest.raises(UserError, match=r"trained on split f+, expected 0123456789abcdef"):
        store.get(configured(**TAUGHT), bars)


def test_changed_weights_are_noticed(configured: Configured, bars: TrainingData, store: TeacherStore) -> None:
    teacher = store.get(configured(**TAUGHT), bars)
    path = store.folder / teacher.digest / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"weights\.safetensors"):
        store.get(configured(**TAUGHT), bars)


def test_a_killed_training_goes_on_to_the_same_weights(
    configured: Configured, bars: TrainingData, store: TeacherStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(**TAUGHT, teacher__epochs=4)
    whole = TeacherStore(tmp_path / "other").get(config, bars)
    monkeypatch.setattr(teachers, "SAVE_EVERY", 0.0)

    def kill(_: str, epoch: int, __: int) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        store.get(config, bars, progress=kill)
    epochs: list[int] = []
    teacher = store.get(config, bars, progress=lambda _, epoch, __: epochs.append(epoch))
    assert epochs == [3, 4]
    assert teacher.weights_digest == whole.weights_digest


def test_a_teacher_that_comes_from_elsewhere_meanwhile_is_taken(
    configured: Configured, bars: TrainingData, store: TeacherStore, tmp_path: Path
) -> None:
    config = configured(**TAUGHT)
    elsewhere = TeacherStore(tmp_path / "other")
    first = elsewhere.get(config, bars)

    def fetched(_: str, epoch: int, __: int) -> None:
        if epoch == 2:
            shutil.copytree(elsewhere.folder / first.digest, store.folder / first.digest)

    assert store.get(config, bars, progress=fetched).weights_digest == first.weights_digest
    assert not [path for path in store.folder.glob(".*") if path.is_dir()]


def test_two_who_want_a_teacher_train_one(configured: Configured, bars: TrainingData, store: TeacherStore) -> None:
    epochs: list[int] = []
    found: list[Teacher] = []

    def want() -> None:
        found.append(store.get(configured(**TAUGHT), bars, progress=lambda _, epoch, __: epochs.append(epoch)))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert epochs == [1, 2]
    assert found[0].weights_digest == found[1].weights_digest


def test_a_teacher_that_diverges_is_the_users_mistake(
    configured: Configured, bars: TrainingData, store: TeacherStore
) -> None:
    with pytest.raises(UserError, match=r"teacher\.lr: with 1e\+38 .*'resnet8' .*smaller"):
        store.get(configured(**TAUGHT, teacher__lr=1e38), bars)
    assert not [path for path in store.folder.iterdir() if path.name[0] != "."]


@pytest.mark.parametrize("name", ["vgg9", "torchvision:vit_b_16", "torchvision:resnet19"])
def test_unknown_teacher_is_named_by_its_key(
    configured: Configured, bars: TrainingData, store: TeacherStore, name: str
) -> None:
    with pytest.raises(UserError, match=f"^teacher.name: '{name}' "):
        store.get(configured(**TAUGHT | {"teacher__name": name}), bars)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_are_brought_along(
    configured: Configured, bars: TrainingData, store: TeacherStore, tmp_path: Path, suffix: str
) -> None:
    source = TeacherStore(tmp_path / "other").get(configured(**TAUGHT), bars)
    path = tmp_path / f"mine.{suffix}"
    state = source.network.state_dict()
    if suffix == "pt":
        torch.save(state, path)
    else:
        checkpoint.save(path, state, {})
    teacher = store.get(configured(**TAUGHT, teacher__weights=str(path)), bars)
    assert not teacher.known_split
    assert teacher.val_accuracy == source.val_accuracy
    assert teacher.digest != source.digest
    assert all(torch.equal(value, teacher.network.state_dict()[name]) for name, value in state.items())


def test_a_stores_own_weights_tell_their_split(
    configured: Configured, bars: TrainingData, store: TeacherStore, tmp_path: Path
) -> None:
    source = TeacherStore(tmp_path / "other").get(configured(**TAUGHT), bars)
    weights = str(tmp_path / "other" / source.digest / "weights.safetensors")
    assert store.get(configured(**TAUGHT, teacher__weights=weights), bars).known_split
    other = dataclasses.replace(bars, fingerprint="f" * 16)
    with pytest.raises(UserError, match=r"teacher\.weights: .* may have seen the validation images"):
        store.get(configured(**TAUGHT, teacher__weights=weights), other)


def test_weights_that_do_not_fit_are_named(
    configured: Configured, bars: TrainingData, store: TeacherStore, tmp_path: Path
) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"teacher\.weights: .*teacher\.name 'resnet8'"):
        store.get(configured(**TAUGHT, teacher__weights=str(tmp_path / "a.pt")), bars)
    (tmp_path / "b.pt").write_text("no weights")
    with pytest.raises(UserError, match=r"teacher\.weights: .*b\.pt cannot be read"):
        store.get(configured(**TAUGHT, teacher__weights=str(tmp_path / "b.pt")), bars)
    with pytest.raises(UserError, match=r"teacher\.weights: .*c\.pt cannot be read"):
        store.get(configured(**TAUGHT, teacher__weights=str(tmp_path / "c.pt")), bars)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("metrics.json", content) for content in ("", "[]", "{}", '{"split": 1}', "[" * 3000, "\xe9")),
        ("config.yaml", "a: 1"),
        ("config.yaml", "\xe9"),
        ("weights.safetensors", None),
        ("config.yaml", None),
        ("metrics.json", None),
    ],
)
def test_damaged_and_missing_files_are_one_line(
    configured: Configured, bars: TrainingData, shared: TeacherStore, tmp_path: Path, name: str, content: str | None
) -> None:
    shutil.copytree(shared.folder, tmp_path / "teachers")
    store = TeacherStore(tmp_path / "teachers")
    (path,) = store.folder.glob(f"*/{name}")
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(DamagedFile, match=f"{path.parent}.*; delete the folder to train the teacher again") as refused:
        store.get(configured(**TAUGHT), bars)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, configured: Configured, bars: TrainingData) -> TeacherStore:
    """A store with one trained teacher, that of `TAUGHT`, which no test changes."""
    store = TeacherStore(tmp_path_factory.mktemp("shared") / "teachers")
    store.get(configured(**TAUGHT), bars)
    return store


def test_a_checkpoint_of_something_else_is_not_resumed(
    configured: Configured, bars: TrainingData, store: TeacherStore
) -> None:
    config = configured(**TAUGHT)
    unfinished = store.folder / f".{teachers.address(config, bars)}"
    unfinished.mkdir(parents=True)
    checkpoint.save(unfinished / "checkpoint.safetensors", {"a": torch.ones(1)}, {})
    epochs: list[int] = []
    store.get(config, bars, progress=lambda _, epoch, __: epochs.append(epoch))
    assert epochs == [1, 2]


def test_whether_a_teacher_can_be_had_is_known_without_training_it(
    configured: Configured, shared: TeacherStore, tmp_path: Path
) -> None:
    def check(**values: object) -> None:
        require_available(configured(**TAUGHT | values), ImageShape(1, 8), 4)

    (weights,) = shared.folder.glob("*/weights.safetensors")
    check()
    check(teacher__weights=str(weights))
    require_available(configured(), ImageShape(1, 8), 4)
    (tmp_path / "text.pt").write_text("no weights")
    for path in ("none.pt", "text.pt", ".", "n" * 300):
        with pytest.raises(UserError, match=r"teacher\.weights: .* cannot be read"):
            check(teacher__weights=str(tmp_path / path))
    with pytest.raises(UserError, match=r"teacher\.weights: .*: the tensors do not match teacher\.name 'vgg8'"):
        check(teacher__weights=str(weights), teacher__name="vgg8")
    with pytest.raises(UserError, match=r"teacher\.name: 'torchvision:vit_b_16' does not support images of side 8"):
        check(teacher__name="torchvision:vit_b_16")
