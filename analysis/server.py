"""A sweep's runs on an MLflow server, as the events of its journal. The only module of the analysis with MLflow.

MLflow keeps runs (`supersnn.level`: sweep, arm, trial, verification), their tags, and every epoch's metrics. It does
not keep the test ledger, the rankings, the refitted teachers and the seconds of the teacher caches: these are missing
in the tables.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from analysis.build import constraints
from analysis.journal import SweepRecord, record_of
from analysis.server_address import DATABASES, LINE, check_address
from analysis.stored import checked
from supersnn.credentials import masked
from supersnn.errors import UserError
from supersnn.plain_yaml import read_yaml
from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    DriverEnd,
    EpochReported,
    PrecisionLooked,
    SweepClosed,
    SweepStarted,
    TeacherTrained,
    TrialEnded,
    TrialStarted,
    WinnerChosen,
    WinnerVerified,
    upgrade,
)
from supersnn.records.metrics import SPIKE_RATE, VAL_ACCURACY, judged
from supersnn.records.searches import SearchId

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
"""Runs per request."""
RUNS, VALUES = 100, 25_000
"""How many runs a request for one metric's history may name, and how many values it returns at most."""
HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
Point = tuple[str, str, int, float, int]
"""Run, metric, step, value, time in milliseconds."""
Epochs = dict[str, list[AnyEvent]]
"""Run → its epochs in order."""
LENGTHS: Mapping[str, int] = {"arm": 1, "trial": 2, "verification": 4}
"""Levels of runs below the sweep's → the parts of their keys after the sweep's."""
SETTINGS: Mapping[str, str] = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
"""Of the client, where the environment has none: its own let a server that hangs keep us for a quarter of an hour."""
LAYER = f"{SPIKE_RATE.key}/"
"""The prefix of a verification's firing rate of one layer."""
ENDS: Mapping[str, DriverEnd] = {"FINISHED": "done", "KILLED": "interrupted", "FAILED": "failed"}


def read(tracking_uri: str, experiment: str) -> tuple[dict[str, Any], SweepRecord]:
    """Return the latest sweep of an experiment: its file's mapping, its state and its epochs.

    Runs whose tags are not those of `tune.tracking` are left out, which is a fault of the record.

    Raises:
        UserError: there is no such experiment, no sweep in it, or no server that answers.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    shown = masked(tracking_uri)
    check_address(tracking_uri, shown)
    try:
        client = MlflowClient(tracking_uri, tracking_uri)
        stored = client.get_experiment_by_name(experiment)
        if stored is None:
            known = ", ".join(sorted(known.name for known in client.search_experiments()))
            raise UserError(f"{shown}: no experiment {experiment!r}; known: {known}")
        if stored.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore --experiment-id {stored.experiment_id}"
            raise UserError(f"{shown}: experiment {experiment!r} is deleted; restore it: {restore}")
        runs = list(_runs(client, stored.experiment_id))
        sweeps = [run for run in runs if _tag(run, "level") == "sweep"]
        if not sweeps:
            raise UserError(f"{shown}: no sweep in experiment {experiment!r}")
        root = max(sweeps, key=_start)
        own = [run for run in runs if _tag(run, "journal") == _tag(root, "journal")]
        levels = {level: [run for run in own if _tag(run, "level") == level] for level in LENGTHS}
        faults = []
        for level, length in LENGTHS.items():
            usable = [run for run in levels[level] if _usable(run, level, length)]
            if left_out := len(levels[level]) - len(usable):
                faults.append(f"{left_out} runs of level {level} are left out: their tags are not those of a sweep")
            levels[level] = usable
        epochs = _epochs(client, levels["trial"])
        config, versions, of_artifacts = _artifacts(client, root, levels["arm"])
    except (MlflowException, RequestException, SQLAlchemyError, ImportError, OSError, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{shown}: cannot be read: {text.replace(tracking_uri, shown)[:LINE]}") from error
    config, of_config = checked(config, "config.yaml")
    events = _events(root, levels, epochs, versions, config)
    return config, record_of(events, constraints(config), [*faults, *of_artifacts, *of_config])


def _usable(run: "Run", level: str, length: int) -> bool:
    """Return whether a run's tags name an arm, and a trial and a seed where its level has them."""
    parts = _tag(run, "key").split("/")[1:]
    if level == "arm":
        winner = _tag(run, "winner")
        return bool(_tag(run, "arm")) and (not winner or winner.isdecimal())
    return len(parts) == length and parts[1].isdecimal() and (length < 4 or parts[3].isdecimal())


def _start(run: "Run") -> int:
    """Return when a run began in milliseconds, 0 where that is not known."""
    return int(run.info.start_time or 0)


