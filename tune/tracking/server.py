"""The address of a store's MLflow, its user interface, and the URLs of a sweep's pages in it."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from supersnn.credentials import without_credentials
from supersnn.errors import UserError
from tune.sqlite import sqlite_url
from tune.tracking.client import answering, import_mlflow, prepare_database

COMPARED = 100
"""Number of trials on the comparison page: it is slow with more."""
LEVEL = "tags.`supersnn.level` = '{}'"


class Pages(NamedTuple):
    """URLs of one sweep's pages: its runs, their metric curves, the arms compared, the best trials compared."""

    runs: str
    curves: str
    arms: str
    trials: str


def uri_for(store: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the store's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_url(store.resolve() / "mlflow.db")


def ui_command(store: Path, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """Return the command that serves a store's MLflow; MLflow itself decides which other hosts may connect."""
    artifacts = ["--artifacts-destination", str(store.resolve() / "artifacts")]
    return [sys.executable, "-m", "mlflow", "server", *artifacts, "--host", host, "--port", str(port), "--workers", "1"]


def ui_variables(store: Path) -> dict[str, str]:
    """Return the environment of that command: with the address, whose password a command line would show to all."""
    return {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri_for(store),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def serve(store: Path, host: str = "127.0.0.1", port: int = 5000) -> int:
    """Print the URLs of each sweep's pages, and replace this process by a server of the store's MLflow.

    Where MLFLOW_TRACKING_URI is a server's address none is started, and the exit code 0 is returned.

    Raises:
        UserError: nothing has been tracked in this store yet.
    """
    uri = uri_for(store)
    database = store / "mlflow.db"
    if not os.environ.get("MLFLOW_TRACKING_URI") and not database.exists():
        raise UserError(f"{database}: no sweep has been tracked in this store yet")
    running = uri.startswith(("http://", "https://"))
    address = without_credentials(uri) if running else f"http://{host}:{port}"
    with answering(uri):
        for notice in prepare_database(uri, store / "artifacts"):
            print(notice)
        pages = pages_of(uri, address)
    for sweep, urls in pages.items():
        print("\n".join([sweep, *(f"  {name:7} {page}" for name, page in urls._asdict().items())]))
    if not running:
        print(f"MLflow   {address} (stop with Ctrl-C)", flush=True)
        os.execve(sys.executable, ui_command(store, host, port), ui_variables(store))
    return 0


def pages_of(uri: str, address: str) -> dict[str, Pages]:
    """Return the pages of every sweep in an MLflow by name; `address` is its URL for a browser."""
    import_mlflow()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    pages = {}
    for experiment in client.search_experiments():
        number = experiment.experiment_id
        arms = client.search_runs([number], LEVEL.format("arm"), order_by=["attributes.start_time ASC"])
        if arms:
            trials = _best_trials(client, number, [arm.data.tags["supersnn.arm"] for arm in arms])
            compared = (comparison_url(address, number, [r.info.run_id for r in rows]) for rows in (arms, trials))
            runs = f"{address.rstrip('/')}/#/experiments/{number}/runs?workflowType=machine_learning"
            tree = f"{runs}&orderByKey=attributes.start_time&orderByAsc=true"
            best_first = f"orderByKey={quote('metrics.`val/accuracy`')}&orderByAsc=false"
            trials_only = f"searchFilter={quote(LEVEL.format('trial'))}"
            curves = f"{runs}&{best_first}&{trials_only}&compareRunsMode=CHART"
            pages[experiment.name] = Pages(tree, curves, *compared)
    return pages


def comparison_url(address: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the URL of a page that compares runs: a table, and parallel coordinates of their params and metrics."""
    ids_by_kind = {"runs": list(run_ids), "experiments": [experiment_id]}
    query = "&".join(f"{key}={quote(json.dumps(ids, separators=(',', ':')))}" for key, ids in ids_by_kind.items())
    return f"{address.rstrip('/')}/#/compare-runs?{query}"


def _best_trials(client: Any, experiment_id: str, arms: Sequence[str]) -> list[Any]:
    """Return the best trials of each arm by validation accuracy, equally many of each, `COMPARED` in all."""
    trials = []
    for arm in arms:
        query = f"{LEVEL.format('trial')} and tags.`supersnn.arm` = '{arm}'"
        best = ["metrics.`val/accuracy` DESC"]
        trials += client.search_runs([experiment_id], query, max_results=COMPARED // len(arms), order_by=best)
    return trials
