"""Ten thousand trials are loaded, analysed and drawn within limits of time, memory and size."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import load, report

Write = Callable[..., Path]

pytestmark = pytest.mark.slow

LOAD = """
import resource, sys
from analysis import load
sweep = load.sweep(sys.argv[1])
print(len(sweep.trials), len(sweep.epochs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_ten_thousand_trials(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic(trials=3400, epochs=40)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 60
    trials, epochs, megabytes = map(int, done.stdout.split())
    assert trials >= 10_000
    assert epochs >= 300_000
    assert megabytes < 2000
    began = time.monotonic()
    sweep = load.sweep(folder)
    assert time.monotonic() - began < 10  # from the cache
    assert len(sweep.epochs) == epochs
    report.write_html([sweep], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 8_000_000
