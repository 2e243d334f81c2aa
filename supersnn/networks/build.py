"""Networks by the name of their architecture."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from supersnn import parts
from supersnn.config import NetworkConfig, NeuronConfig, TrainConfig
from supersnn.errors import UserError, nearest
from supersnn.networks import own
from supersnn.networks.base import ImageShape, LayerFactory, Network
from supersnn.networks.resnet import resnet
from supersnn.networks.third_party import (
    has_other_stem,
    require_in_torchvision,
    timm_network,
    torchvision_network,
)
from supersnn.networks.vgg import vgg
from supersnn.networks.wide_resnet import wide_resnet
from supersnn.parts import is_import_path
from supersnn.records import pairing

Constructor = Callable[[LayerFactory, ImageShape, int], Network]

NARROW = (16, 32, 64)
WIDE = (64, 128, 256, 512)

ARCHITECTURES: dict[str, Constructor] = {
    "resnet8": partial(resnet, widths=NARROW, blocks=(1, 1, 1)),
    "resnet14": partial(resnet, widths=NARROW, blocks=(2, 2, 2)),
    "resnet20": partial(resnet, widths=NARROW, blocks=(3, 3, 3)),
    "resnet32": partial(resnet, widths=NARROW, blocks=(5, 5, 5)),
    "resnet18": partial(resnet, widths=WIDE, blocks=(2, 2, 2, 2)),
    "resnet19": partial(resnet, widths=(128, 256, 512), blocks=(3, 3, 2)),
    "resnet19_tdbn": partial(resnet, widths=(128, 256, 512), blocks=(3, 3, 2), hidden=256),
    "resnet19_tet": partial(resnet, widths=(128, 256, 512), blocks=(3, 3, 2), stem_width=64, hidden=256),
    "resnet34": partial(resnet, widths=WIDE, blocks=(3, 4, 6, 3)),
    "vgg8": partial(vgg, stages=((64,), (128,), (256,), (512,), (512,))),
    "vgg11": partial(vgg, stages=((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)),
    "vgg16": partial(vgg, stages=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)),
    "wrn16_2": partial(wide_resnet, depth=16, widen=2),
    "wrn28_4": partial(wide_resnet, depth=28, widen=4),
}
"""This package's own architectures.

ResNet-19 was published twice for spiking networks, both with a layer of 256 neurons before the last one: with a stem of
128 channels (tdBN, Zheng et al. 2021) and of 64 (TET, Deng et al. 2022). `resnet19` is the former without that layer.
`supersnn.records.pairing.family` derives the family from the name."""

LIBRARIES: dict[str, Callable[..., Network]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
}
"""Constructors of third-party architectures, by the prefix of their names."""


def require_known(architecture: str) -> None:
    """Check that there is an architecture of this name; names of timm's are checked by `build`.

    Raises:
        UserError: neither this package nor torchvision has it, or it is an import path of nothing.
    """
    if is_import_path(architecture):
        own.family_of(architecture)
        parts.function(architecture)
        return
    library, name = _split(architecture)
    if library == "torchvision":
        require_in_torchvision(name)
    elif library is None and name not in ARCHITECTURES:
        known = f"; known: {', '.join(ARCHITECTURES)}, torchvision:NAME, timm:NAME, MODULE:ATTRIBUTE"
        raise UserError(f"{name!r} is unknown{nearest(name, ARCHITECTURES) or known}")


def family(architecture: str) -> str:
    """Return the family of an architecture: what one of your own declares, else what its name says.

    Raises:
        UserError: it is an import path of nothing.
    """
    return own.family_of(architecture) if is_import_path(architecture) else pairing.family(architecture)


def library_of(architecture: str) -> str | None:
    """Return the library that an architecture is of, None for this package's and for import paths."""
    return _split(architecture)[0]


def build(
    config: NetworkConfig,
    neuron: NeuronConfig,
    shape: ImageShape,
    classes: int,
    weights: Mapping[str, Tensor] | None = None,
) -> Network:
    """Return a network with new weights: artificial if `neuron.kind` is ``relu``, else spiking.

    `config.architecture` is one of `ARCHITECTURES`, or ``torchvision:NAME`` or ``timm:NAME``, which are artificial
    only, or an import path (`supersnn.networks.own`). The weights are drawn from torch's global generator, which the
    caller seeds. The stem of a third-party architecture is adapted to the images; of `weights` that have the library's
    own kernel it keeps that.

    Raises:
        UserError: the architecture is unknown, or does not support the neuron or the images' size. The text names no
            configuration key: callers add it with `errors.prefix_errors`.
    """
    require_known(config.architecture)
    layers = LayerFactory(config, neuron)
    if is_import_path(config.architecture):
        return own.own_network(config.architecture, layers, shape, classes, config.arguments)
    library, name = _split(config.architecture)
    if library is not None:
        network = LIBRARIES[library](name, layers, shape, classes)
        if weights is not None and has_other_stem(network, weights):
            return LIBRARIES[library](name, layers, shape, classes, keep_kernel=True)
        return network
    return ARCHITECTURES[name](layers, shape, classes)


def require_buildable(config: NetworkConfig, neuron: NeuronConfig, shape: ImageShape, classes: int) -> None:
    """Check that `build` returns a network for these arguments, in little time and memory.

    Raises:
        UserError: see `build`.
    """
    with torch.random.fork_rng([]), torch.device("meta"):
        build(config, neuron, shape, classes)


def build_trained(config: TrainConfig, shape: ImageShape, classes: int, weights: Mapping[str, Tensor]) -> Network:
    """Return the frozen network of a training with stored weights, on the CPU, in evaluation mode.

    torch's global generator keeps its state.

    Raises:
        UserError: see `build`.
        RuntimeError: the weights belong to another network.
    """
    with torch.random.fork_rng([]):
        network = build(config.student, config.neuron, shape, classes, weights)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _split(architecture: str) -> tuple[str | None, str]:
    """Return the library and the name in it; None for an architecture of this package."""
    library, colon, name = architecture.partition(":")
    return (library, name) if colon and library in LIBRARIES else (None, architecture)
