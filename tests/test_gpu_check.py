"""The checks for GPUs, run on the CPU in a process without this suite's configuration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def check(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.gpu", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_some_of_the_checks_pass_on_a_cpu(tmp_path: Path) -> None:
    found = check("--device", "cpu", "--json", str(tmp_path / "found.json"), "-k", "layout or known or product")
    assert found.returncode == 0, found.stdout[-3000:]
    document = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert document["ok"] is True
    assert document["passed"] >= 9
    assert document["failed"] == 0
    assert {test["outcome"] for test in document["tests"]} == {"passed", "skipped"}
    assert document["versions"]["torch"]


def test_a_run_without_time_or_without_a_gpu_fails_loudly(tmp_path: Path) -> None:
    late = check("--device", "cpu", "--json", str(tmp_path / "late.json"), "--minutes", "0", "-k", "product")
    assert late.returncode == 1
    assert "the time is over" in late.stdout
    assert json.loads((tmp_path / "late.json").read_text(encoding="utf-8"))["ok"] is False
    if not torch.cuda.is_available():
        none = check()
        assert none.returncode == 1
        assert "sees no GPU here" in none.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_of_the_checks_pass_on_a_cpu() -> None:
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--minutes", "20"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400, check=False)
    assert found.returncode == 0, found.stdout[-3000:]
