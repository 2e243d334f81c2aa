"""A sweep's runs on an MLflow server, told as the journal they came from. The only room with MLflow.

The server keeps runs (`supersnn.level`: sweep, arm, trial, verification) and every epoch's metrics; what it has no
place for, the test ledger, the rankings, the teachers fitted anew and the banks' seconds, is missing in the tables.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pandas as pd
import yaml

from analysis.journal import Journal
from supersnn.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
"""Runs a request."""
RUNS, VALUES = 100, 25_000
"""How many runs a request for one metric's history may name, and how many values it answers with at most."""
HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
Point = tuple[str, str, int, float, int]
"""Run, metric, step, value, time in milliseconds."""
LAYER = "spikes/rate/"
"""What a verification's metrics of one layer's spike rate begin with."""
ENDS = {"FINISHED": "done", "KILLED": "interrupted", "FAILED": "failed"}


def read(tracking_uri: str, experiment: str) -> tuple[dict[str, Any], Journal]:
    """Return the latest sweep of an experiment as its file's mapping and its journal.

    Raises:
        UserError: there is no such experiment, no sweep in it, or no server.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = MlflowClient(tracking_uri, tracking_uri)
    try:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = ", ".join(sorted(known.name for known in client.search_experiments()))
            raise UserError(f"{tracking_uri}: no experiment {experiment!r}; there: {known}")
        runs = list(_runs(client, found.experiment_id))
        sweeps = [run for run in runs if _tag(run, "level") == "sweep"]
        if not sweeps:
            raise UserError(f"{tracking_uri}: no sweep in experiment {experiment!r}")
        root = max(sweeps, key=lambda run: int(run.info.start_time))
        own = [run for run in runs if _tag(run, "journal") == _tag(root, "journal")]
        levels = {
            level: [run for run in own if _tag(run, "level") == level] for level in ("arm", "trial", "verification")
        }
        epochs = _epochs(client, levels["trial"])
        config, versions, faults = _artifacts(client, root, levels["arm"])
    except MlflowException as error:
        raise UserError(f"{tracking_uri}: {str(error).splitlines()[0]}") from error
    return config, Journal(list(_events(root, levels, versions)), epochs, faults)


def _runs(client: "MlflowClient", experiment_id: str) -> Iterator["Run"]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _events(root: "Run", levels: Mapping[str, list["Run"]], versions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Tell the runs as the journal does."""
    yield {"event": "sweep", "time": root.info.start_time / 1000, "code": _tag(root, "code"), "versions": versions}
    yield {"event": "data", "split": _tag(root, "split") or None}
    yield from _teachers(root, levels["trial"])
    for run in sorted(levels["trial"], key=lambda run: int(run.info.start_time)):
        yield from _trial(run)
    for run in levels["arm"]:
        if trial := _tag(run, "winner"):
            yield {"event": "winner", "time": _end(run), "arm": _tag(run, "arm"), "trial": int(trial), "value": None}
    for run in levels["verification"]:
        arm, trial, _, seed = _tag(run, "key").split("/")[1:]
        layers = sorted((name for name in run.data.metrics if name.startswith(LAYER)), key=_numbers_by_value)
        yield {"event": "verified", "time": _end(run), "arm": arm, "trial": int(trial), "seed": int(seed),
               "config": _params(run), "seconds": _end(run) - run.info.start_time / 1000,
               "metrics": {name: value for name, value in run.data.metrics.items() if name not in layers},
               "rates": {name.removeprefix(LAYER): run.data.metrics[name] for name in layers}}  # fmt: skip
    if end := ENDS.get(root.info.status):
        yield {"event": "close", "time": _end(root), "end": end}


def _teachers(root: "Run", trials: Iterable["Run"]) -> Iterator[dict[str, Any]]:
    about: dict[str, dict[str, Any]] = {}
    for run in trials:
        if name := _tag(run, "teacher"):
            about.setdefault(name, {"digest": _tag(run, "teacher_digest"), "family": _tag(run, "teacher_family"),
                                    "epochs": _params(run).get("teacher.epochs")})  # fmt: skip
    for name, told in about.items():
        facts = {
            key: root.data.metrics.get(f"teacher/{name}/{key}") for key in ("parameters", "val_accuracy", "seconds")
        }
        yield {"event": "teacher", "name": name, **told, **facts, "split": _tag(root, "split")}


def _trial(run: "Run") -> Iterator[dict[str, Any]]:
    config, (arm, trial) = _params(run), _tag(run, "key").split("/")[1:]
    who = {key: _tag(run, key) or None for key in ("pairing", "student_family", "teacher_family")}
    params = {key: config[key] for key in _tag(run, "sampled").split() if key in config}
    about = {"arm": arm, "trial": int(trial)}
    yield {"event": "start", "time": run.info.start_time / 1000, **about, "config": config, "params": params, **who}
    if end := _tag(run, "end"):
        yield {"event": "end", "time": _end(run), **about, "end": end, "value": run.data.metrics.get("val/accuracy")}


