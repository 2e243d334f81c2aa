"""A sweep conducted from a terminal: on Ray or in this process, told to MLflow, with a live board."""

import os
import uuid
from collections.abc import Mapping

from supersnn.errors import UserError
from tune import sweep_runner
from tune.description.arms import Arm
from tune.description.sweep import SweepConfig
from tune.execution.executor import Executor
from tune.journal import read
from tune.mounts import refuse_shared_sqlite
from tune.notices import NodeExcluded, Notice
from tune.store import Store
from tune.sweep_runner import SweepResult, SweepRunner
from tune.terminal.progress import Board, Display
from tune.tracking import tracker
from tune.tracking.server import uri_for
from tune.tracking.tracker import Tracker


def launch(
    sweep: SweepConfig,
    arms: Mapping[str, Arm],
    store: Store,
    origin: str,
    address: str | None = None,
    local: bool = False,
    searching: bool = True,
) -> SweepResult:
    """Do what is left of a sweep.

    Args:
        sweep: the sweep.
        arms: its arms, resolved.
        store: where it lies, or will, and what nodes share with the driver.
        origin: what is named in complaints, usually the sweep's file.
        address: of the Ray cluster to join; else the environment's RAY_ADDRESS, else a cluster of this machine's own.
        local: run in this process, without Ray.
        searching: whether trials may be run; if not, only what follows a search that has ended.

    Raises:
        UserError: a database is where it cannot be trusted, the cluster or the shared address is not fit, or the sweep
            is another driver's.
    """
    if store.shared and (complaint := store.storage.complaint(f".preflight-{uuid.uuid4().hex}/driver")):
        raise UserError(f"--shared {store.shared}: the driver cannot use it: {complaint}")
    refuse_shared_sqlite({"SUPERSNN_OPTUNA_STORAGE": store.optuna_url, "MLFLOW_TRACKING_URI": uri_for(store.path)})
    board = Board(sweep)
    board.replay(event for event, _ in read(store.sweep(sweep.name).journal))

    display = Display(board)

    def notify(notice: Notice) -> None:
        if isinstance(notice, NodeExcluded):
            display.event("refused", {"node": notice.node, "complaint": notice.reason})

    def executor(driver: SweepRunner) -> Executor:
        if local:
            from tune.execution.local import LocalExecutor

            return LocalExecutor(sweep.search.max_failures)
        from tune.execution.cluster import RayExecutor

        cluster, scratch = address or os.environ.get("RAY_ADDRESS"), driver.folder.path / "ray"
        return RayExecutor(
            resources=sweep.resources,
            max_failures=sweep.search.max_failures,
            scratch=scratch,
            run=driver.token,
            storage=store.storage,
            check_file=store.storage.name(driver.folder.owner),
            notify=notify,
            address=cluster,
        )

    def tracking(driver: SweepRunner) -> Tracker:
        return tracker.start(driver.folder, store, sweep)

    with display:
        return sweep_runner.run_sweep(sweep, store, executor, tracking, display.event, origin, searching)
