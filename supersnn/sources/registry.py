"""Registry of data sets by name (`dataset.name`), and access to their images."""

from dataclasses import dataclass
from pathlib import Path

from supersnn.config import DatasetConfig
from supersnn.errors import UserError, nearest
from supersnn.sources.base import NamedSource, Part, RawImages, Source
from supersnn.sources.cifar import CIFAR10, CIFAR100
from supersnn.sources.digits import Digits
from supersnn.sources.folder import Folder
from supersnn.sources.idx import FASHION_MNIST, MNIST
from supersnn.sources.split import stratified
from supersnn.sources.svhn import SVHN
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
    source = _source(config.name)
    if source.has_test():
        return source.read(part)
    images = source.read("train")
    count = round(config.test * len(images.labels))
    if count in (0, len(images.labels)):
        raise UserError(f"dataset.test: {config.test} of {len(images.labels)} images leaves a part empty")
    train, test = stratified(images.labels, count, _TEST_SEED)
    return images.take(train if part == "train" else test)


def _source(name: str) -> Source:
    return Folder(Path(name.removeprefix(_FOLDER)).expanduser()) if name.startswith(_FOLDER) else _named(name)


def _named(name: str) -> NamedSource:
    if name not in SOURCES:
        known = ", ".join([*SOURCES, f"{_FOLDER}PATH"])
        raise UserError(f"dataset.name: {name!r} is unknown{nearest(name, SOURCES)}; known: {known}")
    return SOURCES[name]
