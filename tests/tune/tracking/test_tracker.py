import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.tracking.client import Connection
from tune.tracking.tracker import Tracker

DRIVER = """
import json, os, signal, sys
from pathlib import Path
from tune.journal import Journal
from tune.tracking.tracker import Tracker

sweep, uri, config, events, killed_in = Path(sys.argv[1]), sys.argv[2], *map(json.loads, sys.argv[3:])
if killed_in:
    from mlflow import MlflowClient

    name, calls = killed_in
    call = getattr(MlflowClient, name)

    def called(*args, **options):
        global calls
        calls -= 1
        return call(*args, **options) if calls else os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, name, called)
journal = Journal(sweep / "journal.jsonl")
tracker = Tracker.start(journal.path, sweep / "tracking", uri, "digits", config, sweep / "artifacts")
tracker.wait_connected()
for event in events:
    journal.append(**event)
sys.exit(tracker.close(120))
"""


def driver(sweep, uri, config, events, killed_in=None):
    """Start another process that writes events and tells MLflow of them; `killed_in` is a call of MLflow's and its
    number, in place of which it kills itself.
    """
    arguments = [str(sweep), uri, *map(json.dumps, (config, events, killed_in))]
    command = [sys.executable, "-c", DRIVER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def sweep(tmp_path):
    return tmp_path / "sweeps" / "digits"


def track(sweep, uri, config, timeout=60.0):
    """Say everything that is in the journal; return what is pending."""
    tracker = Tracker.start(sweep / "journal.jsonl", sweep / "tracking", uri, "digits", config, sweep / "artifacts")
    tracker.wait_connected()
    return tracker.close(timeout)


def place(sweep):
    (file,) = (sweep / "tracking").glob("*.json")
    return file


def test_a_whole_sweep(sweep, uri, config, events, write, told):
    write(sweep / "journal.jsonl", events)
    assert track(sweep, uri, config) == 0
    runs = told(uri)
    assert len(runs) == 1 + 3 + 6 + 6
    trial = runs["heterogeneous/0"]
    assert (trial.name, trial.status, trial.parent) == ("heterogeneous #0 vgg8→resnet8", "FINISHED", "heterogeneous")
    assert [(step, value) for step, value, _ in trial.metrics["val/accuracy"]] == [(1, 0.25), (2, 0.3), (3, 0.35)]
    assert trial.params["loss.relation.weight"] == "10.0"
    assert trial.tags["split"] == "5f1e"
    assert trial.datasets == [("digits", "5f1e")]
    start = next(e for e in events if e["event"] == "start" and e["arm"] == "heterogeneous")
    end = next(e for e in events if e["event"] == "end" and e["arm"] == "heterogeneous")
    assert trial.times == (start["time"] * 1000, end["time"] * 1000)
    assert runs[""].status == "FINISHED"
    assert runs["heterogeneous"].metrics["test/mean"][-1][1] == pytest.approx(0.45)


def test_artifacts_of_the_sweep(sweep, uri, config, events, write):
    from mlflow import MlflowClient

    write(sweep / "journal.jsonl", events)
    track(sweep, uri, config)
    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "tags.`supersnn.level` = 'sweep'")
    assert run.info.artifact_uri.startswith((sweep / "artifacts").as_uri())
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert "heterogeneous:\n    teachers:\n    - vgg8" in (folder / "config.yaml").read_text()
    assert json.loads((folder / "environment.json").read_text()) == {"torch": "2.14.1"}


def test_the_machines_load_on_request(sweep, uri, config, events, write, monkeypatch, told):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    write(sweep / "journal.jsonl", events[:3])
    tracker = Tracker.start(sweep / "journal.jsonl", sweep / "tracking", uri, "digits", config, sweep / "artifacts")
    deadline = time.monotonic() + 60
    while not any(name.startswith("system/cpu") for run in told(uri).values() for name in run.metrics):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    write(sweep / "journal.jsonl", events[3:])
    assert tracker.close() == 0


def test_nothing_is_said_twice(sweep, uri, config, events, write, told):
    """A driver that died after any of its calls says the tail of the journal again."""
    write(sweep / "journal.jsonl", events)
    track(sweep, uri, config)
    once = told(uri)
    journal = (sweep / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for lines in (0, 9, len(journal) - 1):
        offset = len(b"".join(journal[:lines]))
        kept = json.loads(place(sweep).read_text())
        place(sweep).write_text(json.dumps(kept | {"offset": offset}))
        assert track(sweep, uri, config) == 0
        assert told(uri) == once


def test_in_pieces_it_is_the_same_as_at_once(sweep, uri, config, events, write, told, tmp_path, empty_database):
    pieces = tmp_path / "pieces" / "sweeps" / "digits"
    other = f"sqlite:///{tmp_path / 'pieces' / 'mlflow.db'}"
    pieces.mkdir(parents=True)
    (tmp_path / "pieces" / "mlflow.db").write_bytes(empty_database.read_bytes())
    for start in range(0, len(events), 13):
        write(pieces / "journal.jsonl", events[start : start + 13])
        track(pieces, other, config)
    write(sweep / "journal.jsonl", events)
    track(sweep, uri, config)
    assert told(other) == told(uri)


def test_another_server_is_told_everything(sweep, uri, config, events, write, told, tmp_path, empty_database):
    write(sweep / "journal.jsonl", events)
    track(sweep, uri, config)
    other = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'other.db')}"
    track(sweep, other, config)
    assert told(other) == told(uri)


