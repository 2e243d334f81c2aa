"""Sweeps that are composed of several files, and environment variables in paths and addresses."""

import os
from pathlib import Path

import pytest

from supersnn.config import load as load_training
from supersnn.errors import UserError, named
from tests.support.cli import invoke, run_json
from tune.description.arms import resolve
from tune.description.sweep import load, origin_of

BASE = """
name: tiny
dataset: {name: digits, augment: {views: 4}}
student: {architecture: resnet8}
train: {epochs: 2, batch_size: 64}
arms:
  direct: {}
  homogeneous: {teachers: [resnet8], space: {optimizer.lr: {log: [0.01, 0.1]}}}
space:
  neuron.threshold: {uniform: [0.3, 2.0]}
  optimizer.lr: {log: [0.01, 0.3]}
search: {trials: 4, constraints: {spikes/rate: 0.15, energy/nj: 5}, enqueue: [{optimizer.lr: 0.02}]}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path, "base.yaml", BASE)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_later_files_win_key_by_key(base: Path, tmp_path: Path) -> None:
    gpu = write(tmp_path, "gpu.yaml", "train: {batch_size: 256}\nresources: {gpus: 1}\nsearch: {trials: 8}\n")
    last = write(tmp_path, "last.yaml", "search: {trials: 9, constraints: {spikes/rate: 0.2}, enqueue: []}\n")
    sweep = load([base, gpu, last])
    assert (sweep.train.epochs, sweep.train.batch_size, sweep.resources.gpus) == (2, 256, 1)
    assert (sweep.search.trials, sweep.search.enqueue) == (9, ())
    assert sweep.search.constraints == {"spikes/rate": 0.2, "energy/nj": 5.0}
    assert load([base, gpu], ("train.batch_size=32",)).train.batch_size == 32
    assert load([base]) == load(base)
    older = write(tmp_path, "older.yaml", "teacher: {views: 8}\n")
    assert load([base, older]).dataset.augment.views == 8


def test_a_search_parameter_is_replaced_as_a_whole(base: Path, tmp_path: Path) -> None:
    other = "space: {optimizer.lr: {uniform: [0.1, 0.2]}}\narms: {homogeneous: {space: {optimizer.lr: {int: [1, 2]}}}}"
    sweep = load([base, write(tmp_path, "other.yaml", other)])
    assert (sweep.space["optimizer.lr"].log, sweep.space["optimizer.lr"].uniform) == (None, (0.1, 0.2))
    assert sweep.arms["homogeneous"].space["optimizer.lr"].integer == (1, 2)
    assert "neuron.threshold" in sweep.space
    assert sweep.arms["homogeneous"].teachers == ("resnet8",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("search: {trails: 3}", r"^gpu\.yaml: search\.trails: unknown key \(did you mean 'search\.trials'\?\)"),
        ("train: {epochs: many}", r"^gpu\.yaml: train\.epochs: "),
        ("space: {optimizer.lr: {log: [3, 1]}}", r"^gpu\.yaml: space\.optimizer\.lr: lower bound"),
        ("arms: {homogeneous: {teachers: [vgg8]}}", r"^gpu\.yaml: arms\.homogeneous\.teachers: vgg8 is of family"),
        ("arms: {direct: {set: {neuron.deca: 1}}}", r"^gpu\.yaml: arms\.direct\.set: 'neuron\.deca' is unknown"),
        ("search: {enqueue: [{optimizer.lr: 7}]}", r"^gpu\.yaml: search\.enqueue\.0: optimizer\.lr: expected"),
        ("verify: {first_seed: 0}", r"^gpu\.yaml: verify\.first_seed: the final runs"),
        ("arms: [direct]", r"^gpu\.yaml: arms: "),
        ("dataset: {name: 'folder:${NOT_SET}'}", r"^gpu\.yaml: dataset\.name: \$\{NOT_SET\}: the environment variable"),
        ("[]", r"^gpu\.yaml: expected a mapping"),
    ],
)
def test_an_error_names_the_file_at_fault(text: str, fault: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parent)
    files = [Path("base.yaml"), write(Path(), "gpu.yaml", text)]
    with pytest.raises(UserError, match=fault):
        resolve(load(files), origin_of(files))
    good = [write(Path(), "empty.yaml", "{}"), Path("base.yaml")]
    resolve(load(good), origin_of(good))


def test_an_error_names_the_option_that_gave_the_key(base: Path, tmp_path: Path) -> None:
    files = [base, write(tmp_path, "gpu.yaml", "search: {trials: 3}")]
    for origin in (origin_of(files, ["search.warm_start=[nope]"]), origin_of(base, ["search.warm_start=[nope]"])):
        assert named(origin, "search.warm_start") == "--set"
    assert named(origin_of(files, ["search.warm_start=[nope]"]), "search.trials") == str(files[1])
    assert named(origin_of(base, ["search.warm_start=[nope]"]), "search.trials") == str(base)


def test_the_file_at_fault_may_be_the_first(base: Path, tmp_path: Path) -> None:
    base.write_text(BASE.replace("trials:", "trails:"), encoding="utf-8")
    with pytest.raises(UserError, match=r"base\.yaml: search\.trails"):
        load([base, write(tmp_path, "gpu.yaml", "search: {trials: 2}")], ("search.trials=3",))
    with pytest.raises(UserError, match="given twice"):
        load([base, base])


def test_a_dry_run_takes_several_files(base: Path, tmp_path: Path) -> None:
    gpu = write(tmp_path, "more.yaml", "search: {trials: 5}")
    planned = run_json("sweep", base, gpu, "--dry-run", "--no-timing", "--store", tmp_path / "store")
    assert planned["search"]["trials"] == 5


def test_environment_variables_in_paths(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
    file = write(tmp_path, "more.yaml", "dataset: {name: 'folder:${IMAGES}/a'}\nteacher: {weights: '${IMAGES}/w.pt'}")
    sweep = load([base, file])
    assert sweep.dataset.name == f"folder:{tmp_path / 'images' / 'a'}"
    assert sweep.teacher.weights == str(tmp_path / "images" / "w.pt")
    training = write(tmp_path, "training.yaml", "dataset: {name: 'folder:${IMAGES}'}\nstudent: {architecture: vgg8}\n")
    assert load_training(training).dataset.name == f"folder:{tmp_path / 'images'}"
    with pytest.raises(
        UserError, match=r"base\.yaml.* with --set: dataset\.name: \$\{IMAGE\}: .*did you mean 'IMAGES'"
    ):
        load(base, ("dataset.name=folder:${IMAGE}",))
    with pytest.raises(UserError, match=r"expected .*NAME.* found '\$\{a-b\}'"):
        load(base, ("dataset.name=${a-b}",))


def test_a_missing_variable_in_an_address_is_one_line(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_HERE", str(tmp_path / "elsewhere"))
    run_json("status", "--store", "${STORE_HERE}")
    with pytest.raises(UserError, match=r"--store: \$\{STORE_THERE\}: the environment variable STORE_THERE is not set"):
        raise invoke("status", "--store", "${STORE_THERE}").exception or AssertionError
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", "postgresql://me:${DB_PASSWORD}@127.0.0.1:9/studies")
    for option in ("--dry-run", "--local"):
        with pytest.raises(UserError, match=r"SUPERSNN_OPTUNA_STORAGE: \$\{DB_PASSWORD\}: .* is not set"):
            raise invoke("sweep", base, option, "--store", tmp_path / "s").exception or AssertionError
    assert not (tmp_path / "s").exists()


def test_a_password_from_a_variable_is_masked(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", "postgresql://me:${DB_PASSWORD}@127.0.0.1:9/studies")
    error = invoke("sweep", base, "--local", "--store", tmp_path / "s").exception
    assert isinstance(error, UserError)
    assert "hunter2" not in str(error)
    assert "postgresql://***@127.0.0.1:9/studies" in str(error)
    assert os.environ["SUPERSNN_OPTUNA_STORAGE"].startswith("postgresql://me:hunter2@")
