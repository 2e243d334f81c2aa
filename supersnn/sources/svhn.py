"""SVHN: 32×32 RGB crops of house numbers, in MATLAB files (Netzer et al. 2011)."""

import io
from collections.abc import Sequence

import torch

from supersnn.sources.base import Part, RawImages
from supersnn.sources.files import File
from supersnn.sources.published import Published

_ADDRESS = "http://ufldl.stanford.edu/housenumbers/"


def decode(part: Part, contents: Sequence[bytes]) -> RawImages:
    """Return the images of a file with X [32, 32, 3, N] and y [N, 1], in which the digit 0 has the label 10."""
    del part  # both have the same format
    from scipy.io import loadmat  # slow to import

    arrays = loadmat(io.BytesIO(contents[0]), variable_names=["X", "y"])
    pixels = torch.from_numpy(arrays["X"]).permute(3, 2, 0, 1).contiguous()
    labels = torch.from_numpy(arrays["y"]).flatten().long() % 10
    return RawImages(pixels, labels, tuple("0123456789"))


SVHN = Published(
    name="svhn",
    class_count=10,
    files={
        "train": [File("train_32x32.mat", f"{_ADDRESS}train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373")],
        "test": [File("test_32x32.mat", f"{_ADDRESS}test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3")],
    },
    decode=decode,
)
