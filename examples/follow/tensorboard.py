"""Writes the epochs of a sweep to TensorBoard: python tensorboard.py STORE SWEEP FOLDER, also while it runs."""

import sys
from pathlib import Path

import tune
from supersnn.records.events import EpochReported, WinnerVerified


def write(store: str, sweep: str, folder: str) -> None:
    """Write a run for each trial, with a point for each epoch, and one for each verification."""
    from tensorboardX import SummaryWriter

    writers: dict[str, SummaryWriter] = {}
    for event in tune.follow(store, sweep, wait=60):
        if isinstance(event, EpochReported):
            run, step = f"{event.arm}/{event.trial}", event.epoch
        elif isinstance(event, WinnerVerified):
            run, step = f"verified/{event.arm}", event.seed
        else:
            continue
        if run not in writers:
            writers[run] = SummaryWriter(str(Path(folder) / sweep / run))
        for key, value in event.metrics.items():
            if value is not None:
                writers[run].add_scalar(key, value, step)
    for writer in writers.values():
        writer.close()


if __name__ == "__main__":
    write(*sys.argv[1:4])
