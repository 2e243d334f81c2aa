"""Networks: a spiking student with a block of its own, and an artificial teacher that is a plain torch module."""

from torch import Tensor, nn

from supersnn.networks.base import ImageShape, LayerFactory, Network, conv


class Squeeze(nn.Module):
    """A depthwise and a pointwise convolution, each followed by neurons."""

    def __init__(self, layers: LayerFactory, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = conv(inputs, outputs, side=1)
        self.norms = nn.ModuleList([layers.norm(inputs), layers.norm(outputs)])
        self.activations = nn.ModuleList([layers.activation(), layers.activation()])

    def forward(self, x: Tensor) -> Tensor:
        """Return activations [T·B, outputs, H, W] of x [T·B, inputs, H, W]."""
        x = self.activations[0](self.norms[0](self.depthwise(x)))
        spikes: Tensor = self.activations[1](self.norms[1](self.pointwise(x)))
        return spikes


def squeezed(layers: LayerFactory, shape: ImageShape, classes: int, width: int = 16) -> Network:
    """Return a small network of two blocks; `width` is searched as `student.arguments.width`."""
    stem = nn.Sequential(conv(shape.channels, width, stride=layers.stem_stride(shape.side)), layers.norm(width))
    body = nn.Sequential(Squeeze(layers, width, 2 * width), nn.AvgPool2d(2), Squeeze(layers, 2 * width, 4 * width))
    return Network(layers.steps, stem, layers.activation(), body, 4 * width, classes)


squeezed.family = "squeezed"  # type: ignore[attr-defined]


class PlainTeacher(nn.Module):
    """A plain classifier: the adapter takes the inputs of its last linear layer for its features."""

    family = "plain"

    def __init__(self, channels: int, side: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(hidden * (side // 2) ** 2, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, K] for images [B, C, H, W]."""
        logits: Tensor = self.head(self.layers(images))
        return logits
