"""What a sweep will take, for a dry run: measured on the device that will train, and drawn for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from supersnn.data import DataSummary
from tune.description.arms import Arm, resolve_again
from tune.description.replication import labels, sweep_of_cell
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
    data: Mapping[str, DataSummary],
    store: Store,
    address: str | None = None,
    local: bool = False,
) -> dict[str, Any] | None:
    """Return `measuring.estimate` of a sweep, with the store's free space; None where images are not here yet.

    Of several data sets each is timed by itself; see `together`.

    Args:
        sweep, arms: the sweep.
        data: what is known of its images, see `inspect_sweep`.
        store: where it will be stored; nothing is written.
        address: of the cluster that will train; else steps are timed on this machine.
        local: one trial at a time, in one process.

    Raises:
        UserError: the cluster cannot be joined, or a training cannot be run.
    """
    found: dict[str, dict[str, Any]] = {}
    for position, label in enumerate(names := labels(sweep)):
        alone = sweep_of_cell(sweep, label, 0).model_copy(update={"replicates": sweep.replicates})
        known = data[label or ""]
        if known.shape is None or not known.train:
            return None
        own = resolve_again(alone) if position else arms
        found[label or ""] = _of_one(alone, own, known, store, address, local, SECONDS / len(names))
    return {**(together(found) if len(found) > 1 else found.popitem()[1]), "free": store.free_bytes()}


def _of_one(
    sweep: SweepConfig,
    arms: Mapping[str, Arm],
    data: DataSummary,
    store: Store,
    address: str | None,
    local: bool,
    seconds: float,
) -> dict[str, Any]:
    """Return the estimate of a sweep with one data set, whose images are here; see `forecast`."""
    assert data.shape is not None
    first = {name: search for name, search in planned(sweep, arms).items() if name in arms}
    teachers = preparations(first, store.storage)
    items, classes = measuring.trainings(arms, teachers), len(data.classes)
    if address is not None and not local:
        from tune.execution.cluster_measuring import time_on_cluster

        times, slots = time_on_cluster(address, sweep, items, data.shape, classes, seconds)
    else:
        with working_on(device_of(measuring.resources_here(sweep).gpus_taken)):
            times = measuring.time_trainings(items, data.shape, classes, seconds)
        slots = 1 if local else measuring.slots_here(sweep)
    found = measuring.measured(items, times, slots)
    return measuring.estimate(sweep, arms, teachers, data, found)


def together(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the estimates of several data sets, by label, as one: what takes turns is added up, the rest the largest.

    Epochs and teacher caches have the label behind the arm's or the teacher's name.
    """

    def named(key: str, *path: str) -> dict[str, Any]:
        parts = {label: one[path[0]][key] if path else one[key] for label, one in found.items()}
        return {f"{name} ({label})": value for label, part in parts.items() for name, value in part.items()}

    every = list(found.values())
    hours = [one["hours"] for one in every]
    disks = [one["disk"] for one in every]
    disk = {name: sum(part[name] for part in disks) for name in disks[0] if name not in ("checkpoints", "total")}
    disk["checkpoints"] = max(part["checkpoints"] for part in disks)
    return {
        "slots": every[0]["slots"],
        "hours": {name: sum(part.get(name, 0.0) for part in hours) for name in hours[0]} if all(hours) else None,
        "memory": max((one["memory"] for one in every), key=lambda memory: memory["trial"]),
        "disk": {**disk, "total": sum(disk.values())},
        "caches": named("caches"),
        "timed": {
            "device": every[0]["timed"]["device"],
            **{key: named(key, "timed") for key in ("epoch_s", "teacher_epoch_s", "steps")},
        },
    }


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
