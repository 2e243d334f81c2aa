"""A store's pages in a real Chromium, driven over the WebDriver protocol.

The screenshots go to the folder that SUPERSNN_SCREENSHOTS names, or beside the test's other files.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from supersnn.records.events import AnyEvent, WinnerExported
from tests.support.servers import free_port, running

if TYPE_CHECKING:
    from tests.tune.tracking.conftest import TrackedSweep

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
    """A client with the few WebDriver commands that the test needs."""

    def __init__(self, address: str, pictures: Path) -> None:
        self.address, self.pictures = address, pictures
        options = {"goog:chromeOptions": {"args": FLAGS}}
        self.session = self._request("POST", "/session", capabilities={"alwaysMatch": options})["sessionId"]

    def _request(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())["value"]

    def command(self, method: str, path: str, **body: Any) -> Any:
        return self._request(method, f"/session/{self.session}{path}", **body)

    def go(self, page: str) -> None:
        self.command("POST", "/url", url="about:blank")
        self.command("POST", "/url", url=page)

    def find(self, xpath: str, seconds: float = 60.0) -> str:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return str(self.command("POST", "/element", using="xpath", value=xpath)[ELEMENT])
            except urllib.error.HTTPError:
                assert time.monotonic() < deadline, f"{xpath} did not appear; see {self.picture('missing')}"
                time.sleep(0.2)

    def click(self, xpath: str) -> None:
        self.command("POST", f"/element/{self.find(xpath)}/click")

    def picture(self, name: str) -> Path:
        path = self.pictures / f"{name}.png"
        path.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))
        return path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    pictures = Path(os.environ.get("SUPERSNN_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    port = free_port()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"http://127.0.0.1:{port}"
    with running(["chromedriver", f"--port={port}"], f"{address}/status", **silent):
        yield Browser(address, pictures)


@pytest.fixture
def store(tmp_path: Path, sweep: "TrackedSweep", uri: str, make_events: Callable[..., list[AnyEvent]]) -> Path:
    """A store with a sweep of three arms and an exported winner."""
    events = make_events(trials=12, epochs=4)
    torch.manual_seed(0)
    trained = TrainConfig.model_validate({"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}})
    weights = build(trained.student, trained.neuron, ImageShape(1, 8), 10).state_dict()
    pixels = exported.Preprocessing(1, 8, (0.5,), (0.5,), tuple("0123456789"))
    exported.write(sweep.folder.best / "heterogeneous", trained, weights, pixels, {})
    export = WinnerExported(time=1.79e9, arm="heterogeneous", folder="best/heterogeneous", seed=1001)
    sweep.append([*events[:-1], export, events[-1]])
    assert sweep.tracker(uri, tmp_path / "artifacts").close(120) == 0
    return tmp_path


def text_is(text: str) -> str:
    return f"//*[normalize-space(text())='{text}']"


def expander_of(run: str) -> str:
    return f"//*[@role='gridcell'][.//*[normalize-space(text())='{run}']]//button"


def test_pages_of_a_store(store: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    port = free_port()
    command = [sys.executable, "-c", SERVE, str(store), str(port)]
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/health", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().split() for _ in range(6)]
        assert printed[0] == ["digits"]
        pages = dict(printed[1:5])

        browser.go(pages["runs"])
        browser.click(expander_of("digits"))
        browser.click(expander_of("heterogeneous"))
        browser.find(text_is("heterogeneous #0 vgg8→resnet8"))
        browser.find(text_is("heterogeneous verify seed 1001"))
        browser.picture("runs")

        browser.go(pages["trials"])
        browser.find(text_is("direct #0 resnet8"))
        browser.find(text_is("heterogeneous #0 vgg8→resnet8"))
        browser.find("//*[name()='g' and @class='parcoords']")
        browser.picture("trials")

        browser.go(pages["curves"])
        browser.find(text_is("heterogeneous #0 vgg8→resnet8"))
        browser.find("//*[contains(@class, 'js-plotly-plot')]")
        browser.picture("curves")

        browser.go(pages["arms"])
        browser.find(text_is("homogeneous"))
        browser.find(text_is("test/mean"))
        browser.picture("arms")

        browser.go(f"{address}/#/models/digits")
        browser.find("//*[contains(., 'champion')]")
        browser.picture("model")
