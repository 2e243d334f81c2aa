"""Everything that is measured of a network on a set of images, as metrics by key.

A new metric of this kind is added to `supersnn.records.metrics`, and returned by `Measurement.metrics`; trials, final
runs, exports, MLflow and the report take it from there.
"""

from dataclasses import dataclass
from typing import Literal

from supersnn.data import Images, TrainingData
from supersnn.evaluation import Evaluation, Evaluator
from supersnn.networks.base import Network
from supersnn.operations import Operations, count
from supersnn.records.metrics import (
    DENSE_OPS,
    EFFECTIVE_ACS,
    EFFECTIVE_MACS,
    ENERGY,
    MAC_OPS,
    SPIKE_RATE,
    SYNAPTIC_OPS,
)


@dataclass(frozen=True)
class Measurement:
    """How accurate a network is on some images, and what an inference costs on average over them."""

    evaluation: Evaluation
    operations: Operations

    def metrics(self, part: Literal["val", "test"]) -> dict[str, float]:
        """Return all metrics by key; accuracy and loss are those of `part`."""
        seen = self.evaluation
        found = {f"{part}/accuracy": seen.accuracy, f"{part}/loss": seen.loss}
        return found | ({"test/top5": seen.top5} if part == "test" else {}) | self.costs()

    def costs(self) -> dict[str, float]:
        """Return what an inference costs by key; a network without spiking layers has no firing rate."""
        operations, rate = self.operations, self.evaluation.rate
        counted = {
            SYNAPTIC_OPS.key: operations.synaptic,
            MAC_OPS.key: operations.mac,
            ENERGY.key: operations.energy_nj,
            EFFECTIVE_ACS.key: operations.effective_acs,
            EFFECTIVE_MACS.key: operations.effective_macs,
            DENSE_OPS.key: operations.dense,
            SPIKE_RATE.key: rate,
        }
        return {key: value for key, value in counted.items() if value is not None}


def measure(network: Network, images: Images, data: TrainingData, evaluator: Evaluator | None = None) -> Measurement:
    """Evaluate a network on some images, and count the operations of an inference.

    Args:
        network: left in the mode it was in.
        images: validation or test images.
        data: the training data that it was trained on: their mean and deviation, and the images' shape.
        evaluator: of this network and these data, where one is kept for several evaluations.
    """
    evaluator = evaluator or Evaluator(network, data.mean, data.std)
    evaluation = evaluator.evaluate(images)
    dense = evaluator.dense_operations(data.shape)
    return Measurement(evaluation, count(network, data.shape, evaluation.inputs, dense=dense))
