"""A sweep's trials as the search left them, read from the journal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from supersnn.config import TrainConfig
from supersnn.config_model import parse, unflatten


@dataclass(frozen=True)
class Searched:
    """A trial: its training, how it ended (None while it runs), its value, and what its first seed came to.

    `accuracy` and `synaptic_ops` are of the first seed's last epoch, None where it never got there.
    """

    config: TrainConfig
    end: str | None
    value: float | None
    accuracy: float | None
    synaptic_ops: float | None


def searched(events: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], Searched]:
    """Return every trial of a journal's events by arm and number."""
    configs: dict[tuple[str, int], TrainConfig] = {}
    ends: dict[tuple[str, int], Mapping[str, Any]] = {}
    last: dict[tuple[str, int], Mapping[str, float]] = {}
    for event in events:
        if event["event"] not in ("start", "epoch", "end"):
            continue
        key = event["arm"], event["trial"]
        if event["event"] == "start":
            configs[key] = parse(TrainConfig, unflatten(event["config"]), f"{key[0]}/{key[1]}")
        elif event["event"] == "end":
            ends[key] = event
        elif event["epoch"] == configs[key].train.epochs:
            last.setdefault(key, event["metrics"])
    return {
        key: Searched(
            config=config,
            end=ends.get(key, {}).get("end"),
            value=ends.get(key, {}).get("value"),
            accuracy=last.get(key, {}).get("val/seed_accuracy", last.get(key, {}).get("val/accuracy")),
            synaptic_ops=last.get(key, {}).get("ops/synaptic"),
        )
        for key, config in configs.items()
    }
