"""A sweep's driver as a process of its own, for tests on clusters."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune.journal import read

ON_A_CLUSTER = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""The marks of the tests on clusters: slow, and with warnings that are Ray's own."""


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def may_mount() -> bool:
    """Say whether this process may make a mount namespace."""
    return bool(shutil.which("unshare")) and not subprocess.run(["unshare", "-m", "true"], check=False).returncode


class Driver:
    """`supersnn sweep` on a cluster, in a process of its own, and what its journal says."""

    def __init__(self, config: Path, store: Path, address: str, *options: str, mounted: Path | None = None) -> None:
        """Start it; with `mounted` the store has that path for this process alone: nobody else finds it there."""
        self._log, self._journal = store.parent / "driver.log", store / "sweeps" / "tiny" / "journal.jsonl"
        command = [sys.executable, "-m", "supersnn_cli", "sweep", str(config), "--store", str(mounted or store)]
        mount = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(store), str(mounted)]
        command = [*(mount if mounted else []), *command, "--address", address, *options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event, _ in read(self._journal) if event["event"] == kind]

    def under_way(self) -> set[tuple[str, int]]:
        return self._trials("start") - self._trials("end")

    def _trials(self, kind: str) -> set[tuple[str, int]]:
        return {(event["arm"], event["trial"]) for event in self.events(kind)}

    def wait(self, reached: Callable[[], bool], seconds: float = 400) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> None:
        assert self.process.wait(timeout=1000) == 0, self.said()

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")[-3000:]


def assert_no_epoch_twice(driver: Driver) -> None:
    told = Counter((e["arm"], e["trial"], e["epoch"]) for e in driver.events("epoch"))
    assert set(told.values()) == {1}
