"""Logs the trials of a sweep to Weights & Biases: python weights_and_biases.py STORE SWEEP [offline]."""

import sys
from typing import Any

import tune
from supersnn.records.events import EpochReported, TrialEnded, TrialStarted


def log(store: str, sweep: str, mode: str = "online") -> None:
    """Log a run for each trial, with its configuration, its epochs and its end; `offline` writes local files."""
    import wandb

    runs: dict[tuple[str, int], Any] = {}
    seen: set[tuple[str, int, int]] = set()
    for event in tune.follow(store, sweep, wait=60):
        if isinstance(event, TrialStarted) and (event.arm, event.trial) not in runs:
            name = f"{event.arm}/{event.trial}"
            options = {"project": sweep, "group": event.arm, "name": name, "id": f"{sweep}-{event.arm}-{event.trial}"}
            runs[event.arm, event.trial] = wandb.init(**options, config=event.config, mode=mode, reinit="create_new")
        elif isinstance(event, EpochReported) and (event.arm, event.trial, event.epoch) not in seen:
            seen.add((event.arm, event.trial, event.epoch))
            runs[event.arm, event.trial].log(event.metrics, step=event.epoch)
        elif isinstance(event, TrialEnded):
            runs[event.arm, event.trial].summary.update({"end": event.end, "value": event.value})
            runs[event.arm, event.trial].finish()


if __name__ == "__main__":
    log(*sys.argv[1:4])
