"""The command line: help, completion, where output goes, and how usage errors are reported."""

import json
import os
import subprocess
import sys
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


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pydantic")
    code = (
        "import sys\nfrom supersnn_cli import main\nsys.argv = ['supersnn', '--help']\n"
        f"try: main()\nexcept SystemExit: print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


@pytest.mark.parametrize("command", [(), ("sweep",), ("report",), ("data",), ("data", "get")], ids=" ".join)
def test_help_has_a_short_option(command: tuple[str, ...]) -> None:
    result = supersnn(*command, "-h")
    assert result.returncode == 0
    assert result.stdout == supersnn(*command, "--help").stdout


def test_help_groups_the_commands() -> None:
    text = supersnn("--help").stdout
    headings = [text.index(f" {panel} ─") for panel in ("Run", "Results", "Exports", "Environment")]
    assert headings == sorted(headings)
    assert headings[2] < text.index("predict") < headings[3]


def test_help_shows_where_defaults_come_from() -> None:
    text = " ".join(supersnn("sweep", "--help").stdout.replace("│", " ").split())
    for variable in ("SUPERSNN_STORE", "SUPERSNN_SHARED", "RAY_ADDRESS"):
        assert variable in text


def test_version_is_printed() -> None:
    from importlib.metadata import version

    assert supersnn("--version").stdout == f"supersnn {version('supersnn')}\n"


def test_completion_is_offered_for_commands() -> None:
    text = supersnn("--help").stdout
    assert "--install-completion" in text
    assert "--show-completion" in text
    words = {"_SUPERSNN_COMPLETE": "complete_bash", "COMP_WORDS": "supersnn sta", "COMP_CWORD": "1"}
    code = "from supersnn_cli import app; app(prog_name='supersnn')"
    command = [sys.executable, "-c", code]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **words})
    assert completed.stdout.split() == ["status"]


def test_a_misspelt_key_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(SWEEP.replace("time_steps", "timesteps"), encoding="utf-8")
    line = refused("sweep", path, "--store", tmp_path)
    assert str(path) in line
    assert "student.timesteps" in line
    assert "student.time_steps" in line


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    assert "none.yaml" in refused("sweep", tmp_path / "none.yaml")
    assert "none.yaml" in refused("train", tmp_path / "none.yaml")
    assert "no sweep 'x'" in refused("status", "x", "--store", tmp_path)
    assert "--shared" in refused("status", "--store", "s3://bucket/store")
    assert "set --store to" in refused("sweep", CONFIGS / "digits.yaml", "--store", tmp_path, "--shared", tmp_path)
    assert "export folder" in refused("predict", tmp_path, tmp_path / "image.png")


def test_a_shared_address_is_checked_before_anything_starts(s3: str, tmp_path: Path) -> None:
    options: list[str | Path] = ["--store", tmp_path / "store", "--address", "127.0.0.1:9", "--shared"]
    line = refused("sweep", CONFIGS / "digits-short.yaml", *options, s3.replace("bucket", "bücket"))
    assert "--shared" in line
    line = refused("sweep", CONFIGS / "digits-short.yaml", *options, "s3://nowhere-at-all/x")
    assert "--shared s3://nowhere-at-all/x" in line
    assert "NO_SUCH_BUCKET" in line
    assert not (tmp_path / "store").exists()
    assert "--local" in refused("sweep", CONFIGS / "digits-short.yaml", "--local", "--shared", s3)


def test_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    result = supersnn("sweep", CONFIGS / "digits.yaml", "--dry-run", "--json", "--store", tmp_path / "store")
    plan = json.loads(result.stdout)
    assert plan["replicates"] == 3
    assert plan["cost"]["search"] == {"trainings": 36, "epochs_each": 10, "epochs": 36 * 10}
    assert plan["cost"]["teachers"]["trainings"] == 3
    assert plan["cost"]["verification"]["trainings"] == 3 * 3 * 3
    assert plan["arms"]["heterogeneous"]["space"]["teacher.name"] == {"categorical": ["vgg8", "wrn16_2"]}
    assert not (tmp_path / "store").exists()
    text = supersnn("sweep", CONFIGS / "digits.yaml", "--dry-run").stdout
    assert "neuron.threshold" in text
    assert "heterogeneous" in text


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("digits*.yaml")), ids=lambda path: path.name)
def test_shipped_sweep_files_are_valid(config: Path) -> None:
    assert supersnn("sweep", config, "--dry-run").returncode == 0


def test_the_sweep_of_the_results_is_valid() -> None:
    """Its images are not in the repository: it is tried on those that are."""
    plan = supersnn("sweep", CONFIGS / "arms.yaml", "--dry-run", "--no-timing", "--set", "datasets={digits: digits}")
    assert plan.returncode == 0
    assert "replicates  7" in plan.stdout


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
    (folder / "journal.jsonl").write_text('{"event":"sweep"}\n{"event":"data"}\n', encoding="utf-8")
    changed = ("--set", "train.epochs=5", "--set", "search.trials=9")
    line = refused("sweep", CONFIGS / "digits-short.yaml", "--store", tmp_path, "--local", *changed)
    assert "train.epochs: 4 before, 5 now" in line
    assert "search.trials" not in line


def test_unreachable_servers_are_reported_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    summary = json.loads(trained.stdout)
    assert {"val_accuracy", "epochs", "spike_rate", "synaptic_ops", "seconds", "ended"} <= summary.keys()
    assert summary["epochs"] == 2
    assert {"student.nir", "student.onnx", "MODEL_CARD.md"} <= {path.name for path in (tmp_path / "export").iterdir()}
    assert supersnn("check", tmp_path / "export").returncode == 0
    measured = json.loads(supersnn("evaluate", tmp_path / "export", "--data", "digits", "--json").stdout)
    assert measured["images"] == 359
    assert len(measured["per_class"]) == 10
    image = tmp_path / "digit.png"
    Image.fromarray((load_digits().images[0] * 255 / 16).astype("uint8")).save(image)
    predictions = json.loads(supersnn("predict", tmp_path / "export", image, "--json").stdout)
    assert predictions[0]["image"] == str(image)
    damaged = tmp_path / "export" / "student.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    result = supersnn("predict", tmp_path / "export", image)
    assert result.returncode == 1
    assert "student.safetensors" in result.stderr
