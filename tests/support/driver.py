"""`supersnn sweep` as a process of its own, for tests on Ray, and the worker processes that it starts."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import records
from tune.execution.actor import StudentTrial
from tune.outcome.final_training import train_final

ON_A_CLUSTER = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""The marks of the tests on clusters: slow, and with warnings that are Ray's own."""
TRAININGS = {StudentTrial.__name__, train_final.__name__}
"""The Ray tasks and actors that train."""
_WRAPPED = "ResourceTrainable"
"""What Ray calls a trial's actor while it trains: the class that gives it its resources."""


def may_mount() -> bool:
    """Return whether this process may create a mount namespace."""
    return bool(shutil.which("unshare")) and not subprocess.run(["unshare", "-m", "true"], check=False).returncode


def ray_task(process: psutil.Process) -> str | None:
    """Return the name of the Ray task or actor that a process runs; None where it runs none, or has ended."""
    try:
        title = process.cmdline()[0]
    except (psutil.Error, IndexError):
        return None
    task = re.match(r"ray::(\w+)", title)
    return StudentTrial.__name__ if task and task[1] == _WRAPPED else task and task[1]


def is_gone(process: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Driver:
    """`supersnn sweep` on the sweep ``tiny``, in a process and a session of its own, and its journal."""

    def __init__(self, config: Path, store: Path, *options: str, mounted: Path | None = None) -> None:
        """Start it; with `mounted` the store has that path in this process alone: nobody else finds it there."""
        self._log, self.journal = store.parent / "driver.log", store / "sweeps" / "tiny" / "journal.jsonl"
        command = [sys.executable, "-m", "supersnn_cli", "sweep", str(config), "--store", str(mounted or store)]
        mount = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(store), str(mounted)]
        command = [*(mount if mounted else []), *command, *options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return records.events(self.journal, *kinds)

    def failures(self) -> list[dict[str, Any]]:
        """The ends of trials that failed."""
        return [event for event in self.events("end") if event["end"].startswith("failed")]

    def running_trials(self) -> set[tuple[str, int]]:
        return self._trials("start") - self.ended_trials()

    def ended_trials(self) -> set[tuple[str, int]]:
        return self._trials("end")

    def _trials(self, kind: str) -> set[tuple[str, int]]:
        return {(event["arm"], event["trial"]) for event in self.events(kind)}

    def wait(self, reached: Callable[[], bool], seconds: float = 400) -> None:
        """Wait until something is reached, while the driver runs."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.2)

    def wait_for_epochs(self, more: int) -> None:
        """Wait until that many more epochs have been reported."""
        before = len(self.events("epoch"))
        self.wait(lambda: len(self.events("epoch")) >= before + more)

    def children(self) -> list[psutil.Process]:
        """All processes below it; none once it has ended."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self, seconds: float = 1000) -> None:
        """Wait for its end, which must be a success."""
        assert self.process.wait(timeout=seconds) == 0, self.output()

    def output(self) -> str:
        """Return the end of what it has printed."""
        return self.whole_output()[-3000:]

    def whole_output(self) -> str:
        """Return all that it has printed."""
        return self._log.read_text(encoding="utf-8")
