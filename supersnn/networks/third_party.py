"""Classifiers of torchvision and timm as artificial networks, their stem and head fitted to the data.

What stands before a classifier's pooling becomes the body; pooling and read-out are this package's own.
"""

import re
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.errors import UserError, nearest
from supersnn.networks.base import ImageShape, LayerFactory, Network

_AFTER_BODY = ("avgpool", "classifier", "fc", "head", "heads")  # torchvision's names of what follows the last map
_STEM_POOLS = ("maxpool", "maxpool1", "features.pool0")
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_FAMILIES = {"wide_resnet": "wrn", "resnet": "resnet", "vgg": "vgg"}


def third_party_family(library: str, name: str) -> str:
    """Return the family of a library's classifier: resnet, vgg or wrn, or the letters its name begins with.

    Raises:
        UserError: torchvision has no such classifier.
    """
    if library == "torchvision":
        _known_to_torchvision(name)
    for prefix, family in _FAMILIES.items():
        if name.startswith(prefix):
            return family
    letters = re.match(r"([a-z]+?)(?=v?\d|[^a-z]|$)", name)
    return letters.group(1) if letters else name


def torchvision_network(name: str, parts: LayerFactory, shape: ImageShape, classes: int) -> Network:
    """Return torchvision's classifier `name`, untrained, for images of this shape.

    Raises:
        UserError: there is no such classifier, it has no maps [B, C, H, W], or it cannot take images this small.
    """
    import torchvision

    _known_to_torchvision(name)
    options = {"aux_logits": False, "init_weights": True} if name in _WITH_AUXILIARY_HEADS else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    children = takewhile(lambda child: child[0] not in _AFTER_BODY, model.named_children())
    body = nn.Sequential()
    for child, module in children:
        body.add_module(child, module)
    if name.startswith("densenet"):
        body.append(nn.ReLU())  # a function of its own in torchvision's forward
    last = body[-1]
    if isinstance(last, nn.Sequential) and isinstance(last[-1], nn.MaxPool2d):
        last[-1] = nn.Identity()  # the global pooling follows
    return _fitted(f"torchvision:{name}", body, parts, shape, classes)


def timm_network(name: str, parts: LayerFactory, shape: ImageShape, classes: int) -> Network:
    """Return timm's classifier `name`, untrained, for images of this shape.

    Raises:
        UserError: timm is not installed, or has no such classifier, or as for `torchvision_network`.
    """
    try:
        import timm
    except ImportError:
        raise UserError(
            f"student.architecture: 'timm:{name}' needs the package timm: pip install 'supersnn[timm]'"
        ) from None
    try:
        model = timm.create_model(name, pretrained=False, in_chans=shape.channels, num_classes=0)
    except RuntimeError as error:
        raise UserError(f"student.architecture: 'timm:{name}': {error}") from error
    body = _Maps(model)
    network = _fitted(f"timm:{name}", body, parts, shape, classes)
    body.drop_unused(_blank(shape))
    return network


class _Maps(nn.Module):
    """A timm classifier up to its last map: `forward_features`, and only the parts that it uses."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.forward_features(images)

    def drop_unused(self, images: Tensor) -> None:
        """Drop the children of the classifier that its maps of these images do not need."""
        used: set[nn.Module] = set()
        hooks = [module.register_forward_hook(lambda module, *_: used.add(module)) for module in self.modules()]
        with torch.no_grad():
            self.eval()(images)
        for hook in hooks:
            hook.remove()
        for name, child in list(self.model.named_children()):
            if used.isdisjoint(child.modules()):
                setattr(self.model, name, nn.Identity())
        self.train()


def _known_to_torchvision(name: str) -> None:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"student.architecture: 'torchvision:{name}' is unknown{nearest(name, known)}")


def _fitted(name: str, body: nn.Module, parts: LayerFactory, shape: ImageShape, classes: int) -> Network:
    if parts.neuron.kind != "relu":
        raise UserError(f"student.architecture: {name!r} has no spiking form; expected neuron.kind: relu with it")
    _fit_stem(body, shape.channels, parts.stem_stride(shape.side))
    try:
        with torch.no_grad():
            maps = body.eval()(_blank(shape))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"student.architecture: {name!r} cannot be fitted to images of side {shape.side}: {reason}"
        ) from error
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        raise UserError(
            f"student.architecture: {name!r} has no feature map before its head; expected a convolutional one"
        )
    return Network(1, nn.Identity(), nn.Identity(), body.train(), maps.shape[1], classes)


def _blank(shape: ImageShape) -> Tensor:
    return torch.zeros(1, shape.channels, shape.side, shape.side)


def _fit_stem(body: nn.Module, channels: int, stride: int) -> None:
    """Make the first convolution take so many channels, and the stem reduce the side no more than `stride` times.

    A convolution of a larger stride becomes one of 3x3; a pooling right behind it stays at stride 4 only. A 2x2
    max pooling keeps the rest of a map that it does not divide, so that a side of 1 stays 1.
    """
    modules = dict(body.named_modules())
    name, first = next((name, module) for name, module in modules.items() if isinstance(module, nn.Conv2d))
    fitted: dict[str, Any] = {"kernel_size": 3, "stride": stride, "padding": 1}
    if first.stride[0] <= stride:
        fitted = {key: getattr(first, key) for key in fitted}
    body.set_submodule(name, nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **fitted))
    for name, module in modules.items():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = module.ceil_mode or module.kernel_size == 2
            if stride < 4 and name.removeprefix("model.") in _STEM_POOLS:
                body.set_submodule(name, nn.Identity())
