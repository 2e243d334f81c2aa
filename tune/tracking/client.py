"""The client of MLflow: connects, finds or creates runs, and sends changes. Every request is idempotent.

MLflow's own retries are switched off: they would repeat the creation of a run that the server has created already, and
delay the start of a sweep for minutes. The caller decides when to retry.
"""

import contextlib
import importlib.util
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from supersnn.credentials import masked
from supersnn.digests import digest
from supersnn.errors import UserError, shortened
from tune.sqlite import fault_of, sqlite_path, sqlite_url
from tune.tracking import database
from tune.tracking.changes import Change, Dataset, Run
from tune.tracking.registry import register
from tune.tracking.verdicts import verdicts_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

CONNECT_TIMEOUT = 10
"""Seconds within which a server must answer when a sweep starts."""
REQUEST_TIMEOUT = 60
"""Seconds within which it must answer afterwards."""
REFUSED_CODES = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
PARENT = "mlflow.parentRunId"
NOTE, OWN_NOTE = "mlflow.note.content", "supersnn.note"
"""The note of a run or an experiment, and the digest of the last one that is ours."""
CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class RefusedError(Exception):
    """The server refuses a change for good: retrying cannot help."""


class Connection:
    """One experiment on one tracking server, or in one database.

    `identity` tells experiments of the same name apart: to a new one nothing has been sent yet. `notices` are lines
    about what was done to the store's own database when it was opened.
    """

    def __init__(self, client: "MlflowClient", experiment: "Experiment") -> None:
        self.client = client
        self.experiment_id, self.experiment = str(experiment.experiment_id), str(experiment.name)
        self.identity = f"{experiment.experiment_id} {experiment.creation_time}"
        self.notices: tuple[str, ...] = ()
        self._user = os.environ.get("LOGNAME") or os.environ.get("USER") or "supersnn"
        self._ids: dict[str, str] = {}
        self._parents: dict[str, str | None] = {}
        self._monitor: SystemMetricsMonitor | None = None

    def send(self, change: Change) -> None:
        """Write a change to its run; the run and its parents are created where they are missing.

        Raises:
            RefusedError: the server will never accept it.
            Exception: it could not be sent now. Sending it again later has no effect on what was sent already.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._send(change)
        except MlflowException as error:
            if error.error_code in REFUSED_CODES:
                raise RefusedError(root_cause(error)) from error
            raise

    def run_id(self, run: Run) -> str:
        """Return the identifier of a run, which is created where it is missing.

        A run that the user has deleted is found, and stays deleted.
        """
        if run.key not in self._ids:
            self._ids[run.key] = self._find(run.key) or self._create(run)
        self._move(run)
        return self._ids[run.key]

    def _move(self, run: Run) -> None:
        """Put a run below its parent where it is below another one: the sweep was given more levels."""
        if run.parent is not None and (parent := self.run_id(run.parent)) != self._parents[run.key]:
            self.client.set_tag(self._ids[run.key], PARENT, parent)
            self._parents[run.key] = parent

    def _send(self, change: Change) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run_id = self.run_id(change.run)
        metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in change.points]
        params = [Param(key, value) for key, value in change.params.items()]
        tags = [RunTag(key, value) for key, value in change.tags.items()]
        self.client.log_batch(run_id, metrics, params, tags, synchronous=True)
        if change.dataset:
            self.client.log_inputs(run_id, [_dataset_input(change.dataset)])
        for name, text in change.files.items():
            self.client.log_text(run_id, text, name)
        if change.report is not None:
            self._report(run_id, change.report, change.ended)
        if change.ended is not None:
            self.client.set_terminated(run_id, change.status, _milliseconds(change.ended))
            self._parents.pop(change.run.key)
            self._ids.pop(change.run.key)  # found by a search if it is needed again: there may be many
        elif change.status is not None:
            self.client.update_run(run_id, change.status)
        if change.run.parent is None and change.status in (None, "RUNNING"):
            self._monitor_system(run_id)
        for export in change.exports:
            if not (export.folder / "metrics.json").exists():
                raise RefusedError(f"{export.folder}: the export folder does not exist any more")
            model = self.experiment if export.label is None else f"{self.experiment}-{export.label}"
            register(self.client, export, model, run_id)

    def _report(self, run_id: str, folder: Path, ended: float | None) -> None:
        """Show a sweep's verdicts: the report page, metrics, and the notes of the run and the experiment.

        Raises:
            RefusedError: the sweep's folder is not there any more, or cannot be written to.
        """
        from mlflow.entities import Metric

        try:
            found = verdicts_of(folder)
        except UserError as error:
            raise RefusedError(str(error)) from error
        moment = _milliseconds(ended if ended is not None else time.time())
        self.client.log_batch(run_id, [Metric(name, value, moment, 0) for name, value in found.metrics.items()])
        self.client.log_artifact(run_id, str(found.page))
        run = self.client.get_run(run_id).data.tags
        experiment = self.client.get_experiment(self.experiment_id).tags
        for tags, write in ((run, self.client.set_tag), (experiment, self.client.set_experiment_tag)):
            if own_note(tags, self.experiment):
                of = run_id if tags is run else self.experiment_id
                write(of, NOTE, found.note)
                write(of, OWN_NOTE, digest(found.note))

    def _monitor_system(self, run_id: str) -> None:
        """Log this machine's load to the sweep's run, where MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING asks for it."""
        from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() and self._monitor is None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.client.tracking_uri)
            self._monitor.start()

    def _find(self, key: str) -> str | None:
        from mlflow.entities import ViewType

        runs = self.client.search_runs([self.experiment_id], f"tags.`supersnn.key` = '{key}'", ViewType.ALL, 1)
        if not runs:
            return None
        self._parents[key] = runs[0].data.tags.get(PARENT)
        return str(runs[0].info.run_id)

    def _create(self, run: Run) -> str:
        tags = {**run.tags, "supersnn.key": run.key, "mlflow.source.name": "supersnn", "mlflow.user": self._user}
        if run.parent:
            tags[PARENT] = self.run_id(run.parent)
        self._parents[run.key] = tags.get(PARENT)
        created = self.client.create_run(self.experiment_id, _milliseconds(run.started), tags, run.name)
        return str(created.info.run_id)


def prepare_database(uri: str, artifact_root: Path | None) -> tuple[str, ...]:
    """Repair and upgrade the store's own database, where it needs that; return a line for each thing done.

    Raises:
        UserError: it cannot be used.
    """
    import_mlflow()
    try:
        return database.prepare(uri, artifact_root)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_error_text(uri, error)) from error


def connect(uri: str, experiment: str, artifact_root: Path | None) -> Connection:
    """Return the experiment on the tracking server, or in the database, at `uri`; it is created where it is missing.

    `artifact_root` is the folder of a database's artifacts; a server has its own.

    Raises:
        UserError: the server cannot be reached, or refuses the credentials.
    """
    with answering(uri, writing=True):
        notices = prepare_database(uri, artifact_root)
        connection = _connect(uri, experiment, artifact_root)
        connection.notices = notices
        return connection


def answer(uri: str, artifact_root: Path | None) -> str:
    """Return what MLflow at `uri` has, in words; nothing is created or changed.

    Raises:
        UserError: it cannot be used.
    """
    with answering(uri):
        import_mlflow()
        if (own := database.own_database(uri, artifact_root)) is not None:
            return database.state(own)
        from mlflow import MlflowClient

        count = len(MlflowClient(uri, uri).search_experiments())
        return f"{masked(uri)}: {count} experiments"


@contextlib.contextmanager
def answering(uri: str, writing: bool = False) -> Iterator[None]:
    """Set MLflow up, let it wait for its first answer a short time only, and turn its errors into `UserError`."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    timeout = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(CONNECT_TIMEOUT))
    try:
        _check_database(uri, writing)
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(_error_text(uri, error)) from error
    finally:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = timeout or str(REQUEST_TIMEOUT)


