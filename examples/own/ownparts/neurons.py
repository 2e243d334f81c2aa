"""A surrogate derivative, and a neuron whose threshold adapts."""

import torch
from torch import Tensor, nn

from supersnn.surrogates import surrogate as surrogate_of


def gaussian(x: Tensor, width: float) -> Tensor:
    """Return the density of a normal distribution with standard deviation `width` at x = u - θ."""
    return torch.exp(-0.5 * (x / width) ** 2) / (width * (2 * torch.pi) ** 0.5)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, name: str, width: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.options = name, width  # type: ignore[attr-defined]
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, of_spikes: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        name, width = ctx.options  # type: ignore[attr-defined]
        return of_spikes * surrogate_of(name)(x.clone(), width), None, None


class Adaptive(nn.Module):
    """Neurons whose threshold rises by `rise` with every spike, and falls back with the membrane's decay."""

    spiking = True

    def __init__(
        self, steps: int, threshold: float, decay: float, surrogate: str, width: float, rise: float = 0.1
    ) -> None:
        super().__init__()
        self.steps, self.threshold, self.decay, self.rise = steps, threshold, decay, rise
        self.surrogate, self.width = surrogate, width

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], or [B, ...] that are `constant` over time."""
        currents = [current] * self.steps if constant else list(current.unflatten(0, (self.steps, -1)))
        v, raised, spikes = torch.zeros_like(currents[0]), torch.zeros_like(currents[0]), []
        for i in currents:
            v = self.decay * v + i
            spike: Tensor = _Spike.apply(v - self.threshold - raised, self.surrogate, self.width)
            v, raised = v * (1 - spike), self.decay * raised + self.rise * spike.detach()
            spikes.append(spike)
        return torch.cat(spikes)