def _runs(client: "MlflowClient", experiment_id: str) -> Iterator["Run"]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _events(
    root: "Run",
    levels: Mapping[str, list["Run"]],
    epochs: Epochs,
    versions: Mapping[str, str],
    config: Mapping[str, Any],
) -> Iterator[AnyEvent]:
    """Yield the runs as the events of a journal."""
    labels = config.get("datasets") if isinstance(config.get("datasets"), Mapping) else None
    yield SweepStarted(
        time=_start(root) / 1000, code=_tag(root, "code"),
        versions={key: str(value) for key, value in versions.items()},
        datasets={str(name): "" for name in labels or ()},
    )  # fmt: skip
    yield DatasetSplit(time=_start(root) / 1000, split=_tag(root, "split") or None)
    yield from _teachers(root, levels["trial"])
    for run in sorted(levels["trial"], key=_start):
        yield from _trial(run, epochs.get(run.info.run_id, []))
    chosen = [run for run in levels["trial"] if _tag(run, "winner") == "yes"]
    for run in chosen:
        search, trial = _tag(run, "key").split("/")[1:]
        yield WinnerChosen(time=_end(run), trial=int(trial), **_search(search))
    known = {_tag(run, "key").split("/")[1] for run in chosen}
    for run in levels["arm"]:
        if (trial := _tag(run, "winner")) and _tag(run, "arm") not in known and not labels:
            yield WinnerChosen(time=_end(run), arm=_tag(run, "arm"), trial=int(trial))
    for run in levels["verification"]:
        search, trial, _, seed = _tag(run, "key").split("/")[1:]
        layers = sorted((name for name in run.data.metrics if name.startswith(LAYER)), key=_numbers_by_value)
        yield WinnerVerified(
            time=_end(run), **_search(search), trial=int(trial), seed=int(seed), config=_params(run),
            seconds=_end(run) - _start(run) / 1000, ended=_tag(run, "end") or "finished",
            metrics={name: value for name, value in run.data.metrics.items() if name not in layers},
            rates={name.removeprefix(LAYER): run.data.metrics[name] for name in layers},
            right=_tag(run, "right") or None,
        )  # fmt: skip
    yield from _looks(_tag(root, "looks"))
    if end := ENDS.get(root.info.status):
        yield SweepClosed(time=_end(root), end=end)


def _looks(text: str) -> Iterator[PrecisionLooked]:
    """Yield the driver's looks at how well the differences are known; none where the tag is not theirs."""
    with suppress(ValueError):  # a ValidationError is one
        yield from TypeAdapter(list[PrecisionLooked]).validate_json(text or "[]")


def _teachers(root: "Run", trials: Iterable["Run"]) -> Iterator[TeacherTrained]:
    """Yield each teacher once, where the first replicate has it: tags are those of a trial with it.

    The seconds of a training are known where the sweep's run has them, which is of one teacher of each architecture.
    """
    first: dict[tuple[str, str], tuple[SearchId, Run]] = {}
    for run in trials:
        if name := _tag(run, "teacher"):
            search, key = SearchId.parse(_tag(run, "key").split("/")[1]), (name, _tag(run, "teacher_digest"))
            if key not in first or search.replicate < first[key][0].replicate:
                first[key] = search, run
    alone = {name: sum(1 for other, _ in first if other == name) == 1 for name, _ in first}
    for (name, digest), (search, run) in first.items():
        known = root.data.metrics
        facts: dict[str, Any] = {
            key: known.get(f"teacher/{name}/{key}") if alone[name] else _number(_tag(run, tag))
            for key, tag in (("parameters", "teacher_parameters"), ("val_accuracy", "teacher_accuracy"))
        }
        epochs = _params(run).get("teacher.epochs")
        yield TeacherTrained.model_validate({
            "time": _start(root) / 1000, "name": name, "digest": digest, "dataset": search.dataset,
            "replicate": search.replicate, "family": _tag(run, "teacher_family"),
            "epochs": epochs if isinstance(epochs, int) else None, "split": _tag(run, "split") or None,
            "seconds": known.get(f"teacher/{name}/seconds") if alone[name] else None, **facts,
        })  # fmt: skip


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


def _trial(run: "Run", epochs: Iterable[AnyEvent]) -> Iterator[AnyEvent]:
    config, (search, trial) = _params(run), _tag(run, "key").split("/")[1:]
    yield TrialStarted(
        time=_start(run) / 1000, **_search(search), trial=int(trial), config=config,
        params={key: config[key] for key in _tag(run, "sampled").split() if key in config},
        student_family=_tag(run, "student_family") or None, teacher_family=_tag(run, "teacher_family") or None,
        pairing=_tag(run, "pairing") or None,
    )  # fmt: skip
    yield from epochs
    if end := _tag(run, "end"):
        yield TrialEnded(
            time=_end(run), **_search(search), trial=int(trial), end=end,
            value=judged(run.data.metrics).get(VAL_ACCURACY.key),
            feasible={"yes": True, "no": False}.get(_tag(run, "feasible")),
        )  # fmt: skip


