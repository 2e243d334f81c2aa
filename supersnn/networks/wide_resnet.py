"""Wide residual networks: Zagoruyko & Komodakis 2016, "Wide residual networks".

Pre-activation: blocks pass on a sum of currents, and neurons precede the convolutions.
"""

from torch import Tensor, nn

from supersnn.networks.base import ImageShape, LayerFactory, Network, conv


class PreactivationBlock(nn.Module):
    """Twice norm, activation and 3x3 convolution; the result is added to the block's input current."""

    def __init__(self, layers: LayerFactory, width: int) -> None:
        super().__init__()
        self.norm1, self.activation1, self.conv1 = layers.norm(width), layers.activation(), conv(width, width)
        self.norm2, self.activation2, self.conv2 = layers.norm(width), layers.activation(), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return currents [T·B, width, H, W] of currents x of the same shape."""
        inner = self.conv1(self.activation1(self.norm1(x)))
        return self.conv2(self.activation2(self.norm2(inner))).add_(x)


class WideningBlock(nn.Module):
    """The first block of a stage, which changes width and side; its shortcut is a 1x1 convolution.

    The activation before the two branches is not part of the block.
    """

    def __init__(self, layers: LayerFactory, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, stride=stride)
        self.norm, self.activation = layers.norm(outputs), layers.activation()
        self.conv2 = conv(outputs, outputs)
        self.shortcut = conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return currents [T·B, outputs, H/stride, W/stride] of activations x [T·B, inputs, H, W]."""
        inner = self.conv1(x)
        return self.conv2(self.activation(self.norm(inner))).add_(self.shortcut(x))


def wide_resnet(layers: LayerFactory, shape: ImageShape, classes: int, depth: int, widen: int) -> Network:
    """Return WRN-`depth`-`widen`: three stages of (depth - 4)/6 blocks with widths 16·widen, 32·widen and 64·widen."""
    stem = nn.Sequential(conv(shape.channels, 16, stride=layers.stem_stride(shape.side)), layers.norm(16))
    activation = layers.activation()
    body = nn.Sequential()
    inputs = 16
    for stage in range(3):
        width = 16 * widen * 2**stage
        body.append(WideningBlock(layers, inputs, width, stride=1 if stage == 0 else 2))
        body.extend([PreactivationBlock(layers, width) for _ in range((depth - 4) // 6 - 1)])
        body.extend([layers.norm(width), layers.activation()])
        inputs = width
    return Network(layers.steps, stem, activation, body, inputs, classes)
