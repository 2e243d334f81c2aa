"""An adapter for plain modules: any classifier, with neurons of this package, spikingjelly, snntorch or norse, or none.

How a module goes over time is its attribute `time_loop`, or found from its neurons:

inside      it takes images [B, C, H, W] once, and returns logits [T, B, K]
outside     it is called at each step, and returns logits [B, K]; its neurons keep their state in between
sequence    it takes [T, B, C, H, W], and returns [T, B, K]

The feature maps are the outputs of the layer that its attribute `feature_layer` names; without one, the inputs of its
last linear layer, as maps of one pixel. Its neurons are reset before and after every batch.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supersnn.errors import UserError, nearest
from supersnn.networks.base import ImageShape, Network, Output, evaluating

TimeLoop = Literal["inside", "outside", "sequence"]
_LOOPS: tuple[TimeLoop, ...] = ("inside", "outside", "sequence")


class AdaptedNetwork(Network):
    """A plain module as a `Network`; its parameters have the prefix ``module.``."""

    def __init__(self, path: str, module: nn.Module, steps: int, shape: ImageShape) -> None:
        nn.Module.__init__(self)
        self._path, self.steps = path, steps
        self.module = module
        self.time_loop = time_loop(path, module, steps)
        _forget_instances(module)
        self._kept: list[Tensor] = []
        layer = self._feature_layer(shape)
        if layer is not None:
            named = getattr(module, "feature_layer", None) is not None
            layer.register_forward_hook(self._keep_output) if named else layer.register_forward_pre_hook(
                self._keep_input
            )
        output = self._probe(shape)
        self.channels, self.classes = output.features.shape[2], output.logits.shape[2]

    def forward(self, images: Tensor) -> Output:
        """Return the outputs for images [B, C, H, W] or event frames [T, B, C, H, W]."""
        batch = images.shape[-4]
        _reset(self.module)
        self._kept.clear()
        found = self._run(images)
        logits, features = _parts(found)
        logits = self._in_time(logits, batch, "logits")
        if features is None:
            features = self._maps(batch) if self._kept else logits
        if features.dim() == 3:
            features = features[..., None, None]
        self._kept.clear()
        _reset(self.module)
        return Output(logits, features)

    def _run(self, images: Tensor) -> Any:
        """Return the module's outputs; those of single steps are stacked."""
        frames = images.dim() == 5
        if self.time_loop == "inside":
            return self.module(images)
        if self.time_loop == "sequence":
            return self.module(images if frames else images.unsqueeze(0).expand(self.steps, *images.shape))
        found, state = [], None
        with_state = any(_library(module) == "norse" for module in self.module.modules())
        for step in range(self.steps):
            image = images[step] if frames else images
            if with_state:
                output, state = self.module(image, state)
            else:
                output = _parts(self.module(image))[0]
            found.append(output)
        return torch.stack(found)

    def _in_time(self, values: Tensor, batch: int, name: str) -> Tensor:
        """Return values as [T, B, ...]; the network of one step may leave out its time."""
        if values.dim() == 2 and self.steps == 1 and len(values) == batch:
            return values.unsqueeze(0)
        if name == "logits" and values.dim() == 2 and len(values) == batch:
            raise UserError(
                f"{self._path!r}: logits: expected [T, B, K], found {list(values.shape)}, which has no time; unflatten "
                f"[T·B, K] to [T, B, K], set the module's time_loop to one of {', '.join(_LOOPS)}, or "
                "student.time_steps to 1"
            )
        return values

    def _maps(self, batch: int) -> Tensor:
        """Return what was kept of the feature layer as [T, B, ...]."""
        kept = torch.stack(self._kept) if len(self._kept) > 1 else self._kept[0]
        if len(self._kept) == 1 and kept.shape[:2] != (self.steps, batch):
            if len(kept) == batch:
                kept = kept.unsqueeze(0).expand(self.steps, *kept.shape)
            else:
                kept = kept.unflatten(0, (self.steps, -1))
        return kept if kept.dim() == 5 else kept.flatten(2)

    def _feature_layer(self, shape: ImageShape) -> nn.Module | None:
        """Return the layer that the module names, else the last linear layer that runs; None without one."""
        named = getattr(self.module, "feature_layer", None)
        if named is not None:
            layers = dict(self.module.named_modules())
            if named not in layers:
                raise UserError(f"{self._path!r}: feature_layer: no layer {named!r}{nearest(str(named), layers)}")
            return layers[named]
        ran: list[nn.Module] = []
        linear = [layer for layer in self.module.modules() if isinstance(layer, nn.Linear)]
        hooks = [layer.register_forward_hook(lambda layer, *_: ran.append(layer)) for layer in linear]
        with evaluating(self, hooks):
            self._probe(shape)
        return ran[-1] if ran else None

    def _probe(self, shape: ImageShape) -> Output:
        """Return the outputs for two blank images, in evaluation mode."""
        with evaluating(self):
            output: Output = self(torch.zeros(2, shape.channels, shape.side, shape.side))
        if output.logits.dim() != 3 or output.features.dim() != 5:
            logits, features = list(output.logits.shape), list(output.features.shape)
            raise UserError(
                f"{self._path!r}: expected logits [T, B, K] and features [T, B, C, H, W], found {logits} and {features}"
            )
        return output

    def _keep_input(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._kept.append(inputs[0])

    def _keep_output(self, _layer: nn.Module, _inputs: object, output: Any) -> None:
        self._kept.append(_parts(output)[0])


def time_loop(path: str, module: nn.Module, steps: int) -> TimeLoop:
    """Return how a module goes over time: what it says, else what its neurons are made for.

    Raises:
        UserError: it says something unknown.
    """
    said = getattr(module, "time_loop", None)
    if said is not None:
        if said not in _LOOPS:
            raise UserError(f"{path!r}: time_loop: expected one of {', '.join(_LOOPS)}, found {said!r}")
        return said
    for layer in module.modules():
        if _library(layer) == "spikingjelly":
            return "sequence" if getattr(layer, "step_mode", "s") == "m" else "outside"
        if _library(layer) == "snntorch" and getattr(layer, "init_hidden", False):
            return "outside"
    if _library(module) == "norse":
        return "outside"  # a `SequentialState`
    return "inside" if steps > 1 else "outside"


def _library(module: nn.Module) -> str:
    return type(module).__module__.partition(".")[0]


def _parts(output: Any) -> tuple[Tensor, Tensor | None]:
    """Return logits and feature maps of a module's output; the state that some return beside the spikes is left out."""
    if isinstance(output, Tensor):
        return output, None
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        second = output[1] if len(output) > 1 else None
        return output[0], second if isinstance(second, Tensor) and second.dim() == 5 else None
    raise UserError(f"expected a tensor, or a tuple that begins with one, found {type(output).__name__}")


def _neurons(module: nn.Module) -> Iterator[Any]:
    return (layer for layer in module.modules() if _library(layer) in ("spikingjelly", "snntorch"))


def _reset(module: nn.Module) -> None:
    """Bring neurons that keep a state back to rest."""
    for layer in _neurons(module):
        if _library(layer) == "spikingjelly" and hasattr(layer, "reset"):
            layer.reset()
        elif getattr(layer, "init_hidden", False):
            for name in ("reset_mem", "reset_hidden"):
                if hasattr(layer, name):
                    getattr(layer, name)()
                    break


def _forget_instances(module: nn.Module) -> None:
    """Remove the neurons from snntorch's list of all neurons, which would keep every network of a sweep in memory."""
    for layer in _neurons(module):
        instances = getattr(type(layer), "instances", None)
        if isinstance(instances, list):
            instances[:] = [other for other in instances if other is not layer]
