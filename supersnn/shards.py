"""Shards of a batch, one per process, and the collectives with which they compute the gradient of the full batch.

Each process computes the loss of the full batch from all shards' outputs, and backpropagates through its own shard's.
In between only batch norms exchange values. The sum of the shards' gradients is then the gradient of the full batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shard:
    """This process's part of every batch: part `rank` of `count` equal parts, on `device`.

    With a `count` of 1 it is the full batch, and nothing is exchanged. Otherwise the processes of all shards must make
    the same calls in the same order, in torch's default process group.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    def part(self, batch: Tensor, dim: int = 0) -> Tensor:
        """Return this shard's part [..., B/count, ...] of a tensor [..., B, ...] that all processes have."""
        return batch.chunk(self.count, dim)[self.rank]

    def all_gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """Return the concatenation [..., B, ...] of all shards' parts; the gradient flows to this process's part only.

        That is correct where every process computes the same from the result, without further parameters.
        """
        if self.count == 1:
            return part
        gathered: Tensor = _AllGather.apply(part, dim, self)
        return gathered

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the shards, in one all-reduce."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view(gradient.shape))

    def convert_batch_norm(self, network: nn.Module) -> None:
        """Replace a network's batch norms by `SyncBatchNorm`; its state dict stays the same."""
        if self.count == 1:
            return
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                network.set_submodule(name, SyncBatchNorm(module, self))


class SyncBatchNorm(nn.BatchNorm2d):
    """A batch norm with the statistics of the full batch, over all shards.

    Unlike torch's own it also runs on CPUs.
    """

    def __init__(self, norm: nn.BatchNorm2d, shard: Shard) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.shard = shard

    def forward(self, x: Tensor) -> Tensor:
        """Return the shard x [N, C, H, W] normalised; in evaluation mode by the running moments."""
        if not self.training:
            return super().forward(x)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, self.shard)
        values = self.shard.count * x.numel() // x.shape[1]
        assert self.momentum is not None
        with torch.no_grad():
            for running, now in (self.running_mean, mean), (self.running_var, variance * (values / (values - 1))):
                assert running is not None
                running.lerp_(now, self.momentum)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
        return y


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, dim: int, shard: Shard) -> Tensor:
        ctx.dim, ctx.shard = dim, shard
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(shard.count)]
        distributed.all_gather(parts, part)
        return torch.cat(parts, dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_batch: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.shard.part(of_batch, ctx.dim), None, None


class _Normalise(torch.autograd.Function):
    """y = (x - mean) · scale + bias with scale = weight / √(variance + eps), and the moments over all shards.

    Backward, with n values of each channel in all shards and x̂ = (x - mean) / √(variance + eps):

        dx = scale · (dy - Σ dy / n - x̂ · Σ (dy · x̂) / n)        sums over all shards

    The gradients of weight and bias are those of this shard: `Shard.sum_gradients` adds all gradients up.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, shard: Shard) -> tuple[Tensor, ...]:
        own = torch.stack(torch.batch_norm_update_stats(x, None, None, 0.0))  # mean and variance, each [C]
        means, variances = shard.all_gather(own.unsqueeze(0)).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        y = nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.shard = eps, shard
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            of_y, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )  # with constant moments
        sums = torch.stack([of_weight, of_bias])
        distributed.all_reduce(sums)
        along, constant = sums / (ctx.shard.count * x.numel() // x.shape[1])
        deviation = (variance + ctx.eps).sqrt()
        slope = along * weight / deviation.square()
        offset = constant * weight / deviation - slope * mean
        of_x -= torch.addcmul(offset[:, None, None], slope[:, None, None], x)
        return of_x, of_weight, of_bias, None, None
