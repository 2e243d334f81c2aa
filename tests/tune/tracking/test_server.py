import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from supersnn.errors import UserError
from supersnn.records.events import AnyEvent
from tune.tracking import server

if TYPE_CHECKING:
    from tests.tune.tracking.conftest import TrackedSweep


@pytest.fixture
def tracked(sweep: "TrackedSweep", uri: str, events: list[AnyEvent]) -> str:
    """The address of an MLflow with one sweep."""
    sweep.append(events)
    assert sweep.track(uri) == 0
    return uri


def query(page: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page).fragment.partition("?")[2]).items()}


def test_uri_is_of_the_stores_own_database_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert server.uri_for(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert server.uri_for(tmp_path) == "http://tracking:5000"


def test_server_listens_to_this_machine_by_default(tmp_path: Path) -> None:
    command = server.ui_command(tmp_path)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "0.0.0.0" in server.ui_command(tmp_path, "0.0.0.0", 80)


def test_store_without_a_sweep_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="no sweep has been tracked in this store yet"):
        server.serve(tmp_path)


def test_pages_of_a_sweep(tracked: str) -> None:
    from mlflow import MlflowClient

    pages = server.pages_of(tracked, "http://127.0.0.1:5000/")["digits"]
    assert pages.runs.startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    client = MlflowClient(tracked)

    def names(page: str) -> list[str]:
        assert json.loads(query(page)["experiments"]) == ["1"]
        return [client.get_run(run).info.run_name for run in json.loads(query(page)["runs"])]

    assert names(pages.arms) == ["direct", "homogeneous", "heterogeneous"]
    trials = names(pages.trials)
    assert len(trials) == 6
    assert trials[0] == "direct #0 resnet8"  # the arm's best first


def test_compared_trials_are_shared_out_among_the_arms(tracked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "COMPARED", 3)
    runs = json.loads(query(server.pages_of(tracked, "http://here")["digits"].trials)["runs"])
    assert len(runs) == 3
