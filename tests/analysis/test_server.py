"""A sweep from MLflow has the same tables as from its folder; requests to a server name many runs at once."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from analysis import load, server, server_address
from supersnn.errors import UserError
from supersnn.records.events import EpochReported

Write = Callable[..., Path]

BASE = "digits@j"
History = tuple[str, list[dict[str, list[str]]]]


def milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


class Mirror:
    """Writes a sweep's journal as runs, in the schema of `tune.tracking`."""

    def __init__(self, uri: str, folder: Path) -> None:
        from mlflow import MlflowClient

        self.client, self.folder = MlflowClient(uri, uri), folder
        self.experiment = self.client.create_experiment("digits", (folder.parent / "artifacts").as_uri())
        self.events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        self.teachers = {event["name"]: event for event in self.events if event["event"] == "teacher"}

    def run(self, level: str, key: str, event: Mapping[str, Any], span: tuple[float, float],
            metrics: Sequence[tuple[str, float, float, int]] = (), **tags: str) -> str:  # fmt: skip
        from mlflow.entities import Metric, Param, RunTag

        tags = {"level": level, "key": BASE + key, "journal": "j", "split": "f00d", "code": "0.1.0+abc", **tags}
        run = self.client.create_run(self.experiment, milliseconds(span[0])).info.run_id
        params = [Param(name, json.dumps(value)) for name, value in event.get("config", {}).items()]
        points = [Metric(name, value, milliseconds(time), step) for name, value, time, step in metrics]
        self.client.log_batch(run, points, params, [RunTag(f"supersnn.{name}", text) for name, text in tags.items()])
        self.client.set_terminated(run, "FINISHED", milliseconds(span[1]))
        return str(run)

    def write(self) -> None:
        begin, close = self.events[0]["time"], self.events[-1]["time"]
        facts = [(f"teacher/{name}/{key}", event[key], begin, 0) for name, event in self.teachers.items()
                 for key in ("parameters", "val_accuracy", "seconds")]  # fmt: skip
        root = self.run("sweep", "", {}, (begin, close), facts)
        self.client.log_text(root, (self.folder / "config.yaml").read_text(), "config.yaml")
        for event in self.events:
            if event["event"] == "start":
                self.trial(event)
            elif event["event"] == "winner":
                self.run("arm", f"/{event['arm']}", {}, (begin, close), arm=event["arm"], winner=str(event["trial"]))
            elif event["event"] == "verified":
                key = f"/{event['arm']}/{event['trial']}/verify/{event['seed']}"
                layers = {f"spikes/rate/body.{8 + k}": 0.25 - 0.05 * k for k in range(3)}
                points = [(name, value, event["time"], 5) for name, value in (event["metrics"] | layers).items()]
                self.run("verification", key, event, (event["time"] - event["seconds"], event["time"]), points)

    def trial(self, start: Mapping[str, Any]) -> None:
        mine = [e for e in self.events if (e.get("arm"), e.get("trial")) == (start["arm"], start["trial"])]
        end = next(event for event in mine if event["event"] == "end")
        points = [(name, value, event["time"], event["epoch"]) for event in mine if event["event"] == "epoch"
                  for name, value in event["metrics"].items()]  # fmt: skip
        teacher = self.teachers.get(start["config"]["teacher.name"])
        tags = {"teacher": teacher["name"], "teacher_digest": teacher["digest"],
                 "teacher_family": teacher["family"]} if teacher else {}  # fmt: skip
        self.run("trial", f"/{start['arm']}/{start['trial']}", start, (start["time"], end["time"]), points,
                 sampled=" ".join(start["params"]), end=end["end"], **tags, **self.feasible(end))  # fmt: skip

    def feasible(self, end: Mapping[str, Any]) -> dict[str, str]:
        return {"feasible": "yes" if end["feasible"] else "no"} if "feasible" in end else {}


