"""The front door: what it prints where, and how it says that something is the user's mistake."""

import json
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEP = (CONFIGS / "digits-short.yaml").read_text(encoding="utf-8")


def supersnn(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "supersnn_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def refused(*arguments: str | Path) -> str:
    result = supersnn(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_help_comes_at_once() -> None:
    supersnn("--help")
    times = []
    for _ in range(3):
        started = time.perf_counter()
        assert supersnn("--help").returncode == 0
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5


def test_a_misspelt_key_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(SWEEP.replace("time_steps", "timesteps"), encoding="utf-8")
    line = refused("sweep", path, "--store", tmp_path)
    assert str(path) in line
    assert "student.timesteps" in line
    assert "student.time_steps" in line


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    assert "none.yaml" in refused("sweep", tmp_path / "none.yaml")
    assert "none.yaml" in refused("train", tmp_path / "none.yaml")
    assert "no sweep 'x'" in refused("status", "x", "--store", tmp_path)
    assert "--shared" in refused("status", "--store", "s3://bucket/store")
    assert "set --store to" in refused("sweep", CONFIGS / "digits.yaml", "--store", tmp_path, "--shared", tmp_path)
    assert "export folder" in refused("predict", tmp_path, tmp_path / "image.png")


def test_a_shared_address_is_tried_before_anything_starts(s3: str, tmp_path: Path) -> None:
    options = ["--store", tmp_path / "store", "--address", "127.0.0.1:9", "--shared"]
    line = refused("sweep", CONFIGS / "digits-short.yaml", *options, s3.replace("bucket", "bücket"))
    assert "--shared" in line
    line = refused("sweep", CONFIGS / "digits-short.yaml", *options, "s3://nowhere-at-all/x")
    assert "--shared s3://nowhere-at-all/x" in line
    assert "NO_SUCH_BUCKET" in line
    assert not (tmp_path / "store").exists()
    assert "--local" in refused("sweep", CONFIGS / "digits-short.yaml", "--local", "--shared", s3)


def test_dry_run_tells_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    result = supersnn("sweep", CONFIGS / "digits.yaml", "--dry-run", "--json", "--store", tmp_path / "store")
    plan = json.loads(result.stdout)
    assert plan["cost"]["search"] == {"trainings": 24, "epochs_each": 12, "epochs": 24 * 12}
    assert plan["arms"]["heterogeneous"]["space"]["teacher.name"] == {"categorical": ["vgg8", "wrn16_2"]}
    assert not (tmp_path / "store").exists()
    shown = supersnn("sweep", CONFIGS / "digits.yaml", "--dry-run").stdout
    assert "neuron.threshold" in shown
    assert "heterogeneous" in shown


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sweep_file_that_we_ship_is_right(config: Path) -> None:
    assert supersnn("sweep", config, "--dry-run").returncode == 0


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "digits-short"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / "lock"):
        line = refused("sweep", CONFIGS / "digits-short.yaml", "--store", tmp_path, "--local")
    assert "another driver" in line


def test_a_sweep_is_not_continued_with_other_values(tmp_path: Path) -> None:
    from supersnn.config_model import to_yaml
    from tune.description.sweep import load

    folder = tmp_path / "sweeps" / "digits-short"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(load(CONFIGS / "digits-short.yaml")), encoding="utf-8")
    changed = ("--set", "train.epochs=5", "--set", "search.trials=9")
    line = refused("sweep", CONFIGS / "digits-short.yaml", "--store", tmp_path, "--local", *changed)
    assert "train.epochs: 4 before, 5 now" in line
    assert "search.trials" not in line


def test_a_server_that_is_away_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in supersnn("sweep", CONFIGS / "digits-short.yaml", "--store", tmp_path, "--local").stderr
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", "nonsense://x")
    assert "SUPERSNN_OPTUNA_STORAGE" in refused(
        "sweep", CONFIGS / "digits-short.yaml", "--store", tmp_path / "2", "--local"
    )


def test_a_trained_student_can_be_used(tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    config = tmp_path / "one.yaml"
    config.write_text(
        "dataset: {name: digits, images: 600}\nstudent: {architecture: resnet8}\ntrain: {epochs: 2}\n", encoding="utf-8"
    )
    trained = supersnn("train", config, "--to", tmp_path / "export", "--store", tmp_path / "store", "--json")
    told = json.loads(trained.stdout)
    assert {"val_accuracy", "epochs", "spike_rate", "synaptic_ops", "seconds", "ended"} <= told.keys()
    assert told["epochs"] == 2
    assert {"student.nir", "student.onnx", "MODEL_CARD.md"} <= {path.name for path in (tmp_path / "export").iterdir()}
    assert supersnn("check", tmp_path / "export").returncode == 0
    measured = json.loads(supersnn("evaluate", tmp_path / "export", "--data", "digits", "--json").stdout)
    assert measured["images"] == 359
    assert len(measured["per_class"]) == 10
    image = tmp_path / "digit.png"
    Image.fromarray((load_digits().images[0] * 255 / 16).astype("uint8")).save(image)
    guessed = json.loads(supersnn("predict", tmp_path / "export", image, "--json").stdout)
    assert guessed[0]["image"] == str(image)
    damaged = tmp_path / "export" / "student.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    result = supersnn("predict", tmp_path / "export", image)
    assert result.returncode == 1
    assert "student.safetensors" in result.stderr
