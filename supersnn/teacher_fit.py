"""Fitting an imported teacher on the train split: a new head on the frozen body, or the whole network."""

import time
from collections.abc import Callable
from typing import Literal

import torch

from supersnn.augment import Normaliser
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.logit_losses import label_loss
from supersnn.networks.base import Network
from supersnn.numerics import gpu_precision, numerics
from supersnn.optimisation import learning_rate, optimiser
from supersnn.randomness import permutation
from supersnn.views import augmented, targets, view_of

_ORDER = 9  # stream of the teacher's seed
Fit = Literal["head", "all"]


def fit(
    network: Network,
    what: Fit,
    config: TrainConfig,
    data: TrainingData,
    device: torch.device | str,
    progress: Callable[[int], None],
) -> float:
    """Train a network's read-out (`head`) or all of it on the train split, in place; return the seconds it took.

    The body of `head` stays in evaluation mode, so that its statistics do not change. A fit that is killed starts anew.
    Labels are mixed where images are, as in a training. On a GPU it computes as the training of a teacher does, in
    `numerics.gpu_precision`.

    Args:
        network: in evaluation mode, without gradients; it is left so, on the CPU.
        what: is trained.
        config: the teacher's own training: its epochs, learning rate, augmentation and seed.
        data: on the device.
        device: to train on.
        progress: called with the number of epochs that are done.
    """
    started = time.perf_counter()
    torch.set_num_threads(config.train.threads)
    network.to(device)
    trained = network if what == "all" else network.readout
    trained.requires_grad_(True).train()
    parameters = list(trained.parameters())
    optimizer = optimiser(config.optimizer, parameters)
    size = min(config.train.batch_size, len(data.train))
    steps, step = len(data.train) // size, 0
    where = next(network.parameters()).device
    normalise, half = Normaliser(data.mean, data.std, where), gpu_precision(where) == "bf16"
    with numerics(where, config.train.tf32, config.train.deterministic), torch.enable_grad():
        for epoch in range(config.train.epochs):
            view = view_of(epoch, config.dataset.augment)
            order = permutation(len(data.train), config.seed, _ORDER, epoch)[: steps * size]
            for rows in order.split(size):
                images = normalise(augmented(data.train, rows, view, config))
                with torch.autocast(where.type, torch.bfloat16, enabled=half):
                    logits = network(images).logits.float()
                loss = label_loss(config.loss.label, logits, targets(data.train, rows, view, config, logits.shape[2]))
                optimizer.zero_grad()
                loss.backward()
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config.optimizer, step, steps * config.train.epochs)
                optimizer.step()
                step += 1
            progress(epoch + 1)
    network.eval().requires_grad_(False).cpu()
    return time.perf_counter() - started
