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
    """PATH/train and PATH/test, or one tree (PATH/train or PATH itself) to be cut; classes in order of name."""

    path: Path

    def has_test(self) -> bool:
        """Whether both parts are there."""
        return (self.path / "train").is_dir() and (self.path / "test").is_dir()

    def read(self, part: Part) -> RawImages:
        """Return the images in order of their paths; the test part in the shape and classes of the train part."""
        whole = self.path / "train" if (self.path / "train").is_dir() else self.path
        classes = class_names(whole)
        if part == "train":
            return read_tree(whole, classes)
        if unknown := set(class_names(self.path / "test")) - set(classes):
            raise UserError(f"{self.path / 'test' / min(unknown)}: no class of this name in {whole}")
        channels, side = self.read("train").pixels.shape[1:3]
        return read_tree(self.path / "test", classes, (channels, side))


def class_names(tree: Path) -> tuple[str, ...]:
    """Return the names of a tree's class folders, sorted.

    Raises:
        UserError: there is no such folder, or fewer than two classes in it.
    """
    if not tree.is_dir():
        raise UserError(f"dataset.name: no folder {tree}")
    names = tuple(sorted(entry.name for entry in os.scandir(tree) if entry.is_dir() and entry.name[0] != "."))
    if len(names) < 2:
        raise UserError(f"dataset.name: {tree} has {len(names)} class folders; expected two or more")
    return names


def read_tree(tree: Path, classes: tuple[str, ...], shape: tuple[int, int] | None = None) -> RawImages:
    """Return the images under a tree's class folders, at any depth; the decoded ones are kept (see `cached`)."""
    files = [(path, label) for label, name in enumerate(classes) for path in _images(tree / name)]
    return read_files(files, classes, shape, tree)


def read_files(
    files: Sequence[tuple[Path, int]], classes: tuple[str, ...], shape: tuple[int, int] | None, tree: Path
) -> RawImages:
    """Return the images of some files with their labels, as `image_files.decode` does, and keep them decoded.

    They are decoded anew when the path, size or time of change of any file is another.

    Raises:
        UserError: there is none, or what `image_files.decode` raises.
    """
    if not files:
        raise UserError(f"dataset.name: no images ({', '.join(_SUFFIXES)}) in the class folders of {tree}")
    listing = []
    for path, label in files:
        status = path.stat()
        listing.append([str(path.relative_to(tree)), label, status.st_size, status.st_mtime_ns])
    key = [str(tree.resolve()), listing, classes, shape]
    return cached("folder", key, lambda: image_files.decode(files, classes, shape))


def _images(folder: Path) -> list[Path]:
    return sorted(
        Path(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_SUFFIXES) and name[0] != "."
    )
