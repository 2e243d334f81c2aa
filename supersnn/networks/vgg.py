"""VGG networks: Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image recognition".

With batch norm, and with average pooling, because neuromorphic hardware does not support a maximum over spikes.
"""

from collections.abc import Sequence

from torch import nn

from supersnn.networks.base import ImageShape, LayerFactory, Network, conv


def vgg(layers: LayerFactory, shape: ImageShape, classes: int, stages: Sequence[Sequence[int]]) -> Network:
    """Return a network of 3x3 convolutions with these widths, stage by stage.

    A 2x2 average pooling between stages halves the map's side while it is above 1.
    """
    first = stages[0][0]
    stride = layers.stem_stride(shape.side)
    stem = nn.Sequential(conv(shape.channels, first, stride=stride), layers.norm(first))
    activation = layers.activation()
    body = nn.Sequential()
    inputs, side = first, -(-shape.side // stride)
    for index, widths in enumerate(stages):
        if index > 0 and side > 1:
            body.append(nn.AvgPool2d(2))
            side //= 2
        for width in widths[1:] if index == 0 else widths:
            body.extend([conv(inputs, width), layers.norm(width), layers.activation()])
            inputs = width
    return Network(layers.steps, stem, activation, body, inputs, classes)
