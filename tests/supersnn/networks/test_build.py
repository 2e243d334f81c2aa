import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.errors import UserError
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import ARCHITECTURES, build, require_buildable, require_known
from supersnn.neurons import LIF, PLIF

RELU = NeuronConfig(kind="relu")

# parameters with 1 and with 3 channels (10 classes), channels and sides of the map for images of side 8, 28, 32
PINNED = {
    "resnet8": (77754, 78042, 64, (2, 7, 8)),
    "resnet14": (174970, 175258, 64, (2, 7, 8)),
    "resnet20": (272186, 272474, 64, (2, 7, 8)),
    "resnet32": (466618, 466906, 64, (2, 7, 8)),
    "resnet18": (11172810, 11173962, 512, (1, 4, 4)),
    "resnet19": (12566922, 12569226, 512, (2, 7, 8)),
    "resnet19_tdbn": (12695690, 12697994, 512, (2, 7, 8)),
    "resnet19_tet": (12629706, 12630858, 512, (2, 7, 8)),
    "resnet34": (21280970, 21282122, 512, (1, 4, 4)),
    "vgg8": (3916234, 3917386, 512, (1, 1, 2)),
    "vgg11": (9227210, 9228362, 512, (1, 1, 2)),
    "vgg16": (14722890, 14724042, 512, (1, 1, 2)),
    "wrn16_2": (691386, 691674, 128, (2, 7, 8)),
    "wrn28_4": (5848762, 5849050, 256, (2, 7, 8)),
}
FAST = ["resnet8", "vgg8", "wrn16_2"]


def made(
    name: str, neuron: NeuronConfig | None = None, side: int = 8, channels: int = 1, seed: int = 0, **student: Any
) -> Network:
    torch.manual_seed(seed)
    return build(
        NetworkConfig(architecture=name, **student), neuron or NeuronConfig(), ImageShape(channels, side), classes=10
    )


def layer(container: nn.Module, index: int) -> Any:
    assert isinstance(container, nn.Sequential)
    return container[index]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("index", range(3), ids=["side 8", "side 28", "side 32"])
def test_parameters_and_shapes_are_pinned(name: str, channels: int, index: int) -> None:
    *parameters, width, sides = PINNED[name]
    side = (8, 28, 32)[index]
    with torch.device("meta"):
        for neuron, steps in [(NeuronConfig(), 2), (RELU, 1)]:
            network = made(name, neuron, side, channels)
            logits, features = network(torch.empty(3, channels, side, side))
            assert sum(p.numel() for p in network.parameters()) == parameters[channels == 3]
            assert logits.shape == (steps, 3, 10)
            assert features.shape == (steps, 3, width, sides[index], sides[index])
            assert network.channels == width


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_artificial_and_a_spiking_network_are_the_same_body(name: str) -> None:
    """Layer by layer the same names and shapes, except that the one has neurons where the other has ReLU."""
    with torch.device("meta"):
        spiking, artificial = made(name), made(name, RELU)
    assert {n: t.shape for n, t in spiking.state_dict().items()} == {
        n: t.shape for n, t in artificial.state_dict().items()
    }
    rectifiers = {n: m for n, m in artificial.named_modules() if isinstance(m, nn.ReLU)}
    assert spiking.spiking_layers().keys() == rectifiers.keys()
    assert not artificial.spiking_layers()
    assert len(set(map(id, rectifiers.values()))) == len(rectifiers)


@pytest.mark.parametrize("name", FAST)
def test_one_seed_gives_one_initialisation_whatever_the_neuron(name: str) -> None:
    spiking, artificial, other = made(name), made(name, RELU), made(name, seed=1)
    for key, value in spiking.state_dict().items():
        assert torch.equal(value, artificial.state_dict()[key])
    assert not torch.equal(spiking.get_parameter("readout.weight"), other.get_parameter("readout.weight"))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("kind", ["lif", "plif", "relu"])
def test_every_weight_learns(name: str, kind: Any) -> None:
    network = made(name, NeuronConfig(kind=kind, width=2.0))
    output = network(drawn(32, 1, 8, 8))
    (output.logits.mean(0) * drawn(32, 10, seed=1)).sum().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", FAST)
