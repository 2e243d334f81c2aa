"""Runs a sweep from a terminal: on Ray or in this process, tracked by MLflow, with a live board."""

import os
import uuid
from dataclasses import dataclass
from functools import partial

from supersnn.errors import UserError
from supersnn.records.events import AnyEvent
from tune import requests
from tune.description.arms import resolve
from tune.description.devices import devices_text
from tune.description.inspection import inspect_sweep, is_here
from tune.description.sweep import SweepConfig
from tune.description.warning_lines import warning_lines
from tune.execution.executor import Executor
from tune.mounts import refuse_shared_sqlite
from tune.notices import (
    ArmWithoutWinner,
    DatabaseChanged,
    DescriptionWarned,
    DevicesChosen,
    JournalFault,
    Notify,
    StageStarted,
)
from tune.outcome.no_winner import without_winner
from tune.steering import Steering
from tune.store import Store, SweepFolder
from tune.sweep_driver import SweepDriver, open_sweep
from tune.sweep_runner import SweepRunner
from tune.terminal.board import Board
from tune.terminal.display import Display, print_line
from tune.tracking import tracker
from tune.tracking.server import uri_for
from tune.tracking.tracker import Tracker

ON_INTERRUPT = 8.0
"""Seconds that MLflow has to take what is pending when a sweep is interrupted; the next driver sends the rest."""
MOST_REASONS = 12
"""Searches without a winner that are told of."""


@dataclass(frozen=True)
class SweepResult:
    """What a driver did: `worked` is False where nothing was left to do, `pending` counts the events MLflow lacks.

    `any_winner` is whether at least one arm has a winner.
    """

    folder: SweepFolder
    worked: bool
    pending: int
    any_winner: bool = True


def launch(
    sweep: SweepConfig,
    store: Store,
    origin: str,
    address: str | None = None,
    local: bool = False,
    searching: bool = True,
) -> SweepResult:
    """Do what is left of a sweep.

    Args:
        sweep: the sweep.
        store: where it is, or will be, stored, and what nodes share with the driver.
        origin: named in error texts, usually the sweep's file.
        address: of the Ray cluster to join; else the environment's RAY_ADDRESS, else a cluster of this machine's own.
        local: run in this process, without Ray.
        searching: whether trials may be run; if not, only what follows a search that has ended.

    Raises:
        UserError: what a new sweep needs is missing (`tune.description.inspection`), a database is on a file system
            that it cannot be trusted on, the cluster or the shared address is not usable, the sweep is another
            driver's, or its search has not ended (without `searching`).
    """
    if store.shared and (complaint := store.storage.complaint(f".preflight-{uuid.uuid4().hex}/driver")):
        raise UserError(f"--shared {store.shared}: the driver cannot use it: {complaint}")
    refuse_shared_sqlite({"SUPERSNN_OPTUNA_STORAGE": store.optuna_url, "MLFLOW_TRACKING_URI": uri_for(store.path)})
    cluster = None if local else address or os.environ.get("RAY_ADDRESS")
    if not store.sweep(sweep.name).journal.exists() and (cluster is None or _are_here(sweep)):
        inspect_sweep(sweep, resolve(sweep, origin), store, origin)
    with open_sweep(sweep, store, origin) as driver:
        if not searching and driver.search_left():
            raise UserError(f"sweep {sweep.name!r}: its search has not ended; `supersnn sweep` continues it")
        display = Display(Board(driver.sweep, driver.record.state))
        for notice in driver.notices:
            display.notice(notice)
        worked = driver.work_left() or bool(requests.pending(driver.folder))
        if worked:
            with display:
                for fault in driver.record.state.faults:
                    display.notice(JournalFault(fault))
                if driver.search_left():
                    for line in warning_lines({search.arm.name: search.arm for search in driver.searches.values()}):
                        display.notice(DescriptionWarned(line))
                driver.record.listeners.append(partial(_show, display, driver))
                pending = _run(driver, display.notice, address or os.environ.get("RAY_ADDRESS"), local)
        else:
            pending = _catch_up(driver)
        without = without_winner(driver.searches, driver.record.state)
        for search, reason in list(without.items())[:MOST_REASONS]:
            display.notice(ArmWithoutWinner(search, reason))
        return SweepResult(driver.folder, worked, pending, any_winner=len(without) < len(driver.searches))


def _are_here(sweep: SweepConfig) -> bool:
    """Return whether all data sets of a sweep can be looked at on this machine."""
    return all(is_here(images.name) for images in (sweep.datasets or {"": sweep.dataset}).values())


def _show(display: Display, driver: SweepDriver, event: AnyEvent) -> None:
    """Show an event, on a board of the sweep as it is now."""
    display.board.sweep = driver.sweep
    display.event(event)


def _run(driver: SweepDriver, notify: Notify, address: str | None, local: bool) -> int:
    """Do the work; return how many events are still pending for MLflow."""
    tracking: Tracker | None = None
    pending = 0
    interrupted = False
    steering = Steering(driver)
    try:
        with driver.recording(), steering.watching():
            steering.take_up()
            steering.adopt_waiting()
            tracking = tracker.start(driver.folder, driver.store, driver.sweep)
            notify(StageStarted("starting"))
            executor = _executor(driver, notify, address, local)
            runner = SweepRunner(driver, executor, notify, steering)
            try:
                tracking.wait_connected()
                for text in tracking.notices:
                    notify(DatabaseChanged(text))
                runner.train()
            finally:
                executor.close()
            runner.export()
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        steering.forget_stop()
        if tracking is not None:
            pending = tracking.close(ON_INTERRUPT, wait=False) if interrupted else tracking.close()
    return pending


def _executor(driver: SweepDriver, notify: Notify, address: str | None, local: bool) -> Executor:
    failures = driver.sweep.search.max_failures
    if local:
        from supersnn.gpus import ask_for_queues, gpu_names
        from tune.execution.local import LocalExecutor

        ask_for_queues()
        if gpus := gpu_names():
            notify(DevicesChosen(devices_text(driver.sweep.resources, driver.sweep.train.shards, gpus[:1])))
        return LocalExecutor(failures, driver.sweep.resources, driver.sweep.train.shards, notify)
    from tune.execution.cluster import RayExecutor

    return RayExecutor(
        resources=driver.sweep.resources,
        shards=driver.sweep.train.shards,
        max_failures=failures,
        scratch=driver.folder.path / "ray",
        run=driver.token,
        storage=driver.storage,
        check_file=driver.storage.name(driver.folder.owner),
        notify=notify,
        address=address,
        own=driver.own,
    )


def _catch_up(driver: SweepDriver) -> int:
    """Send MLflow what an earlier driver could not; return how many events are still pending."""
    if not tracker.behind(driver.folder, driver.store):
        return 0
    tracking = tracker.start(driver.folder, driver.store, driver.sweep)
    tracking.wait_connected()
    for text in tracking.notices:
        print_line(text)
    return tracking.close()
