import contextlib
import io
import math
from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supersnn import checkpoint
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import training_data
from supersnn.export_formats import nir_format
from supersnn.export_formats.agreement import Run, compare, run_student
from supersnn.export_formats.graph import AveragePool, Graph, SumPool, UnsupportedLayerError, graph_of
from supersnn.export_formats.portable import without_averages
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.neurons import LIF
from supersnn.sources.registry import read
from supersnn.training import train

Made = Callable[..., Network]
Odd = tuple[Network, Tensor, ImageShape]
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


def test_poolings_that_leave_out_rows_are_no_poolings_either(
    odd: Odd, run_slowly: Callable[[Graph, Tensor], Run], tmp_path: Path
) -> None:
    network, images, shape = odd
    graph = graph_of(network, shape)
    portable = without_averages(graph)
    assert [node.layer for node in portable.nodes.values() if isinstance(node.layer, AveragePool | SumPool)] == [
        SumPool((2, 2), (2, 2)),
        SumPool((2, 2), (2, 2)),
    ]
    expected = run_student(network, images)
    assert compare(expected, run_slowly(portable, images)).within_tolerance()
    nir_format.write(graph, tmp_path / "student.nir")
    assert not any("Pool" in type(node).__name__ for node in nir.read(tmp_path / "student.nir").nodes.values())
    agreement = compare(expected, nir_format.run(tmp_path / "student.nir", images))
    assert agreement.within_tolerance(), agreement
    assert agreement.same_spikes >= 0.9 * agreement.images


def pooled(*after: nn.Module) -> Network:
    """Return a small network with these layers between two layers of neurons."""
    torch.manual_seed(2)
    body = nn.Sequential(*after, LIF(2, 0.2, 0.5))
    return Network(2, nn.Conv2d(3, 8, 3, 1, 1), LIF(2, 0.2, 0.5), body, 8, 5).eval()


@pytest.mark.parametrize("pool", [nn.AvgPool2d(3, 2), nn.AvgPool2d(2, 1), nn.AvgPool2d(3)])
def test_a_pooling_of_other_windows_is_a_sum(
    run_slowly: Callable[[Graph, Tensor], Run], images: Tensor, tmp_path: Path, pool: nn.Module
) -> None:
    network = pooled(pool, nn.Conv2d(8, 8, 3, padding=1))
    graph, expected = graph_of(network, SHAPE), run_student(network, images)
    portable = without_averages(graph)
    assert [type(node.layer) for node in portable.nodes.values()].count(SumPool) == 1
    assert compare(expected, run_slowly(portable, images)).within_tolerance()
    nir_format.write(graph, tmp_path / "student.nir")
    assert compare(expected, nir_format.run(tmp_path / "student.nir", images)).within_tolerance()


def test_an_average_that_neurons_read_is_a_convolution(images: Tensor, tmp_path: Path) -> None:
    network = pooled(nn.Conv2d(8, 8, 3), nn.AvgPool2d(2))
    nir_format.write(graph_of(network, SHAPE), tmp_path / "student.nir")
    assert not any("Pool" in type(node).__name__ for node in nir.read(tmp_path / "student.nir").nodes.values())
    expected = run_student(network, images)
    assert compare(expected, nir_format.run(tmp_path / "student.nir", images)).within_tolerance()


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


def by_snntorch(path: Path, images: Tensor, steps: int, _decay: float) -> list[Tensor]:
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        peer = import_from_nir(nir.read(path, type_check="by-layer" not in path.name))
        return [peer(images)[0] for _ in range(steps)]


def by_norse(path: Path, images: Tensor, steps: int, _decay: float) -> list[Tensor]:
    importer = pytest.importorskip("norse.torch.utils.import_nir")
    peer = importer.from_nir(nir.read(path), dt=nir_format.DT)
    answers, state = [], None
    with torch.no_grad():
        for _ in range(steps):
            answer, state = peer(images, state)
            answers.append(answer)
    return answers


def by_sinabs(path: Path, images: Tensor, steps: int, decay: float) -> list[Tensor]:
    sinabs_nir = pytest.importorskip("sinabs.nir")
    import sinabs.activation
    import sinabs.layers

    peer = sinabs_nir.from_nir(nir.read(path, type_check=False), batch_size=len(images))
    for layer in peer.modules():  # its own conventions, see `nir_format`
        if isinstance(layer, sinabs.layers.LIF):
            layer.tau_mem.data.fill_(-1 / math.log(decay))
            layer.spike_threshold.data /= 1 - decay
            layer.reset_fn, layer.spike_fn = sinabs.activation.MembraneReset(), sinabs.activation.SingleSpike
    answers = []
    with torch.no_grad():
        for _ in range(steps):
            found = peer(images)
            answers.append(found[0] if isinstance(found, tuple) else found)
    return answers


ARCHITECTURES = ["resnet8", "vgg8", "wrn16_2"]
SHORT = {"dataset__test": 0.3, "dataset__images": 700}
PEERS = {"snntorch": by_snntorch, "norse": by_norse, "sinabs": by_sinabs}


def written(network: Network, shape: ImageShape, folder: Path, by_layer: bool) -> Path:
    path = folder / ("by-layer.nir" if by_layer else "student.nir")
    nir_format.write(graph_of(network, shape), path, by_layer)
    return path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_snntorch_runs_it_and_classifies_digits_the_same(
    configured: Callable[..., TrainConfig], tmp_path: Path, architecture: str
) -> None:
    network, images, labels = trained(configured(**SHORT, student__architecture=architecture))
    for by_layer in (False, True):
        answers = by_snntorch(written(network, ImageShape(1, 8), tmp_path, by_layer), images, network.steps, 0.5)
        assert same_classes(network, images, labels, answers) >= 0.99


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", ["norse", "sinabs"])
def test_others_run_it_and_classify_digits_the_same(
    configured: Callable[..., TrainConfig], tmp_path: Path, peer: str
) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed: make install-test")
    config = configured(**SHORT, student__architecture="vgg8")
    network, images, labels = trained(config)
    path = written(network, ImageShape(1, 8), tmp_path, by_layer=peer == "sinabs")
    answers = PEERS[peer](path, images, network.steps, config.neuron.decay)
    assert same_classes(network, images, labels, answers) >= 0.99


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", PEERS)
def test_all_of_them_read_poolings_that_leave_out_rows(odd: Odd, tmp_path: Path, peer: str) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed: make install-test")
    network, images, shape = odd
    expected = run_student(network, images)
    answers = PEERS[peer](written(network, shape, tmp_path, peer == "sinabs"), images, 3, 0.37)
    difference = (torch.stack(answers).mean(0) - expected.logits).abs().amax(1)
    assert (difference < 1e-3).float().mean() >= 0.9, "rounding may change a spike, and with it an image's logits"
    assert expected.logits.std() > 0.01
