"""The example networks of snntorch, spikingjelly and norse as students: the public check, and an epoch on digits."""

from pathlib import Path

import pytest

from supersnn import plugins
from supersnn.config import TrainConfig
from supersnn.data import training_data
from supersnn.testing import check_part
from supersnn.training import train

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "adapted"
NETWORKS = ["of_snntorch:Dense", "of_snntorch:convolutional", "of_spikingjelly:convolutional", "of_spikingjelly:single"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NETWORKS, "of_norse:dense"])
def test_an_epoch_on_digits(name: str) -> None:
    pytest.importorskip(name.partition(":")[0].removeprefix("of_"))
    plugins.activate([str(EXAMPLE)])
    path = f"adapted.{name}"
    assert [finding.found for finding in check_part(path, "student") if not finding.ok] == []
    config = TrainConfig.model_validate(
        {
            "dataset": {"name": "digits", "images": 800},
            "student": {"architecture": path, "time_steps": 4},
            "optimizer": {"name": "adamw", "lr": 0.01},
            "train": {"epochs": 2, "batch_size": 32},
        }
    )
    first, second = train(config, training_data(config.dataset))
    assert second.metrics["train/loss"] < first.metrics["train/loss"]
    assert 0 < second.metrics["spikes/rate"] < 1
    assert second.metrics["ops/mac"] > 0
    assert second.metrics["val/accuracy"] > 0.2  # ten classes
