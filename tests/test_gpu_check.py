"""The checks for GPUs, run on the CPU in a process without this suite's configuration."""

import json
import os
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


def test_a_check_that_hangs_is_shown_and_the_results_before_it_are_kept(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q -p no:cacheprovider\n", encoding="utf-8")
    checks = "import time\n\ndef test_a_quick(): pass\n\ndef test_b_hanging(): time.sleep(60)\n"
    (tmp_path / "test_two.py").write_text(checks, encoding="utf-8")
    script = (
        "from pathlib import Path\n"
        "from tests.gpu import __main__ as runner\n"
        f"runner.FOLDER, runner.GRACE = Path({str(tmp_path)!r}), -15.0\n"
        f"runner.run('cpu', 0.5, None, Path({str(tmp_path / 'found.json')!r}))\n"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert found.returncode == 1
    assert "Timeout (0:00:15)!" in found.stderr
    assert "in test_b_hanging" in found.stderr
    document = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert document["ok"] is False
    assert document["running"] == "test_two.py::test_b_hanging"
    assert [(test["name"], test["outcome"]) for test in document["tests"]] == [("test_two.py::test_a_quick", "passed")]


@pytest.mark.parametrize("module", ["tests.gpu.__main__", "benchmarks.gpu.__main__"])
def test_queues_are_asked_for_before_the_gpu_is_looked_for(module: str) -> None:
    """To look for it starts CUDA, which reads their number then."""
    script = (
        f"import os, sys, torch\nfrom {module} import main\n"
        "torch.cuda.is_available = lambda: sys.exit(os.environ.get('CUDA_DEVICE_MAX_CONNECTIONS'))\n"
        "sys.argv = ['x']\nmain()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_DEVICE_MAX_CONNECTIONS"}
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.stderr.strip().splitlines()[-1] == "32"


def test_the_checks_are_importable_without_the_libraries_of_a_search() -> None:
    """A lent machine has those of the method alone."""
    script = (
        "import importlib, pkgutil, sys\n"
        "HIDDEN = {'ray', 'optuna', 'mlflow', 'pandas', 'typer', 'rich', 'plotly', 'jinja2', 'cmaes', 'pyarrow'}\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in HIDDEN:\n"
        "            raise ModuleNotFoundError(f'{name} is hidden', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import tests.gpu, benchmarks.gpu\n"
        "for package in (tests.gpu, benchmarks.gpu):\n"
        "    for found in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(found.name)\n"
        "        print(found.name)\n"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert {"tests.gpu.test_pack", "tests.gpu.test_training", "benchmarks.gpu.packed"} <= set(found.stdout.split())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_of_the_checks_pass_on_a_cpu() -> None:
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--minutes", "20"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400, check=False)
    assert found.returncode == 0, found.stdout[-3000:]
