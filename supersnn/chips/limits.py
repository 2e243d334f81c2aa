"""The limits of neuromorphic chips, from their public documents: one table, `CHIPS`; no torch.

speck (SynSense Speck 2e and 2f)
    sinabs' documentation, "Overview", section "Chip resources" (layers, map sides, channels, kernel, stride, padding,
    pooling, 8-bit weights, 16-bit states, fan-out 2, entries of kernel memory), and its image "memory constraints",
    whose numbers are also those of sinabs' `DynapcnnConfigBuilder.get_constraints`; its `DynapcnnLayer.memory_summary`
    (kernel and neuron memory, with sides rounded up to powers of two); "Available network architecture"
    (one convolution, then neurons, then pooling, a core; shortcuts by hand only); "Available operations" (IF neurons
    with a constant leak, which is the bias; sum pooling); samna's documentation, "Speck 2e", section "CNN layer".

loihi2 (Intel)
    "Taking neuromorphic computing to the next level with Loihi 2", technology brief, 2021, table of Loihi and Loihi 2
    (128 cores, 8,192 neurons each, 120 million synapses, 192 KB a core, graded spikes). Lava's documentation of
    `lava.proc.dense` (weights of 8 bits), `lava.proc.conv` (a convolution connects neurons) and `lava.proc.lif` (one
    decay a layer, reset to zero).

spinnaker2 (TU Dresden, University of Manchester, SpiNNcloud)
    Gonzalez et al. 2024, "SpiNNaker2: a large-scale neuromorphic system for event-based and asynchronous machine
    learning", section "The SpiNNaker2 chip" (152 cores with 128 kB each). py-spinnaker2's user guide, "NIR", and its
    `s2_nir` (weights of 8 bits in -127 … 127, no two layers of weights in a row, reset to zero or by subtraction).
"""

from collections.abc import Mapping
from dataclasses import dataclass

KI = 1024


@dataclass(frozen=True)
class Core:
    """The memory of a core that holds one layer: entries for weights, and entries for neurons."""

    weights: int
    neurons: int


@dataclass(frozen=True)
class Chip:
    """The limits of one chip. None, or an empty tuple, where there is no such limit or none is published.

    Attributes:
        title: its name for people.
        unknown: limits that it has but that are not public.
        weight_bits: of a weight.
        layers: the cores, where each holds one layer; they differ in their memory.
        kernel, strides, padding: of a convolution, the same for both sides.
        channels: of a layer's output.
        input_side, map_side: of a layer's input and output, in pixels.
        windows: of pooling, which adds up spikes.
        fan_out: layers that one layer's spikes go to.
        cores, neurons_per_core: where a layer may take several cores.
        state_bytes, memory: bytes of a neuron's state, and of all cores.
        synapses: stored weights, of the chip.
        decay: whether neurons lose a share of their potential in every step, which may differ between layers.
        resets: the kinds of reset.
        bias: whether neurons receive a bias in every step.
        images: whether the first layer takes images instead of spikes.
        readout: whether the last layer needs no neurons.
        residual: whether the chip's tools map currents from several layers to the same neurons.
    """

    title: str
    unknown: tuple[str, ...]
    weight_bits: int
    layers: tuple[Core, ...] = ()
    kernel: int | None = None
    strides: tuple[int, ...] = ()
    padding: int | None = None
    channels: int | None = None
    input_side: int | None = None
    map_side: int | None = None
    windows: tuple[int, ...] = ()
    fan_out: int | None = None
    cores: int | None = None
    neurons_per_core: int | None = None
    state_bytes: int = 0
    memory: int | None = None
    synapses: int | None = None
    decay: bool = True
    resets: tuple[str, ...] = ("hard", "soft")
    bias: bool = True
    images: bool = True
    readout: bool = True
    residual: bool = True


CHIPS: Mapping[str, Chip] = {
    "speck": Chip(
        title="SynSense Speck 2",
        unknown=("events a second that a core takes",),
        weight_bits=8,
        layers=tuple(
            Core(weights * KI, neurons * KI)
            for weights, neurons in ((16, 64), (16, 64), (16, 64), (32, 32), (32, 32), (64, 16), (64, 16), (16, 16),
                                     (16, 16))
        ),
        kernel=16,
        strides=(1, 2, 4, 8),
        padding=7,
        channels=1024,
        input_side=128,
        map_side=64,
        windows=(1, 2, 4),
        fan_out=2,
        decay=False,
        bias=False,
        images=False,
        readout=False,
        residual=False,
    ),
    "loihi2": Chip(
        title="Intel Loihi 2",
        unknown=("fan-in and fan-out of a core", "kernel sizes and strides", "the memory of a neuron"),
        weight_bits=8,
        cores=128,
        neurons_per_core=8192,
        memory=128 * 192 * KI,
        synapses=120_000_000,
        resets=("hard",),
    ),
    "spinnaker2": Chip(
        title="SpiNNaker2",
        unknown=("neurons and synapses of a core", "kernel sizes and strides"),
        weight_bits=8,
        state_bytes=4,
        memory=152 * 128 * KI,
    ),
}  # fmt: skip
"""The chips by the name that `target` has."""
