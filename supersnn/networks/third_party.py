"""Classifiers of torchvision and timm as artificial networks, with stem and head adapted to the data set.

The layers before a classifier's pooling become the body; pooling and read-out are this package's own.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.errors import UserError, nearest
from supersnn.networks.base import ImageShape, LayerFactory, Network, evaluating

_AFTER_BODY = ("avgpool", "classifier", "fc", "head", "heads")  # torchvision's names of the layers after the last map
_STEM_POOLS = ("maxpool", "maxpool1", "features.pool0")
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def require_in_torchvision(name: str) -> None:
    """Check that torchvision has a classifier of this name.

    Raises:
        UserError: it has none.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"'torchvision:{name}' is unknown{nearest(name, known)}")


def torchvision_network(
    name: str, layers: LayerFactory, shape: ImageShape, classes: int, keep_kernel: bool = False
) -> Network:
    """Return torchvision's classifier `name`, untrained, for images of this shape.

    Raises:
        UserError: it has no feature maps [B, C, H, W], or its maps shrink to nothing for images this small.
    """
    import torchvision

    options = {"aux_logits": False, "init_weights": True} if name in _WITH_AUXILIARY_HEADS else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    children = takewhile(lambda child: child[0] not in _AFTER_BODY, model.named_children())
    body = nn.Sequential()
    for child, module in children:
        body.add_module(child, module)
    if name.startswith("densenet"):
        body.append(nn.ReLU())  # torchvision applies it in `forward`
    last = body[-1]
    if isinstance(last, nn.Sequential) and isinstance(last[-1], nn.MaxPool2d):
        last[-1] = nn.Identity()  # global pooling follows
    return _adapted(f"torchvision:{name}", body, layers, shape, classes, keep_kernel)


def timm_network(
    name: str, layers: LayerFactory, shape: ImageShape, classes: int, keep_kernel: bool = False
) -> Network:
    """Return timm's classifier `name`, untrained, for images of this shape.

    Raises:
        UserError: timm is not installed or has no such classifier, and the reasons of `torchvision_network`.
    """
    try:
        import timm
    except ImportError:
        raise UserError(f"'timm:{name}' requires timm, which is not installed: pip install 'supersnn[timm]'") from None
    try:
        model = timm.create_model(name, pretrained=False, in_chans=shape.channels, num_classes=0)
    except RuntimeError as error:
        raise UserError(f"'timm:{name}': {error}") from error
    body = _Maps(model)
    network = _adapted(f"timm:{name}", body, layers, shape, classes, keep_kernel)
    body.drop_unused(_blank(shape))
    return network


class _Maps(nn.Module):
    """A timm classifier's `forward_features`, reduced to the children that it uses."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.forward_features(images)

    def drop_unused(self, images: Tensor) -> None:
        """Remove the children of the classifier that do not run when it computes the maps of these images."""
        used: set[nn.Module] = set()
        hooks = [module.register_forward_hook(lambda module, *_: used.add(module)) for module in self.modules()]
        with evaluating(self, hooks):
            self(images)
        for name, child in list(self.model.named_children()):
            if used.isdisjoint(child.modules()):
                setattr(self.model, name, nn.Identity())


def has_other_stem(network: Network, weights: Mapping[str, Tensor]) -> bool:
    """Return whether weights, under the library's names or this project's, have a stem of another size."""
    name, stem = first_convolution(network)
    own = f"{name}.weight"
    found = next(
        (weights[key] for key in (own, own.removeprefix("body."), own.removeprefix("body.model.")) if key in weights),
        None,
    )
    return found is not None and found.shape[2:] != stem.weight.shape[2:]


def first_convolution(module: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the first convolution of a classifier, with its name."""
    return next((name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d))


def _adapted(
    name: str, body: nn.Module, layers: LayerFactory, shape: ImageShape, classes: int, keep_kernel: bool
) -> Network:
    if layers.neuron.kind != "relu":
        raise UserError(f"{name!r} has no spiking form; expected neuron.kind: relu with it")
    _adapt_stem(body, shape.channels, layers.stem_stride(shape.side), keep_kernel)
    try:
        with torch.no_grad():
            maps = body.eval()(_blank(shape))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{name!r} does not support images of side {shape.side}: {reason}") from error
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        raise UserError(f"{name!r} has no feature map before its head; expected a convolutional network")
    return Network(1, nn.Identity(), nn.Identity(), body.train(), maps.shape[1], classes)


def _blank(shape: ImageShape) -> Tensor:
    return torch.zeros(1, shape.channels, shape.side, shape.side)


def _adapt_stem(body: nn.Module, channels: int, stride: int, keep_kernel: bool) -> None:
    """Replace the first convolution by one with this many input channels, and limit the stem's stride to `stride`.

    A convolution of a larger stride becomes a 3x3 one, unless its kernel is kept for weights of that size; a max
    pooling right after it is kept with `stride` 4 only. 2x2 max poolings round a map's side up, so that a side of 1
    stays 1.
    """
    modules = dict(body.named_modules())
    name, first = first_convolution(body)
    adapted: dict[str, Any] = {"kernel_size": 3, "stride": stride, "padding": 1}
    if first.stride[0] <= stride or keep_kernel:
        adapted = {key: getattr(first, key) for key in adapted}
        adapted["stride"] = min(first.stride[0], stride)
    body.set_submodule(name, nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **adapted))
    for name, module in modules.items():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = module.ceil_mode or module.kernel_size == 2
            if stride < 4 and name.removeprefix("model.") in _STEM_POOLS:
                body.set_submodule(name, nn.Identity())
