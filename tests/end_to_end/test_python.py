"""Sweeps from Python: one is run, loaded and followed, and its events reach what others track with."""

import importlib.util
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tune
from supersnn.errors import UserError
from supersnn.records.events import AnyEvent, EpochReported, SweepClosed, SweepStarted, TrialEnded
from tests.end_to_end.conftest import TINY

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "follow"
SMALL = {
    **TINY,
    "name": "python",
    "train": {"epochs": 2},
    "arms": {"direct": {}},
    "space": {"neuron.threshold": {"uniform": [0.3, 1.0]}},
    "search": {"trials": 2, "scheduler": "none"},
    "verify": {"seeds": 1},
}


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tune.Sweep:
    """A sweep that was run from plain values, and followed by another thread meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        store = tmp_path_factory.mktemp("store")
        seen: list[tuple[float, AnyEvent]] = []
        follower = threading.Thread(
            target=lambda: seen.extend(
                (time.time(), event) for event in tune.follow(store, "python", wait=60, every=0.1)
            )
        )
        follower.start()
        done = tune.run(SMALL, store, local=True)
        follower.join(timeout=60)
    times = [(when, event) for when, event in seen if isinstance(event, EpochReported)]
    assert len(times) == 4
    assert all(when - event.time < 5 for when, event in times), "events come while the sweep runs"
    assert isinstance(seen[-1][1], SweepClosed)
    return done


def test_a_sweep_is_run_and_loaded(sweep: tune.Sweep) -> None:
    again = tune.load(sweep.folder.path.parents[1], "python")
    assert again.config == sweep.config
    assert repr(again) == f"Sweep('python' in '{sweep.folder.path}'; trials direct: 2)"
    assert again.tables().trials["trial"].tolist() == [0, 1]
    assert again.results()["arms"]["direct"]["finished"] == 2
    assert (again.best() / "student.safetensors").exists()
    assert sweep.folder.report.exists()
    assert tune.run(again.config, sweep.folder.path.parents[1], local=True).state().searches["direct"].ended == 2
    with pytest.raises(UserError, match="pyton"):
        tune.load(sweep.folder.path.parents[1], "pyton")


def test_events_of_a_sweep_that_has_ended(sweep: tune.Sweep) -> None:
    store = sweep.folder.path.parents[1]
    events = list(tune.follow(store, "python"))
    assert isinstance(events[0], SweepStarted)
    assert sum(isinstance(event, TrialEnded) for event in events) == 2
    assert list(tune.follow(store, "python", live=False)) == events
    with pytest.raises(UserError, match="nothing has been started there"):
        next(tune.follow(store, "another"))


def test_a_wrong_description_is_one_line() -> None:
    with pytest.raises(UserError, match=r"sweep: arms: this key is required"):
        tune.run({"name": "x", "dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}})


def test_tensorboard_has_every_epoch(sweep: tune.Sweep, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    example("tensorboard").write(sweep.folder.path.parents[1], "python", str(tmp_path))
    files = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("events.out.*"))
    assert files == ["python/direct/0", "python/direct/1", "python/verified/direct"]
    content = next((tmp_path / "python/direct/0").iterdir()).read_bytes()
    assert content.count(b"val/accuracy") == 2


def test_a_web_hook_is_told_what_has_ended(sweep: tune.Sweep) -> None:
    told: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        example("webhook").send(sweep.folder.path.parents[1], "python", f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    assert [one["event"]["event"] for one in told][:2] == ["end", "end"]
    assert told[0]["text"].startswith("python: direct #0: finished, validation ")
    assert {"verified", "close"} <= {one["event"]["event"] for one in told}


def test_weights_and_biases_writes_local_files(
    sweep: tune.Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    example("weights_and_biases").log(sweep.folder.path.parents[1], "python", "offline")
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
