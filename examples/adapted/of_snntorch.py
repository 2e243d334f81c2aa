"""A dense network that goes over time itself, and a convolutional one that is called at every step."""

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor, nn


class Dense(nn.Module):
    """Two layers of leaky neurons; the potentials of the last ones are the logits of each step."""

    def __init__(
        self, channels: int, side: int, classes: int, steps: int, hidden: int = 128, beta: float = 0.9
    ) -> None:
        super().__init__()
        self.steps = steps
        self.first, self.second = nn.Linear(channels * side * side, hidden), nn.Linear(hidden, classes)
        self.hidden = snntorch.Leaky(beta=beta, spike_grad=surrogate.atan())
        self.output = snntorch.Leaky(beta=beta, spike_grad=surrogate.atan())

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [T, B, K] for images [B, C, H, W]."""
        hidden, output, potentials = self.hidden.init_leaky(), self.output.init_leaky(), []
        for _ in range(self.steps):
            spikes, hidden = self.hidden(self.first(images.flatten(1)), hidden)
            _, output = self.output(self.second(spikes), output)
            potentials.append(output)
        return torch.stack(potentials)


def convolutional(channels: int, side: int, classes: int, width: int = 12, beta: float = 0.5) -> nn.Module:
    """Return two stages of convolution, pooling and neurons that keep their state, and a read-out of spikes."""
    options = {"beta": beta, "spike_grad": surrogate.fast_sigmoid(slope=25), "init_hidden": True}
    first = [nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(2), snntorch.Leaky(**options)]
    second = [nn.Conv2d(width, 2 * width, 3, padding=1), nn.MaxPool2d(2), snntorch.Leaky(**options)]
    head = [nn.Flatten(), nn.Linear(2 * width * (side // 4) ** 2, classes), snntorch.Leaky(**options, output=True)]
    return nn.Sequential(*first, *second, *head)
