"""The names of the sources: what `dataset.name` may be, and the one way to their images."""

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
_TEST_CUT = 20240511  # the same images are held out, whatever the seeds of the configuration are


@dataclass(frozen=True)
class Available:
    """A row of the table of sources; `where` is the folder of its files, empty if it needs none."""

    name: str
    classes: int
    where: str
    present: bool


def available() -> list[Available]:
    """Return what can be named, and whether it is here."""
    return [
        Available(name, source.class_count, str(source.folder or ""), source.present())
        for name, source in SOURCES.items()
    ]


def fetch(name: str) -> None:
    """Download the files of a source, where they are missing.

    Raises:
        UserError: there is no such source, or it cannot be had.
    """
    _named(name).fetch()


def read(config: DatasetConfig, part: Part) -> RawImages:
    """Return the images of a part, before any other cut.

    A source without a test part of its own loses the share `config.test` of every class to one, chosen by a
    seed that no configuration changes. Only `supersnn.test_set` may ask for "test".

    Raises:
        UserError: there is no such source, or it cannot be had, or is too small to be cut.
    """
    source = _source(config.name)
    if source.has_test():
        return source.read(part)
    whole = source.read("train")
    count = round(config.test * len(whole.labels))
    if count in (0, len(whole.labels)):
        raise UserError(f"dataset.test: {config.test} of {len(whole.labels)} images leaves a part empty")
    stays, aside = stratified(whole.labels, count, _TEST_CUT)
    return whole.take(stays if part == "train" else aside)


def _source(name: str) -> Source:
    return Folder(Path(name.removeprefix(_FOLDER)).expanduser()) if name.startswith(_FOLDER) else _named(name)


def _named(name: str) -> NamedSource:
    if name not in SOURCES:
        known = ", ".join([*SOURCES, f"{_FOLDER}PATH"])
        raise UserError(f"dataset.name: {name!r} is unknown{nearest(name, SOURCES)}; known: {known}")
    return SOURCES[name]
