"""Effective operations and sparsity of trained students against the package `neurobench` itself."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from supersnn import checkpoint
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import Images, TrainingData, training_data
from supersnn.measurement import measure
from supersnn.networks.base import Network
from supersnn.networks.build import build
from supersnn.neurobench import connection_sparsity
from supersnn.training import train

IMAGES = 4  # so that no layer has 2^24 operations: NeuroBench adds them up in single precision


@pytest.fixture(scope="module", params=["resnet8", "vgg8", "wrn16_2"])
def student(request: pytest.FixtureRequest, configured: Callable[..., TrainConfig]) -> tuple[Network, TrainingData]:
    pytest.importorskip("neurobench", reason="neurobench is not installed: make install-test")
    options = {"neuron__threshold": 0.3, "train__epochs": 1, "dataset__images": 300}
    config = configured(student__architecture=request.param, **options)
    data = training_data(config.dataset)
    *_, last = train(config, data)
    network = build(config.student, config.neuron, data.shape, 10).eval()
    network.load_state_dict(checkpoint.student_weights(last.snapshot()[0]))
    return network, data


def packaged(network: Network, pixels: Tensor) -> tuple[dict[str, float], float]:
    """Return NeuroBench's synaptic operations of an image, and its connection sparsity."""
    from neurobench.metrics.static import ConnectionSparsity
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    model, metric = TorchModel(network), SynapticOperations()
    model.register_hooks()
    try:
        with torch.no_grad():
            predictions = model(pixels)
            found = metric(model, predictions, (pixels, None))
        return found, ConnectionSparsity()(model)
    finally:
        model.cleanup_hooks()


@pytest.mark.parametrize("pruned", [0.0, 0.4])
def test_operations_are_those_of_the_package_to_the_integer(
    student: tuple[Network, TrainingData], pruned: float
) -> None:
    network, data = student
    given = data.validation
    images = Images(given.pixels[:IMAGES], given.labels[:IMAGES], given.index[:IMAGES])
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    try:
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight[torch.rand(layer.weight.shape, generator=generator) < pruned] = 0
        found, sparsity = packaged(network, normalise(images.pixels, data.mean, data.std))
        operations = measure(network, images, data).operations
        assert round(connection_sparsity(network), 4) == sparsity
    finally:
        network.load_state_dict(kept)
    assert operations.dense is not None
    assert operations.dense * IMAGES < 2**24
    assert operations.effective_acs == found["Effective_ACs"] > 0
    assert operations.effective_macs == found["Effective_MACs"] > 0
    assert operations.dense == found["Dense"]