def test_a_spiking_networks_features_are_spikes_and_its_logits_read_them_step_by_step(name: str) -> None:
    network = made(name, time_steps=3)
    logits, features = network(drawn(6, 1, 8, 8))
    assert set(features.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(logits, network.readout(features.mean((3, 4))))
    assert not torch.equal(logits[0], logits[1])


def test_the_neurons_are_the_configured_ones() -> None:
    neuron = NeuronConfig(
        kind="plif", threshold=0.7, decay=0.3, reset="soft", surrogate="atan", width=0.4, detach_reset=False
    )
    for layer in made("resnet8", neuron, time_steps=4).spiking_layers().values():
        assert isinstance(layer, PLIF)
        assert (layer.steps, layer.threshold, layer.reset, layer.surrogate, layer.width, layer.detach_reset) == (
            4,
            0.7,
            "soft",
            "atan",
            0.4,
            False,
        )
        assert float(layer.decay.detach()) == pytest.approx(0.3)
    assert {type(layer) for layer in made("resnet8").spiking_layers().values()} == {LIF}


@pytest.mark.parametrize("name", FAST)
def test_an_image_is_the_same_frame_at_every_step(name: str) -> None:
    """The stem that runs once stands for the stem run on every copy, in training and in evaluation."""
    images = drawn(6, 1, 8, 8)
    once, copied = made(name, time_steps=3), made(name, time_steps=3)
    frames = images.expand(3, -1, -1, -1, -1)
    for training in (True, False):
        once.train(training)
        copied.train(training)
        for a, b in zip(once(images), copied(frames), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        once.load_state_dict(copied.state_dict())  # without the stem's factor, which the next test is about


def test_the_stems_running_variance_differs_by_the_factor_that_is_written_down() -> None:
    images = 1 + drawn(6, 1, 8, 8)
    once, copied = made("resnet8", time_steps=3), made("resnet8", time_steps=3)
    once(images)
    copied(images.expand(3, -1, -1, -1, -1))
    n = images.numel()
    biased = [(layer(net.stem, 1).running_var - 0.9) / 0.1 * (1 - 1 / m) for net, m in [(once, n), (copied, 3 * n)]]
    torch.testing.assert_close(*biased, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(once.stem, 1).running_mean, layer(copied.stem, 1).running_mean)


def test_event_frames_differ_from_step_to_step() -> None:
    network = made("resnet8", NeuronConfig(threshold=0.02), time_steps=2).eval()
    frames = drawn(2, 5, 1, 8, 8)
    torch.testing.assert_close(network(frames).features[0], network(frames[0]).features[0])
    assert not torch.equal(network(frames).features[1], network(frames[0]).features[1])
    with pytest.raises(ValueError, match="expected 2 frames"):
        network(drawn(4, 5, 1, 8, 8))
    artificial = made("resnet8", RELU).eval()
    torch.testing.assert_close(artificial(frames).logits, artificial(frames.mean(0)).logits)


@pytest.mark.parametrize("name", FAST)
def test_samples_do_not_mix_in_evaluation(name: str) -> None:
    network, images = made(name, NeuronConfig(threshold=0.02)).eval(), drawn(5, 1, 8, 8)
    assert network(images).features.any()
    torch.testing.assert_close(network(images).logits[:, 2:3], network(images[2:3]).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("kind", ["lif", "relu"])
def test_channels_last_is_kept_throughout_and_changes_nothing_else(name: str, kind: Any) -> None:
    plain, last = (made(name, NeuronConfig(kind=kind)) for _ in range(2))
    last = last.to(memory_format=torch.channels_last)
    images = drawn(4, 1, 8, 8)
    kept = []
    for module in last.modules():
        if isinstance(module, LIF | nn.Conv2d):
            module.register_forward_hook(
                lambda _module, _inputs, output: kept.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    found = last(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found.logits, plain(images).logits, rtol=1e-3, atol=1e-4)
    assert all(kept)


@pytest.mark.parametrize("name", FAST)
def test_the_bits_are_the_same_in_every_run(name: str) -> None:
    def run() -> list[Any]:
        network = made(name)
        network(drawn(8, 1, 8, 8)).logits.square().mean().backward()
        return [parameter.grad for parameter in network.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_tdbn_scales_a_current_by_the_threshold_and_by_how_many_are_added() -> None:
    network = made("resnet8", NeuronConfig(threshold=0.6), norm="tdbn")
    block = layer(network.body, 1)
    for norm, scale in [
        (layer(network.stem, 1), 0.6),
        (block.norm1, 0.6),
        (block.norm2, 0.6 / math.sqrt(2)),
        (layer(block.shortcut, 1), 0.6 / math.sqrt(2)),
    ]:
        torch.testing.assert_close(norm.weight.detach(), torch.full_like(norm.weight, scale))
    for plain in (made("resnet8", NeuronConfig(threshold=0.6)), made("resnet8", RELU, norm="tdbn")):
        assert all((m.weight == 1).all() for m in plain.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(
    ("side", "given", "stride"), [(8, None, 1), (63, None, 1), (64, None, 2), (128, None, 4), (32, 4, 4), (128, 1, 1)]
)
def test_the_stems_stride_follows_the_side(name: str, side: int, given: int | None, stride: int) -> None:
    with torch.device("meta"):
        network = made(name, RELU, side, stem_stride=given)
        maps = network.stem(torch.empty(2, 1, side, side))
        features = network(torch.empty(2, 1, side, side)).features
    assert maps.shape[-1] == -(-side // stride)
    assert features.shape[-1] >= 1


def test_a_vgg_pools_by_averages_and_stops_at_side_one() -> None:
    layers = list(made("vgg16", side=8).modules())
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in layers) == 3
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in layers)


@pytest.mark.parametrize("name", ["resnet9", "VGG8", "nothing like it"])
def test_an_unknown_architecture_is_the_users_mistake(name: str) -> None:
    for act in (require_known, made):
        with pytest.raises(UserError, match=f"^'{name}' is unknown") as error:
            act(name)
        assert "did you mean" in str(error.value) or "known: resnet8" in str(error.value)


@pytest.mark.parametrize(
    ("name", "neuron"),
    [("resnet8", NeuronConfig()), ("vgg16", RELU), ("torchvision:resnet18", RELU), ("torchvision:alexnet", RELU)],
)
def test_what_can_be_built_is_known_without_building_it(name: str, neuron: NeuronConfig) -> None:
    state = torch.random.get_rng_state()
    require_buildable(NetworkConfig(architecture=name), neuron, ImageShape(1, 8), 10)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "neuron", "problem"),
    [
        ("torchvision:resnet18", NeuronConfig(), "'torchvision:resnet18' has no spiking form"),
        ("torchvision:vit_b_16", RELU, "does not support images of side 8"),
        ("resnet9", NeuronConfig(), "'resnet9' is unknown"),
    ],
)
def test_what_cannot_be_built_is_known_without_building_it(name: str, neuron: NeuronConfig, problem: str) -> None:
    for look in (require_buildable, build):
        with pytest.raises(UserError, match=problem):
            look(NetworkConfig(architecture=name), neuron, ImageShape(1, 8), 10)
