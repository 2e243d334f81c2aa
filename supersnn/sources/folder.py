"""`folder:PATH`: the user's own images, a folder for each class."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supersnn.errors import UserError
from supersnn.sources import image_files
from supersnn.sources.base import Part, RawImages
from supersnn.sources.cache import cached

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")


@dataclass(frozen=True)
class Folder:
    """PATH/train and PATH/test, or one tree (PATH/train or PATH itself) to be split; classes are sorted by name."""

    path: Path

    def has_test(self) -> bool:
        """Return whether both parts exist."""
        return (self.path / "train").is_dir() and (self.path / "test").is_dir()

    def read(self, part: Part) -> RawImages:
        """Return the images in order of their paths; the test part must have the train part's shape and classes."""
        tree = self.path / "train" if (self.path / "train").is_dir() else self.path
        classes = class_names(tree)
        if part == "train":
            return read_tree(tree, classes)
        if unknown := set(class_names(self.path / "test")) - set(classes):
            raise UserError(f"{self.path / 'test' / min(unknown)}: no class of this name in {tree}")
        channels, side = self.read("train").pixels.shape[1:3]
        return read_tree(self.path / "test", classes, (channels, side))


def class_names(tree: Path) -> tuple[str, ...]:
    """Return the names of a tree's class folders, sorted.

    Raises:
        UserError: the folder does not exist, or has fewer than two classes.
    """
    if not tree.is_dir():
        raise UserError(f"dataset.name: folder {tree} does not exist")
    names = tuple(sorted(entry.name for entry in os.scandir(tree) if entry.is_dir() and entry.name[0] != "."))
    if len(names) < 2:
        raise UserError(f"dataset.name: {tree} has {len(names)} class folders; expected two or more")
    return names


def read_tree(tree: Path, classes: tuple[str, ...], shape: tuple[int, int] | None = None) -> RawImages:
    """Return the images in a tree's class folders, at any depth; see `read_files`."""
    files = [(name, label) for label, folder in enumerate(classes) for name in _images(tree, folder)]
    return read_files(tree, files, classes, shape)


def read_files(
    tree: Path, files: Sequence[tuple[str, int]], classes: tuple[str, ...], shape: tuple[int, int] | None
) -> RawImages:
    """Return images of a tree, given by name and label; see `image_files.decode`.

    The decoded images are cached, and decoded again when any name, label, size or modification time changes.

    Raises:
        UserError: `files` is empty, and the errors of `image_files.decode`.
    """
    if not files:
        raise UserError(f"dataset.name: no images ({', '.join(_SUFFIXES)}) in the class folders of {tree}")
    listing = []
    for name, label in files:
        status = os.stat(f"{tree}/{name}")
        listing.append((name, label, status.st_size, status.st_mtime_ns))
    key = [str(tree.resolve()), listing, classes, shape]
    return cached("folder", key, lambda: image_files.decode(tree, files, classes, shape))


def _images(tree: Path, folder: str) -> list[str]:
    """Return the images under a folder of the tree, at any depth, as sorted paths relative to the tree."""
    images = []
    for parent, _, names in os.walk(tree / folder):
        relative = Path(parent).relative_to(tree).as_posix()
        images += [f"{relative}/{n}" for n in names if n.lower().endswith(_SUFFIXES) and n[0] != "."]
    return sorted(images)
