"""A finished sweep: verified with more seeds, exported in every way, checked, tampered with, retrained."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from supersnn import exported
from supersnn.sources.registry import read
from supersnn_cli import exit_code
from tests.support.cli import invoke, run, run_json
from tests.support.records import events

SWEEP: dict[str, Any] = {
    "name": "final",
    "dataset": {"name": "digits", "images": 400, "augment": {"crop": 1, "views": 2}},
    "student": {"architecture": "resnet8"},
    "teacher": {"epochs": 1},
    "train": {"epochs": 3},
    "arms": {"direct": {}, "heterogeneous": {"teachers": ["vgg8"]}},
    "space": {"neuron.threshold": {"uniform": [0.3, 1.0]}, "optimizer.lr": "default"},
    "search": {"trials": 2, "scheduler": "none"},
    "verify": {"seeds": 2, "top": 2, "rank_seeds": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with a sweep that has ended."""
    folder = tmp_path_factory.mktemp("final")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store")
        yield folder / "store"


def metrics_of(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def test_an_export_has_everything_and_proves_itself(store: Path, tmp_path: Path) -> None:
    printed = run_json("export", "final", "--store", store, "--arm", "heterogeneous", "--to", tmp_path / "e")
    folder = tmp_path / "e"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "student.safetensors", "preprocessing.json", "metrics.json", "MODEL_CARD.md"),
        *("student.nir", "student-by-layer.nir", "student.onnx"),
    }
    metrics = metrics_of(folder)
    assert metrics["test_accuracy"] == printed["test_accuracy"]
    assert [result["seed"] for result in metrics["verified"]] == [1000, 1001]
    assert metrics["teacher"]["name"] == "vgg8"
    assert metrics["teacher"]["epochs"] == 1
    assert metrics["teacher"]["seconds"] > 0
    assert metrics["rank_value"] is not None
    student = exported.load(folder)
    raw = read(student.config.dataset, "test")
    correct = student.predict(raw.pixels).argmax(1) == raw.labels
    assert float(correct.float().mean()) == pytest.approx(metrics["test_accuracy"])

    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "student.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixels": raw.pixels[:64].numpy()})
    error = (torch.from_numpy(logits) - student.predict(raw.pixels[:64])).abs().amax(1)
    assert (error <= 1e-4).float().mean() >= 0.95