def import_mlflow() -> None:
    """Import MLflow, and keep its logs and its warnings (some are of its own imports) off the terminal."""
    warnings.filterwarnings("ignore", module=r"mlflow\.")
    import mlflow  # noqa: F401  (its import sets its loggers up)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def root_cause(error: BaseException) -> str:
    """Return the first line of the error at the end of a chain of causes, without credentials."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    strerror = getattr(error, "strerror", None)
    line = str(error).strip().partition("\n")[0]
    return masked(str(strerror or shortened(line, 300) or type(error).__name__), os.environ.get("MLFLOW_TRACKING_URI"))


def _connect(uri: str, experiment: str, artifact_root: Path | None) -> Connection:
    import_mlflow()
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() and importlib.util.find_spec("psutil") is None:
        raise UserError("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING: needs the package psutil: pip install psutil")
    _create_database(uri)
    client = MlflowClient(uri, uri)
    existing = client.get_experiment_by_name(experiment)
    if existing is None:
        location = artifact_root.resolve().as_uri() if artifact_root and not _is_server(uri) else None
        existing = client.get_experiment(client.create_experiment(experiment, location))
    if existing.lifecycle_stage == "deleted":
        raise UserError(
            f"MLflow at {masked(uri)}: experiment {experiment!r} was deleted: restore it "
            f"(mlflow experiments restore -x {existing.experiment_id}) or give the sweep another name"
        )
    _describe(client, existing)
    return Connection(client, existing)


def _describe(client: "MlflowClient", experiment: "Experiment") -> None:
    """Set the experiment's note and kind, where it has none: a user's own are kept."""
    described = {
        NOTE: _first_note(experiment.name),
        "mlflow.experimentKind": "custom_model_development",
    }
    for tag, text in described.items():
        if tag not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, tag, text)


def _first_note(experiment: str) -> str:
    return f"The sweep `{experiment}` of SuperSNN."


def own_note(tags: Mapping[str, str], experiment: str) -> bool:
    """Return whether the note in a run's or an experiment's tags is missing or ours; a user's own is kept."""
    note = tags.get(NOTE)
    return not note or note == _first_note(experiment) or digest(note) == tags.get(OWN_NOTE)


