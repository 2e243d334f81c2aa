"""How far a sweep is, read from its folder by somebody who is not its driver."""

import time
from typing import Any

import filelock

from supersnn.config_model import parse, read_yaml
from tune.description.sweep import SweepConfig
from tune.journal import read
from tune.store import SweepFolder
from tune.terminal.progress import Board


def board_of(folder: SweepFolder) -> Board:
    """Return the sweep's board as its journal has it now."""
    board = Board(parse(SweepConfig, read_yaml(folder.config), str(folder.config)))
    for event, _ in read(folder.journal):
        board.event(event["event"], event)
    board.driven = _driven(folder)
    board.stage = "running" if board.driven else board.ended or "not running"
    return board


def summary(folder: SweepFolder) -> dict[str, Any]:
    """Return the same as plain values.

    `spent_s` are the seconds in which a driver was at work; `left_s`, `trials_per_hour` and `epochs_per_s` are None
    before anything was trained.
    """
    board = board_of(folder)
    return {
        "sweep": board.sweep.name,
        "running": board.driven,
        "ended": None if board.driven else board.ended,
        "spent_s": board.pace.spent(time.time() if board.driven else None),
        "left_s": board.left(),
        "trials_per_hour": board.pace.trials_per_hour(),
        "epochs_per_s": board.pace.epochs_per_second(),
        "arms": {
            arm: {
                "trials": board.trials,
                "running": {str(trial): epoch for trial, epoch in row.running.items()},
                **{word: row.ended(word) for word in ("finished", "stopped", "failed")},
                "best_val": row.best[0] if row.best else None,
                "best_trial": row.best[1] if row.best else None,
                "verified": len(row.verified),
            }
            for arm, row in board.rows.items()
        },
    }


def _driven(folder: SweepFolder) -> bool:
    """Say whether a driver holds the sweep."""
    lock = filelock.FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False
