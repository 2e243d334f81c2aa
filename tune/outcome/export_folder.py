"""Writes a complete export folder: the student, its export formats, and its model card."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from supersnn import export_code, exported
from supersnn.chips.fit import excesses_of
from supersnn.chips.limits import CHIPS
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.export_formats import int8_format
from supersnn.export_formats.attach import attach
from supersnn.networks.base import ImageShape, Network
from tune.outcome import int8
from tune.outcome.card import card


def write(
    to: Path,
    config: TrainConfig,
    weights: Mapping[str, Tensor],
    data: TrainingData,
    metrics: Mapping[str, Any],
    int8_tested: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write an export folder; an existing one is replaced once the new one is complete.

    Args:
        to: its name.
        config: the training, with the seed that the weights are of.
        weights: the network's state dict.
        data: the images it was trained on; the forms are tried on the validation images.
        metrics: what the card tells of (`tune/outcome/templates/card.md.j2`), but the forms.
        int8_tested: weights of 8 bits on the test images, where they were measured there (`tune.outcome.int8`).

    Returns:
        the metrics that were added: `forms`, `int8` with `export.int8`, `target` with a target, `plugins` with any.

    Raises:
        UserError: the folder holds something else.
    """
    preprocessing = exported.Preprocessing.of(data)
    code = export_code.of(config)
    carried = config.model_copy(update={"plugins": code.entries})

    further: dict[str, Any] = {}

    def attached(unfinished: Path) -> Mapping[str, Any]:
        network = exported.network(config, preprocessing, weights)
        further["forms"] = attach(unfinished, network, preprocessing, data.validation.pixels)
        if config.export.int8:
            on_device = network.to(data.validation.pixels.device)
            further["int8"] = int8.attach(unfinished, on_device, data, int8_tested)
        if config.target is not None:
            further["target"] = _target(config.target.chip, network, preprocessing, "file" in further.get("int8", {}))
        if code.packages:
            further["plugins"] = [asdict(one) for one in code.packages]
        code.copy(unfinished)
        text = card(carried, {**metrics, "plugins": [], **further}, data)
        (unfinished / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        return further

    exported.write(to, carried, weights, preprocessing, metrics, attached)
    return further


def _target(chip: str, network: Network, preprocessing: exported.Preprocessing, integers: bool) -> dict[str, Any]:
    """Return what the student exceeds of its chip's published limits, and which limits are not public."""
    limits, shape = CHIPS[chip], ImageShape(preprocessing.channels, preprocessing.side)
    found = excesses_of(network, shape, chip, int8_format.BITS if integers else None)
    rows = [{"limit": one.limit, "layers": list(one.layers), "found": one.found} for one in found]
    return {"chip": chip, "title": limits.title, "exceeded": rows, "not_public": list(limits.unknown)}