def _create_database(uri: str) -> None:
    """Create a missing SQLite database atomically: under another name first.

    Its schema is created in many steps, and a database that was interrupted in between could never be opened again.
    """
    from mlflow import MlflowClient

    path = sqlite_path(uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    MlflowClient(sqlite_url(unfinished), sqlite_url(unfinished)).search_experiments(max_results=1)
    with contextlib.suppress(FileExistsError):
        os.link(unfinished, path)
    unfinished.unlink()


def _check_database(uri: str, writing: bool) -> None:
    """Fail at once where a database cannot be opened: MLflow itself would retry for minutes."""
    if (path := sqlite_path(uri)) is not None and (fault := fault_of(path, writing)) is not None:
        raise UserError(f"MLflow at {masked(uri)} cannot be used: {fault} (MLFLOW_TRACKING_URI names it)")
    if not uri.startswith(("postgresql", "mysql")):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": CONNECT_TIMEOUT})
    with contextlib.closing(engine.connect()):
        pass
    engine.dispose()


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _error_text(uri: str, error: Exception) -> str:
    if (found := database.refused_schema(error)) is not None:
        return database.advice(uri, found)
    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
        return f"MLflow at {masked(uri)} refuses these credentials: set {CREDENTIALS}"
    return f"MLflow at {masked(uri)} cannot be used: {root_cause(error)} (MLFLOW_TRACKING_URI names it)"


def _dataset_input(dataset: Dataset) -> "DatasetInput":
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    entity = Entity(dataset.name, dataset.split[:36], "supersnn", f'{{"name": "{dataset.name}"}}')
    return DatasetInput(entity, [InputTag("mlflow.data.context", "train")])


def _milliseconds(seconds: float) -> Any:
    return round(seconds * 1000)
