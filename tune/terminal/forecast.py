"""What a sweep will take, for a dry run: measured on the device that will train, and drawn for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from supersnn.data import DataSummary
from tune.description.arms import Arm
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.execution import measuring
from tune.execution.device import device_of, working_on
from tune.execution.prepare import preparations
from tune.store import Store

SECONDS = 6.0
"""For timing steps: each kind of training takes a step or two, and those that are fast are repeated."""


def forecast(
    sweep: SweepConfig,
    arms: Mapping[str, Arm],
    data: DataSummary,
    store: Store,
    address: str | None = None,
    local: bool = False,
) -> dict[str, Any] | None:
    """Return `measuring.estimate` of a sweep, with the store's free space; None where its images are not here yet.

    Args:
        sweep, arms: the sweep.
        data: what is known of its images.
        store: where it will be stored; nothing is written.
        address: of the cluster that will train; else steps are timed on this machine.
        local: one trial at a time, in one process.

    Raises:
        UserError: the cluster cannot be joined, or a training cannot be run.
    """
    if data.shape is None or not data.train:
        return None
    first = {name: search for name, search in planned(sweep, arms).items() if name in arms}
    teachers = preparations(first, store.storage)
    items, classes = measuring.trainings(arms, teachers), len(data.classes)
    if address is not None and not local:
        from tune.execution.cluster_measuring import time_on_cluster

        times, slots = time_on_cluster(address, sweep, items, data.shape, classes, SECONDS)
    else:
        with working_on(device_of(measuring.resources_here(sweep).gpus_taken)):
            times = measuring.time_trainings(items, data.shape, classes, SECONDS)
        slots = 1 if local else measuring.slots_here(sweep)
    found = measuring.measured(items, times, slots)
    return {**measuring.estimate(sweep, arms, teachers, data, found), "free": store.free_bytes()}


def forecast_table(found: Mapping[str, Any]) -> Table:
    """Return a forecast as a table for a terminal."""
    table = Table(title="forecast (upper bounds)", title_justify="left", box=None, pad_edge=False, show_header=False)
    device = found["timed"]["device"]
    table.add_row("slots", f"{found['slots']} at once" if found["slots"] else "none: no trial fits here")
    if found["hours"]:
        table.add_row("time", ", ".join(f"{_part(name)} {duration(hours)}" for name, hours in found["hours"].items()))
    epochs = ", ".join(f"{arm} {seconds:.3g} s" for arm, seconds in found["timed"]["epoch_s"].items())
    table.add_row("an epoch", f"{epochs} (a step timed on this {device})")
    memory = found["memory"]
    table.add_row("memory", f"{size(memory['trial'])} a trial ({memory['of']}), {size(memory['images'])} of it images")
    table.add_row("disk", ", ".join(f"{_part(name)} {size(bytes_)}" for name, bytes_ in found["disk"].items()))
    if found["caches"]:
        table.add_row("caches", ", ".join(f"{name} {size(bytes_)}" for name, bytes_ in found["caches"].items()))
    table.add_row("free", size(found["free"]))
    return table


def duration(hours: float) -> str:
    """Return hours as text: seconds and minutes where there are few."""
    seconds = hours * 3600
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{hours:.1f} h"


def size(count: float) -> str:
    """Return bytes as text."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _part(name: str) -> str:
    return name.replace("_", " ")
