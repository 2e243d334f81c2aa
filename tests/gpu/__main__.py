"""Run the checks: `python -m tests.gpu [--device cpu] [--json FILE] [--minutes 6]`; exits with 1 unless all passed.

The file is written before each check: where one hangs, or the process is killed, it has those before, and which one was
``running``.
"""

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

from supersnn.files import write_atomically
from supersnn.gpus import ask_for_queues, gpu_facts

FOLDER = Path(__file__).parent
GRACE = 60.0
"""Seconds that a check which has begun in time may take longer."""
LIBRARIES = ("torch", "triton", "numpy", "numba", "pydantic", "safetensors")


class Results:
    """A pytest plugin that collects each check's outcome, and fails those that time has not sufficed for.

    Args:
        about: what the document says beside the checks.
        seconds: after which no further check begins.
        file: gets the document before each check, and at the end; with None nothing does.
    """

    def __init__(self, about: dict[str, Any], seconds: float, file: Path | None) -> None:
        self.tests: list[dict[str, Any]] = []
        self._about, self._file, self._running = about, file, ""
        self._began = time.monotonic()
        self._deadline = self._began + seconds

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail a check that would begin after the deadline."""
        self._running = _name(item.nodeid)
        self.write(self.document())
        if time.monotonic() > self._deadline:
            pytest.fail("not run: the time is over", pytrace=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report: of a check's call, or of whatever kept it from being called."""
        if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
            text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else report.longreprtext[-3000:]
            seconds = round(report.duration, 3)
            self.tests.append(
                {"name": _name(report.nodeid), "outcome": report.outcome, "seconds": seconds, "text": text}
            )

    def document(self, code: int | None = None) -> dict[str, Any]:
        """Return the results as one document; pytest's exit code says that there will be no more."""
        counts = {
            outcome: sum(test["outcome"] == outcome for test in self.tests)
            for outcome in ("passed", "failed", "skipped")
        }
        complete = self._about["device"] == "cpu" or counts["skipped"] == 0
        return {
            "ok": code == 0 and counts["passed"] > 0 and complete,
            **self._about,
            **({"running": self._running} if code is None else {}),
            "seconds": round(time.monotonic() - self._began, 1),
            **counts,
            "tests": self.tests,
        }

    def write(self, document: dict[str, Any]) -> None:
        """Write a document to the file."""
        if self._file is not None:
            write_atomically(self._file, json.dumps(document, indent=1) + "\n")


def run(device: str, minutes: float, selected: str | None, file: Path | None = None) -> dict[str, Any]:
    """Run the checks on a device; return their results as one document."""
    os.environ["SUPERSNN_GPU_CHECK"] = device
    about = {
        "device": device,
        **gpu_facts(device),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }
    results = Results(about, 60 * minutes, file)
    arguments = ["-c", str(FOLDER / "pytest.ini"), "--rootdir", str(FOLDER), str(FOLDER)]
    with os.fdopen(os.dup(2), "w") as shown:  # standard error itself is pytest's during a check
        faulthandler.dump_traceback_later(60 * minutes + GRACE, exit=True, file=shown)  # a check that hangs
        code = pytest.main([*arguments, *(["-k", selected] if selected else [])], plugins=[results])
        faulthandler.cancel_dump_traceback_later()
    document = results.document(int(code))
    results.write(document)
    return document


def _name(node: str) -> str:
    return node.rpartition("/")[2]


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
    ask_for_queues()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU here; --device cpu runs the checks that a CPU can")
    document = run(options.device, options.minutes, options.selected, options.json)
    for test in document["tests"]:
        if test["outcome"] == "failed":
            print(f"FAILED {test['name']}: {test['text'].strip().splitlines()[-1] if test['text'].strip() else ''}")
    where, verdict = document.get("gpu", document["device"]), "right" if document["ok"] else "NOT right"
    counts = ", ".join(f"{document[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
    print(f"{where}: {counts} in {document['seconds']:.0f} s: {verdict}")
    sys.exit(0 if document["ok"] else 1)


if __name__ == "__main__":
    main()
