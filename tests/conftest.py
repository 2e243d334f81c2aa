"""A real S3 server (moto's) on the loopback; plugins and handlers of signals that no test leaves active."""

import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from supersnn import plugins
from supersnn_cli.termination import Termination
from tests.support.servers import free_port, running


@pytest.fixture(autouse=True)
def no_plugins_left() -> Iterator[None]:
    """Restore what is active, and what child processes inherit."""
    folders, variable = dict(plugins._FINDER.folders), os.environ.get(plugins.VARIABLE, "")
    yield
    plugins._FINDER.folders = folders
    os.environ[plugins.VARIABLE] = variable


@pytest.fixture
def termination() -> Iterator[Termination]:
    """The handler of SIGTERM that commands have, until the test ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    hook, handler = sys.unraisablehook, Termination()
    yield handler
    handler.close()
    sys.unraisablehook = hook
    for number, earlier in before.items():
        signal.signal(number, earlier)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The server's endpoint; it keeps everything in memory."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet, environment = subprocess.DEVNULL, {**os.environ, "PYTHONWARNINGS": "ignore"}
    with running(command, f"{endpoint}/moto-api/", stdout=quiet, stderr=quiet, env=environment):
        yield endpoint


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a folder in a new bucket; endpoint and credentials are in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"bucket-{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{bucket}", method="PUT"), timeout=10).close()
    return f"s3://{bucket}/folder"
