"""Networks of one's own: what a constructor is given, what is refused, and plain modules through the adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build, family, require_known
from supersnn.testing import check_part
from supersnn.trying import random_data
from tests.support.plugins import package

SHAPE = ImageShape(1, 8)
PLAIN = """
class Plain(nn.Module):
    def __init__(self, channels, side, num_classes, hidden=6):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, hidden, 3, padding=1), nn.Linear(hidden * side * side, num_classes)
    def forward(self, images):
        return self.fc(self.conv(images).relu().flatten(1))
"""


def made(path: str, kind: str = "lif", steps: int = 2, **arguments: Any) -> Network:
    config = NetworkConfig(architecture=path, arguments=arguments, time_steps=steps)
    return build(config, NeuronConfig(kind=kind), SHAPE, 4)


def test_a_constructor_gets_what_it_asks_for_and_its_own_arguments(tmp_path: Path) -> None:
    module = package(tmp_path)
    network = made(f"{module}:tiny", width=3)
    logits, features = network(torch.rand(5, 1, 8, 8))
    assert logits.shape == (2, 5, 4)
    assert features.shape == (2, 5, 6, 4, 4)
    assert list(network.spiking_layers()) == ["activation", "body.2"]
    teacher = made(f"{module}:tiny", kind="relu")
    assert teacher.steps == 1
    assert not teacher.spiking_layers()


def test_a_family_is_declared_or_the_import_path(tmp_path: Path) -> None:
    module = package(tmp_path, 'def other(layers, shape, classes): ...\nother.family = "tiny"\n')
    assert family(f"{module}:tiny") == f"{module}:tiny"
    assert family(f"{module}:other") == "tiny"
    assert family("torchvision:resnet18") == "resnet"
    module = package(tmp_path, "def wrong(): ...\nwrong.family = 3\n")
    with pytest.raises(UserError, match="family: expected a text, found 3"):
        require_known(f"{module}:wrong")


def test_a_plain_module_is_a_teacher(tmp_path: Path) -> None:
    network = made(f"{package(tmp_path, PLAIN)}:Plain", kind="relu")
    images = torch.rand(5, 1, 8, 8)
    logits, features = network(images)
    module: Any = network.get_submodule("module")
    assert torch.equal(logits[0], module(images))
    assert torch.equal(features[0, :, :, 0, 0], module.conv(images).relu().flatten(1))
    assert network.channels == 6 * 64


def test_a_layer_of_features_may_be_named(tmp_path: Path) -> None:
    source = PLAIN + 'class Named(Plain):\n    feature_layer = "conv"\n'
    network = made(f"{package(tmp_path, source)}:Named", kind="relu")
    assert network(torch.rand(5, 1, 8, 8)).features.shape == (1, 5, 6, 8, 8)
    source = PLAIN + 'class Named(Plain):\n    feature_layer = "cnv"\n'
    with pytest.raises(UserError, match=r"feature_layer: no layer 'cnv' \(did you mean 'conv'\?\)"):
        made(f"{package(tmp_path, source)}:Named", kind="relu")


LATE = (
    PLAIN
    + """
class part(Plain):
    def forward(self, images):
        return super().forward(images).unsqueeze(1).repeat(1, 2, 1)
"""
)
WITHOUT_FORWARD = """
class part(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def part(layers, shape, classes): return 3", "expected a torch module, found int"),
        ("def part(layers, shape, classes): return nn.Identity()", "expected logits"),
        ("def part(layers): return tiny(layers, layers, 4)", "raises AttributeError"),
        ("def part(layers, shape, classes): return tiny(layers, shape, 7)", "classes: expected 4, found 7"),
        ("def part(shape, depth): ...", r"arguments\.depth: .* requires this argument"),
        (PLAIN + "part = Plain", "which has no time; unflatten .* set the module's time_loop"),
        (
            PLAIN + 'class part(Plain):\n    time_loop = "outsid"',
            "time_loop: expected one of inside, outside, sequence",
        ),
        (PLAIN + 'class part(Plain):\n    time_loop = "outside"', "no spiking layers are found"),
        (LATE, r"logits: expected \[T, B, K\] = \[2, 3, 4\] for 3 images, found \[3, 2, 4\]; time comes first"),
        (WITHOUT_FORWARD, 'missing the required "forward" function'),
    ],
)
def test_wrong_networks_are_one_line(source: str, words: str, tmp_path: Path) -> None:
    path = f"{package(tmp_path, source)}:part"
    with pytest.raises(UserError, match=words) as error:
        made(path)
    assert "\n" not in str(error.value)
    assert path in str(error.value)


def test_the_check_finds_what_only_a_run_shows(tmp_path: Path) -> None:
    view = PLAIN.replace("self.conv(images).relu().flatten(1)", "self.conv(images).relu().view(len(images), -1)")
    state = PLAIN.replace("return self.fc", "self.n = getattr(self, 'n', 0) + 1; return self.n * self.fc")
    unused = PLAIN.replace("self.conv, self.fc", "self.unused = nn.Linear(2, 2); self.conv, self.fc")
    for source, words in (
        (view, "channels-last"),
        (state, "give other logits when evaluated again"),
        (unused, "no gradient reaches module.unused.weight"),
    ):
        findings = check_part(f"{package(tmp_path, source)}:Plain", "teacher")
        assert words in findings[-1].found
        assert not findings[-1].ok
    assert all(one.ok for one in check_part(f"{package(tmp_path, PLAIN)}:Plain", "teacher"))
    assert all(one.ok for one in check_part(f"{package(tmp_path)}:tiny", "student"))


SNNTORCH = """
import snntorch
from snntorch import surrogate

class Dense(nn.Module):
    def __init__(self, channels, side, classes, steps, beta=0.9):
        super().__init__()
        spike = surrogate.atan()
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(channels * side * side, 32), snntorch.Leaky(beta=beta, spike_grad=spike)
        self.fc2, self.lif2 = nn.Linear(32, classes), snntorch.Leaky(beta=beta, spike_grad=spike)

    def forward(self, images):
        one, two, potentials = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(self.steps):
            spikes, one = self.lif1(self.fc1(images.flatten(1)), one)
            _, two = self.lif2(self.fc2(spikes), two)
            potentials.append(two)
        return torch.stack(potentials)

def convolutional(channels, side, classes, beta=0.5):
    options = {"beta": beta, "spike_grad": surrogate.fast_sigmoid(slope=25), "init_hidden": True}
    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.MaxPool2d(2), snntorch.Leaky(**options), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * (side // 2) ** 2, classes), snntorch.Leaky(**options))
"""


@pytest.mark.parametrize("name", ["Dense", "convolutional"])
def test_networks_of_snntorch_are_students(name: str, tmp_path: Path) -> None:
    import snntorch

    path, before = f"{package(tmp_path, SNNTORCH)}:{name}", len(snntorch.SpikingNeuron.instances)
    assert [one.found for one in check_part(path, "student") if not one.ok] == []
    assert len(snntorch.SpikingNeuron.instances) == before
    network = made(path, steps=3)
    data = random_data(SHAPE, 4)
    evaluation = evaluate(network, data.validation, data.mean, data.std)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(network.eval()(images).logits, network(images).logits)
    assert evaluation.rate is not None
    weighted = {name for name, m in network.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    assert evaluation.inputs.keys() == weighted
    assert len(network.spiking_layers()) == 2
