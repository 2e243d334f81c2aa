"""Comparison of an exported file, read back and run, with the student.

Programs that add the same numbers in another order differ by rounding errors. A potential within that error of its
threshold spikes in one program and not in the other, and all later layers differ too. Therefore only the first layer
that differs counts for each image, and logits are compared where no spike differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from supersnn.networks.base import Network

SPIKES, LOGITS = 1e-4, 1e-4
"""Tolerances: share of neurons and steps that may be the first to differ, and difference of logits without one."""


@dataclass(frozen=True, eq=False)
class Run:
    """Outputs for a batch: logits [B, K], averaged over time, and spikes [T·B, ...] by layer.

    The layers of a student are in the order they ran.
    """

    logits: Tensor
    spikes: Mapping[str, Tensor]


@dataclass(frozen=True)
class Agreement:
    """Agreement of two runs of the same images.

    images: number of images.
    same_spikes: number of images without a differing spike.
    spikes_differing: share of neurons and steps with a differing spike in the first layer that differs.
    logits_difference: largest difference over the images of `same_spikes`.
    same_class: number of images with the same predicted class.
    """

    images: int
    same_spikes: int
    spikes_differing: float
    logits_difference: float
    same_class: int

    def within_tolerance(self) -> bool:
        """Return whether rounding errors explain the differences."""
        same_outputs = self.logits_difference <= LOGITS if self.same_spikes else 2 * self.same_class > self.images
        return self.spikes_differing <= SPIKES and same_outputs

    def __str__(self) -> str:
        return f"{self.spikes_differing:.2g} of the spikes differ, logits by up to {self.logits_difference:.2g}"


def run_student(network: Network, images: Tensor) -> Run:
    """Run a network, in evaluation mode, on normalised images float32 [B, C, H, W]."""
    spikes: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        spikes[name] = output.detach().cpu().clone()

    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _layer, _inputs, output, name=name: keep(name, output))
        for name in network.spiking_layers()
    ]
    try:
        with torch.no_grad():
            logits = network(images).logits.mean(0).cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return Run(logits, spikes)


def compare(student: Run, exported: Run) -> Agreement:
    """Compare the run of an exported file with the student's on the same images."""
    images = len(student.logits)
    same = torch.ones(images, dtype=torch.bool)
    differing, values = 0, 0
    for name, spikes in student.spikes.items():
        other = exported.spikes[name].to(spikes.dtype).reshape(spikes.shape)
        by_image = (spikes != other).unflatten(0, (-1, images)).transpose(0, 1).flatten(1).sum(1)
        differing += int(by_image[same].sum())
        same &= by_image == 0
        values += spikes.numel()
    differences = (student.logits - exported.logits).abs().amax(1)[same]
    return Agreement(
        images=images,
        same_spikes=int(same.sum()),
        spikes_differing=differing / max(1, values),
        logits_difference=float(differences.max()) if len(differences) else 0.0,
        same_class=int((student.logits.argmax(1) == exported.logits.argmax(1)).sum()),
    )
