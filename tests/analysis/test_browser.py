"""The page in a real browser: every figure is drawn, every table can be sorted, and the console is silent."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import load, report

Write = Callable[..., Path]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


def opened(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Return the document after the page's scripts have run, and the console's lines."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *QUIET,
        f"--user-data-dir={folder}",
        "--virtual-time-budget=30000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_every_figure_is_drawn_and_every_table_sorts(synthetic: Write, tmp_path: Path) -> None:
    sweep = load.sweep(synthetic(trials=24))
    report.write_html([sweep], tmp_path / "report.html")
    document, console = opened(tmp_path / "report.html", tmp_path / "profile")
    assert console == []
    plots = re.findall(r'<div class="plot[^>]*data-plot="[^"]*"[^>]*>', document)
    assert len(plots) >= 12
    assert all('data-drawn="yes"' in plot for plot in plots)
    assert len(re.findall(r'class="main-svg"', document)) >= len(plots)
    tables = re.findall(r"<table data-sortable.*?</thead>", document, re.DOTALL)
    assert all('<button type="button">' in table for table in tables)
