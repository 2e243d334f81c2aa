"""MNIST and Fashion-MNIST: grey images of 28×28 pixels in IDX files (LeCun, Cortes & Burges)."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supersnn.sources.base import Part, RawImages
from supersnn.sources.files import File
from supersnn.sources.published import Published

_DIGITS = tuple("0123456789")
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def parse(content: bytes) -> Tensor:
    """Return the array in an IDX file of unsigned bytes: uint8, in the file's shape.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, and each dimension as a
    big-endian 32-bit integer.

    Raises:
        ValueError: the file has another header.
    """
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"not an IDX file of unsigned bytes: it begins with {content[:4].hex()}")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4).tolist()
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).copy()).view(shape)


def decode(classes: tuple[str, ...], part: Part, contents: Sequence[bytes]) -> RawImages:
    """Return the images of an image file and a label file."""
    del part  # both have the same format
    pixels, labels = (parse(content) for content in contents)
    return RawImages(pixels.unsqueeze(1), labels.long(), classes)


def _files(address: str, *md5: str) -> Mapping[Part, Sequence[File]]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    names = [f"{stem}-ubyte.gz" for stem in stems]
    files = [File(name, address + name, sum_, gzipped=True) for name, sum_ in zip(names, md5, strict=True)]
    return {"train": files[:2], "test": files[2:]}


MNIST = Published(
    name="mnist",
    class_count=10,
    files=_files(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    decode=partial(decode, _DIGITS),
)

FASHION_MNIST = Published(
    name="fashion-mnist",
    class_count=10,
    files=_files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    decode=partial(decode, _CLOTHES),
    installed=Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
)
