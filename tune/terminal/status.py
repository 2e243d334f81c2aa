"""How far a sweep is, read from its folder by somebody who is not its driver."""

from typing import Any

import filelock

from supersnn.config import parse, read_yaml
from tune.description.sweep import SweepConfig
from tune.journal import read
from tune.store import SweepFolder
from tune.terminal.progress import Board


def board_of(folder: SweepFolder) -> Board:
    """Return the sweep's board as its journal has it now."""
    sweep = parse(SweepConfig, read_yaml(folder.config), str(folder.config))
    board = Board(sweep.name, dict.fromkeys(sweep.arms, sweep.search.trials), sweep.train.epochs, sweep.verify.seeds)
    board.stage = "running" if _driven(folder) else "not running"
    for event, _ in read(folder.journal):
        if event["event"] == "sweep" and not event["resumed"]:
            board.started = event["time"]
        board.event(event["event"], event)
    return board


def summary(folder: SweepFolder) -> dict[str, Any]:
    """Return the same as plain values."""
    board = board_of(folder)
    return {
        "sweep": board.name,
        "running": board.stage == "running",
        "arms": {
            arm: {
                "trials": board.trials[arm],
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