@pytest.mark.parametrize("schema", [1, 2])
def test_tables_from_mlflow_are_those_from_the_folder(synthetic: Write, tmp_path: Path, schema: int) -> None:
    folder = synthetic(trials=4, epochs=3, seeds=2, schema=schema, constraints={"spikes/rate": 0.3})
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    Mirror(uri, folder).write()
    remote, local = load.from_mlflow(uri, "digits"), load.sweep(folder)
    assert (remote.name, remote.ended, remote.arms) == (local.name, local.ended, local.arms)
    assert remote.problems["problem"].str.contains("environment.json cannot be read").tolist() == [True]
    for name, keys in {"trials": ["arm", "trial"], "epochs": ["arm", "trial", "epoch"],
                       "verified": ["arm", "trial", "seed"], "teachers": ["name"]}.items():  # fmt: skip
        first, second = (getattr(tables, name).sort_values(keys, ignore_index=True) for tables in (remote, local))
        unknown = {"teachers": ["bank_seconds", "epochs"], "verified": ["images"]}.get(name, [])
        pd.testing.assert_frame_equal(
            first.drop(columns=unknown), second.drop(columns=unknown), check_like=True, rtol=0, atol=2e-3
        )
    layers = remote.layers[(remote.layers["arm"] == "direct") & (remote.layers["seed"] == 1000)]
    assert list(zip(layers["position"], layers["layer"], strict=True)) == [(0, "body.8"), (1, "body.9"), (2, "body.10")]
    assert layers["rate"].tolist() == [0.25, 0.2, 0.15]
    with pytest.raises(UserError, match="no experiment 'digit'; known: Default, digits"):
        load.from_mlflow(uri, "digit")


def test_an_experiment_that_is_deleted_and_runs_without_tags(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic(trials=2, epochs=2, seeds=2)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mirror = Mirror(uri, folder)
    mirror.write()
    complete = load.from_mlflow(uri, "digits")
    mirror.run("trial", "", {}, (1.0, 2.0))
    mirror.run("trial", "/direct/x", {}, (1.0, 2.0))
    mirror.run("verification", "/direct/0", {}, (1.0, 2.0))
    mirror.client.create_run(mirror.experiment)
    sweep = load.from_mlflow(uri, "digits")
    assert sweep.trials.equals(complete.trials)
    assert sweep.verified.equals(complete.verified)
    text = "\n".join(sweep.problems["problem"])
    assert "2 runs of level trial are left out" in text
    assert "1 runs of level verification are left out" in text
    mirror.client.delete_experiment(mirror.experiment)
    with pytest.raises(UserError, match="experiment 'digits' is deleted; restore it: mlflow experiments restore"):
        load.from_mlflow(uri, "digits")


def test_wrong_addresses_are_one_line_and_make_no_database(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"")
    for uri, text in {
        "": "not the address of an MLflow server",
        "ftp://host/x": "not the address of an MLflow server",
        "http://127.0.0.1:1": "no answer from an MLflow server",
        f"sqlite:///{tmp_path}/none.db": "no such database",
        f"sqlite:///{other}": "not a database of MLflow",
        "postgresql://me:secret@127.0.0.1:1/x": r"//\*\*\*@127.0.0.1:1/x: no such database, or no answer",
    }.items():
        with pytest.raises(UserError, match=text) as refused:
            load.from_mlflow(uri, "digits")
        assert len(str(refused.value).splitlines()) == 1
        assert "secret" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]
    assert other.read_bytes() == b""


def test_a_server_that_hangs_is_waited_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_address, "PATIENCE", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    with closing(silent), pytest.raises(UserError, match="no answer from an MLflow server: timed out"):
        load.from_mlflow(f"http://127.0.0.1:{silent.getsockname()[1]}", "digits")


@pytest.fixture
def history() -> Iterator[History]:
    """A server with one metric's history: its address, and the queries that it received."""
    queries: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            queries.append(query)
            points = [{"run_id": run, "step": step, "value": step / 10, "timestamp": 1000 * step}
                      for run in query["run_id"] for step in (1, 2)]  # fmt: skip
            body = json.dumps({"metrics": points}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", queries
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_server_is_queried_for_a_hundred_runs_at_once(history: History) -> None:
    from mlflow.utils.rest_utils import MlflowHostCreds

    address, queries = history
    store = SimpleNamespace(get_host_creds=lambda: MlflowHostCreds(address))
    client = SimpleNamespace(_tracking_client=SimpleNamespace(store=store), tracking_uri=address)
    runs = [
        SimpleNamespace(
            info=SimpleNamespace(run_id=f"r{number}"),
            data=SimpleNamespace(metrics={"val/accuracy": 0.2}, tags={"supersnn.key": f"s/direct/{number}"}),
        )
        for number in range(250)
    ]
    epochs = server._epochs(cast(Any, client), cast(Any, runs))
    events = [event for run in runs for event in epochs[run.info.run_id] if isinstance(event, EpochReported)]
    assert [len(query["run_id"]) for query in queries] == [100, 100, 50]
    assert [(event.trial, event.epoch) for event in events] == [(k, epoch) for k in range(250) for epoch in (1, 2)]
    assert [event.metrics["val/accuracy"] for event in events] == [0.1, 0.2] * 250
    assert [event.time for event in events] == [1.0, 2.0] * 250