def test_check_in_a_fresh_process_passes_and_finds_tampering(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(store / "sweeps" / "final" / "best" / "overall", folder)

    def check() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "supersnn_cli", "check", str(folder), "--json"]
        return subprocess.run(command, capture_output=True, text=True)

    result = check()
    assert result.returncode == 0, result.stderr
    assert [one["agrees"] for one in json.loads(result.stdout)["figures"]] == [True, True]
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(config.replace("decay: 0.5", "decay: 0.6"), encoding="utf-8")
    result = check()
    assert result.returncode == 1
    assert "config.yaml" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_check_exits_with_1_for_damage_of_any_kind(store: Path, tmp_path: Path) -> None:
    intact = store / "sweeps" / "final" / "best" / "direct"
    names = sorted(path.name for path in intact.iterdir() if path.name != exported.LEDGER)
    for name in names:
        for damage in ("flip", "cut", "remove"):
            folder = tmp_path / f"{name}-{damage}"
            shutil.copytree(intact, folder)
            content = bytearray((folder / name).read_bytes())
            content[len(content) // 2] ^= 4
            if damage == "remove":
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content if damage == "flip" else content[: len(content) // 2])
            error = invoke("check", folder).exception
            assert isinstance(error, Exception)
            assert exit_code(error) == 1, (name, damage, error)


def test_every_exported_configuration_trains_to_its_own_score(store: Path, tmp_path: Path) -> None:
    for arm in ("direct", "heterogeneous"):
        folder = store / "sweeps" / "final" / "best" / arm
        training = run_json("train", folder / "config.yaml", "--store", tmp_path / "another")
        assert training["val_accuracy"] == metrics_of(folder)["val_accuracy"]


def test_the_front_is_one_table_and_an_export_a_member(store: Path, tmp_path: Path) -> None:
    printed = run_json("export", "final", "--store", store, "--pareto", "--to", tmp_path / "front")
    with (tmp_path / "front" / "front.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["export"] for row in rows] == [row["export"] for row in printed]
    trials = {
        (event["arm"], event["trial"]): (event["metrics"]["val/accuracy"], event["metrics"]["ops/synaptic"])
        for event in events(store / "sweeps" / "final" / "journal.jsonl", "epoch")
        if event["epoch"] == 3
    }
    front = {
        key
        for key, (accuracy, cost) in trials.items()
        if not any(a >= accuracy and c <= cost and (a, c) != (accuracy, cost) for a, c in trials.values())
    }
    assert {(row["arm"], int(row["trial"])) for row in rows} == front
    for row in rows:
        assert (float(row["search_accuracy"]), float(row["search_synaptic_ops"])) == trials[
            row["arm"], int(row["trial"])
        ]
        exported.load(tmp_path / "front" / row["export"])


def test_an_unverified_trial_is_trained_again_and_opens_no_test(store: Path, tmp_path: Path) -> None:
    winner = json.loads((store / "sweeps" / "final" / "verified.json").read_text())["arms"]["direct"]["trial"]
    ledger = (store / "sweeps" / "final" / "test-ledger.jsonl").read_text()
    run("export", "final", "--store", store, "--trial", f"direct/{1 - winner}", "--to", tmp_path / "e")
    metrics = metrics_of(tmp_path / "e")
    assert metrics["reproduced"] is True
    assert metrics["val_accuracy"] == metrics["search_value"]
    assert metrics["test_accuracy"] is None
    assert metrics["verified"] == []
    assert (store / "sweeps" / "final" / "test-ledger.jsonl").read_text() == ledger
    assert "unverified trial" in (tmp_path / "e" / "MODEL_CARD.md").read_text()
    run("check", tmp_path / "e")
    assert not (tmp_path / "e" / exported.LEDGER).exists()


def test_what_cannot_be_exported_is_the_users_mistake(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for words, options, folder in (
        ("no arm with a verified winner (did you mean 'direct'?)", ("--arm", "dirct"), "e"),
        ("expected ARM/N", ("--trial", "direct"), "e"),
        ("direct/7: no such trial", ("--trial", "direct/7"), "e"),
        ("one of them at most", ("--trial", "direct/0", "--pareto"), "e"),
        ("exists and is not an export folder", (), "mine"),
    ):
        error = invoke("export", "final", "--store", store, *options, "--to", tmp_path / folder).exception
        assert isinstance(error, Exception)
        assert words in str(error)
        assert exit_code(error) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_winner_that_the_journal_lacks_is_not_left_out_in_silence(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    journal = copy / "sweeps" / "final" / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not ('"event":"winner"' in line and '"arm":"direct"' in line)]
    assert len(kept) < len(lines)
    journal.write_text("".join(kept), encoding="utf-8")
    result = run("export", "final", "--to", tmp_path / "to", "--store", copy)
    assert "direct: the journal has final runs, but no winner: it is left out" in result.stderr
    assert run_json("export", "final", "--to", tmp_path / "to", "--store", copy)["arm"] == "heterogeneous"


def test_verify_adds_missing_seeds_and_searches_nothing(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    folder = tmp_path / "store" / "sweeps" / "final"
    before = events(folder / "journal.jsonl")
    report = run_json("verify", "final", "--store", tmp_path / "store", "--seeds", "3", "--local")
    assert {len(arm["verified"]) for arm in report["arms"].values()} == {3}
    added = events(folder / "journal.jsonl")[len(before) :]
    assert [e["seed"] for e in added if e["event"] == "verified"] == [1002, 1002]
    assert not [e for e in added if e["event"] in ("start", "epoch", "end", "ranked", "teacher")]
    assert metrics_of(folder / "best" / "direct")["verified_seeds"] == 3
    purposes = [json.loads(line)["purpose"] for line in (folder / "test-ledger.jsonl").read_text().splitlines()]
    assert len(purposes) == len(set(purposes)) == 6
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["search"]["trials"] = 3
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    error = invoke("verify", "final", "--store", tmp_path / "store", "--local").exception
    assert "its search has not ended" in str(error)


@pytest.mark.slow
def test_a_final_training_on_all_images_is_exported_with_its_own_teacher(tmp_path: Path) -> None:
    config = SWEEP | {"name": "all", "verify": {"seeds": 2, "train_on": "train+validation"}}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run("sweep", tmp_path / "all.yaml", "--local", "--store", tmp_path / "store")
    folder = tmp_path / "store" / "sweeps" / "all"
    metrics = metrics_of(folder / "best" / "heterogeneous")
    teachers = {event["digest"] for event in events(folder / "journal.jsonl", "teacher")}
    assert metrics["teacher"]["digest"] not in teachers
    assert metrics["train_on"] == "train+validation"
    assert metrics["shrinkage"] is None
    run("check", folder / "best" / "heterogeneous")
    training = run_json("train", folder / "best" / "heterogeneous" / "config.yaml", "--store", tmp_path / "b")
    assert training["val_accuracy"] == metrics["val_accuracy"]
