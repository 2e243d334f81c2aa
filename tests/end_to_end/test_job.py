"""A sweep submitted with `ray job submit`, as documented, on a cluster that asks for its token."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.driver import ON_A_CLUSTER
from tests.support.servers import free_port

pytestmark = ON_A_CLUSTER

BIN = Path(sys.executable).parent


@pytest.fixture
def environment() -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of the job server of a head without CPUs; a worker has joined it."""
    port, dashboard = free_port(), free_port()
    head = ["--head", f"--port={port}", "--num-cpus=0", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    head += ["--node-ip-address=127.0.0.1", f"--ray-client-server-port={free_port()}"]
    worker = [f"--address=127.0.0.1:{port}", "--num-cpus=1"]
    nodes = []
    for options in (head, worker):
        command = [str(BIN / "ray"), "start", *options, f"--dashboard-agent-listen-port={free_port()}", "--block"]
        with (tmp_path / "nodes.log").open("ab") as log:
            nodes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True))
        wait_for(port, tmp_path / "nodes.log")
    wait_for(dashboard, tmp_path / "nodes.log")
    yield f"http://127.0.0.1:{dashboard}"
    for node in reversed(nodes):
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(timeout=60)


def wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")[-2000:]
            time.sleep(0.5)


def submit(server: str, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    words = [str(BIN / "ray"), "job", "submit", "--address", server, "--", *command]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_a_submitted_sweep_is_done_and_has_nothing_to_do_when_submitted_again(
    server: str, environment: dict[str, str], tiny: Path, tmp_path: Path
) -> None:
    command = ("supersnn", "sweep", str(tiny), "--store", str(tmp_path / "store"))
    stranger = {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    assert submit(server, stranger, *command).returncode != 0
    assert not (tmp_path / "store").exists()
    done = submit(server, environment, *command)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "succeeded" in done.stdout + done.stderr
    invariants.assert_sweep(tmp_path / "store", "tiny")
    journal = (tmp_path / "store" / "sweeps" / "tiny" / "journal.jsonl").read_bytes()
    assert submit(server, environment, *command).returncode == 0
    assert (tmp_path / "store" / "sweeps" / "tiny" / "journal.jsonl").read_bytes() == journal


def test_a_submitted_mistake_is_reported(server: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = submit(server, environment, "supersnn", "sweep", str(tmp_path / "none.yaml"))
    assert done.returncode != 0
    assert "none.yaml" in done.stdout + done.stderr