def _epochs(client: "MlflowClient", trials: list["Run"]) -> pd.DataFrame:
    """Every epoch of the trials, one row each."""
    keys = {run.info.run_id: _tag(run, "key").split("/")[1:] for run in trials}
    wide: dict[tuple[str, int, int], dict[str, float]] = {}
    times: dict[tuple[str, int, int], float] = {}
    database = urlsplit(client.tracking_uri).scheme.partition("+")[0] in DATABASES
    for run_id, name, step, value, timestamp in (_from_database if database else _from_server)(client, trials):
        arm, trial = keys[run_id]
        place = arm, int(trial), step
        wide.setdefault(place, {})[name] = value
        times[place] = timestamp / 1000
    rows = sorted(wide)
    about = pd.DataFrame(rows, columns=["arm", "trial", "epoch"]).astype({"trial": "int64", "epoch": "int64"})
    about["time"] = [times[row] for row in rows]
    return pd.concat([about, pd.DataFrame([wide[row] for row in rows])], axis=1).astype({"arm": "str"})


def _from_database(client: "MlflowClient", trials: list["Run"]) -> Iterator[Point]:
    """Yield every value from MLflow's own table of them: ten times as fast as through its entities."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import create_engine, select

    row: Any = SqlMetric
    columns = select(row.run_uuid, row.key, row.step, row.value, row.timestamp, row.is_nan)
    engine = create_engine(client.tracking_uri)
    with closing(engine.connect()) as connection:
        for batch in _batches(trials):
            found = connection.execute(columns.where(row.run_uuid.in_(batch)))
            for run_id, name, step, value, timestamp, nan in found:
                yield run_id, name, step, float("nan") if nan else value, timestamp
    engine.dispose()


def _from_server(client: "MlflowClient", trials: list["Run"]) -> Iterator[Point]:
    """Yield every value from a server, one metric of many runs a request.

    The client has no public door for several runs at once: the server's own is asked with the client's credentials.
    """
    from mlflow.utils.rest_utils import http_request

    host = client._tracking_client.store.get_host_creds()
    for name in dict.fromkeys(name for run in trials for name in run.data.metrics):
        for batch in _batches([run for run in trials if name in run.data.metrics]):
            asked = {"run_id": batch, "metric_key": name, "max_results": VALUES}
            answer = http_request(host, HISTORY, "GET", params=asked)
            answer.raise_for_status()
            points = answer.json().get("metrics", [])
            if len(points) < VALUES:
                yield from ((p["run_id"], name, int(p["step"]), float(p["value"]), p["timestamp"]) for p in points)
            else:
                for run_id in batch:
                    yield from ((run_id, name, metric.step, metric.value, metric.timestamp)
                                for metric in client.get_metric_history(run_id, name))  # fmt: skip


def _batches(runs: list["Run"]) -> Iterator[list[str]]:
    """The runs' identifiers, as many at a time as a request may name."""
    for start in range(0, len(runs), RUNS):
        yield [run.info.run_id for run in runs[start : start + RUNS]]


def _artifacts(
    client: "MlflowClient", root: "Run", arms: list["Run"]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the sweep file, the versions, and what is wrong; where a file cannot be had, the arms' names alone."""
    from mlflow.exceptions import MlflowException

    named: dict[str, Any] = {_tag(run, "arm"): {} for run in sorted(arms, key=lambda run: int(run.info.start_time))}
    found: list[dict[str, Any]] = []
    faults = []
    for name, otherwise in (("config.yaml", {"arms": named}), ("environment.json", {})):
        try:
            with TemporaryDirectory() as folder:
                path = Path(client.download_artifacts(root.info.run_id, name, folder))
                found.append(dict(yaml.safe_load(path.read_text(encoding="utf-8"))))
        except (MlflowException, OSError, ValueError, yaml.YAMLError) as error:
            found.append(dict(otherwise))
            faults.append(f"the artifact {name} cannot be read: {type(error).__name__}")
    return found[0], found[1], faults


def _numbers_by_value(name: str) -> list[tuple[int, str]]:
    """A key that sorts layers in the network's order: `body.2` before `body.10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _params(run: "Run") -> dict[str, Any]:
    """The flat configuration: params are JSON, texts stand as they are."""
    return {key: _value(text) for key, text in run.data.params.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tag(run: "Run", name: str) -> str:
    return str(run.data.tags.get(f"supersnn.{name}", ""))


def _end(run: "Run") -> float:
    return (run.info.end_time or run.info.start_time) / 1000
