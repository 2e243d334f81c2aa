"""The numbers that change from step to step of a training: learning rate, and what else has a schedule.

A step reads them as numbers, or as tensors on its device, so that every step is the same work.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from supersnn.averaging import share_of_step
from supersnn.config import TrainConfig
from supersnn.optimisation import learning_rate, rate_tensor
from supersnn.relation_loss import weight_factor

RATE, RELATION, AVERAGE = "rate", "relation", "average"
StepValues = Mapping[str, float | Tensor]


def step_values(config: TrainConfig, step: int, steps: int) -> dict[str, float]:
    """Return the numbers of a step, counted from 0, of a training of so many steps.

    `RATE`: the learning rate. `RELATION`: the weight of the relational term, where it has a schedule. `AVERAGE`: the
    share of the new weights in their moving average, where there is one.
    """
    values = {RATE: learning_rate(config.optimizer, step, steps)}
    relation = config.loss.relation
    if relation.weight > 0 and relation.schedule != "constant":
        values[RELATION] = weight_factor(relation.schedule, step / steps) * relation.weight
    if config.optimizer.ema:
        values[AVERAGE] = share_of_step(config.optimizer.ema, step)
    return values


def value_tensors(config: TrainConfig, device: torch.device) -> dict[str, Tensor]:
    """Return a 0-dimensional tensor on a device for each number of a step, in the precision of what it multiplies."""
    others = dict.fromkeys(step_values(config, 0, 1).keys() - {RATE})
    return {RATE: rate_tensor(device)} | {name: torch.zeros((), device=device) for name in others}
