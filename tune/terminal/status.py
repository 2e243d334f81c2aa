"""The progress of a sweep, read from its folder by anybody but its driver."""

import time
from typing import Any

from supersnn.config_model import parse
from supersnn.plain_yaml import read_yaml
from supersnn.records import steering
from supersnn.records.nodes import slow_nodes
from supersnn.records.search_state import SearchRecord
from supersnn.records.snapshot import current_state
from tune import requests
from tune.description.sweep import SweepConfig
from tune.store import SweepFolder
from tune.sweep_lock import is_locked
from tune.terminal.board import ENDS, Board
from tune.terminal.rows import Row
from tune.terminal.silence import silent, unreported
from tune.terminal.throughput import epochs_per_second, trials_per_hour

UNKNOWN = "unknown whether it is running"
"""The stage of a sweep whose lock cannot be read: in a store of somebody else's, or on a file system without locks."""


def board_of(folder: SweepFolder) -> Board:
    """Return the sweep's board as of now."""
    sweep = parse(SweepConfig, read_yaml(folder.config), str(folder.config))
    state, *_ = current_state(folder.snapshot, folder.journal, sweep.search.constraints)
    board = Board(sweep, state)
    locked = is_locked(folder)
    board.driven = bool(locked)
    asked = [one for _, one in requests.pending(folder) if one is not None and one.id not in state.requests]
    board.requests = [one.text() for one in asked]
    board.stage = "running" if locked else state.ended or ("not running" if locked is False else UNKNOWN)
    return board


def summary(folder: SweepFolder) -> dict[str, Any]:
    """Return the same as plain values.

    `spent_s` are the seconds in which a driver was at work; `left_s`, `trials_per_hour` and `epochs_per_s` are None
    before anything was trained; `running` is None where that cannot be told. `best_val` and `best_trial` are those of
    the best trial within the constraints. `cost` are the hours of slots and GPUs so far, teachers and final runs
    included; `slow_nodes` says how many times as long the epochs of slow nodes take as those of others. `waiting` is
    what the driver waits for, `silent` has the seconds since the last report of trials that are late, by their names,
    `unreported` the seconds since they were sent to a worker of those that have not reported since, and may wait for a
    node; `left_s` is None while it waits, or all are late. `paused` are the searches that people paused, `requests`
    what they asked for and the driver has not taken up yet. `look` is the last
    `supersnn.records.events.PrecisionLooked` of a sweep whose replicates depend on how well the differences are known,
    else None. With several data sets each has its `arms` under `datasets`; with several replicates an arm has the sums
    over them and the mean of `best_val`, and each of them under `replicates`.
    """
    board = board_of(folder)
    drivers = board.state.drivers
    return {
        "sweep": board.sweep.name,
        "running": None if board.stage == UNKNOWN else board.driven,
        "ended": None if board.driven else board.state.ended,
        "spent_s": board.seconds_spent(),
        "left_s": board.seconds_left(),
        "trials_per_hour": trials_per_hour(drivers),
        "epochs_per_s": epochs_per_second(drivers),
        "cost": board.state.costs.row(),
        "slow_nodes": slow_nodes(board.state.nodes.values()),
        "faults": list(board.state.faults),
        "waiting": board.state.waiting if board.driven else "",
        "silent": dict(silent(board.state, time.time())) if board.driven else {},
        "unreported": dict(unreported(board.state, time.time())) if board.driven else {},
        "paused": sorted(steering.paused(board.state)),
        "requests": list(board.requests),
        "look": board.state.looks[-1].model_dump(mode="json", exclude={"event"}) if board.state.looks else None,
        **_arms(board),
    }


def _arms(board: Board) -> dict[str, Any]:
    """Return the arms by name, or the data sets by label with the arms of each."""
    by_dataset: dict[str | None, dict[str, Any]] = {}
    for row in board.rows:
        by_dataset.setdefault(row.dataset, {})[row.arm] = _arm(row, board.trials)
    if len(by_dataset) == 1:
        return {"arms": next(iter(by_dataset.values()))}
    return {"datasets": {label: {"arms": arms} for label, arms in by_dataset.items()}}


def _arm(row: Row, trials: int) -> dict[str, Any]:
    """Return the figures of an arm on a data set."""
    if row.one is not None:
        return _search(row.one, trials)
    return {
        "trials": trials * len(row.searches),
        "running": row.running(),
        **{end: row.count(end) for end in ENDS},
        "best_val": row.best_value(),
        "verified": row.verified(),
        "replicates": [_search(search, trials) for search in row.searches],
    }


def _search(search: SearchRecord, trials: int) -> dict[str, Any]:
    return {
        "trials": trials,
        "running": {str(trial): epoch for trial, epoch in search.running.items()},
        **{end: search.counts[end] for end in ENDS},
        "best_val": search.best_value,
        "best_trial": search.best,
        "verified": len(search.final_runs()),
    }
