import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from supersnn.errors import UserError
from supersnn.records import snapshot
from supersnn.records.events import AnyEvent, EpochReported, TrialEnded, TrialStarted
from supersnn.records.journal import read
from supersnn.records.state import SweepState
from tune.store import Store
from tune.tracking import client
from tune.tracking.client import Connection
from tune.tracking.tracker import behind
from tune.tracking.verdicts import Verdicts, verdicts_of

if TYPE_CHECKING:
    from tests.tune.tracking.conftest import TrackedRun, TrackedSweep

Events = list[AnyEvent]
ReadRuns = Callable[[str], dict[str, "TrackedRun"]]
MakeSweep = Callable[[str], "TrackedSweep"]
MakeUri = Callable[[str], str]

DRIVER = """
import json, os, signal, sys
from pathlib import Path
from supersnn.records.events import parse
from supersnn.records.journal import Journal
from tune.store import SweepFolder
from tune.tracking.tracker import Tracker

folder, uri, config, events, killed_in = SweepFolder(Path(sys.argv[1])), sys.argv[2], *map(json.loads, sys.argv[3:])
if killed_in:
    from mlflow import MlflowClient

    name, calls = killed_in
    call = getattr(MlflowClient, name)

    def called(*args, **options):
        global calls
        calls -= 1
        return call(*args, **options) if calls else os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, name, called)
journal = Journal(folder.journal)
tracker = Tracker(folder, uri, "digits", config, folder.path / "artifacts").start()
tracker.wait_connected()
for event in events:
    journal.append(parse(event))
sys.exit(tracker.close(120))
"""


def driver(
    sweep: "TrackedSweep", uri: str, events: Iterable[AnyEvent], killed_in: tuple[str, int] | None = None
) -> subprocess.Popen[str]:
    """Start another process that writes events and tracks them; `killed_in` is a function of MLflow's client and the
    number of its call, in place of which the process kills itself.
    """
    lines = [event.model_dump_json(by_alias=True) for event in events]
    arguments = [str(sweep.folder.path), uri, *map(json.dumps, (sweep.config, lines, killed_in))]
    command = [sys.executable, "-c", DRIVER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def first_end(events: Events) -> int:
    """The number of the first event of a trial's end."""
    return next(number for number, event in enumerate(events) if isinstance(event, TrialEnded))


def time_of(events: Events, kind: type[TrialStarted] | type[TrialEnded], arm: str) -> int:
    """The time of the first event of a kind in an arm, in milliseconds."""
    return round(next(e.time for e in events if isinstance(e, kind) and e.arm == arm) * 1000)


def test_all_events_of_a_sweep(sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns) -> None:
    sweep.append(events)
    assert sweep.track(uri) == 0
    runs = read_runs(uri)
    assert len(runs) == 1 + 3 + 6 + 6
    trial = runs["heterogeneous/0"]
    assert (trial.name, trial.status, trial.parent) == ("heterogeneous #0 vgg8→resnet8", "FINISHED", "heterogeneous")
    assert [(step, value) for step, value, _ in trial.metrics["val/accuracy"]] == [(1, 0.25), (2, 0.3), (3, 0.35)]
    assert trial.params["loss.relation.weight"] == "10.0"
    assert trial.tags["split"] == "5f1e"
    assert trial.datasets == [("digits", "5f1e")]
    times = (time_of(events, TrialStarted, "heterogeneous"), time_of(events, TrialEnded, "heterogeneous"))
    assert trial.times == times
    assert runs[""].status == "FINISHED"
    assert runs["heterogeneous"].metrics["test/mean"][-1][1] == pytest.approx(0.45)
    assert sweep.refused() == []


def test_artifacts_of_the_sweep(sweep: "TrackedSweep", uri: str, events: Events) -> None:
    from mlflow import MlflowClient

    sweep.append(events)
    sweep.track(uri)
    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "tags.`supersnn.level` = 'sweep'")
    assert run.info.artifact_uri.startswith((sweep.folder.path / "artifacts").as_uri())
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert "heterogeneous:\n    teachers:\n    - vgg8" in (folder / "config.yaml").read_text()
    assert json.loads((folder / "environment.json").read_text()) == {"torch": "2.14.1"}


