"""The chip that a sweep's students are meant for: which of its limits they exceed, before anything is trained."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from supersnn.chips.fit import Excess, excesses_of
from supersnn.chips.limits import CHIPS
from supersnn.config import TrainConfig
from supersnn.data import inspect
from supersnn.errors import UserError
from supersnn.export_formats import int8_format
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from tune.description.arms import Arm, resolve_again
from tune.description.replication import labels, sweep_of_cell
from tune.description.sweep import SweepConfig

KEYS = ("student.architecture", "student.norm", "student.stem_stride", "neuron.kind", "neuron.reset")
"""The keys that the limits of a chip are about."""


def excesses_of_training(config: TrainConfig, shape: ImageShape, classes: int) -> list[Excess]:
    """Return the limits of its target that a training's student exceeds; nothing without a target."""
    if config.target is None:
        return []
    with torch.random.fork_rng([]):
        network = build(config.student, config.neuron, shape, classes)
    return excesses_of(network, shape, config.target.chip, int8_format.BITS if config.export.int8 else None)


def require_fit(configs: Iterable[TrainConfig], shape: ImageShape | None, classes: int) -> None:
    """Check that students exceed no limit of their target, where that is required and the images' shape is known.

    Raises:
        UserError: one does; the text names the student and every limit.
    """
    for config in configs:
        if config.target is None or not config.target.require or shape is None:
            continue
        if found := excesses_of_training(config, shape, classes):
            reasons = "; ".join(map(str, found))
            title = CHIPS[config.target.chip].title
            raise UserError(f"target.require: {config.student.architecture} exceeds limits of {title}: {reasons}")


def target_plan(sweep: SweepConfig, arms: Mapping[str, Arm]) -> dict[str, Any] | None:
    """Return, as plain values, what a sweep's students exceed of their target; None without a target.

    `students` has a row for each student and limit: `student`, `arms`, `limit`, `layers`, `found`, and `dataset` where
    there are several. `not_public` are limits that the chip has but that are not published, `unknown` the data sets
    whose images have to be downloaded before anything is known.
    """
    if sweep.target is None:
        return None
    chip = CHIPS[sweep.target.chip]
    rows: dict[tuple[str | None, str, Excess], list[str]] = {}
    unknown = []
    for label in labels(sweep):
        cell = sweep_of_cell(sweep, label, 0)
        summary = inspect(cell.dataset)
        if summary.shape is None:
            unknown.append(label or summary.name)
            continue
        for name, arm in (resolve_again(cell) if sweep.datasets else arms).items():
            for config in arm.trainings(KEYS):
                for excess in excesses_of_training(config, summary.shape, len(summary.classes)):
                    users = rows.setdefault((label, config.student.architecture, excess), [])
                    users += [] if name in users else [name]
    return {
        "chip": sweep.target.chip,
        "title": chip.title,
        "students": [
            {**({} if label is None else {"dataset": label}), "student": student, "arms": users,
             "limit": excess.limit, "layers": list(excess.layers), "found": excess.found}
            for (label, student, excess), users in rows.items()
        ],
        "not_public": list(chip.unknown),
        "unknown": unknown,
    }  # fmt: skip


def target_lines(planned: Mapping[str, Any]) -> list[str]:
    """Return what `target_plan` has found as lines for people."""
    lines = [f"target {planned['title']}; its published limits that are exceeded:"]
    for row in planned["students"]:
        student = f"{row['student']} on {row['dataset']}" if "dataset" in row else row["student"]
        lines.append(f"  {student}: {row['limit']}: {row['found']}")
    lines += [f"  {name}: not known before its images are downloaded" for name in planned["unknown"]]
    if len(lines) == 1:
        lines.append("  none")
    return [*lines, f"  not public: {', '.join(planned['not_public'])}"]
