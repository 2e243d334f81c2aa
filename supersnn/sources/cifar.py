"""CIFAR-10 and CIFAR-100: 32×32 RGB images in the authors' binary archives (Krizhevsky 2009)."""

import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import torch

from supersnn.sources.base import Part, RawImages
from supersnn.sources.files import File
from supersnn.sources.published import Published

_PIXELS = 3 * 32 * 32  # bytes of an image: red, green and blue plane, row by row


def decode(
    members: dict[Part, Sequence[str]], names: str, label_bytes: int, part: Part, contents: Sequence[bytes]
) -> RawImages:
    """Return one part of an archive.

    Args:
        members: names of each part's files.
        names: name of the text file with one class per line.
        label_bytes: number of labels before an image; the last one, the finest, is used.
        part: which part.
        contents: the archive.
    """
    with tarfile.open(fileobj=io.BytesIO(contents[0]), mode="r:gz") as archive:
        wanted = {*members[part], names}
        files: dict[str, bytes] = {}
        for member in archive:
            name = PurePosixPath(member.name).name
            reader = archive.extractfile(member) if name in wanted else None
            if reader is not None:
                files[name] = reader.read()
    records = np.frombuffer(b"".join(files[name] for name in members[part]), np.uint8)
    records = records.reshape(-1, label_bytes + _PIXELS)
    pixels = torch.from_numpy(records[:, label_bytes:].copy()).view(-1, 3, 32, 32)
    labels = torch.from_numpy(records[:, label_bytes - 1].astype(np.int64))
    return RawImages(pixels, labels, tuple(files[names].decode().split()))


def _archive(number: int, md5: str) -> dict[Part, Sequence[File]]:
    name = f"cifar-{number}-binary.tar.gz"
    archive = [File(name, f"https://www.cs.toronto.edu/~kriz/{name}", md5)]
    return {"train": archive, "test": archive}


CIFAR10 = Published(
    name="cifar10",
    class_count=10,
    files=_archive(10, "c32a1d4ab5d03f1284b67883e8d87530"),
    decode=partial(
        decode,
        {"train": [f"data_batch_{batch}.bin" for batch in range(1, 6)], "test": ["test_batch.bin"]},
        "batches.meta.txt",
        1,
    ),
)

CIFAR100 = Published(
    name="cifar100",
    class_count=100,
    files=_archive(100, "03b5dce01913d631647c71ecec9e9cb8"),
    decode=partial(decode, {"train": ["train.bin"], "test": ["test.bin"]}, "fine_label_names.txt", 2),
)