def test_a_database_that_was_begun_anew_is_told_everything(sweep, uri, config, events, write, told, empty_database):
    write(sweep / "journal.jsonl", events)
    track(sweep, uri, config)
    before = told(uri)
    Path(uri.removeprefix("sqlite:///")).write_bytes(empty_database.read_bytes())
    track(sweep, uri, config)
    assert told(uri) == before


def test_a_driver_says_nothing_on_the_terminal(sweep, config, events, tmp_path):
    process = driver(sweep, f"sqlite:///{tmp_path / 'new.db'}", config, events)
    printed, _ = process.communicate(timeout=120)
    assert (printed, process.returncode) == ("", 0)


@pytest.mark.parametrize("killed_in", [("log_batch", 1), ("log_batch", 9), ("set_terminated", 5)])
def test_a_driver_killed_while_it_speaks(
    killed_in, sweep, uri, config, make_events, told, write, tmp_path, empty_database
):
    """What it left RUNNING is gone on with; nothing is missing, nothing is there twice."""
    events = make_events(trials=5)
    write(sweep / "journal.jsonl", events)
    process = driver(sweep, uri, config, [], killed_in)
    assert (process.communicate(), process.returncode) == (("", None), -signal.SIGKILL)
    assert not list((sweep / "tracking").glob("*.json"))
    assert "RUNNING" in {run.status for run in told(uri).values()}
    assert track(sweep, uri, config) == 0
    other = tmp_path / "other"
    write(other / "journal.jsonl", events)
    at_once = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'other.db')}"
    track(other, at_once, config)
    assert told(uri) == told(at_once)


def test_an_outage_is_waited_for(sweep, uri, config, events, write, told, monkeypatch):
    """The place stands still, the sweep goes on, and what is pending is said."""
    write(sweep / "journal.jsonl", events[:20])
    down, say = threading.Event(), Connection.say

    def say_or_fail(self, change):
        if down.is_set():
            raise ConnectionError("the server is away")
        say(self, change)

    monkeypatch.setattr(Connection, "say", say_or_fail)
    down.set()
    tracker = Tracker.start(sweep / "journal.jsonl", sweep / "tracking", uri, "digits", config, sweep / "artifacts")
    tracker.wait_connected()
    write(sweep / "journal.jsonl", events[20:])
    while tracker.trouble() is None:
        time.sleep(0.01)
    assert tracker.trouble() == "the server is away"
    assert tracker.pending() == len(events)
    assert not (sweep / "tracking").exists()
    down.clear()
    assert tracker.close(60) == 0
    assert tracker.trouble() is None
    assert told(uri)[""].status == "FINISHED"


def test_an_outage_that_lasts_leaves_events_pending(sweep, uri, config, events, write, told, monkeypatch):
    write(sweep / "journal.jsonl", events)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "say", lambda self, change: 1 / 0)
        assert track(sweep, uri, config, timeout=0.5) == len(events)
    assert track(sweep, uri, config) == 0
    assert told(uri)[""].status == "FINISHED"


def test_what_the_user_deleted_stays_deleted_and_holds_nothing_up(sweep, uri, config, events, write, told):
    from mlflow import MlflowClient

    first_end = next(i for i, e in enumerate(events) if e["event"] == "end")
    write(sweep / "journal.jsonl", events[:first_end])
    track(sweep, uri, config)
    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "attributes.run_name = 'direct #0 resnet8'")
    client.delete_run(run.info.run_id)
    write(sweep / "journal.jsonl", events[first_end:])
    assert track(sweep, uri, config) == 0
    runs = told(uri)
    assert "direct/0" not in runs
    assert runs["direct/1"].status == "FINISHED"
    assert "direct/0: " in (sweep / "tracking" / "refused.log").read_text()


def test_an_event_that_makes_no_sense_is_passed_over(sweep, uri, config, events, write, told):
    strange = {"event": "epoch", "time": 1.7e9, "arm": "direct", "trial": 77, "epoch": 1, "metrics": {}}
    write(sweep / "journal.jsonl", [*events[:20], strange, *events[20:]])
    assert track(sweep, uri, config) == 0
    assert told(uri)[""].status == "FINISHED"
    assert '"trial": 77' in (sweep / "tracking" / "refused.log").read_text()


@pytest.fixture
def refusing_server():
    """A server that knows nobody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_wrong_password_is_the_users_mistake(sweep, refusing_server, config):
    with pytest.raises(UserError, match="refuses these credentials: set MLFLOW_TRACKING_USERNAME"):
        track(sweep, refusing_server, config)


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("http://127.0.0.1:1", "MLflow at http://127.0.0.1:1 cannot be used: Connection refused"),
        ("http://me:secret@127.0.0.1:1", "MLflow at http://127.0.0.1:1 cannot be used: Connection refused"),
        ("sqlite:////proc/nowhere/mlflow.db", "cannot be used"),
        ("ftp://127.0.0.1", "cannot be used"),
    ],
)
def test_what_cannot_be_reached_at_the_start_is_the_users_mistake(sweep, config, uri, complaint):
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        track(sweep, uri, config)
    assert complaint in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 30


def test_a_deleted_experiment_is_the_users_mistake(sweep, uri, config, events, write):
    from mlflow import MlflowClient

    write(sweep / "journal.jsonl", events)
    track(sweep, uri, config)
    MlflowClient(uri).delete_experiment("1")
    with pytest.raises(UserError, match="mlflow experiments restore -x 1"):
        track(sweep, uri, config)