def _search(name: str) -> dict[str, Any]:
    """Return the fields of an event that say which search it is about, from the search's name."""
    found = SearchId.parse(name)
    return {"arm": found.arm, "dataset": found.dataset, "replicate": found.replicate}


def _epochs(client: "MlflowClient", trials: list["Run"]) -> Epochs:
    """Return the epochs of every trial's run, in order."""
    database = urlsplit(client.tracking_uri).scheme.partition("+")[0] in DATABASES
    metrics: dict[tuple[str, int], dict[str, float]] = {}
    times: dict[tuple[str, int], float] = {}
    for run_id, name, step, value, timestamp in (_from_database if database else _from_server)(client, trials):
        metrics.setdefault((run_id, step), {})[name] = value
        times[run_id, step] = timestamp / 1000
    keys = {run.info.run_id: _tag(run, "key").split("/")[1:] for run in trials}
    epochs: Epochs = {}
    for run_id, step in sorted(metrics):
        search, trial = keys[run_id]
        values: dict[str, float | None] = {**metrics[run_id, step]}
        event = EpochReported(time=times[run_id, step], **_search(search), trial=int(trial), epoch=step, metrics=values)
        epochs.setdefault(run_id, []).append(upgrade(event))
    return epochs


def _from_database(client: "MlflowClient", trials: list["Run"]) -> Iterator[Point]:
    """Yield every value from MLflow's own table, which is ten times as fast as through its entities."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import create_engine, select

    row: Any = SqlMetric
    columns = select(row.run_uuid, row.key, row.step, row.value, row.timestamp, row.is_nan)
    engine = create_engine(client.tracking_uri)
    with closing(engine.connect()) as connection:
        for batch in _batches(trials):
            rows = connection.execute(columns.where(row.run_uuid.in_(batch)))
            for run_id, name, step, value, timestamp, nan in rows:
                yield run_id, name, step, float("nan") if nan else value, timestamp
    engine.dispose()


def _from_server(client: "MlflowClient", trials: list["Run"]) -> Iterator[Point]:
    """Yield every value from a server, one metric of many runs per request.

    The client has no public method for several runs at once: this requests the server's own endpoint with the client's
    credentials.
    """
    from mlflow.utils.rest_utils import http_request

    host = client._tracking_client.store.get_host_creds()
    for name in dict.fromkeys(name for run in trials for name in run.data.metrics):
        for batch in _batches([run for run in trials if name in run.data.metrics]):
            query = {"run_id": batch, "metric_key": name, "max_results": VALUES}
            response = http_request(host, HISTORY, "GET", params=query)
            response.raise_for_status()
            points = response.json().get("metrics", [])
            if len(points) < VALUES:
                yield from ((p["run_id"], name, int(p["step"]), float(p["value"]), p["timestamp"]) for p in points)
            else:
                for run_id in batch:
                    yield from ((run_id, name, metric.step, metric.value, metric.timestamp)
                                for metric in client.get_metric_history(run_id, name))  # fmt: skip


def _batches(runs: list["Run"]) -> Iterator[list[str]]:
    """Yield the runs' identifiers, as many at a time as a request may name."""
    for start in range(0, len(runs), RUNS):
        yield [run.info.run_id for run in runs[start : start + RUNS]]


def _artifacts(
    client: "MlflowClient", root: "Run", arms: list["Run"]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the sweep file, the versions, and faults; where the sweep file cannot be read, the arms' names alone."""
    from mlflow.exceptions import MlflowException

    named: dict[str, Any] = {_tag(run, "arm"): {} for run in sorted(arms, key=_start)}
    mappings: list[dict[str, Any]] = []
    faults = []
    for name, otherwise in (("config.yaml", {"arms": named}), ("environment.json", {})):
        try:
            with TemporaryDirectory() as folder:
                mappings.append(read_yaml(Path(client.download_artifacts(root.info.run_id, name, folder))))
        except (MlflowException, OSError, UserError) as error:
            mappings.append(dict(otherwise))
            faults.append(f"the artifact {name} cannot be read: {type(error).__name__}")
    return mappings[0], mappings[1], faults


def _numbers_by_value(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts layers in the network's order: `body.2` before `body.10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _params(run: "Run") -> dict[str, Any]:
    """Return the flat configuration: params are JSON, anything else is text."""
    return {key: _value(text) for key, text in run.data.params.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tag(run: "Run", name: str) -> str:
    return str(run.data.tags.get(f"supersnn.{name}", ""))


def _end(run: "Run") -> float:
    return int(run.info.end_time or _start(run)) / 1000