def test_system_metrics_on_request(
    sweep: "TrackedSweep", uri: str, events: Events, monkeypatch: pytest.MonkeyPatch, read_runs: ReadRuns
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    sweep.append(events[:3])
    tracker = sweep.tracker(uri)
    deadline = time.monotonic() + 60
    while not any(name.startswith("system/cpu") for run in read_runs(uri).values() for name in run.metrics):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sweep.append(events[3:])
    assert tracker.close() == 0


def test_sending_again_has_no_effect(sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns) -> None:
    """A driver that died after any of its requests sends the tail of the journal again."""
    sweep.append(events)
    sweep.track(uri)
    once = read_runs(uri)
    lines = sweep.folder.journal.read_bytes().splitlines(keepends=True)
    for count in (0, 9, len(lines) - 1):
        position = json.loads(sweep.position().read_text())
        sweep.position().write_text(json.dumps(position | {"offset": len(b"".join(lines[:count]))}))
        assert sweep.track(uri) == 0
        assert read_runs(uri) == once


def test_in_pieces_it_is_the_same_as_at_once(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns, make_sweep: MakeSweep, make_uri: MakeUri
) -> None:
    pieces, other = make_sweep("pieces"), make_uri("pieces")
    for start in range(0, len(events), 13):
        pieces.append(events[start : start + 13])
        pieces.track(other)
    sweep.append(events)
    sweep.track(uri)
    assert read_runs(other) == read_runs(uri)


def test_another_server_is_sent_everything(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns, make_uri: MakeUri
) -> None:
    sweep.append(events)
    sweep.track(uri)
    other = make_uri("other")
    sweep.track(other)
    assert read_runs(other) == read_runs(uri)


def test_new_database_is_sent_everything(
    sweep: "TrackedSweep",
    uri: str,
    events: Events,
    read_runs: ReadRuns,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "INTERVAL", 1)
    sweep.append(events)
    sweep.track(uri)
    before = read_runs(uri)
    Path(uri.removeprefix("sqlite:///")).write_bytes(empty_database.read_bytes())
    sweep.track(uri)
    assert read_runs(uri) == before


def count_events(monkeypatch: pytest.MonkeyPatch) -> list[AnyEvent]:
    """Return a list that takes every event which a tracker applies its state to, without those read for the report."""
    applied: list[AnyEvent] = []
    apply, shown = SweepState.apply, verdicts_of

    def uncounted(folder: Path) -> Verdicts:
        before, found = len(applied), shown(folder)
        del applied[before:]
        return found

    def counted(state: SweepState, event: AnyEvent) -> bool:
        applied.append(event)
        return apply(state, event)

    monkeypatch.setattr(SweepState, "apply", counted)
    monkeypatch.setattr(client, "verdicts_of", uncounted)
    return applied


def test_snapshot_saves_reading_the_journal_again(
    sweep: "TrackedSweep",
    uri: str,
    events: Events,
    read_runs: ReadRuns,
    make_sweep: MakeSweep,
    make_uri: MakeUri,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "INTERVAL", 2000)
    half = len(events) // 2
    sweep.append(events[:half])
    sweep.track(uri)
    (saved,) = sweep.folder.tracking.glob("*.snapshot")
    sweep.append(events[half:])
    with monkeypatch.context() as patch:
        applied = count_events(patch)
        sweep.track(uri)
    assert applied == [event for event, _ in read(sweep.folder.journal)][half:]
    straight, other = make_sweep("other"), make_uri("other")
    straight.append(events)
    straight.track(other)
    assert read_runs(uri) == read_runs(other)
    state, offset = snapshot.load(saved, sweep.folder.journal) or (SweepState(), 0)
    assert offset == sweep.folder.journal.stat().st_size
    assert [len(arm.trials) for arm in state.searches.values()] == [2, 2, 2]


@pytest.mark.parametrize("unusable", ["damaged", "ahead", "other constraints"])
def test_unusable_snapshot_is_ignored(
    unusable: str,
    sweep: "TrackedSweep",
    uri: str,
    events: Events,
    read_runs: ReadRuns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "INTERVAL", 1)
    sweep.append(events)
    sweep.track(uri)
    once = read_runs(uri)
    (saved,) = sweep.folder.tracking.glob("*.snapshot")
    if unusable == "damaged":
        saved.write_text("{")
    elif unusable == "ahead":
        position = json.loads(sweep.position().read_text())
        sweep.position().write_text(json.dumps(position | {"offset": 0}))
    else:
        state = SweepState({"spikes/rate": 0.1})
        snapshot.save(saved, sweep.folder.journal, sweep.folder.journal.stat().st_size, state)
    applied = count_events(monkeypatch)
    assert sweep.track(uri) == 0
    assert len(applied) == len(events)
    assert read_runs(uri) == once


def test_short_journal_has_no_snapshot(sweep: "TrackedSweep", uri: str, events: Events) -> None:
    sweep.append(events)
    sweep.track(uri)
    assert not list(sweep.folder.tracking.glob("*.snapshot"))


def test_driver_prints_nothing(sweep: "TrackedSweep", events: Events, tmp_path: Path) -> None:
    process = driver(sweep, f"sqlite:///{tmp_path / 'new.db'}", events)
    printed, _ = process.communicate(timeout=120)
    assert (printed, process.returncode) == ("", 0)


@pytest.mark.parametrize(
    "killed_in",
    [
        ("log_batch", 9),
        pytest.param(("log_batch", 1), marks=pytest.mark.slow),
        pytest.param(("set_terminated", 5), marks=pytest.mark.slow),
    ],
)
def test_driver_killed_while_it_sends(
    killed_in: tuple[str, int],
    sweep: "TrackedSweep",
    uri: str,
    make_events: Callable[..., Events],
    read_runs: ReadRuns,
    make_sweep: MakeSweep,
    make_uri: MakeUri,
) -> None:
    """The runs that it left RUNNING are continued; nothing is missing or duplicate."""
    events = make_events(trials=5)
    sweep.append(events)
    process = driver(sweep, uri, [], killed_in)
    assert (process.communicate()[0], process.returncode) == ("", -signal.SIGKILL)
    assert not list(sweep.folder.tracking.glob("*.json"))
    assert "RUNNING" in {run.status for run in read_runs(uri).values()}
    assert sweep.track(uri) == 0
    straight, other = make_sweep("other"), make_uri("other")
    straight.append(events)
    straight.track(other)
    assert read_runs(uri) == read_runs(other)


def test_outage_is_waited_for(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position does not move, the sweep goes on, and pending events are sent afterwards."""
    sweep.append(events[:20])
    down, send = threading.Event(), Connection.send

    def send_or_fail(connection: Connection, change: Any) -> None:
        if down.is_set():
            raise ConnectionError("the server is away")
        send(connection, change)

    monkeypatch.setattr(Connection, "send", send_or_fail)
    down.set()
    tracker = sweep.tracker(uri)
    sweep.append(events[20:])
    while tracker.trouble() is None:
        time.sleep(0.01)
    assert tracker.trouble() == "the server is away"
    assert tracker.pending() == len(events)
    assert not sweep.folder.tracking.exists()
    down.clear()
    assert tracker.close(60) == 0
    assert tracker.trouble() is None
    assert read_runs(uri)[""].status == "FINISHED"


def test_long_outage_leaves_events_pending(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.append(events)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "send", lambda *_arguments: 1 / 0)
        assert sweep.track(uri, timeout=0.5) == len(events)
    assert sweep.track(uri) == 0
    assert read_runs(uri)[""].status == "FINISHED"


def test_run_that_the_user_deleted_stays_deleted(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns
) -> None:
    from mlflow import MlflowClient

    sweep.append(events[: first_end(events)])
    sweep.track(uri)
    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "attributes.run_name = 'direct #0 resnet8'")
    client.delete_run(run.info.run_id)
    sweep.append(events[first_end(events) :])
    assert sweep.track(uri) == 0
    runs = read_runs(uri)
    assert "direct/0" not in runs
    assert runs["direct/1"].status == "FINISHED"
    assert any("direct/0: " in line for line in sweep.refused())


def test_event_of_an_unknown_trial_is_noted(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns
) -> None:
    unknown = EpochReported(time=1.7e9, arm="direct", trial=77, epoch=1, metrics={})
    sweep.append([*events[:20], unknown, *events[20:]])
    assert sweep.track(uri) == 0
    assert read_runs(uri)[""].status == "FINISHED"
    (line,) = sweep.refused()
    assert '"trial":77' in line
    assert "direct #77: no event has started this trial" in line


@pytest.mark.parametrize("from_end", [20, 0])
def test_lines_that_are_no_event_are_noted_once(
    from_end: int, sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns
) -> None:
    sweep.append(events)
    lines = sweep.folder.journal.read_bytes().splitlines(keepends=True)
    at = len(lines) - from_end
    lines[at:at] = [b"no JSON\n", b'{"event":"epoch","time":1.0,"arm":"direct"}\n']
    sweep.folder.journal.write_bytes(b"".join(lines))
    for _ in range(2):
        assert sweep.track(uri) == 0
        assert json.loads(sweep.position().read_text())["offset"] == sweep.folder.journal.stat().st_size
    noted = sweep.refused()
    assert len(noted) == 2
    assert "is no event: Invalid JSON" in noted[0]
    assert "is no event: trial: Field required" in noted[1]
    sweep.position().unlink()
    assert sweep.track(uri) == 0
    assert sweep.refused() == noted
    assert read_runs(uri)[""].status == "FINISHED"


def test_behind(sweep: "TrackedSweep", events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, uri = Store(tmp_path), f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert not behind(sweep.folder, store)
    sweep.append(events)
    assert behind(sweep.folder, store)
    sweep.track(uri)
    assert not behind(sweep.folder, store)
    with sweep.folder.journal.open("a") as file:
        file.write('{"event":"torn')
    assert not behind(sweep.folder, store)


@pytest.mark.parametrize("content", [b"", b"\xf5\xe9", b"[]", b"{}", b'{"offset": "", "identity": "x"}'])
def test_position_that_cannot_be_read_sends_everything_again(
    sweep: "TrackedSweep", uri: str, events: Events, read_runs: ReadRuns, content: bytes
) -> None:
    sweep.append(events)
    sweep.track(uri)
    before = read_runs(uri)
    (position,) = sweep.folder.tracking.glob("*.json")
    position.write_bytes(content)
    sweep.track(uri)
    assert read_runs(uri) == before


def test_note_of_the_user_is_kept(sweep: "TrackedSweep", uri: str, events: Events) -> None:
    from mlflow import MlflowClient

    sweep.append(events)
    sweep.track(uri)
    client = MlflowClient(uri)
    note = client.get_experiment("1").tags["mlflow.note.content"]
    assert "| data |  | direct | homogeneous | heterogeneous |" in note
    client.set_experiment_tag("1", "mlflow.note.content", "mine")
    sweep.track(uri)
    assert client.get_experiment("1").tags["mlflow.note.content"] == "mine"


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """A server that refuses all credentials."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_wrong_password_is_a_user_error(sweep: "TrackedSweep", refusing_server: str) -> None:
    with pytest.raises(UserError, match="refuses these credentials: set MLFLOW_TRACKING_USERNAME"):
        sweep.track(refusing_server)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("http://127.0.0.1:1", "MLflow at http://127.0.0.1:1 cannot be used: Connection refused"),
        ("http://me:secret@127.0.0.1:1", "MLflow at http://***@127.0.0.1:1 cannot be used: Connection refused"),
        ("sqlite:////proc/nowhere/mlflow.db", "cannot be used"),
        ("ftp://127.0.0.1", "cannot be used"),
    ],
)
def test_unreachable_server_is_a_user_error(sweep: "TrackedSweep", uri: str, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        sweep.track(uri)
    assert text in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 30


def test_deleted_experiment_is_a_user_error(sweep: "TrackedSweep", uri: str, events: Events) -> None:
    from mlflow import MlflowClient

    sweep.append(events)
    sweep.track(uri)
    MlflowClient(uri).delete_experiment("1")
    with pytest.raises(UserError, match="mlflow experiments restore -x 1"):
        sweep.track(uri)
