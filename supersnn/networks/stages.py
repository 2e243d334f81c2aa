"""The maps inside a network that relations are compared on: the ends of its stages, and the currents of their neurons.

A stage is a run of layers of the body whose maps have one side. Stages are counted from the end, so that students and
teachers of any depth correspond: `last` is the body's output, `last-1` the last map before the side changed to that of
the last stage, and so on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from supersnn.errors import UserError
from supersnn.layer_names import stages_back
from supersnn.networks.base import Network, evaluating
from supersnn.neurons import LIF


@dataclass(frozen=True)
class Stage:
    """One stage: the module that returns its last map, and its last spiking layer; None without one."""

    end: str
    neurons: str | None


def stages(network: Network, image: Tensor) -> list[Stage]:
    """Return a network's stages, the first one first; the network's mode is restored.

    Args:
        network: its weights and statistics do not change.
        image: any image [1, C, H, W] of the network's shape, on its device.
    """
    seen: list[tuple[str, int | None]] = []  # modules in the order they ran, with the side of a map; None for neurons
    names = {module: name for name, module in network.named_modules()}

    def ran(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            seen.append((names[module], output.shape[-1]))

    hooks = [  # first, because neurons may themselves end a stage
        module.register_forward_hook(lambda module, *_: seen.append((names[module], None)))
        for name, module in network.spiking_layers().items()
        if name.startswith("body.")
    ]
    hooks += [module.register_forward_hook(ran) for module in _candidates(network.body)]
    with evaluating(network, hooks):
        network(image)
    return list(_grouped(seen))


def _candidates(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that may end a stage: the elements of sequences, or the children of the body as a whole."""
    children = list(module.children())
    if len(children) == 1 and not isinstance(module, nn.Sequential):
        children = list(children[0].children())
    for child in children:
        if isinstance(child, nn.Sequential):
            yield from _candidates(child)
        else:
            yield child


def _grouped(seen: Sequence[tuple[str, int | None]]) -> Iterator[Stage]:
    end, side, neurons = "", None, None
    before: str | None = None  # neurons that ran since the last map, which belong to the next one
    for name, own in seen:
        if own is None:
            before = name
            continue
        if side is not None and own != side:
            yield Stage(end, neurons)
            neurons = None
        end, side, neurons, before = name, own, before or neurons, None
    yield Stage(end, before or neurons)


def find(found: Sequence[Stage], layer: str, what: str) -> Stage:
    """Return the stage of a layer's name.

    Raises:
        UserError: the network has fewer stages; `what` names it.
    """
    back = stages_back(layer)
    if back >= len(found):
        raise UserError(
            f"loss.relation.layers: {what} has {len(found)} stages for images of this size, none of them {layer!r}"
        )
    return found[-1 - back]


class Taps:
    """The maps of some layers in a network's latest forward pass; `take` returns them once.

    With `currents` these are the input currents of each stage's last spiking layer, which keeps its own copy, because
    neurons overwrite their input. `what` names the network in errors.

    Raises:
        UserError: the network has fewer stages.
    """

    def __init__(
        self,
        network: Network,
        image: Tensor,
        layers: Sequence[str],
        currents: bool = False,
        what: str = "the student",
    ) -> None:
        self._maps: dict[str, Tensor] = {}
        self._hooks = []
        found = stages(network, image)
        for layer in layers:
            stage = find(found, layer, what)
            if currents:
                if stage.neurons is None:
                    raise UserError(f"loss.relation.signal: the stage {layer!r} has no spiking layer, and no currents")
                module = network.get_submodule(stage.neurons)
                assert isinstance(module, LIF)
                self._hooks.append(module.register_forward_pre_hook(self._before(layer, network.steps)))
            else:
                hook = self._after(layer, network.steps)
                self._hooks.append(network.get_submodule(stage.end).register_forward_hook(hook))

    def _before(self, layer: str, steps: int) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            self._maps[layer] = inputs[0].unflatten(0, (steps, -1))
            return (inputs[0].clone(), *inputs[1:])

        return keep

    def _after(self, layer: str, steps: int) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._maps[layer] = output.unflatten(0, (steps, -1))

        return keep

    def take(self) -> dict[str, Tensor]:
        """Return the maps [T, B, C, H, W] of the latest forward pass by layer, and forget them."""
        maps, self._maps = self._maps, {}
        return maps

    def remove(self) -> None:
        """Remove the hooks from the network."""
        for hook in self._hooks:
            hook.remove()
