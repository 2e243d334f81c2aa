"""An optimiser, a metric of an epoch, a sampler and a scheduler."""

from collections.abc import Callable, Iterable
from typing import Any

import optuna
import torch
from torch import Tensor

from supersnn.augment import normalise
from supersnn.data import Images, TrainingData
from supersnn.networks.base import Network


class Sign(torch.optim.Optimizer):
    """Steps of the sign of an averaged gradient."""

    def __init__(self, params: Iterable[Any], lr: float, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, _closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                state["steps"] = state.get("steps", 0) + 1
                average.mul_(group["beta"]).add_(parameter.grad, alpha=1 - group["beta"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(average.sign(), alpha=group["lr"])
        return None


def agreement(network: Network, images: Images, data: TrainingData) -> float:
    """Return the share of validation images whose class is the same after every time step."""
    classes = network(normalise(images.pixels, data.mean, data.std)).logits.cumsum(0).argmax(2)
    return float((classes == classes[-1]).all(0).float().mean())


class Halton(optuna.samplers.QMCSampler):
    """A Halton sequence."""

    def __init__(self, seed: int, scramble: bool = True) -> None:
        super().__init__(qmc_type="halton", seed=seed, scramble=scramble)


def patient(patience: int = 1) -> optuna.pruners.BasePruner:
    """Return a median pruner that waits."""
    return optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(n_startup_trials=2), patience=patience)
