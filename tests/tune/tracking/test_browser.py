"""What a person sees: a store's pages in a real Chromium, driven over the WebDriver protocol.

The pictures go to the folder that SUPERSNN_SCREENSHOTS names, or beside the test's other files.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from tune.tracking.tracker import Tracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs Debian's chromium and chromium-driver"),
]

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-quic", "--window-size=1900,1000"]
SERVE = "import sys; from pathlib import Path; from tune.tracking.server import serve; "
SERVE += "sys.exit(serve(Path(sys.argv[1]), port=int(sys.argv[2])))"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of an element's identifier


class Browser:
    """The few commands of WebDriver that are needed here."""

    def __init__(self, address, pictures):
        self.address, self.pictures = address, pictures
        options = {"goog:chromeOptions": {"args": FLAGS}}
        self.session = self._ask("POST", "/session", capabilities={"alwaysMatch": options})["sessionId"]

    def _ask(self, method, path, **body):
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def command(self, method, path, **body):
        return self._ask(method, f"/session/{self.session}{path}", **body)

    def go(self, page):
        self.command("POST", "/url", url="about:blank")
        self.command("POST", "/url", url=page)

    def find(self, xpath, seconds=60.0):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.command("POST", "/element", using="xpath", value=xpath)[ELEMENT]
            except urllib.error.HTTPError:
                assert time.monotonic() < deadline, f"{xpath} did not show; see {self.picture('missing')}"
                time.sleep(0.2)

    def click(self, xpath):
        self.command("POST", f"/element/{self.find(xpath)}/click")

    def picture(self, name):
        path = self.pictures / f"{name}.png"
        path.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))
        return path


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(command, ready, **options):
    """A program in the background, from when `ready` answers until the end of the block."""
    with subprocess.Popen(command, start_new_session=True, text=True, **options) as process:
        try:
            deadline = time.monotonic() + 120
            while not answers(ready):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def answers(page):
    try:
        urllib.request.urlopen(page, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def browser(tmp_path):
    pictures = Path(os.environ.get("SUPERSNN_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    port = free_port()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"http://127.0.0.1:{port}"
    with running(["chromedriver", f"--port={port}"], f"{address}/status", **silent):
        yield Browser(address, pictures)


@pytest.fixture
def store(tmp_path, uri, config, make_events, write):
    """A store with a sweep of three arms and an exported winner."""
    sweep = tmp_path / "sweeps" / "digits"
    events = make_events(trials=12, epochs=4)
    torch.manual_seed(0)
    trained = TrainConfig.model_validate({"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}})
    weights = build(trained.student, trained.neuron, ImageShape(1, 8), 10).state_dict()
    pixels = exported.Preprocessing(1, 8, (0.5,), (0.5,), tuple("0123456789"))
    exported.write(sweep / "best" / "heterogeneous", trained, weights, pixels, {})
    export = {"event": "export", "time": 1.79e9, "arm": "heterogeneous", "folder": "best/heterogeneous", "seed": 1001}
    write(sweep / "journal.jsonl", [*events[:-1], export, events[-1]])
    tracker = Tracker.start(sweep / "journal.jsonl", sweep / "tracking", uri, "digits", config, tmp_path / "artifacts")
    tracker.wait_connected()
    assert tracker.close(120) == 0
    return tmp_path


def shows(text):
    return f"//*[normalize-space(text())='{text}']"


def expands(run):
    return f"//*[@role='gridcell'][.//*[normalize-space(text())='{run}']]//button"


def test_what_a_person_sees(store, browser, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    port = free_port()
    command = [sys.executable, "-c", SERVE, str(store), str(port)]
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/health", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        printed = [process.stdout.readline().split() for _ in range(6)]
        assert printed[0] == ["digits"]
        pages = dict(printed[1:5])

        browser.go(pages["runs"])
        browser.click(expands("digits"))
        browser.click(expands("heterogeneous"))
        browser.find(shows("heterogeneous #0 vgg8→resnet8"))
        browser.find(shows("heterogeneous verify seed 1001"))
        browser.picture("runs")

        browser.go(pages["trials"])
        browser.find(shows("direct #0 resnet8"))
        browser.find(shows("heterogeneous #0 vgg8→resnet8"))
        browser.find("//*[name()='g' and @class='parcoords']")
        browser.picture("trials")

        browser.go(pages["curves"])
        browser.find(shows("heterogeneous #0 vgg8→resnet8"))
        browser.find("//*[contains(@class, 'js-plotly-plot')]")
        browser.picture("curves")

        browser.go(pages["arms"])
        browser.find(shows("homogeneous"))
        browser.find(shows("test/mean"))
        browser.picture("arms")

        browser.go(f"{address}/#/models/digits")
        browser.find("//*[contains(., 'champion')]")
        browser.picture("model")
