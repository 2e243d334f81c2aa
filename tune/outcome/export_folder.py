"""Writes a complete export folder: the student, its export formats, and its model card."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from supersnn import export_code, exported
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.export_formats.attach import attach
from tune.outcome.card import card


def write(
    to: Path, config: TrainConfig, weights: Mapping[str, Tensor], data: TrainingData, metrics: Mapping[str, Any]
) -> None:
    """Write an export folder; an existing one is replaced once the new one is complete.

    Args:
        to: its name.
        config: the training, with the seed that the weights are of.
        weights: the network's state dict.
        data: the images it was trained on; the forms are tried on the validation images.
        metrics: what the card tells of (`tune/outcome/templates/card.md.j2`), but the forms.

    Raises:
        UserError: the folder holds something else.
    """
    preprocessing = exported.Preprocessing.of(data)
    code = export_code.of(config)
    carried = config.model_copy(update={"plugins": code.entries})

    def attached(unfinished: Path) -> Mapping[str, Any]:
        network = exported.network(config, preprocessing, weights)
        forms = attach(unfinished, network, preprocessing, data.validation.pixels)
        further = {"forms": forms, **({"plugins": [asdict(one) for one in code.packages]} if code.packages else {})}
        code.copy(unfinished)
        text = card(carried, {**metrics, "plugins": [], **further}, data)
        (unfinished / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        return further

    exported.write(to, carried, weights, preprocessing, metrics, attached)
