"""Run the checks: `python -m tests.gpu [--device cpu] [--json FILE] [--minutes 6]`; exits with 1 unless all passed."""

import argparse
import faulthandler
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn.gpus import ask_for_queues, gpu_facts

FOLDER = Path(__file__).parent
LIBRARIES = ("torch", "triton", "numpy", "numba", "pydantic", "safetensors")


class Results:
    """A pytest plugin that collects each check's outcome, and fails those that time has not sufficed for."""

    def __init__(self, seconds: float) -> None:
        self.tests: list[dict[str, Any]] = []
        self._deadline = time.monotonic() + seconds

    def pytest_runtest_setup(self) -> None:
        """Fail a check that would begin after the deadline."""
        if time.monotonic() > self._deadline:
            pytest.fail("not run: the time is over", pytrace=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report: of a check's call, or of whatever kept it from being called."""
        if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
            text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else report.longreprtext[-3000:]
            name = report.nodeid.rpartition("/")[2]
            self.tests.append(
                {"name": name, "outcome": report.outcome, "seconds": round(report.duration, 3), "text": text}
            )


def run(device: str, minutes: float, selected: str | None) -> dict[str, Any]:
    """Run the checks on a device; return their results as one document."""
    os.environ["SUPERSNN_GPU_CHECK"] = device
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    ask_for_queues()
    faulthandler.dump_traceback_later(60 * minutes + 60, exit=True)  # a check that hangs
    started = time.monotonic()
    results = Results(60 * minutes)
    arguments = ["-c", str(FOLDER / "pytest.ini"), "--rootdir", str(FOLDER), str(FOLDER)]
    code = pytest.main([*arguments, *(["-k", selected] if selected else [])], plugins=[results])
    faulthandler.cancel_dump_traceback_later()
    counts = {
        outcome: sum(test["outcome"] == outcome for test in results.tests)
        for outcome in ("passed", "failed", "skipped")
    }
    complete = device == "cpu" or counts["skipped"] == 0
    return {
        "ok": int(code) == 0 and counts["passed"] > 0 and complete,
        "device": device,
        **gpu_facts(device),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "seconds": round(time.monotonic() - started, 1),
        **counts,
        "tests": results.tests,
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--minutes", type=float, default=6.0, help="after which no further check begins")
    parser.add_argument("-k", dest="selected", help="as pytest's")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU here; --device cpu runs the checks that a CPU can")
    document = run(options.device, options.minutes, options.selected)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for test in document["tests"]:
        if test["outcome"] == "failed":
            print(f"FAILED {test['name']}: {test['text'].strip().splitlines()[-1] if test['text'].strip() else ''}")
    where, verdict = document.get("gpu", document["device"]), "right" if document["ok"] else "NOT right"
    counts = ", ".join(f"{document[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
    print(f"{where}: {counts} in {document['seconds']:.0f} s: {verdict}")
    sys.exit(0 if document["ok"] else 1)


if __name__ == "__main__":
    main()
