"""The door to MLflow: connects, finds a run or creates it, and says one change. Everything it says may be said twice.

MLflow's own client never repeats a request here: it would repeat the creation of a run that the server has made
already, and hold a sweep's start up for minutes. Whoever calls decides when to try again.
"""

import contextlib
import importlib.util
import logging
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from supersnn.errors import UserError
from tune.tracking.changes import Change, Dataset, Run
from tune.tracking.registry import register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

FIRST_ANSWER = 10
"""Seconds within which a server must answer when a sweep starts."""
LATER_ANSWER = 60
"""Seconds that it is granted afterwards."""
REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class RefusedError(Exception):
    """The server is there, and will not take this however often it is said."""


class Connection:
    """One experiment on one tracking server, or in one database.

    `identity` changes when the experiment is another one of the same name: then nothing was told to it yet.
    """

    def __init__(self, client: "MlflowClient", experiment: "Experiment") -> None:
        self.client = client
        self.experiment_id, self.experiment = str(experiment.experiment_id), str(experiment.name)
        self.identity = f"{experiment.experiment_id} {experiment.creation_time}"
        self._user = os.environ.get("LOGNAME") or os.environ.get("USER") or "supersnn"
        self._ids: dict[str, str] = {}
        self._monitor: SystemMetricsMonitor | None = None

    def say(self, change: Change) -> None:
        """Tell a run what is new about it; the run and its parents are created where they are missing.

        Raises:
            RefusedError: the server will never take this.
            Exception: it could not be said now. Said again later, it changes nothing that was said already.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._say(change)
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise RefusedError(reason(error)) from error
            raise

    def run_id(self, run: Run) -> str:
        """Return a run's identifier, after creating it where it is not there.

        One that the user has deleted is found, and left deleted.
        """
        if run.key not in self._ids:
            self._ids[run.key] = self._find(run.key) or self._create(run)
        return self._ids[run.key]

    def _say(self, change: Change) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run_id = self.run_id(change.run)
        metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in change.points]
        params = [Param(key, value) for key, value in change.params.items()]
        tags = [RunTag(key, value) for key, value in change.tags.items()]
        self.client.log_batch(run_id, metrics, params, tags, synchronous=True)
        if change.dataset:
            self.client.log_inputs(run_id, [_input(change.dataset)])
        for name, text in change.files.items():
            self.client.log_text(run_id, text, name)
        if change.ended is not None:
            self.client.set_terminated(run_id, change.status, _milliseconds(change.ended))
        elif change.status is not None:
            self.client.update_run(run_id, change.status)
        if change.run.parent is None and change.status in (None, "RUNNING"):
            self._watch_machine(run_id)
        for folder, score in change.exports:
            if not (folder / "metrics.json").exists():
                raise RefusedError(f"{folder}: there is no export folder any more")
            register(self.client, folder, self.experiment, run_id, score)

    def _watch_machine(self, run_id: str) -> None:
        """Log this machine's load on the sweep's run while it is RUNNING, where MLflow's own variable asks for it."""
        from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() and self._monitor is None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.client.tracking_uri)
            self._monitor.start()

    def _find(self, key: str) -> str | None:
        from mlflow.entities import ViewType

        found = self.client.search_runs([self.experiment_id], f"tags.`supersnn.key` = '{key}'", ViewType.ALL, 1)
        return str(found[0].info.run_id) if found else None

    def _create(self, run: Run) -> str:
        tags = {**run.tags, "supersnn.key": run.key, "mlflow.source.name": "supersnn", "mlflow.user": self._user}
        if run.parent:
            tags["mlflow.parentRunId"] = self.run_id(run.parent)
        created = self.client.create_run(self.experiment_id, _milliseconds(run.started), tags, run.name)
        return str(created.info.run_id)


def connect(uri: str, experiment: str, artifact_root: Path | None) -> Connection:
    """Return the experiment on the tracking server, or in the database, at `uri`; it is created where it is missing.

    `artifact_root` is where a database's artifacts go; a server has its own place.

    Raises:
        UserError: the server cannot be reached, or it does not let us write.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    timeout = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(FIRST_ANSWER))
    try:
        _check_database(uri)
        return _connect(uri, experiment, artifact_root)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_complaint(uri, error)) from error
    finally:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = timeout or str(LATER_ANSWER)


def quiet() -> None:
    """Import MLflow, and keep its logs and its warnings (some come from its own imports) from the terminal."""
    warnings.filterwarnings("ignore", module=r"mlflow\.")
    import mlflow  # noqa: F401  (its import sets its loggers up)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def shown(uri: str) -> str:
    """Return an address without the password that may stand in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


def reason(error: BaseException) -> str:
    """Return the first line of what lies at the bottom of an error."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    strerror = getattr(error, "strerror", None)
    return str(strerror or str(error).strip().partition("\n")[0][:300] or type(error).__name__)


def _connect(uri: str, experiment: str, artifact_root: Path | None) -> Connection:
    quiet()
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() and importlib.util.find_spec("psutil") is None:
        raise UserError("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING: needs the package psutil: pip install psutil")
    _make_whole(uri)
    client = MlflowClient(uri, uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        place = artifact_root.resolve().as_uri() if artifact_root and not _is_server(uri) else None
        found = client.get_experiment(client.create_experiment(experiment, place))
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"MLflow at {shown(uri)}: experiment {experiment!r} was deleted: restore it "
            f"(mlflow experiments restore -x {found.experiment_id}) or give the sweep another name"
        )
    described = {"note.content": f"The sweep `{experiment}` of SuperSNN.", "experimentKind": "custom_model_development"}
    for tag, text in described.items():
        client.set_experiment_tag(found.experiment_id, f"mlflow.{tag}", text)
    return Connection(client, found)


def _make_whole(uri: str) -> None:
    """Create a SQLite database that is missing: under another name first, so that it is there whole or not at all.

    Its schema is built in many steps, and one that was interrupted in between could never be opened again.
    """
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{unfinished}", f"sqlite:///{unfinished}").search_experiments(max_results=1)
    with contextlib.suppress(FileExistsError):
        os.link(unfinished, path)
    unfinished.unlink()


def _check_database(uri: str) -> None:
    """Fail at once where a database server is not to be had: MLflow itself would try for minutes."""
    if not uri.startswith(("postgresql", "mysql")):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": FIRST_ANSWER})
    with contextlib.closing(engine.connect()):
        pass
    engine.dispose()


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _complaint(uri: str, error: Exception) -> str:
    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
        return f"MLflow at {shown(uri)} refuses these credentials: set {CREDENTIALS}"
    return f"MLflow at {shown(uri)} cannot be used: {reason(error)} (MLFLOW_TRACKING_URI names it)"


def _input(dataset: Dataset) -> "DatasetInput":
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    entity = Entity(dataset.name, dataset.split[:36], "supersnn", f'{{"name": "{dataset.name}"}}')
    return DatasetInput(entity, [InputTag("mlflow.data.context", "train")])


def _milliseconds(seconds: float) -> Any:
    return round(seconds * 1000)
