import contextlib
import io
import math
from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

from supersnn import checkpoint
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import training_data
from supersnn.export_formats import nir_format
from supersnn.export_formats.agreement import compare, run_student
from supersnn.export_formats.graph import UnsupportedLayerError, graph_of
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.sources.registry import read
from supersnn.training import train

Made = Callable[..., Network]
SHAPE = ImageShape(3, 16)


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "wrn16_2"])
def test_read_back_and_run_the_spikes_are_the_same(
    made: Made, images: Tensor, tmp_path: Path, architecture: str
) -> None:
    network = made(architecture, steps=3, kind="plif")
    nir_format.write(graph_of(network, SHAPE), tmp_path / "student.nir")
    agreement = compare(run_student(network, images), nir_format.run(tmp_path / "student.nir", images))
    assert agreement.within_tolerance(), agreement
    assert agreement.same_spikes >= 0.9 * agreement.images


def test_the_equation_is_ours(made: Made, tmp_path: Path) -> None:
    network = made("resnet8", steps=4)
    nir_format.write(graph_of(network, SHAPE), tmp_path / "student.nir")
    graph = nir.read(tmp_path / "student.nir")
    assert graph.metadata["time_steps"] == 4
    dt = graph.metadata["dt"]
    lifs = [node for node in graph.nodes.values() if isinstance(node, nir.LIF)]
    assert len(lifs) == len(network.spiking_layers())
    for node in lifs:
        assert np.allclose(1 - dt / node.tau, 0.37, rtol=1e-12)
        assert (node.r == 1).all()
        assert (node.v_leak == 0).all()
        assert (node.v_reset == 0).all()
        threshold = np.float32(0.6)
        assert (np.float32(node.v_threshold) < threshold).all()
        assert (np.nextafter(np.float32(node.v_threshold), np.float32(1)) == threshold).all()


def test_a_potential_at_the_threshold_spikes_as_ours_does() -> None:
    at = np.full((1,), np.nextafter(np.float32(0.6), np.float32(0)), dtype=np.float64)
    tau = np.full((1,), nir_format.DT / 0.5)
    node = nir.LIF(tau, tau / nir_format.DT, np.zeros(1), at, np.zeros(1))
    spikes, _ = nir_format._lif_step(node, torch.tensor([[0.6], [0.59999]]), 0.0, nir_format.DT)
    assert spikes.tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize(("neuron", "words"), [({"reset": "soft"}, "soft reset"), ({"kind": "relu"}, "rectifier")])
def test_what_nir_has_not_is_refused(made: Made, tmp_path: Path, neuron: dict[str, str], words: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"activation.*{words}"):
        nir_format.write(graph_of(made(**neuron), SHAPE), tmp_path / "student.nir")
    assert not (tmp_path / "student.nir").exists()


def trained(config: TrainConfig) -> tuple[Network, Tensor, Tensor]:
    """Return a student of digits, 500 normalised test images, and their labels."""
    data = training_data(config.dataset)
    *_, last = train(config, data)
    network = build(config.student, config.neuron, data.shape, 10).eval()
    network.load_state_dict(checkpoint.student_weights(last.snapshot()[0]))
    raw = read(config.dataset, "test")
    assert len(raw.pixels) >= 500
    return network, normalise(raw.pixels[:500], data.mean, data.std), raw.labels[:500]


def same_classes(network: Network, images: Tensor, labels: Tensor, answers: list[Tensor]) -> float:
    """Return the share of the images with the student's class, after checking that it has learned something."""
    with torch.no_grad():
        ours = network(images).logits.mean(0).argmax(1)
    assert (ours == labels).float().mean() > 0.3
    return float((torch.stack(answers).mean(0).argmax(1) == ours).float().mean())


ARCHITECTURES = ["resnet8", "vgg8", "wrn16_2"]
SHORT = {"dataset__test": 0.3, "dataset__images": 700}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_snntorch_runs_it_and_classifies_digits_the_same(
    configured: Callable[..., TrainConfig], tmp_path: Path, architecture: str
) -> None:
    from snntorch.import_nir import import_from_nir

    network, images, labels = trained(configured(**SHORT, student__architecture=architecture))
    for by_layer in (False, True):
        nir_format.write(graph_of(network, ImageShape(1, 8)), tmp_path / "student.nir", by_layer)
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            peer = import_from_nir(nir.read(tmp_path / "student.nir", type_check=not by_layer))
            answers = [peer(images)[0] for _ in range(network.steps)]
        assert same_classes(network, images, labels, answers) >= 0.99


@pytest.mark.filterwarnings("ignore")
def test_norse_runs_it_and_classifies_digits_the_same(configured: Callable[..., TrainConfig], tmp_path: Path) -> None:
    importer = pytest.importorskip("norse.torch.utils.import_nir")
    network, images, labels = trained(configured(**SHORT, student__architecture="vgg8"))
    nir_format.write(graph_of(network, ImageShape(1, 8)), tmp_path / "student.nir")
    peer = importer.from_nir(nir.read(tmp_path / "student.nir"), dt=nir_format.DT)
    answers, state = [], None
    with torch.no_grad():
        for _ in range(network.steps):
            answer, state = peer(images, state)
            answers.append(answer)
    assert same_classes(network, images, labels, answers) >= 0.99


@pytest.mark.filterwarnings("ignore")
def test_sinabs_runs_it_and_classifies_digits_the_same(configured: Callable[..., TrainConfig], tmp_path: Path) -> None:
    sinabs_nir = pytest.importorskip("sinabs.nir")
    import sinabs.activation
    import sinabs.layers

    config = configured(**SHORT, student__architecture="vgg8")
    network, images, labels = trained(config)
    nir_format.write(graph_of(network, ImageShape(1, 8)), tmp_path / "student.nir", by_layer=True)
    peer = sinabs_nir.from_nir(nir.read(tmp_path / "student.nir", type_check=False), batch_size=len(images))
    decay = config.neuron.decay
    for layer in peer.modules():  # its own conventions, see `nir_format`
        if isinstance(layer, sinabs.layers.LIF):
            layer.tau_mem.data.fill_(-1 / math.log(decay))
            layer.spike_threshold.data /= 1 - decay
            layer.reset_fn, layer.spike_fn = sinabs.activation.MembraneReset(), sinabs.activation.SingleSpike
    answers = []
    with torch.no_grad():
        for _ in range(network.steps):
            found = peer(images)
            answers.append(found[0] if isinstance(found, tuple) else found)
    assert same_classes(network, images, labels, answers) >= 0.99
