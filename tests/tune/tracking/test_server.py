import json
from urllib.parse import parse_qs, urlsplit

import pytest

from supersnn.errors import UserError
from tune.tracking import server
from tune.tracking.tracker import Tracker


@pytest.fixture
def tracked(tmp_path, uri, config, events, write):
    """A store with one sweep that was tracked."""
    sweep = tmp_path / "sweeps" / "digits"
    write(sweep / "journal.jsonl", events)
    tracker = Tracker.start(sweep / "journal.jsonl", sweep / "tracking", uri, "digits", config, tmp_path / "artifacts")
    tracker.wait_connected()
    assert tracker.close(60) == 0
    return uri


def query(page):
    return {key: values[0] for key, values in parse_qs(urlsplit(page).fragment.partition("?")[2]).items()}


def test_a_store_has_its_own_database_unless_told(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert server.uri_for(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert server.uri_for(tmp_path) == "http://tracking:5000"


def test_only_this_machine_unless_told(tmp_path):
    command = server.ui_command(tmp_path)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "0.0.0.0" in server.ui_command(tmp_path, "0.0.0.0", 80)


def test_a_store_without_a_sweep_is_the_users_mistake(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="no sweep has been tracked in this store yet"):
        server.serve(tmp_path)


def test_pages_of_a_sweep(tracked):
    from mlflow import MlflowClient

    pages = server.pages_of(tracked, "http://127.0.0.1:5000/")["digits"]
    assert pages.runs.startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    client = MlflowClient(tracked)

    def levels(page):
        assert json.loads(query(page)["experiments"]) == ["1"]
        return [client.get_run(run).info.run_name for run in json.loads(query(page)["runs"])]

    assert levels(pages.arms) == ["direct", "homogeneous", "heterogeneous"]
    trials = levels(pages.trials)
    assert len(trials) == 6
    assert trials[0] == "direct #0 resnet8"  # the arm's best first


def test_many_trials_are_shared_out_among_the_arms(tracked, monkeypatch):
    monkeypatch.setattr(server, "COMPARED", 3)
    runs = json.loads(query(server.pages_of(tracked, "http://here")["digits"].trials)["runs"])
    assert len(runs) == 3
