"""Whether a form that was read back and run does what the student does.

Two programs that add the same numbers in another order differ by float rounding; a potential that comes that close to
its threshold spikes in one and not in the other, and from there on their ways part. So of each image only the first
layer that differs counts, and logits are compared where no spike does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from supersnn.networks.base import Network

SPIKES, LOGITS = 1e-4, 1e-4
"""The share of all places and steps that may differ first, and how far a logit may lie off where no spike differs."""


@dataclass(frozen=True, eq=False)
class Run:
    """What was answered to a batch: logits [B, K], their mean over time, and by layer its spikes [T·B, ...].

    A student's layers come in the order they ran.
    """

    logits: Tensor
    spikes: Mapping[str, Tensor]


@dataclass(frozen=True)
class Agreement:
    """How far two runs of B images agree.

    images: B.
    same_spikes: images without one differing spike.
    spikes_differing: share of the places and steps at which one spikes and the other does not, though all layers
        before did the same.
    logits_difference: the largest, over the images of `same_spikes`.
    same_class: images with the same answer.
    """

    images: int
    same_spikes: int
    spikes_differing: float
    logits_difference: float
    same_class: int

    def holds(self) -> bool:
        """Say whether rounding alone explains the differences."""
        same_answer = self.logits_difference <= LOGITS if self.same_spikes else 2 * self.same_class > self.images
        return self.spikes_differing <= SPIKES and same_answer

    def __str__(self) -> str:
        return f"{self.spikes_differing:.2g} of the spikes differ, logits by up to {self.logits_difference:.2g}"


def run_student(network: Network, images: Tensor) -> Run:
    """Return what the network, in evaluation mode, answers to normalised images float32 [B, C, H, W]."""
    spikes: dict[str, Tensor] = {}

    def keep(name: str, seen: Tensor) -> None:
        spikes[name] = seen.detach().cpu().clone()

    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _layer, _inputs, seen, name=name: keep(name, seen))
        for name in network.spiking_layers()
    ]
    try:
        with torch.no_grad():
            logits = network(images).logits.mean(0).cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return Run(logits, spikes)


def compare(student: Run, form: Run) -> Agreement:
    """Return how far a form's run agrees with the student's on the same images."""
    images = len(student.logits)
    same = torch.ones(images, dtype=torch.bool)
    differing, places = 0, 0
    for name, spikes in student.spikes.items():
        other = form.spikes[name].to(spikes.dtype).reshape(spikes.shape)
        by_image = (spikes != other).unflatten(0, (-1, images)).transpose(0, 1).flatten(1).sum(1)
        differing += int(by_image[same].sum())
        same &= by_image == 0
        places += spikes.numel()
    off = (student.logits - form.logits).abs().amax(1)[same]
    return Agreement(
        images=images,
        same_spikes=int(same.sum()),
        spikes_differing=differing / max(1, places),
        logits_difference=float(off.max()) if len(off) else 0.0,
        same_class=int((student.logits.argmax(1) == form.logits.argmax(1)).sum()),
    )
