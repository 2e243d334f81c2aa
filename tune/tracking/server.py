"""Where a store's MLflow is, its user interface, and the addresses of a sweep's pages in it."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from supersnn.errors import UserError
from tune.tracking.client import quiet, shown

COMPARED = 100
"""How many trials the comparison page is asked for: with more it is slow."""
LEVEL = "tags.`supersnn.level` = '{}'"


class Pages(NamedTuple):
    """Addresses of one sweep's pages: its runs, their metric curves, the arms compared, the best trials compared."""

    runs: str
    curves: str
    arms: str
    trials: str


def uri_for(store: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the store's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.resolve() / 'mlflow.db'}"


def ui_command(store: Path, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """Return the command that shows a store's MLflow; hosts other than this machine's are MLflow's to allow."""
    place = ["--backend-store-uri", uri_for(store), "--artifacts-destination", str(store.resolve() / "artifacts")]
    return [sys.executable, "-m", "mlflow", "server", *place, "--host", host, "--port", str(port), "--workers", "1"]


def serve(store: Path, host: str = "127.0.0.1", port: int = 5000) -> int:
    """Print the addresses of each sweep's pages, and become the server that shows the store's MLflow.

    Where MLFLOW_TRACKING_URI names a server there is none to start, and the exit code 0 is returned.

    Raises:
        UserError: nothing has been tracked in this store yet.
    """
    uri = uri_for(store)
    database = store / "mlflow.db"
    if uri.startswith("sqlite:") and "MLFLOW_TRACKING_URI" not in os.environ and not database.exists():
        raise UserError(f"{database}: no sweep has been tracked in this store yet")
    running = uri.startswith(("http://", "https://"))
    address = shown(uri) if running else f"http://{host}:{port}"
    for sweep, pages in pages_of(uri, address).items():
        print("\n".join([sweep, *(f"  {name:7} {page}" for name, page in pages._asdict().items())]))
    if not running:
        print(f"MLflow   {address} (Ctrl-C ends it)", flush=True)
        calm = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        os.execve(sys.executable, ui_command(store, host, port), {**os.environ, **calm})
    return 0


def pages_of(uri: str, address: str) -> dict[str, Pages]:
    """Return the pages of every sweep that an MLflow has, by its name; `address` is where a browser finds it."""
    quiet()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = {}
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
            found[experiment.name] = Pages(tree, curves, *compared)
    return found


def comparison_url(address: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the page that compares some runs: a table, and parallel coordinates of their params and metrics."""
    names = {"runs": list(run_ids), "experiments": [experiment_id]}
    query = "&".join(f"{key}={quote(json.dumps(ids, separators=(',', ':')))}" for key, ids in names.items())
    return f"{address.rstrip('/')}/#/compare-runs?{query}"


def _best_trials(client: Any, experiment_id: str, arms: Sequence[str]) -> list[Any]:
    """The best trials of each arm by validation accuracy, as many of each, `COMPARED` in all."""
    trials = []
    for arm in arms:
        wanted = f"{LEVEL.format('trial')} and tags.`supersnn.arm` = '{arm}'"
        best = ["metrics.`val/accuracy` DESC"]
        trials += client.search_runs([experiment_id], wanted, max_results=COMPARED // len(arms), order_by=best)
    return trials
