"""Registry of data sets by name (`dataset.name`), and access to their images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from supersnn.config import DatasetConfig
from supersnn.errors import UserError, nearest, prefix_errors
from supersnn.parts import is_import_path
from supersnn.sources.base import Contents, NamedSource, Part, RawImages, Source
from supersnn.sources.cifar import CIFAR10, CIFAR100
from supersnn.sources.digits import Digits
from supersnn.sources.folder import Folder
from supersnn.sources.idx import FASHION_MNIST, MNIST
from supersnn.sources.own import Own
from supersnn.sources.split import stratified
from supersnn.sources.svhn import SVHN
from supersnn.sources.table import Table
from supersnn.sources.tiny_imagenet import TinyImageNet

SOURCES: dict[str, NamedSource] = {
    "digits": Digits(),
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "svhn": SVHN,
    "tiny-imagenet": TinyImageNet(),
}

_FOLDER = "folder:"
_TEST_SEED = 20240511  # the test images do not depend on the seeds of a configuration


@dataclass(frozen=True)
class Available:
    """A row of the table of sources; `where` is the folder of its files, empty for a source without files."""

    name: str
    classes: int
    where: str
    present: bool


def available() -> list[Available]:
    """Return all named sources, and whether they are downloaded."""
    return [
        Available(name, source.class_count, str(source.folder or ""), source.present())
        for name, source in SOURCES.items()
    ]


def fetch(name: str) -> None:
    """Download the missing files of a source.

    Raises:
        UserError: the name is unknown, or the download fails.
    """
    _named(name).fetch()


def read(config: DatasetConfig, part: Part) -> RawImages:
    """Return the images of a part.

    From a source without a test part the share `config.test` of every class is split off, chosen by a fixed seed. Only
    `supersnn.test_set` may read "test".

    Raises:
        UserError: the name is unknown, the images cannot be read or downloaded, or a part would be empty.
    """
    source = _source(config)
    if source.has_test():
        return source.read(part)
    images = source.read("train")
    train, test = _split(images.labels, config)
    return images.take(train if part == "train" else test)


def is_present(name: str) -> bool:
    """Return whether a data set can be read without a download.

    Raises:
        UserError: the name is unknown.
    """
    return name.startswith(_FOLDER) or is_import_path(name) or _named(name).present()


def inspect(config: DatasetConfig) -> Iterator[Contents | None]:
    """Yield what the train part consists of, then the test part, without decoding the files of a folder.

    Of parts that are split (see `read`) the sizes by class are known, not the files. The test part of a published data
    set stays closed: None.

    Raises:
        UserError: see `read`; damage behind the header of a folder's image is not found.
    """
    source = _source(config)
    whole = source.inspect("train")
    if source.has_test():
        yield whole
        yield source.inspect("test", (whole.channels, whole.side)) if isinstance(source, Folder | Table) else None
        return
    labels = torch.arange(len(whole.classes)).repeat_interleave(torch.tensor([one.images for one in whole.classes]))
    for rows in _split(labels, config):
        counts = torch.bincount(labels[rows], minlength=len(whole.classes)).tolist()
        classes = [replace(one, images=count, files=()) for one, count in zip(whole.classes, counts, strict=True)]
        yield replace(whole, classes=tuple(classes))


def resolved(name: str) -> str:
    """Return a data set's name with the absolute path of a `folder:`, so that it holds in every working directory."""
    return f"{_FOLDER}{_path(name).resolve()}" if name.startswith(_FOLDER) else name


def _split(labels: Tensor, config: DatasetConfig) -> tuple[Tensor, Tensor]:
    """Return the rows that remain, and those of the test part that is split off."""
    count = round(config.test * len(labels))
    if count in (0, len(labels)):
        raise UserError(f"dataset.test: {config.test} of {len(labels)} images leaves a part empty")
    return stratified(labels, count, _TEST_SEED)


def _source(config: DatasetConfig) -> Source:
    if is_import_path(config.name):
        with prefix_errors("dataset.name"):
            return Own(config.name, config.arguments)
    if not config.name.startswith(_FOLDER):
        return _named(config.name)
    if config.layout is not None:
        return Table(_path(config.name), config.layout, config.resize)
    return Folder(_path(config.name), config.resize)


def _path(name: str) -> Path:
    path = name.removeprefix(_FOLDER)
    if not path.strip() or "\0" in path:
        raise UserError(f"dataset.name: {name!r}: expected the path of a folder after {_FOLDER!r}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"dataset.name: {name!r}: {error}") from error


def _named(name: str) -> NamedSource:
    if name not in SOURCES:
        known = ", ".join([*SOURCES, f"{_FOLDER}PATH", "MODULE:ATTRIBUTE"])
        raise UserError(f"dataset.name: {name!r} is unknown{nearest(name, SOURCES)}; known: {known}")
    return SOURCES[name]
