from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from supersnn import evaluation, operations
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import Images, TrainingData
from supersnn.evaluation import Evaluator, evaluate
from supersnn.measurement import measure
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build


@pytest.fixture
def network(configured: Callable[..., TrainConfig]) -> Network:
    config = configured()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build(config.student, config.neuron, ImageShape(1, 8), 7)


def one_by_one(
    network: Network, data: TrainingData, images: Images
) -> tuple[list[torch.Tensor], dict[str, list[torch.Tensor]]]:
    """Show one image at a time and keep its logits, and what each spiking layer gave and each weighted one got."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            keep = lambda _m, i, _o, name=name: seen.setdefault(name, []).append(i[0].clone())  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
        elif name in network.spiking_layers():
            keep = lambda _m, _i, o, name=name: seen.setdefault(name, []).append(o.clone())  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    network.eval()
    with torch.no_grad():
        logits = [network(normalise(pixels[None], data.mean, data.std)).logits.mean(0)[0] for pixels in images.pixels]
    for hook in hooks:
        hook.remove()
    return logits, seen


def share(tensors: list[torch.Tensor]) -> float:
    return float(torch.cat([t.flatten() for t in tensors]).ne(0).double().mean())


@pytest.mark.parametrize("batch_size", [7, 256])
def test_it_equals_a_count_image_by_image(network: Network, bars: TrainingData, batch_size: int) -> None:
    images = bars.validation
    logits, seen = one_by_one(network, bars, images)
    found = evaluate(network, images, bars.mean, bars.std, batch_size)
    labels = images.labels.tolist()
    right = [int(score.argmax()) == label for score, label in zip(logits, labels, strict=True)]
    among = [label in score.topk(5).indices.tolist() for score, label in zip(logits, labels, strict=True)]
    losses = [float(functional.cross_entropy(s, torch.tensor(label))) for s, label in zip(logits, labels, strict=True)]
    assert found.images == len(labels)
    assert found.accuracy == sum(right) / len(labels)
    assert found.top5 == sum(among) / len(labels)
    assert found.loss == pytest.approx(sum(losses) / len(labels), rel=1e-5)
    for label in range(4):
        own = [r for r, wanted in zip(right, labels, strict=True) if wanted == label]
        assert found.per_class[label] == sum(own) / len(own)
    assert found.per_class[4:] == (None, None, None)
    spiking = list(network.spiking_layers())
    assert found.rates == pytest.approx({name: share(seen[name]) for name in spiking}, abs=1e-4)
    assert found.rate == pytest.approx(share([t for name in spiking for t in seen[name]]), abs=1e-4)
    density = {name: inputs.density for name, inputs in found.inputs.items()}
    assert density == pytest.approx({n: share(seen[n]) for n in seen if n not in spiking}, abs=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_no_trace(network: Network, bars: TrainingData, training: bool) -> None:
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, bars.validation, bars.mean, bars.std)
    assert network.training == training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_artificial_network_has_no_rate(configured: Callable[..., TrainConfig], bars: TrainingData) -> None:
    config = configured(neuron__kind="relu")
    found = evaluate(build(config.student, config.neuron, bars.shape, 4), bars.validation, bars.mean, bars.std)
    assert found.rate is None
    assert found.rates == {}
    assert 0 < found.inputs["readout"].density <= 1
    assert not found.inputs["readout"].binary


def test_what_depends_on_the_network_alone_is_found_once(
    network: Network, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [measure(network, images, bars) for images in (bars.validation, bars.train)]
    found: list[str] = []

    def noted(name: str) -> None:
        real = getattr(operations, name)

        def called(*given: Any) -> Any:
            found.append(name)
            return real(*given)

        monkeypatch.setattr(evaluation, name, called)

    noted("reach")
    noted("dense_operations")
    evaluator = Evaluator(network, bars.mean, bars.std, batch_size=50)
    for _ in range(2):
        seen = [measure(network, images, bars, evaluator) for images in (bars.validation, bars.train)]
        assert [one.operations for one in seen] == [one.operations for one in expected]
        assert [one.evaluation.inputs for one in seen] == [one.evaluation.inputs for one in expected]
    assert found.count("dense_operations") == 1
    assert found.count("reach") == len(evaluator._inputs)


def test_what_was_counted_is_copied_to_the_host_once(
    network: Network, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[int] = []
    real = evaluation._on_host

    def copied(values: list[torch.Tensor]) -> list[torch.Tensor]:
        copies.append(len(values))
        return real(values)

    monkeypatch.setattr(evaluation, "_on_host", copied)
    evaluate(network, bars.validation, bars.mean, bars.std)
    assert copies == [4 + len(network.spiking_layers()) + len(operations.weighted_layers(network))]
