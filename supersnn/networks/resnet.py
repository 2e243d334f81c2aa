"""Residual networks, CIFAR-shaped: He et al. 2016, "Deep residual learning for image recognition"."""

from collections.abc import Sequence

from torch import Tensor, nn

from supersnn.networks.base import ImageShape, LayerFactory, Network, conv


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, whose currents are added before the last activation."""

    def __init__(self, layers: LayerFactory, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, stride=stride)
        self.norm1 = layers.norm(outputs)
        self.activation1 = layers.activation()
        self.conv2 = conv(outputs, outputs)
        self.norm2 = layers.norm(outputs, summands=2)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride), layers.norm(outputs, summands=2))
        self.activation2 = layers.activation()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's activations [T·B, outputs, H/stride, W/stride] of x [T·B, inputs, H, W]."""
        inner = self.activation1(self.norm1(self.conv1(x)))
        return self.activation2(self.norm2(self.conv2(inner)).add_(self.shortcut(x)))


def resnet(
    layers: LayerFactory,
    shape: ImageShape,
    classes: int,
    widths: Sequence[int],
    blocks: Sequence[int],
    stem_width: int | None = None,
    hidden: int = 0,
) -> Network:
    """Return a residual network with a stage of `blocks` for each of `widths`; later stages halve the side.

    The stem has the first of `widths` unless it has a `stem_width` of its own; `hidden` is the number of neurons in a
    fully connected layer before the last one.
    """
    first = stem_width or widths[0]
    stem = nn.Sequential(conv(shape.channels, first, stride=layers.stem_stride(shape.side)), layers.norm(first))
    activation = layers.activation()
    body = nn.Sequential()
    inputs = first
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for index in range(count):
            body.append(Block(layers, inputs, width, stride=2 if stage > 0 and index == 0 else 1))
            inputs = width
    extra = (hidden, layers.activation()) if hidden else None
    return Network(layers.steps, stem, activation, body, inputs, classes, extra)
