"""The benchmark for a GPU: its parts run on a CPU, at sizes that say nothing about speed."""

import torch

from benchmarks.gpu.__main__ import lines, measure
from benchmarks.gpu.parts import NEURON, Loop, build_student, reached
from benchmarks.gpu.setting import Setting, replace_neurons
from supersnn.neurons import LIF

SMALL = Setting(torch.device("cpu"), small=True, seconds=0.1)


def test_a_part_gives_rows_targets_and_a_table() -> None:
    document = measure(SMALL, ["ceilings"])
    assert document["parts"]["ceilings"]["rows"].keys() == {"copy, TB/s read and written", "bf16 product, TFLOP/s"}
    assert all(value > 0 for value in document["parts"]["ceilings"]["rows"].values())
    assert any("bf16 product" in line for line in lines(document))


def test_a_part_that_comes_too_late_is_named() -> None:
    document = measure(SMALL, ["ceilings"], minutes=-1.0)
    assert document["parts"]["ceilings"]["error"] == "not run: the time is over"
    assert any("ceilings failed: not run" in line for line in lines(document))


def test_targets_are_bounds() -> None:
    assert reached(5.9, "<= 6")
    assert not reached(6.1, "<= 6")
    assert reached(1.5, ">= 1.5")
    assert not reached(1.4, ">= 1.5")


def test_the_plain_loop_computes_what_our_neurons_compute() -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for plain in (False, True):
        network = build_student("resnet8", SMALL)
        if plain:
            replace_neurons(network, LIF, Loop)
        network(images).logits.mean(0).logsumexp(1).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert NEURON.surrogate == "atan"
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
