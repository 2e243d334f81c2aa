"""Names of architectures, and the networks they stand for."""

from collections.abc import Callable
from functools import partial

from supersnn.config import NeuronConfig, StudentConfig
from supersnn.errors import UserError, nearest
from supersnn.networks.base import ImageShape, LayerFactory, Network
from supersnn.networks.resnet import resnet
from supersnn.networks.third_party import third_party_family, timm_network, torchvision_network
from supersnn.networks.vgg import vgg
from supersnn.networks.wide_resnet import wide_resnet

Constructor = Callable[[LayerFactory, ImageShape, int], Network]

NARROW = (16, 32, 64)
WIDE = (64, 128, 256, 512)

ARCHITECTURES: dict[str, tuple[str, Constructor]] = {
    "resnet8": ("resnet", partial(resnet, widths=NARROW, blocks=(1, 1, 1))),
    "resnet14": ("resnet", partial(resnet, widths=NARROW, blocks=(2, 2, 2))),
    "resnet20": ("resnet", partial(resnet, widths=NARROW, blocks=(3, 3, 3))),
    "resnet32": ("resnet", partial(resnet, widths=NARROW, blocks=(5, 5, 5))),
    "resnet18": ("resnet", partial(resnet, widths=WIDE, blocks=(2, 2, 2, 2))),
    "resnet19": ("resnet", partial(resnet, widths=(128, 256, 512), blocks=(3, 3, 2))),
    "resnet34": ("resnet", partial(resnet, widths=WIDE, blocks=(3, 4, 6, 3))),
    "vgg8": ("vgg", partial(vgg, stages=((64,), (128,), (256,), (512,), (512,)))),
    "vgg11": ("vgg", partial(vgg, stages=((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2))),
    "vgg16": ("vgg", partial(vgg, stages=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))),
    "wrn16_2": ("wrn", partial(wide_resnet, depth=16, widen=2)),
    "wrn28_4": ("wrn", partial(wide_resnet, depth=28, widen=4)),
}


LIBRARIES: dict[str, Callable[[str, LayerFactory, ImageShape, int], Network]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
}


def family(name: str) -> str:
    """Return the family of an architecture: two of one family make a homogeneous pairing.

    Raises:
        UserError: there is no such architecture.
    """
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        return third_party_family(library, rest)
    return _own(name)[0]


def build(student: StudentConfig, neuron: NeuronConfig, shape: ImageShape, classes: int) -> Network:
    """Return the network of `student.architecture`, with ReLU if `neuron.kind` is ``relu``, else spiking.

    The name is one of `ARCHITECTURES`, or ``torchvision:NAME`` or ``timm:NAME``, which only have ReLU. The
    weights come from torch's global generator: the caller seeds it.

    Raises:
        UserError: there is no such architecture, or it does not fit the neuron or the images.
    """
    parts = LayerFactory(student, neuron)
    library, colon, rest = student.architecture.partition(":")
    if colon and library in LIBRARIES:
        return LIBRARIES[library](rest, parts, shape, classes)
    return _own(student.architecture)[1](parts, shape, classes)


def _own(name: str) -> tuple[str, Constructor]:
    if name not in ARCHITECTURES:
        hint = nearest(name, ARCHITECTURES) or f"; known: {', '.join(ARCHITECTURES)}, torchvision:NAME, timm:NAME"
        raise UserError(f"student.architecture: {name!r} is unknown{hint}")
    return ARCHITECTURES[name]
